#include "index/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "index/flat.h"
#include "src/base/cancel.h"
#include "src/base/random.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr size_t kNumQueries = 256;
constexpr uint64_t kSeed = 0x5EED;
constexpr size_t kScanRows = 64;
// Share of what a recall lacks that is taken off it: a sample of 256 errs by
// half a point at 0.95, and a target should be met rather than missed.
constexpr float kSampleShare = 0.05f;

// Depths of reranking measured for a k, ascending; ef is always the last.
constexpr auto kRerankFactors = std::to_array<double>(
    {1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64});
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
std::vector<RecallPoint> FrontierOfDepth(std::vector<RecallPoint> points,
                                         const SearchCost& cost) {
  std::stable_sort(points.begin(), points.end(),
                   [&](const RecallPoint& a, const RecallPoint& b) {
                     return cost.Of(a.ef, a.rerank) < cost.Of(b.ef, b.rerank);
                   });
  float best = -1;
  std::erase_if(points, [&](const RecallPoint& point) {
    if (point.recall <= best) return true;
    best = point.recall;
    return false;
  });
  return points;
}

// RecallPoint's settings as they are interpolated.
struct Effort {
  double ef = 0;
  double rerank = 0;
  double reach = 0;

  // The point at `share` of the way to `other`.
  Effort Toward(const Effort& other, double share) const {
    return {ef + share * (other.ef - ef),
            rerank + share * (other.rerank - rerank),
            reach + share * (other.reach - reach)};
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
                        static_cast<double>(point.rerank), point.reach};
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

// Deeper than `deepest`, the deepest that was measured. Candidates grow as k
// does; a pool, or the lists to read, by as many for each row as from the depth
// before, which is too many rather than too few: they grow ever slower.
Effort EffortBeyond(const std::vector<RecallPoint>& table, uint32_t deepest,
                    size_t k, double target) {
  // Of what k times as much would be; where the measured ones hardly differ.
  constexpr double kLeastGrowth = 0.25;
  uint32_t before = 0;
  for (const RecallPoint& point : table) {
    if (point.k < deepest) before = std::max(before, point.k);
  }
  const Effort at = EffortAtDepth(table, deepest, target);
  double per_row = at.ef / deepest;
  if (before > 0) {
    const double grown = at.ef - EffortAtDepth(table, before, target).ef;
    per_row = std::max(kLeastGrowth * per_row, grown / (deepest - before));
  }
  // How much farther more lists reach is not known.
  return {.ef = at.ef + per_row * static_cast<double>(k - deepest),
          .rerank = at.rerank * static_cast<double>(k) / deepest};
}

// For any k: between the measured depths, interpolated in log k.
Effort EffortFor(const std::vector<RecallPoint>& table, size_t k,
                 double target) {
  uint32_t below = 0;
  uint32_t above = 0;
  for (const RecallPoint& point : table) {
    if (point.k <= k) below = std::max(below, point.k);
    if (point.k >= k) above = above == 0 ? point.k : std::min(above, point.k);
  }
  if (below == 0) return EffortAtDepth(table, above, target);
  if (above == 0) return EffortBeyond(table, below, k, target);
  const double share = below == above
                           ? 0
                           : std::log(static_cast<double>(k) / below) /
                                 std::log(static_cast<double>(above) / below);
  return EffortAtDepth(table, below, target)
      .Toward(EffortAtDepth(table, above, target), share);
}

}  // namespace

CalibrationQueries CalibrationQueries::OwnRows(VectorSetView vectors,
                                               std::vector<bool> excluded) {
  CalibrationQueries queries;
  queries.vectors_ = vectors;
  queries.are_own_ = true;
  Random random(kSeed);
  std::vector<RowId>& rows = queries.rows_;
  for (size_t tries = 0; tries < 8 * kNumQueries && rows.size() < kNumQueries;
       ++tries) {
    const auto row = static_cast<RowId>(random.Uniform(excluded.size()));
    if (excluded[row]) continue;
    excluded[row] = true;
    rows.push_back(row);
  }
  std::sort(rows.begin(), rows.end());
  return queries;
}

CalibrationQueries CalibrationQueries::Among(VectorSetView vectors,
                                             std::span<const RowId> rows) {
  CalibrationQueries queries;
  queries.vectors_ = vectors;
  queries.are_own_ = true;
  const size_t count = std::min(rows.size(), kNumQueries);
  for (size_t i = 0; i < count; ++i) {
    queries.rows_.push_back(rows[i * rows.size() / count]);
  }
  return queries;
}

CalibrationQueries CalibrationQueries::Given(VectorSetView given) {
  std::vector<RowId> rows(given.num_rows);
  std::iota(rows.begin(), rows.end(), 0);
  CalibrationQueries queries = Among(given, rows);
  queries.are_own_ = false;
  return queries;
}

std::vector<std::vector<Neighbor>> ExactNeighbors(
    VectorSetView vectors, const DistanceOps& ops,
    const CalibrationQueries& queries, Workers* workers) {
  std::vector<std::vector<Neighbor>> truth(queries.size());
  // Eight queries read each block of rows while it is in the cache.
  workers->For(queries.size(), 8, [&](size_t first, size_t last, size_t) {
    std::vector<TopK> nearest(last - first, TopK(kCalibratedDepths.back()));
    std::array<float, kScanRows> distances;
    for (size_t row = 0; row < vectors.num_rows; row += kScanRows) {
      const size_t count = std::min(kScanRows, vectors.num_rows - row);
      for (size_t q = first; q < last; ++q) {
        ops.scan(queries[q], vectors.row(row), vectors.stride_bytes, count,
                 vectors.dim, distances.data());
        for (size_t i = 0; i < count; ++i) {
          if (row + i == queries.OwnRow(q)) continue;
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

std::vector<std::vector<Neighbor>> ExactNeighbors(
    VectorSetView vectors, Metric metric, const CalibrationQueries& queries,
    std::span<const Filter> filters, Workers* workers) {
  std::vector<std::vector<Neighbor>> truth(queries.size());
  workers->For(queries.size(), 1, [&](size_t first, size_t last, size_t) {
    for (size_t q = first; q < last; ++q) {
      TopK nearest(kCalibratedDepths.back() + 1);
      // Without a condition to stop nothing fails.
      ScanBlock(vectors, 0, metric, queries[q], filters[q], StopCondition(),
                &nearest, nullptr)
          .IgnoreError();
      truth[q] = nearest.TakeSorted();
      std::erase_if(truth[q], [&](const Neighbor& neighbor) {
        return neighbor.row == queries.OwnRow(q);
      });
      if (truth[q].size() > kCalibratedDepths.back()) truth[q].pop_back();
    }
  });
  return truth;
}

RecallCounter::RecallCounter(const std::vector<std::vector<Neighbor>>& truth,
                             uint32_t ef, uint32_t pool_size, bool reranks,
                             size_t num_workers, float reach)
    : truth_(truth),
      ef_(ef),
      reranks_(reranks),
      reach_(reach),
      hits_(num_workers) {
  static_assert(kRerankFactors.size() + 1 <= kMaxGrid);
  for (size_t d = 0; d < kCalibratedDepths.size(); ++d) {
    const uint32_t k = kCalibratedDepths[d];
    if (k > pool_size || k > truth_[0].size()) continue;
    grids_[d] = reranks ? RerankGrid(k, pool_size) : std::vector<uint32_t>{k};
  }
}

void RecallCounter::Count(size_t worker, size_t q,
                          std::span<const float> distances) {
  for (size_t d = 0; d < kCalibratedDepths.size(); ++d) {
    if (grids_[d].empty()) continue;
    CountHits(distances, truth_[q], kCalibratedDepths[d], grids_[d],
              hits_[worker][d]);
  }
}

void RecallCounter::AppendTo(RecallPoints* points) const {
  for (size_t d = 0; d < kCalibratedDepths.size(); ++d) {
    for (size_t i = 0; i < grids_[d].size(); ++i) {
      uint64_t found = 0;
      for (const Hits& of_worker : hits_) found += of_worker[d][i];
      (*points)[d].push_back(
          {.recall = SafeRecall(found, truth_.size() * kCalibratedDepths[d]),
           .k = kCalibratedDepths[d],
           .ef = ef_,
           .rerank = reranks_ ? grids_[d][i] : 0,
           .reach = reach_});
    }
  }
}

float SafeRecall(size_t found, size_t wanted) {
  const float recall = static_cast<float>(found) / static_cast<float>(wanted);
  return recall - kSampleShare * (1 - recall);
}

bool AllFound(const RecallPoints& points, size_t num_neighbors) {
  for (size_t d = 0; d < kCalibratedDepths.size(); ++d) {
    if (kCalibratedDepths[d] > num_neighbors) continue;
    if (points[d].empty() || points[d].back().recall < 1) return false;
  }
  return true;
}

std::vector<RecallPoint> Frontier(RecallPoints points, const SearchCost& cost) {
  std::vector<RecallPoint> table;
  for (std::vector<RecallPoint>& of_depth : points) {
    const std::vector<RecallPoint> kept =
        FrontierOfDepth(std::move(of_depth), cost);
    table.insert(table.end(), kept.begin(), kept.end());
  }
  return table;
}

double MeanCost(const std::vector<RecallPoint>& table, const SearchCost& cost) {
  constexpr double kTargets[] = {0.9, 0.95, 0.99};
  double sum = 0;
  for (const double target : kTargets) {
    const Effort effort = EffortFor(table, 10, target);
    sum += std::log(cost.Of(effort.ef, effort.rerank));
  }
  return std::exp(sum / std::size(kTargets));
}

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
  const Effort effort = EffortFor(table, k, recall_target);
  // Recalls are floats: an ef of 20.000001 means 20.
  params.ef = std::max<size_t>(1, std::ceil(effort.ef - 1e-3));
  if (effort.rerank > 0) {
    params.rerank = std::max<size_t>(k, std::ceil(effort.rerank - 1e-3));
  }
  params.reach = static_cast<float>(effort.reach);
  return params;
}

}  // namespace vicinal
