// What recall each ef gives, measured on the rows themselves.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "index/hnsw.h"
#include "index/hnsw_search.h"
#include "index/workers.h"
#include "src/base/random.h"
#include "src/base/top_k.h"
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

// How many of the k nearest are among the first k of the pool; a row as near
// as the k-th counts, whichever of the equals it is.
size_t CountHits(const CandidatePool& pool, const std::vector<Neighbor>& truth,
                 size_t k) {
  const float limit = truth[k - 1].distance;
  size_t hits = 0;
  while (hits < std::min(k, pool.size()) && pool.distance(hits) <= limit) {
    ++hits;
  }
  return hits;
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
  const auto cancelled = [&] {
    return cancel != nullptr && cancel->cancelled();
  };
  const std::vector<RowId> queries = SampleQueries(graph);
  if (queries.empty()) return table;
  const std::vector<std::vector<Neighbor>> truth =
      ExactNeighbors(vectors_, *state_->ops, queries, &workers);
  const HnswLevel& level0 = graph.levels[0];
  std::vector<HnswScratch> scratches(workers.size());
  std::array<float, kDepths.size()> best = {};
  for (const uint32_t ef : kEfGrid) {
    if (cancelled()) return absl::CancelledError("calibration cancelled");
    // Integer sums, so the order in which threads add does not matter.
    std::vector<std::array<uint64_t, kDepths.size()>> hits(workers.size());
    workers.For(
        queries.size(), 4, [&](size_t begin, size_t end, size_t worker) {
          for (size_t q = begin; q < end; ++q) {
            HnswScratch& scratch = scratches[worker];
            scratch.Reserve(level0.num_nodes, level0.stride);
            const QueryScorer score{state_->ops, vectors_,
                                    vectors_.row(queries[q])};
            uint64_t num_distances = 0;
            const HnswStep start =
                Descend(graph, 0, score, &scratch, &num_distances);
            scratch.visited.Insert(queries[q]);
            PoolWalk(level0, score, start, ef, &scratch, &num_distances,
                     [] { return true; });
            scratch.visited.Clear();
            for (size_t d = 0; d < kDepths.size(); ++d) {
              if (kDepths[d] > ef || kDepths[d] > truth[q].size()) continue;
              hits[worker][d] += CountHits(scratch.pool, truth[q], kDepths[d]);
            }
          }
        });
    bool all_found = true;
    for (size_t d = 0; d < kDepths.size(); ++d) {
      if (kDepths[d] > truth[0].size()) continue;
      if (kDepths[d] > ef) {
        all_found = false;
        continue;
      }
      uint64_t found = 0;
      for (const auto& of_thread : hits) found += of_thread[d];
      const float recall =
          static_cast<float>(found) / (queries.size() * kDepths[d]);
      best[d] = std::max(best[d], recall);
      table.push_back({.recall = best[d], .k = kDepths[d], .ef = ef});
      all_found &= best[d] == 1;
    }
    if (all_found) break;
  }
  return table;
}

namespace {

// For one measured k: the ef at which the line through the table's points
// reaches the target.
double EfAtDepth(const std::vector<RecallPoint>& table, uint32_t k,
                 double target) {
  double last_ef = 0;
  double last_recall = 0;
  for (const RecallPoint& point : table) {
    if (point.k != k) continue;
    if (point.recall >= target) {
      if (last_ef == 0) return point.ef;
      const double share =
          (target - last_recall) / (point.recall - last_recall);
      return last_ef + share * (point.ef - last_ef);
    }
    last_ef = point.ef;
    last_recall = point.recall;
  }
  return last_ef;
}

}  // namespace

size_t EfForRecall(const std::vector<RecallPoint>& table, size_t k,
                   double recall_target) {
  k = std::max<size_t>(1, k);
  if (table.empty()) {
    // About twice what the data sets of docs/BENCHMARKS.md need.
    const double target = std::clamp(recall_target, 0.5, 0.995);
    return std::max<size_t>(k + k / 2, std::ceil(8 / (1 - target)));
  }
  uint32_t below = 0;
  uint32_t above = 0;
  for (const RecallPoint& point : table) {
    if (point.k <= k) below = std::max(below, point.k);
    if (point.k >= k) above = above == 0 ? point.k : std::min(above, point.k);
  }
  double ef = 0;
  if (below == 0 || above == 0) {
    // Outside the measured range ef grows with k.
    const uint32_t nearest = below == 0 ? above : below;
    ef = EfAtDepth(table, nearest, recall_target) *
         std::max(1.0, static_cast<double>(k) / nearest);
  } else {
    const double low = EfAtDepth(table, below, recall_target);
    const double high = EfAtDepth(table, above, recall_target);
    const double share = below == above
                             ? 0
                             : std::log(static_cast<double>(k) / below) /
                                   std::log(static_cast<double>(above) / below);
    ef = low + share * (high - low);
  }
  // Recalls are floats: an ef of 20.000001 means 20.
  return std::max<size_t>(k, std::ceil(ef - 1e-3));
}

}  // namespace vicinal
