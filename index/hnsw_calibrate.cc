// What recall each ef (and depth of reranking) gives, measured on the rows
// themselves.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/hnsw.h"
#include "index/hnsw_search.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr size_t kNumQueries = 256;
constexpr uint64_t kSeed = 0x5EED;
constexpr std::array<uint32_t, 3> kDepths = {1, 10, 100};
constexpr auto kEfGrid = std::to_array<uint32_t>(
    {8,  10,  12,  16,  20,  24,  32,  40,  48,  64,  80,
     96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024});
constexpr size_t kScanRows = 64;
// Share of what a recall lacks that is taken off it: a sample of 256 errs by
// half a point at 0.95, and a target should be met rather than missed.
constexpr float kSampleShare = 0.05f;

// What a search costs, in cache lines read or so. A graph of few lines per
// record is bound by the walk, long vectors by the reranking.
struct SearchCost {
  double per_ef = 1;
  double per_rerank = 0;

  static SearchCost Of(VectorSetView vectors, const CodedRows& codes) {
    if (codes.codec == nullptr) return {};
    // A walk scores about 12 records for each place of its pool; a vector lies
    // in slower memory.
    constexpr double kLineBytes = 64;
    const double record = codes.codec->layout().record_bytes / kLineBytes;
    const double vector = vectors.dim * ElementSize(vectors.type) / kLineBytes;
    return {12 * (2 + record / 2), 2 * (2 + vector / 2)};
  }
  double Of(const RecallPoint& point) const {
    return per_ef * point.ef + per_rerank * point.rerank;
  }
};

// Seeded sample of rows that are on level 0 only: a walk that must not see its
// own query would otherwise begin at it.
std::vector<RowId> SampleQueries(const HnswGraph& graph) {
  const size_t n = graph.levels[0].num_nodes;
  std::vector<bool> taken(n);
  if (graph.levels.size() > 1) {
    for (size_t i = 0; i < graph.levels[1].num_nodes; ++i) {
      taken[graph.levels[1].rows[i]] = true;
    }
  }
  Random random(kSeed);
  std::vector<RowId> queries;
  const RowId entry = graph.levels.back().RowOf(graph.entry);
  for (size_t tries = 0;
       tries < 8 * kNumQueries && queries.size() < kNumQueries; ++tries) {
    const auto row = static_cast<RowId>(random.Uniform(n));
    if (taken[row] || row == entry) continue;
    taken[row] = true;
    queries.push_back(row);
  }
  std::sort(queries.begin(), queries.end());
  return queries;
}

// The nearest rows to each query but itself, nearest first.
std::vector<std::vector<Neighbor>> ExactNeighbors(
    VectorSetView vectors, const DistanceOps& ops,
    const std::vector<RowId>& queries, Workers* workers) {
  std::vector<std::vector<Neighbor>> truth(queries.size());
  // Eight queries read each block of rows while it is in the cache.
  workers->For(queries.size(), 8, [&](size_t first, size_t last, size_t) {
    std::vector<TopK> nearest(last - first, TopK(kDepths.back()));
    std::array<float, kScanRows> distances;
    for (size_t row = 0; row < vectors.num_rows; row += kScanRows) {
      const size_t count = std::min(kScanRows, vectors.num_rows - row);
      for (size_t q = first; q < last; ++q) {
        ops.scan(vectors.row(queries[q]), vectors.row(row),
                 vectors.stride_bytes, count, vectors.dim, distances.data());
        for (size_t i = 0; i < count; ++i) {
          if (row + i == queries[q]) continue;
          nearest[q - first].Push({distances[i], static_cast<RowId>(row + i)});
        }
      }
    }
    for (size_t q = first; q < last; ++q) {
      truth[q] = nearest[q - first].TakeSorted();
    }
  });
  return truth;
}

// Depths of reranking measured for a k, ascending; ef is always the last.
constexpr auto kRerankFactors =
    std::to_array<double>({1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 24});
std::vector<uint32_t> RerankGrid(uint32_t k, uint32_t ef) {
  std::vector<uint32_t> grid;
  for (const double factor : kRerankFactors) {
    const auto depth = static_cast<uint32_t>(std::ceil(k * factor));
    if (depth >= ef) break;
    if (grid.empty() || depth > grid.back()) grid.push_back(depth);
  }
  grid.push_back(ef);
  return grid;
}

// Adds to hits[i] how many of the k nearest are among the k best of the first
// grid[i] distances; a row as near as the k-th counts, whichever of the equals
// it is.
void CountHits(std::span<const float> distances,
               const std::vector<Neighbor>& truth, size_t k,
               std::span<const uint32_t> grid, std::span<uint64_t> hits) {
  const float limit = truth[k - 1].distance;
  size_t found = 0;
  size_t at = 0;
  for (size_t i = 0; i < grid.size(); ++i) {
    for (; at < std::min<size_t>(grid[i], distances.size()); ++at) {
      found += distances[at] <= limit;
    }
    hits[i] += std::min(found, k);
  }
}

// Of the settings of one k those that no cheaper one reaches, by cost.
std::vector<RecallPoint> Frontier(std::vector<RecallPoint> points,
                                  const SearchCost& cost) {
  std::stable_sort(points.begin(), points.end(),
                   [&](const RecallPoint& a, const RecallPoint& b) {
                     return cost.Of(a) < cost.Of(b);
                   });
  float best = -1;
  std::erase_if(points, [&](const RecallPoint& point) {
    if (point.recall <= best) return true;
    best = point.recall;
    return false;
  });
  return points;
}

// One setting of the graph's walk over all queries.
class Trial {
 public:
  Trial(VectorSetView vectors, const HnswState& state,
        const std::vector<RowId>& queries,
        const std::vector<std::vector<Neighbor>>& truth, Workers* workers)
      : vectors_(vectors),
        state_(state),
        queries_(queries),
        truth_(truth),
        workers_(*workers),
        scratches_(workers->size()) {}

  // Recalls of every k that the set has and ef reaches, appended to
  // (*points)[k's number].
  absl::Status Run(
      uint32_t ef,
      std::array<std::vector<RecallPoint>, kDepths.size()>* points);

 private:
  // Distances of what the walk found, in the order in which they would be
  // compared: exact ones.
  absl::Status WalkFor(size_t q, uint32_t ef, HnswScratch* scratch) const;

  VectorSetView vectors_;
  const HnswState& state_;
  const std::vector<RowId>& queries_;
  const std::vector<std::vector<Neighbor>>& truth_;
  Workers& workers_;
  std::vector<HnswScratch> scratches_;
};

absl::Status Trial::WalkFor(size_t q, uint32_t ef, HnswScratch* scratch) const {
  const HnswLevel& level0 = state_.graph.levels[0];
  const QueryScorer exact{state_.ops, vectors_, vectors_.row(queries_[q])};
  scratch->Reserve(level0.num_nodes, level0.stride);
  uint64_t num_distances = 0;
  const auto walk = [&](const auto& score) {
    const HnswStep start =
        Descend(state_.graph, 0, score, scratch, &num_distances);
    scratch->visited.Insert(queries_[q]);
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

absl::Status Trial::Run(
    uint32_t ef, std::array<std::vector<RecallPoint>, kDepths.size()>* points) {
  std::array<std::vector<uint32_t>, kDepths.size()> grids;
  for (size_t d = 0; d < kDepths.size(); ++d) {
    if (kDepths[d] > ef || kDepths[d] > truth_[0].size()) continue;
    grids[d] = state_.codes.codec == nullptr ? std::vector<uint32_t>{kDepths[d]}
                                             : RerankGrid(kDepths[d], ef);
  }
  // Integer sums, so the order in which threads add does not matter.
  constexpr size_t kMaxGrid = kRerankFactors.size() + 1;
  using Hits = std::array<std::array<uint64_t, kMaxGrid>, kDepths.size()>;
  std::vector<Hits> hits(workers_.size());
  std::vector<absl::Status> statuses(workers_.size());
  workers_.For(queries_.size(), 4,
               [&](size_t begin, size_t end, size_t worker) {
                 HnswScratch& scratch = scratches_[worker];
                 for (size_t q = begin; q < end; ++q) {
                   statuses[worker].Update(WalkFor(q, ef, &scratch));
                   const std::span<const float> distances(scratch.exact.data(),
                                                          scratch.pool.size());
                   for (size_t d = 0; d < kDepths.size(); ++d) {
                     if (grids[d].empty()) continue;
                     CountHits(distances, truth_[q], kDepths[d], grids[d],
                               hits[worker][d]);
                   }
                 }
               });
  for (const absl::Status& status : statuses) {
    VICINAL_RETURN_IF_ERROR(status);
  }
  for (size_t d = 0; d < kDepths.size(); ++d) {
    for (size_t i = 0; i < grids[d].size(); ++i) {
      uint64_t found = 0;
      for (const Hits& of_worker : hits) found += of_worker[d][i];
      const float recall = static_cast<float>(found) /
                           static_cast<float>(queries_.size() * kDepths[d]);
      (*points)[d].push_back(
          {.recall = recall - kSampleShare * (1 - recall),
           .k = kDepths[d],
           .ef = ef,
           .rerank = state_.codes.codec == nullptr ? 0 : grids[d][i]});
    }
  }
  return absl::OkStatus();
}

}  // namespace

// A row is a fair query when the walk cannot see it: then it is a new point of
// the same distribution, and no link leads it to its own neighbours.
absl::StatusOr<std::vector<RecallPoint>> HnswIndex::Calibrate(
    size_t num_threads, const CancelToken* cancel) const {
  std::vector<RecallPoint> table;
  const HnswGraph& graph = state_->graph;
  if (graph.levels.empty()) return table;
  Workers workers(num_threads);
  const std::vector<RowId> queries = SampleQueries(graph);
  if (queries.empty()) return table;
  const std::vector<std::vector<Neighbor>> truth =
      ExactNeighbors(vectors_, *state_->ops, queries, &workers);
  Trial trial(vectors_, *state_, queries, truth, &workers);
  std::array<std::vector<RecallPoint>, kDepths.size()> points;
  for (const uint32_t ef : kEfGrid) {
    if (cancel != nullptr && cancel->cancelled()) {
      return absl::CancelledError("calibration cancelled");
    }
    VICINAL_RETURN_IF_ERROR(trial.Run(ef, &points));
    bool all_found = true;
    for (size_t d = 0; d < kDepths.size(); ++d) {
      if (kDepths[d] > truth[0].size()) continue;
      all_found &= !points[d].empty() && points[d].back().recall == 1;
    }
    if (all_found) break;
  }
  const SearchCost cost = SearchCost::Of(vectors_, state_->codes);
  for (std::vector<RecallPoint>& of_depth : points) {
    const std::vector<RecallPoint> kept = Frontier(std::move(of_depth), cost);
    table.insert(table.end(), kept.begin(), kept.end());
  }
  return table;
}

namespace {

// ef and rerank as they are interpolated.
struct Effort {
  double ef = 0;
  double rerank = 0;

  Effort operator*(double factor) const {
    return {ef * factor, rerank * factor};
  }
  // The point at `share` of the way to `other`.
  Effort Toward(const Effort& other, double share) const {
    return {ef + share * (other.ef - ef),
            rerank + share * (other.rerank - rerank)};
  }
};

// For one measured k: the effort at which the line through the table's points
// reaches the target.
Effort EffortAtDepth(const std::vector<RecallPoint>& table, uint32_t k,
                     double target) {
  Effort last;
  double last_recall = 0;
  for (const RecallPoint& point : table) {
    if (point.k != k) continue;
    const Effort effort{static_cast<double>(point.ef),
                        static_cast<double>(point.rerank)};
    if (point.recall >= target) {
      if (last.ef == 0) return effort;
      return last.Toward(effort,
                         (target - last_recall) / (point.recall - last_recall));
    }
    last = effort;
    last_recall = point.recall;
  }
  return last;
}

}  // namespace

SearchParams ParamsForRecall(const std::vector<RecallPoint>& table, size_t k,
                             double recall_target) {
  k = std::max<size_t>(1, k);
  SearchParams params{.k = k};
  if (table.empty()) {
    // About twice what the data sets of docs/BENCHMARKS.md need.
    const double target = std::clamp(recall_target, 0.5, 0.995);
    params.ef = std::max<size_t>(k + k / 2, std::ceil(8 / (1 - target)));
    return params;
  }
  uint32_t below = 0;
  uint32_t above = 0;
  for (const RecallPoint& point : table) {
    if (point.k <= k) below = std::max(below, point.k);
    if (point.k >= k) above = above == 0 ? point.k : std::min(above, point.k);
  }
  Effort effort;
  if (below == 0 || above == 0) {
    // Outside the measured range the effort grows with k.
    const uint32_t nearest = below == 0 ? above : below;
    effort = EffortAtDepth(table, nearest, recall_target) *
             std::max(1.0, static_cast<double>(k) / nearest);
  } else {
    const Effort low = EffortAtDepth(table, below, recall_target);
    const Effort high = EffortAtDepth(table, above, recall_target);
    const double share = below == above
                             ? 0
                             : std::log(static_cast<double>(k) / below) /
                                   std::log(static_cast<double>(above) / below);
    effort = low.Toward(high, share);
  }
  // Recalls are floats: an ef of 20.000001 means 20.
  params.ef = std::max<size_t>(k, std::ceil(effort.ef - 1e-3));
  if (effort.rerank > 0) {
    params.rerank = std::max<size_t>(k, std::ceil(effort.rerank - 1e-3));
  }
  return params;
}

}  // namespace vicinal
