// What an IVF holds and how it reads lists for one query; of index/ivf*.cc.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "index/coded_centroids.h"
#include "index/index.h"
#include "index/scratch_pool.h"
#include "quant/codec.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/distance.h"
namespace vicinal {

struct IvfScratch {
  PreparedQuery query;
  std::vector<float> floats;  // the query
  CodedCentroids::Scratch centroids;
  std::vector<float> distances;  // of the centroids, estimated
  std::vector<Neighbor> lists;   // nearest first as far as they were sorted
  std::vector<Neighbor> pool;    // candidates by their estimates
  std::vector<RowId> rows;
  std::vector<RowId> waiting;  // accepted rows of lists, not scored yet
  std::vector<float> exact;
};

namespace ivf_bytes {

inline constexpr size_t kHeaderBytes = 8;
inline constexpr size_t kAlignment = 64;

inline size_t CentroidsOffset(size_t num_lists) {
  const size_t bytes = kHeaderBytes + (num_lists + 1) * sizeof(uint32_t);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace ivf_bytes

struct IvfState {
  VectorSetView vectors;
  Metric metric = Metric::kL2;
  const DistanceOps* ops = nullptr;           // of the rows
  const DistanceOps* centroid_ops = nullptr;  // of f32
  MatrixView centroids;
  CodedCentroids coded_centroids;
  std::vector<uint32_t> offsets;
  std::vector<float> norms2;  // of the centroids, for a codec
  size_t bytes = 0;
  const Codec* codec = nullptr;  // null: rows are compared
  const uint8_t* blocks = nullptr;
  const uint8_t* records = nullptr;  // instead of blocks
  mutable ScratchPool<IvfScratch> scratches;

  size_t num_lists() const { return centroids.num_rows; }
  // Those that have some of the rows begin .. end, of which there are some.
  struct ListRange {
    size_t first = 0;
    size_t count = 0;
  };
  ListRange ListsOf(const Filter& filter) const;
};

// What a reach is a share of.
struct DistanceSpread {
  float least = 0;
  float mean = 0;
};
DistanceSpread SpreadOf(std::span<const float> distances);

// A query far from everything has many centroids at about one distance: a reach
// takes in this many times the lists that it does on average, at most.
inline constexpr size_t kMostOfMean = 4;

// Reads lists for one query, nearest first, of those that have rows of the
// filter's range. Candidates go to scratch->pool, or without codes, compared
// exactly, to `out`.
class IvfCollector {
 public:
  // depth: candidates kept in the pool.
  IvfCollector(const IvfState& state, const void* query, const Filter& filter,
               const StopCondition& stop, size_t depth, IvfScratch* scratch,
               TopK* out)
      : state_(state),
        query_(query),
        filter_(filter),
        range_(state.ListsOf(filter)),
        accepts_all_(filter.AcceptsAllInRange()),
        stop_(stop),
        depth_(depth),
        scratch_(*scratch),
        out_(out) {}

  // Compares the centroids. Before anything else.
  void CompareCentroids();
  // The same, and prepares the query for codes. Before lists are read.
  absl::Status Start();
  absl::Status Prepare();
  // The lists that a reach takes in: those up to d + reach * (mean - d), of the
  // distances of all centroids, d being the least; at least one, and at most
  // kMostOfMean times `mean_lists`.
  size_t ListsWithin(float reach, size_t mean_lists) const;
  // Reads lists until `probes` were read in all.
  absl::Status ReadUpTo(size_t probes);
  // Never a candidate: the row that is the query.
  void Exclude(RowId row) { excluded_ = row; }
  size_t num_lists() const { return range_.count; }
  // Of all centroids, estimated.
  std::span<const float> centroid_distances() const {
    return scratch_.distances;
  }
  // Reads lists for a filter until what is wanted of it can be expected to be
  // found. `lists` are read where all rows pass, `filtered` where the share
  // that passes is that of all rows; in between, and beyond, by a power of the
  // share that passed of what was read. So lists near the query that have
  // nothing to offer are passed, and where all of them do, few are read.
  // Given up after max_lists: is_done() is then false.
  absl::Status ReadFiltered(size_t lists, size_t filtered, double share,
                            size_t enough, size_t max_lists);
  bool is_done() const { return is_done_; }
  // Of the nearest `probes` lists: how many rows they have, and how many of
  // them the filter's bitmap has.
  struct Share {
    size_t num_rows = 0;
    size_t num_accepted = 0;

    // As if one passed at least.
    double share() const {
      return static_cast<double>(std::max<size_t>(num_accepted, 1)) /
             static_cast<double>(std::max<size_t>(num_rows, 1));
    }
  };
  Share ShareIn(size_t probes);
  size_t num_read() const { return num_read_; }
  size_t num_found() const { return num_found_; }
  // The best `depth` candidates, in no order.
  void Trim();
  const SearchStats& work() const { return work_; }

 private:
  // The nearest `probes` lists come first.
  void SortLists(size_t probes);
  absl::Status ReadList(const Neighbor& list);
  // Scores the accepted rows of begin .. end, or leaves them for later.
  void AddRecords(size_t begin, size_t end);
  void ScoreRecords();
  void ScanCodes(const CodeQuery& query, size_t begin, size_t end);
  // Moves *first to the next block before `end` that has an accepted row, and
  // returns how many rows follow in blocks that do; 0: there is none.
  size_t NextRun(size_t* first, size_t end);

  const IvfState& state_;
  const void* const query_;
  const Filter& filter_;
  const IvfState::ListRange range_;
  const bool accepts_all_;
  const StopCondition& stop_;
  const size_t depth_;
  IvfScratch& scratch_;
  TopK* const out_;
  RowId excluded_ = kInvalidRow;
  float limit_ = std::numeric_limits<float>::infinity();
  size_t num_read_ = 0;
  size_t num_sorted_ = 0;
  size_t num_found_ = 0;
  bool is_done_ = true;
  size_t num_rows_read_ = 0;
  size_t num_accepted_ = 0;  // of them, but for what was deleted
  size_t num_fruitful_ = 0;  // lists that had some
  SearchStats work_;
};

}  // namespace vicinal
