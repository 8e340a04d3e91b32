// What recall each ef (and depth of reranking) of a graph gives.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/calibration.h"
#include "index/hnsw.h"
#include "index/hnsw_search.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr auto kEfGrid = std::to_array<uint32_t>(
    {8,  10,  12,  16,  20,  24,  32,  40,  48,  64,  80,
     96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024});

// Rows that are on level 0 only: a walk that must not see its own query would
// otherwise begin at it.
CalibrationQueries OwnRows(VectorSetView vectors, const HnswGraph& graph) {
  std::vector<bool> excluded(graph.levels[0].num_nodes);
  if (graph.levels.size() > 1) {
    for (size_t i = 0; i < graph.levels[1].num_nodes; ++i) {
      excluded[graph.levels[1].rows[i]] = true;
    }
  }
  excluded[graph.levels.back().RowOf(graph.entry)] = true;
  return CalibrationQueries::OwnRows(vectors, std::move(excluded));
}

// One setting of the graph's walk over all queries.
class Trial {
 public:
  Trial(VectorSetView vectors, const HnswState& state,
        const CalibrationQueries& queries,
        const std::vector<std::vector<Neighbor>>& truth, Workers* workers)
      : vectors_(vectors),
        state_(state),
        queries_(queries),
        truth_(truth),
        workers_(*workers),
        scratches_(workers->size()) {}

  // Recalls of every depth that the set has and ef reaches, appended to
  // *points.
  absl::Status Run(uint32_t ef, RecallPoints* points);

 private:
  // Distances of what the walk found, in the order in which they would be
  // compared: exact ones.
  absl::Status WalkFor(size_t q, uint32_t ef, HnswScratch* scratch) const;

  VectorSetView vectors_;
  const HnswState& state_;
  const CalibrationQueries& queries_;
  const std::vector<std::vector<Neighbor>>& truth_;
  Workers& workers_;
  std::vector<HnswScratch> scratches_;
};

absl::Status Trial::WalkFor(size_t q, uint32_t ef, HnswScratch* scratch) const {
  const HnswLevel& level0 = state_.graph.levels[0];
  const QueryScorer exact{state_.ops, vectors_, queries_[q]};
  scratch->Reserve(level0.num_nodes, level0.stride);
  uint64_t num_distances = 0;
  const auto walk = [&](const auto& score) {
    const HnswStep start =
        Descend(state_.graph, 0, score, scratch, &num_distances);
    if (queries_.OwnRow(q) != kInvalidRow) {
      scratch->visited.Insert(queries_.OwnRow(q));
    }
    PoolWalk(level0, score, start, ef, scratch, &num_distances,
             [] { return true; });
    scratch->visited.Clear();
  };
  const CodedRows& codes = state_.codes;
  if (codes.codec == nullptr) {
    walk(exact);
  } else {
    VICINAL_RETURN_IF_ERROR(
        codes.codec->Prepare(exact.query, vectors_.type, &scratch->query));
    walk(CodeScorer{&ActiveCodeKernels(), &codes.codec->layout(),
                    &scratch->query.code_query(), codes.records});
  }
  ScoreExactly(exact, ef, scratch);
  return absl::OkStatus();
}

absl::Status Trial::Run(uint32_t ef, RecallPoints* points) {
  RecallCounter counter(truth_, ef, ef, state_.codes.codec != nullptr,
                        workers_.size());
  std::vector<absl::Status> statuses(workers_.size());
  workers_.For(
      queries_.size(), 4, [&](size_t begin, size_t end, size_t worker) {
        HnswScratch& scratch = scratches_[worker];
        for (size_t q = begin; q < end; ++q) {
          statuses[worker].Update(WalkFor(q, ef, &scratch));
          counter.Count(worker, q, {scratch.exact.data(), scratch.pool.size()});
        }
      });
  for (const absl::Status& status : statuses) {
    VICINAL_RETURN_IF_ERROR(status);
  }
  counter.AppendTo(points);
  return absl::OkStatus();
}

}  // namespace

// A walk scores about 12 records for each place of its pool, each a jump.
SearchCost HnswIndex::cost() const {
  constexpr double kRecordsPerEf = 12, kJump = 42, kLine = 6;
  const CodedRows& codes = state_->codes;
  const double bytes = codes.codec != nullptr
                           ? codes.codec->layout().record_bytes
                           : vectors_.dim * ElementSize(vectors_.type);
  const double lines = bytes / SearchCost::kLineBytes;
  SearchCost cost{.fixed = 2'000,
                  .per_ef = kRecordsPerEf * (kJump + kLine * lines)};
  if (codes.codec != nullptr) {
    cost.per_rerank = SearchCost::OfReranking(vectors_);
  }
  return cost;
}

absl::StatusOr<std::vector<RecallPoint>> HnswIndex::Calibrate(
    size_t num_threads, const CancelToken* cancel, VectorSetView given) const {
  const HnswGraph& graph = state_->graph;
  if (graph.levels.empty()) return std::vector<RecallPoint>();
  Workers workers(num_threads);
  const CalibrationQueries queries = given.num_rows > 0
                                         ? CalibrationQueries::Given(given)
                                         : OwnRows(vectors_, graph);
  if (queries.size() == 0) return std::vector<RecallPoint>();
  const std::vector<std::vector<Neighbor>> truth =
      ExactNeighbors(vectors_, *state_->ops, queries, &workers);
  Trial trial(vectors_, *state_, queries, truth, &workers);
  RecallPoints points;
  for (const uint32_t ef : kEfGrid) {
    if (cancel != nullptr && cancel->cancelled()) {
      return absl::CancelledError("calibration cancelled");
    }
    VICINAL_RETURN_IF_ERROR(trial.Run(ef, &points));
    if (AllFound(points, truth[0].size())) break;
  }
  return Frontier(std::move(points), cost());
}

}  // namespace vicinal
