// IVF (Jegou et al., TPAMI 2011, section IV): rows in lists by their nearest
// centroid; a search reads the lists whose centroids are nearest to the query.
// Rows lie list by list, so a list is a range of rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/calibration.h"
#include "index/index.h"
#include "quant/codec.h"
#include "src/base/cancel.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {

class DistanceBackend;

inline constexpr uint32_t kMaxIvfLists = 65'536;

struct IvfParams {
  // Lists, 1 to 65,536, at most one per row; 0: about the square root of the
  // rows. More: fewer rows per list to read, more centroids to compare and a
  // slower build.
  uint32_t num_lists = 0;
  uint64_t seed = 1;
};

// The order of the rows, and the lists as one block of bytes over the rows in
// that order, laid out as documented in ivf.cc; written to and mapped from a
// section of a segment file.
struct IvfLists {
  std::vector<RowId> order;  // element i: the old row that becomes row i
  std::string bytes;
};

// Depends on the set of rows and the params only, not on their order beyond
// ties, nor on num_threads. InvalidArgument: params out of range. Cancelled:
// the token was set; it may be null. backend: as of FindCells.
absl::StatusOr<IvfLists> BuildIvfLists(VectorSetView vectors, Metric metric,
                                       const IvfParams& params,
                                       size_t num_threads,
                                       const CancelToken* cancel,
                                       DistanceBackend* backend = nullptr);

// Lists by the cells of CellOrder, which are found with less care, and its
// order.
absl::StatusOr<IvfLists> BuildCellLists(VectorSetView vectors, Metric metric,
                                        uint64_t seed, size_t num_threads,
                                        const CancelToken* cancel,
                                        DistanceBackend* backend = nullptr);

// The largest partition that is one list: read in some 10 us. (Of more than 33
// million rows: one of an 8,192nd of them.)
inline constexpr size_t kOneListRows = 4'096;

// Lists for rows in partitions that lie one after the other, such that searches
// of one read no rows of others: one of kOneListRows rows or fewer lies in one
// list, in the order given, maybe with others; a larger one has lists of its
// own, as of BuildIvfLists. params.num_lists: 0; or 1: all rows are one list.
// ends: of each partition, ascending, the last being num_rows.
absl::StatusOr<IvfLists> BuildPartitionedLists(
    VectorSetView vectors, Metric metric, const IvfParams& params,
    std::span<const uint32_t> ends, size_t num_threads,
    const CancelToken* cancel, DistanceBackend* backend = nullptr);

// Records as an IVF scans them: blocks of sixteen (see kernels_codes.h), the
// last one filled with zeros.
size_t CodeBlocksBytes(const CodeLayout& layout, size_t num_rows);
// out has room for CodeBlocksBytes.
void PackCodeBlocks(const CodeLayout& layout, const uint8_t* records,
                    size_t num_rows, uint8_t* out, size_t num_threads = 1);

class IvfCollector;
struct IvfScratch;
struct IvfState;

// The table of searches of one partition whose rows lie in at most max_lists
// lists.
struct PartitionEfforts {
  uint32_t max_lists = 0;
  std::vector<RecallPoint> table;
};

class IvfIndex final : public ApproximateIndex {
 public:
  ~IvfIndex() override;

  // Borrows vectors and lists; DataLoss: the bytes are not lists over these
  // vectors. Every count and offset is checked.
  static absl::StatusOr<std::unique_ptr<IvfIndex>> Open(
      VectorSetView vectors, Metric metric, absl::string_view lists);

  // What a codec is trained and rows are encoded around.
  RowCentres centres() const;
  // Searches then scan these codes, borrowed: all rows in blocks as of
  // PackCodeBlocks; and compare the nearest exactly. Before the first search.
  void UseCodes(const Codec* codec, const uint8_t* blocks);

  // The same with codes as records, row by row, for SearchFiltered alone.
  void UseRecords(const Codec* codec, const uint8_t* records);

  // params.ef: the lists to read, on average where params.reach says which;
  // more are read while k rows were not found.
  // params.rerank: candidates compared exactly; 0: sixteen times k.
  absl::Status Search(const void* query, const SearchParams& params,
                      const Filter& filter, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override;
  size_t num_rows() const override;
  size_t num_lists() const;
  size_t memory_bytes() const override;

  // The grid is of lists, and with codes of rerank. The table has a reach
  // where, for queries from elsewhere, reading lists by it finds as much with
  // fewer.
  absl::StatusOr<std::vector<RecallPoint>> Calibrate(
      size_t num_threads, const CancelToken* cancel,
      VectorSetView queries = {}) const override;
  SearchCost cost() const override;
  // The same within partitions, `ends` as of BuildPartitionedLists, with their
  // own rows as queries: for partitions of one list, and for others by powers
  // of two; ascending. Of sizes that are not there, or too small to measure,
  // nothing is said.
  absl::StatusOr<std::vector<PartitionEfforts>> CalibratePartitions(
      std::span<const uint32_t> ends, size_t num_threads,
      const CancelToken* cancel) const;
  // For a graph over the same rows: reads params.cells lists and more, as
  // params.filtered_ef says, and of their rows what the filter accepts. It does
  // not where a walk, of walk_ns(the share that passes near the query), or a
  // scan of all that pass is cheaper.
  enum class Way { kLists, kWalk, kScan };
  struct Filtered {
    Way way = Way::kLists;
    double near_share = 0;  // that passes near the query
  };
  absl::StatusOr<Filtered> SearchFiltered(
      const void* query, const SearchParams& params, const Filter& filter,
      absl::FunctionRef<double(double)> walk_ns, const StopCondition& stop,
      TopK* out, SearchStats* stats) const;
  // What that takes where the filter is independent of the query, in
  // nanoseconds; and a scan of all that it accepts.
  double FilteredNs(const SearchParams& params, const Filter& filter) const;
  double ScanNs(const Filter& filter) const;
  // How many lists have the nearest rows, by their centroids alone: a grid of
  // ef for each k, as of Calibrate.
  absl::StatusOr<std::vector<RecallPoint>> CalibrateLists(
      size_t num_threads, const CancelToken* cancel,
      VectorSetView queries = {}) const;
  // Lists that have rows of the filter's range, in which there are some.
  size_t NumListsOf(const Filter& filter) const;

 private:
  explicit IvfIndex(std::unique_ptr<IvfState> state);
  // Compares exactly what was collected by codes, and adds up the work.
  void Finish(const void* query, IvfCollector* collector, IvfScratch* scratch,
              TopK* out, SearchStats* stats) const;
  struct FilterCost;
  FilterCost CostOfFilter(const Filter& filter, size_t depth) const;
  // Of searches among so many rows in so many lists.
  SearchCost CostOf(double num_rows, size_t num_lists) const;

  const std::unique_ptr<IvfState> state_;
};

}  // namespace vicinal
