// What recall each number of lists (and depth of reranking) of an IVF gives.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "index/calibration.h"
#include "index/hnsw_search.h"
#include "index/ivf.h"
#include "index/ivf_search.h"
#include "src/base/cancel.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/workers.h"

namespace vicinal {
namespace {

constexpr auto kProbes = std::to_array<uint32_t>(
    {1,  2,   3,   4,   6,   8,   12,  16,   24,   32,   48,   64,
     96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096});
// Deepest reranking that is measured: enough for the largest k.
constexpr size_t kPool = 2'400;
// A sample tells two rules apart from here on.
constexpr double kWorthReach = 0.97;

// Where the lists are, as one query sees them: as shares of the way from the
// nearest centroid's distance to the mean of all.
struct ListsOfQuery {
  static constexpr uint32_t kNearest = 10;

  std::vector<float> all;     // ascending
  std::vector<float> wanted;  // those of its kNearest nearest rows

  ListsOfQuery() = default;
  ListsOfQuery(std::span<const float> distances,
               std::span<const uint32_t> offsets,
               std::span<const Neighbor> nearest) {
    const auto [least, mean] = SpreadOf(distances);
    const float inverse = mean > least ? 1 / (mean - least) : 0;
    for (const float distance : distances) {
      all.push_back((distance - least) * inverse);
    }
    for (const Neighbor& neighbor : nearest) {
      const auto end =
          std::upper_bound(offsets.begin(), offsets.end(), neighbor.row);
      wanted.push_back(all[end - offsets.begin() - 1]);
    }
    std::sort(all.begin(), all.end());
  }

  size_t Within(float reach, size_t mean_lists) const {
    const auto end = std::upper_bound(all.begin(), all.end(), reach);
    return std::clamp<size_t>(end - all.begin(), 1, kMostOfMean * mean_lists);
  }
  // How many of the wanted are among the nearest `probes`.
  size_t Found(size_t probes) const {
    if (probes >= all.size()) return wanted.size();
    return std::count_if(wanted.begin(), wanted.end(),
                         [&](float list) { return list < all[probes]; });
  }
};

// The reach that takes in `probes` lists on average.
float ReachOf(const std::vector<ListsOfQuery>& queries, size_t probes) {
  constexpr int kSteps = 24;
  float low = 0;
  float high = 0;
  for (const ListsOfQuery& query : queries) {
    high = std::max(high, query.all.back());
  }
  for (int step = 0; step < kSteps; ++step) {
    const float middle = (low + high) / 2;
    size_t read = 0;
    for (const ListsOfQuery& query : queries) {
      read += query.Within(middle, probes);
    }
    (read <= probes * queries.size() ? low : high) = middle;
  }
  return low;
}

// One reach per element of kProbes, when reading lists by them finds what
// reading as many lists for every query does with fewer; else none. Whether a
// row's list is read tells enough: nothing is scanned.
std::vector<float> ReachesWorthIt(const std::vector<ListsOfQuery>& queries) {
  std::vector<float> reaches;
  std::vector<RecallPoint> by_count;
  std::vector<RecallPoint> by_reach;
  for (const uint32_t probes : kProbes) {
    const float reach = ReachOf(queries, probes);
    size_t wanted = 0;
    size_t found_by_count = 0;
    size_t found_by_reach = 0;
    for (const ListsOfQuery& query : queries) {
      wanted += query.wanted.size();
      found_by_count += query.Found(probes);
      found_by_reach += query.Found(query.Within(reach, probes));
    }
    const auto point = [&](size_t found) {
      return RecallPoint{
          .recall = static_cast<float>(found) / static_cast<float>(wanted),
          .k = ListsOfQuery::kNearest,
          .ef = probes};
    };
    by_count.push_back(point(found_by_count));
    by_reach.push_back(point(found_by_reach));
    reaches.push_back(reach);
  }
  const SearchCost lists_read;
  if (MeanCost(by_reach, lists_read) >
      kWorthReach * MeanCost(by_count, lists_read)) {
    reaches.clear();
  }
  return reaches;
}

// Searches of all queries, one way of reading lists after the other.
class Trials {
 public:
  // filters: of each query; none: all rows are searched. All is borrowed.
  Trials(const IvfState& state, const CalibrationQueries& queries,
         const std::vector<std::vector<Neighbor>>& truth, Workers* workers,
         std::span<const Filter> filters = {})
      : state_(state),
        queries_(queries),
        truth_(truth),
        filters_(filters),
        workers_(*workers),
        scratches_(workers->size()) {}

  absl::StatusOr<std::vector<ListsOfQuery>> CompareCentroids();
  // Of each query and each of its true neighbours, how many lists are nearer
  // than the one that has it.
  absl::StatusOr<std::vector<std::vector<size_t>>> RankLists();
  // Appends what `probes` lists find, or with a reach as many on average.
  absl::Status Run(uint32_t probes, float reach, const CancelToken* cancel,
                   RecallPoints* points);
  // The same for ever more lists, of max_lists at most, by kProbes.
  absl::Status RunAll(size_t max_lists, std::span<const float> reaches,
                      const CancelToken* cancel, RecallPoints* points);

 private:
  bool reranks() const { return state_.codec != nullptr; }
  // Leaves what was found in scratch->exact: distances, in the order in which
  // they would be compared.
  absl::Status Search(size_t q, uint32_t probes, float reach,
                      IvfScratch* scratch) const;

  const IvfState& state_;
  const CalibrationQueries& queries_;
  const std::vector<std::vector<Neighbor>>& truth_;
  const std::span<const Filter> filters_;
  Workers& workers_;
  std::vector<IvfScratch> scratches_;
};

absl::StatusOr<std::vector<ListsOfQuery>> Trials::CompareCentroids() {
  std::vector<ListsOfQuery> lists;
  const StopCondition never;
  const Filter all;
  TopK none(0);
  for (size_t q = 0; q < queries_.size(); ++q) {
    IvfCollector collector(state_, queries_[q], all, never, kPool,
                           scratches_.data(), &none);
    VICINAL_RETURN_IF_ERROR(collector.Start());
    std::span<const Neighbor> nearest = truth_[q];
    nearest =
        nearest.first(std::min<size_t>(nearest.size(), ListsOfQuery::kNearest));
    lists.emplace_back(collector.centroid_distances(), state_.offsets, nearest);
  }
  return lists;
}

absl::StatusOr<std::vector<std::vector<size_t>>> Trials::RankLists() {
  std::vector<std::vector<size_t>> ranks(queries_.size());
  const StopCondition never;
  const Filter all;
  TopK none(0);
  for (size_t q = 0; q < queries_.size(); ++q) {
    IvfCollector collector(state_, queries_[q], all, never, kPool,
                           scratches_.data(), &none);
    VICINAL_RETURN_IF_ERROR(collector.Start());
    const std::span<const float> distances = collector.centroid_distances();
    for (const Neighbor& neighbor : truth_[q]) {
      const auto after = std::upper_bound(state_.offsets.begin(),
                                          state_.offsets.end(), neighbor.row);
      const float own = distances[after - state_.offsets.begin() - 1];
      ranks[q].push_back(
          std::count_if(distances.begin(), distances.end(),
                        [&](float distance) { return distance < own; }));
    }
  }
  return ranks;
}

absl::Status Trials::Search(size_t q, uint32_t probes, float reach,
                            IvfScratch* scratch) const {
  // One more where the query finds itself.
  TopK found(reranks() ? 0 : kCalibratedDepths.back() + 1);
  const StopCondition never;
  const Filter all;
  IvfCollector collector(state_, queries_[q],
                         filters_.empty() ? all : filters_[q], never, kPool,
                         scratch, &found);
  collector.Exclude(queries_.OwnRow(q));
  VICINAL_RETURN_IF_ERROR(collector.Start());
  VICINAL_RETURN_IF_ERROR(collector.ReadUpTo(
      reach > 0 ? collector.ListsWithin(reach, probes) : probes));
  std::vector<Neighbor>& pool = scratch->pool;
  if (reranks()) {
    collector.Trim();
    std::sort(pool.begin(), pool.end());
  } else {
    pool = found.TakeSorted();
    std::erase_if(pool, [&](const Neighbor& neighbor) {
      return neighbor.row == queries_.OwnRow(q);
    });
  }
  scratch->rows.clear();
  for (const Neighbor& candidate : pool) scratch->rows.push_back(candidate.row);
  scratch->exact.resize(pool.size());
  GatherAhead(*state_.ops, queries_[q], state_.vectors, scratch->rows.data(),
              scratch->rows.size(), scratch->exact.data());
  return absl::OkStatus();
}

absl::Status Trials::Run(uint32_t probes, float reach,
                         const CancelToken* cancel, RecallPoints* points) {
  RecallCounter counter(truth_, probes, kPool, reranks(), workers_.size(),
                        reach);
  std::vector<absl::Status> statuses(workers_.size());
  workers_.For(queries_.size(), 4,
               [&](size_t begin, size_t end, size_t worker) {
                 if (cancel != nullptr && cancel->cancelled()) return;
                 IvfScratch& scratch = scratches_[worker];
                 for (size_t q = begin; q < end; ++q) {
                   statuses[worker].Update(Search(q, probes, reach, &scratch));
                   counter.Count(worker, q, scratch.exact);
                 }
               });
  if (cancel != nullptr && cancel->cancelled()) {
    return absl::CancelledError("calibration cancelled");
  }
  for (const absl::Status& status : statuses) VICINAL_RETURN_IF_ERROR(status);
  counter.AppendTo(points);
  return absl::OkStatus();
}

absl::Status Trials::RunAll(size_t max_lists, std::span<const float> reaches,
                            const CancelToken* cancel, RecallPoints* points) {
  const size_t most = std::min<size_t>(max_lists, kProbes.back());
  for (size_t step = 0; step < kProbes.size(); ++step) {
    const auto probes =
        static_cast<uint32_t>(std::min<size_t>(kProbes[step], max_lists));
    VICINAL_RETURN_IF_ERROR(
        Run(probes, reaches.empty() ? 0 : reaches[step], cancel, points));
    if (AllFound(*points, truth_[0].size())) return absl::OkStatus();
    if (probes == most) break;
  }
  // Where lists say little of what is near, as those of many partitions do.
  return most < max_lists
             ? Run(static_cast<uint32_t>(max_lists), 0, cancel, points)
             : absl::OkStatus();
}

// Partitions too small to have the deepest neighbours that are measured.
constexpr size_t kMinPartitionRows = kCalibratedDepths.back() + 1;

// Partitions of about one number of lists.
struct PartitionClass {
  std::vector<Filter> partitions;  // ranges of rows
  std::vector<RowId> rows;
  size_t num_lists = 0;  // of all of them
};

}  // namespace

absl::StatusOr<std::vector<RecallPoint>> IvfIndex::Calibrate(
    size_t num_threads, const CancelToken* cancel, VectorSetView given) const {
  const VectorSetView& vectors = state_->vectors;
  if (vectors.num_rows < 2) return std::vector<RecallPoint>();
  Workers workers(num_threads);
  const CalibrationQueries queries =
      given.num_rows > 0 ? CalibrationQueries::Given(given)
                         : CalibrationQueries::OwnRows(
                               vectors, std::vector<bool>(vectors.num_rows));
  const std::vector<std::vector<Neighbor>> truth =
      ExactNeighbors(vectors, *state_->ops, queries, &workers);
  Trials trials(*state_, queries, truth, &workers);
  std::vector<float> reaches;
  // Rows lie nearer to their centroids than queries do, so a reach that was
  // learned from rows is too short for others. (Measured: recall 0.89 where a
  // number of lists gave 0.93.)
  if (given.num_rows > 0) {
    VICINAL_ASSIGN_OR_RETURN(const std::vector<ListsOfQuery> lists,
                             trials.CompareCentroids());
    reaches = ReachesWorthIt(lists);
  }
  RecallPoints points;
  VICINAL_RETURN_IF_ERROR(trials.RunAll(num_lists(), reaches, cancel, &points));
  return Frontier(std::move(points), cost());
}

absl::StatusOr<std::vector<RecallPoint>> IvfIndex::CalibrateLists(
    size_t num_threads, const CancelToken* cancel, VectorSetView given) const {
  const VectorSetView& vectors = state_->vectors;
  if (vectors.num_rows < 2) return std::vector<RecallPoint>();
  Workers workers(num_threads);
  const CalibrationQueries queries =
      given.num_rows > 0 ? CalibrationQueries::Given(given)
                         : CalibrationQueries::OwnRows(
                               vectors, std::vector<bool>(vectors.num_rows));
  const std::vector<std::vector<Neighbor>> truth =
      ExactNeighbors(vectors, *state_->ops, queries, &workers);
  if (cancel != nullptr && cancel->cancelled()) {
    return absl::CancelledError("calibration cancelled");
  }
  Trials trials(*state_, queries, truth, &workers);
  VICINAL_ASSIGN_OR_RETURN(const std::vector<std::vector<size_t>> ranks,
                           trials.RankLists());
  RecallPoints points;
  for (const uint32_t probes : kProbes) {
    for (size_t d = 0; d < kCalibratedDepths.size(); ++d) {
      const uint32_t k = kCalibratedDepths[d];
      if (k > truth[0].size()) continue;
      size_t found = 0;
      for (const std::vector<size_t>& of_query : ranks) {
        found += std::count_if(of_query.begin(), of_query.begin() + k,
                               [&](size_t rank) { return rank < probes; });
      }
      points[d].push_back({.recall = SafeRecall(found, ranks.size() * k),
                           .k = k,
                           .ef = std::min<uint32_t>(probes, num_lists())});
    }
    if (probes >= num_lists() || AllFound(points, truth[0].size())) break;
  }
  return Frontier(std::move(points), cost());
}

absl::StatusOr<std::vector<PartitionEfforts>> IvfIndex::CalibratePartitions(
    std::span<const uint32_t> ends, size_t num_threads,
    const CancelToken* cancel) const {
  const VectorSetView& vectors = state_->vectors;
  std::map<uint32_t, PartitionClass> classes;  // by the most lists
  RowId begin = 0;
  for (const uint32_t end : ends) {
    const Filter partition{.begin = std::exchange(begin, end), .end = end};
    if (end - partition.begin < kMinPartitionRows) continue;
    const size_t lists = NumListsOf(partition);
    PartitionClass& of = classes[std::bit_ceil(static_cast<uint32_t>(lists))];
    for (RowId row = partition.begin; row < end; ++row) of.rows.push_back(row);
    of.partitions.push_back(partition);
    of.num_lists += lists;
  }
  Workers workers(num_threads);
  std::vector<PartitionEfforts> out;
  for (const auto& [max_lists, of] : classes) {
    const CalibrationQueries queries =
        CalibrationQueries::Among(vectors, of.rows);
    std::vector<Filter> filters;
    for (size_t q = 0; q < queries.size(); ++q) {
      filters.push_back(*std::upper_bound(
          of.partitions.begin(), of.partitions.end(), queries.OwnRow(q),
          [](RowId row, const Filter& filter) { return row < filter.end; }));
    }
    const std::vector<std::vector<Neighbor>> truth =
        ExactNeighbors(vectors, state_->metric, queries, filters, &workers);
    Trials trials(*state_, queries, truth, &workers, filters);
    RecallPoints points;
    VICINAL_RETURN_IF_ERROR(trials.RunAll(max_lists, {}, cancel, &points));
    const size_t count = of.partitions.size();
    const double mean_rows =
        static_cast<double>(of.rows.size()) / static_cast<double>(count);
    out.push_back(
        {max_lists,
         Frontier(std::move(points), CostOf(mean_rows, of.num_lists / count))});
  }
  return out;
}

}  // namespace vicinal
