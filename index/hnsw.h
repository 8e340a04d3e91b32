// HNSW (Malkov and Yashunin, TPAMI 2020): a hierarchy of neighbour graphs,
// searched greedily from the top and with a pool of ef candidates at level 0.
//
// Built in one go over the rows of a sealed segment, by a deterministic
// algorithm whose result does not depend on the number of threads nor (beyond
// one point of recall) on the order of the rows; then immutable.
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
#include "index/coded_rows.h"
#include "index/index.h"
#include "src/base/cancel.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {

class DistanceBackend;

struct HnswParams {
  // Links per node above level 0; level 0 has 2 m. 4..64. Larger: higher
  // recall per ef on hard data, more memory and build time.
  uint32_t m = 16;
  // Effort of the build: candidates kept for each row, and leaves that it is
  // compared in. 16..2000. Larger: better graph, slower build.
  uint32_t ef_construction = 200;
  // Seed of the levels and the build order.
  uint64_t seed = 1;
};

// A finished graph as one block of bytes, laid out as documented in hnsw.cc;
// written to and mapped from a section of a segment file.
//
// Builds the graph over `vectors` (the metric is kL2, kInnerProduct or
// kCosine). Room while it builds, at the defaults: 0.9 KB per row and
// up to 12 KB (dim + 768) per thread. progress counts rows. Cancelled: the
// token was set. InvalidArgument: params out of range. cancel and progress may
// be null.
//
// backend: a device that compares all rows with all, exactly, and selects
// links; null or a device that fails: leaves do. The graph is another then,
// one of true neighbours.
absl::StatusOr<std::string> BuildHnswGraph(VectorSetView vectors, Metric metric,
                                           const HnswParams& params,
                                           size_t num_threads,
                                           const CancelToken* cancel,
                                           Progress* progress,
                                           DistanceBackend* backend = nullptr);

struct HnswState;
struct HnswScratch;
class IvfIndex;

class HnswIndex final : public ApproximateIndex {
 public:
  ~HnswIndex() override;

  // Borrows all three. With codes, searches walk on them and compare the
  // nearest candidates exactly. DataLoss: the bytes are not a graph over these
  // vectors; every count, level and link is checked, so a hostile file cannot
  // make a search read out of bounds.
  static absl::StatusOr<std::unique_ptr<HnswIndex>> Open(
      VectorSetView vectors, Metric metric, absl::string_view graph,
      CodedRows codes = {});

  // Lists over the same rows, in cells of which they lie: filtered searches
  // that say how many to read may then read lists instead of walking, which
  // takes as long whatever the share that passes. Before the first search.
  void UseCells(std::unique_ptr<const IvfIndex> cells);

  absl::Status Search(const void* query, const SearchParams& params,
                      const Filter& filter, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override;
  size_t num_rows() const override { return vectors_.num_rows; }
  size_t memory_bytes() const override;

  // The grid is of ef, and with codes of rerank.
  absl::StatusOr<std::vector<RecallPoint>> Calibrate(
      size_t num_threads, const CancelToken* cancel,
      VectorSetView queries = {}) const override;
  SearchCost cost() const override;

  // Number of nodes that a walk over level-0 links from the entry points
  // reaches; equals num_rows() (connected by construction).
  size_t CountReachable() const;

 private:
  HnswIndex(VectorSetView vectors, Metric metric,
            std::unique_ptr<const HnswState> state);

  enum class Way { kScan, kWalk, kCells };
  // The cheapest where the filter is independent of the query; kCells: what
  // passes near the query decides between that and kWalk.
  Way WayFor(const SearchParams& params, const Filter& filter) const;
  // Of a walk among rows of which a share passes.
  double WalkNs(const SearchParams& params, double share) const;
  // Every accepted row: by codes, and the nearest of them exactly, where there
  // are codes; else exactly.
  absl::Status Scan(const void* query, const SearchParams& params,
                    const Filter& filter, const StopCondition& stop, TopK* out,
                    SearchStats* stats) const;
  // Walks by codes or by vectors, whichever there are.
  // false: it was given up, or found too few.
  absl::StatusOr<bool> Walk(const void* query, const SearchParams& params,
                            size_t ef, const Filter& filter,
                            const StopCondition& stop, TopK* out,
                            SearchStats* stats) const;
  // The walk itself; leaves its finds in scratch->pool. *complete is false
  // when a filtered walk was given up because a scan is cheaper: after
  // max_distances.
  template <typename Scorer>
  absl::Status WalkWith(const Scorer& score, size_t ef, const Filter& filter,
                        size_t max_distances, const StopCondition& stop,
                        HnswScratch* scratch, SearchStats* stats,
                        bool* complete) const;

  const VectorSetView vectors_;
  const Metric metric_;
  const std::unique_ptr<const HnswState> state_;
  std::unique_ptr<const IvfIndex> cells_;  // null: there are none
};

}  // namespace vicinal
