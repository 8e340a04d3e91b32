// IVF (Jegou et al., TPAMI 2011, section IV): rows in lists by their nearest
// centroid; a search reads the lists whose centroids are nearest to the query.
// Rows lie list by list, so a list is a range of rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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
// the token was set; it may be null.
absl::StatusOr<IvfLists> BuildIvfLists(VectorSetView vectors, Metric metric,
                                       const IvfParams& params,
                                       size_t num_threads,
                                       const CancelToken* cancel);

// Records as an IVF scans them: blocks of sixteen (see kernels_codes.h), the
// last one filled with zeros.
size_t CodeBlocksBytes(const CodeLayout& layout, size_t num_rows);
// out has room for CodeBlocksBytes.
void PackCodeBlocks(const CodeLayout& layout, const uint8_t* records,
                    size_t num_rows, uint8_t* out);

struct IvfState;

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

 private:
  explicit IvfIndex(std::unique_ptr<IvfState> state);
  struct FilterCost;
  FilterCost CostOfFilter(size_t accepted, size_t depth) const;

  const std::unique_ptr<IvfState> state_;
};

}  // namespace vicinal
