#include "index/hnsw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "index/flat.h"
#include "index/hnsw_graph.h"
#include "index/hnsw_search.h"
#include "index/ivf.h"
#include "src/base/status_macros.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr size_t kExpansionsPerCheck = 64;
// Distances that a walk computes for each place of its pool; measured 8-16 on
// the data sets of docs/BENCHMARKS.md.
constexpr double kDistancesPerEf = 12;
// How much more a walk pays for each distance than a scan of the accepted rows,
// which reads them in the order of memory and keeps no pool.
constexpr double kWalkedPerScanned = 2;
// A walk that took so many times what a filter independent of the query would
// is among rows that do not pass.
constexpr double kMaxOverExpected = 4;
// Accepted rows that are estimated at a time.
constexpr size_t kScanRows = 512;

// Polls `stop` every kExpansionsPerCheck expansions; counts them.
class ExpansionGate {
 public:
  explicit ExpansionGate(const StopCondition& stop) : stop_(stop) {}
  bool operator()() {
    if (expanded_ % kExpansionsPerCheck == 0) {
      status_ = stop_.Check();
      if (!status_.ok()) return false;
    }
    ++expanded_;
    return true;
  }
  uint64_t expanded() const { return expanded_; }
  const absl::Status& status() const { return status_; }

 private:
  const StopCondition& stop_;
  absl::Status status_;
  uint64_t expanded_ = 0;
};

// Distances after which a filtered walk is given up for a scan.
size_t MaxDistances(size_t ef, size_t num_accepted, size_t num_rows) {
  const double expected =
      kDistancesPerEf * static_cast<double>(ef) *
      static_cast<double>(num_rows) /
      static_cast<double>(std::max<size_t>(num_accepted, 1));
  return std::min(num_accepted,
                  static_cast<size_t>(kMaxOverExpected * expected));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HnswIndex>> HnswIndex::Open(
    VectorSetView vectors, Metric metric, absl::string_view graph,
    CodedRows codes) {
  auto state = std::make_unique<HnswState>();
  VICINAL_ASSIGN_OR_RETURN(state->graph,
                           ParseHnswGraph(graph, vectors.num_rows));
  state->graph_bytes = graph.size();
  state->ops = &OpsFor(metric, vectors.type);
  state->codes = codes;
  return std::unique_ptr<HnswIndex>(
      new HnswIndex(vectors, metric, std::move(state)));
}

HnswIndex::HnswIndex(VectorSetView vectors, Metric metric,
                     std::unique_ptr<const HnswState> state)
    : vectors_(vectors), metric_(metric), state_(std::move(state)) {}

HnswIndex::~HnswIndex() = default;

void HnswIndex::UseCells(std::unique_ptr<const IvfIndex> cells) {
  cells_ = std::move(cells);
}

size_t HnswIndex::memory_bytes() const { return state_->graph_bytes; }

// Of those that do not pass fewer and fewer are met again: measured 1.4, 2.2
// and 3.3 times as long at a half, a fifth and a tenth.
double HnswIndex::WalkNs(const SearchParams& params, double share) const {
  return cost().per_ef * static_cast<double>(std::max(params.ef, params.k)) /
         std::sqrt(share);
}

HnswIndex::Way HnswIndex::WayFor(const SearchParams& params,
                                 const Filter& filter) const {
  if (params.force != ForcedPlan::kNone) {
    return params.force == ForcedPlan::kScan ? Way::kScan : Way::kWalk;
  }
  const auto n = static_cast<double>(vectors_.num_rows);
  const auto accepted =
      static_cast<double>(filter.NumAccepted(vectors_.num_rows));
  if (filter.allowed != nullptr && cells_ != nullptr && params.cells > 0) {
    // Centroids need not be compared where nearly all pass anyway.
    constexpr double kNearlyAll = 0.9;
    if (accepted >= kNearlyAll * n) return Way::kWalk;
    const double scan = cells_->ScanNs(filter);
    return scan <= cells_->FilteredNs(params, filter) &&
                   scan <= WalkNs(params, accepted / n)
               ? Way::kScan
               : Way::kCells;
  }
  // A walk meets accepted rows at the rate accepted / n, so it costs about
  // kDistancesPerEf ef n / accepted distances; a scan costs `accepted`.
  const double walked =
      kDistancesPerEf * n * static_cast<double>(std::max(params.ef, params.k));
  return accepted * accepted <=
                 (state_->codes.codec == nullptr ? 1 : kWalkedPerScanned) *
                     walked
             ? Way::kScan
             : Way::kWalk;
}

absl::Status HnswIndex::Search(const void* query, const SearchParams& params,
                               const Filter& filter, const StopCondition& stop,
                               TopK* out, SearchStats* stats) const {
  // More of those near the query pass than a filter that is independent of it
  // would let.
  constexpr double kNearShare = 1.3;
  SearchStats work;
  const double share =
      static_cast<double>(filter.NumAccepted(vectors_.num_rows)) /
      static_cast<double>(vectors_.num_rows);
  Way way = WayFor(params, filter);
  size_t ef = params.ef;
  if (filter.allowed != nullptr && params.filtered_pool > 0) {
    ef = params.filtered_pool;
  }
  absl::Status status;
  if (way == Way::kCells) {
    const auto near = cells_->SearchFiltered(
        query, params, filter,
        [&](double near_share) { return WalkNs(params, near_share); }, stop,
        out, &work);
    status = near.status();
    if (near.ok() && near->way != IvfIndex::Way::kLists) {
      way = near->way == IvfIndex::Way::kWalk ? Way::kWalk : Way::kScan;
      // Among rows that pass the pool fills as it does without a filter.
      if (near->near_share > kNearShare * share) ef = params.ef;
    }
    work.plan = SearchPlan::kLists;
  }
  if (status.ok() && way == Way::kWalk) {
    const auto complete = Walk(query, params, ef, filter, stop, out, &work);
    status = complete.status();
    work.plan = SearchPlan::kGraph;
    if (complete.ok() && !*complete) {
      // The walk ended short, or a scan is cheaper. Rows found so far would be
      // pushed twice: start over.
      out->TakeSorted();
      status = Scan(query, params, filter, stop, out, &work);
      work.plan = SearchPlan::kGraphThenScan;
    }
  }
  if (status.ok() && way == Way::kScan) {
    status = Scan(query, params, filter, stop, out, &work);
  }
  if (stats != nullptr) {
    stats->distance_computations += work.distance_computations;
    stats->expanded_nodes += work.expanded_nodes;
    stats->plan = work.plan;
  }
  return status;
}

absl::Status HnswIndex::Scan(const void* query, const SearchParams& params,
                             const Filter& filter, const StopCondition& stop,
                             TopK* out, SearchStats* stats) const {
  const CodedRows& codes = state_->codes;
  const size_t n = vectors_.num_rows;
  // As many as a walk of this effort would compare.
  const size_t depth =
      std::max(params.k, params.rerank > 0 ? params.rerank : params.ef);
  if (codes.codec == nullptr || filter.NumAccepted(n) <= 2 * depth) {
    return FlatIndex(vectors_, metric_)
        .Search(query, params, filter, stop, out, stats);
  }
  stats->plan = SearchPlan::kCodes;
  const ScratchPool<HnswScratch>::Lease lease(&state_->scratches);
  HnswScratch& scratch = *lease.get();
  VICINAL_RETURN_IF_ERROR(
      codes.codec->Prepare(query, vectors_.type, &scratch.query));
  const CodeScorer score{&ActiveCodeKernels(), &codes.codec->layout(),
                         &scratch.query.code_query(), codes.records};
  std::vector<RowId>& rows = scratch.reranked;
  std::vector<Neighbor>& nearest = scratch.heap;
  rows.clear();
  nearest.clear();
  std::array<float, kScanRows> estimates;
  float limit = std::numeric_limits<float>::infinity();
  absl::Status status;
  const auto flush = [&] {
    if (status.ok()) status = stop.Check();
    if (!status.ok()) return;
    score(rows.data(), rows.size(), estimates.data());
    stats->distance_computations += rows.size();
    for (size_t i = 0; i < rows.size(); ++i) {
      if (estimates[i] > limit) continue;
      nearest.push_back({estimates[i], rows[i]});
    }
    rows.clear();
    KeepNearest(depth, &nearest, &limit);
  };
  const auto take = [&](RowId row) {
    if (filter.deleted != nullptr && filter.deleted->Test(row)) return;
    rows.push_back(row);
    if (rows.size() == kScanRows) flush();
  };
  const size_t end = std::min<size_t>(filter.end, n);
  if (filter.allowed != nullptr) {
    filter.allowed->ForEachIn(filter.begin, end, take);
  } else {
    for (size_t row = filter.begin; row < end; ++row) {
      take(static_cast<RowId>(row));
    }
  }
  flush();
  VICINAL_RETURN_IF_ERROR(status);
  for (const Neighbor& candidate : nearest) rows.push_back(candidate.row);
  std::sort(rows.begin(), rows.end());
  scratch.exact.resize(std::max(scratch.exact.size(), rows.size()));
  GatherAhead(*state_->ops, query, vectors_, rows.data(), rows.size(),
              scratch.exact.data());
  stats->distance_computations += rows.size();
  for (size_t i = 0; i < rows.size(); ++i) {
    out->Push({scratch.exact[i], rows[i]});
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HnswIndex::Walk(const void* query,
                                     const SearchParams& params, size_t ef,
                                     const Filter& filter,
                                     const StopCondition& stop, TopK* out,
                                     SearchStats* stats) const {
  const size_t num_accepted = filter.NumAccepted(vectors_.num_rows);
  const HnswLevel& level0 = state_->graph.levels[0];
  const QueryScorer exact{state_->ops, vectors_, query};
  const CodedRows& codes = state_->codes;
  ef = std::min(std::max(ef, params.k), vectors_.num_rows);
  const size_t max_distances =
      params.force == ForcedPlan::kIndex
          ? SIZE_MAX
          : MaxDistances(ef, num_accepted, vectors_.num_rows);
  const ScratchPool<HnswScratch>::Lease lease(&state_->scratches);
  HnswScratch& scratch = *lease.get();
  scratch.Reserve(level0.num_nodes, level0.stride);
  absl::Status status;
  bool complete = false;
  if (codes.codec == nullptr) {
    status = WalkWith(exact, ef, filter, max_distances, stop, &scratch, stats,
                      &complete);
    for (size_t i = 0; i < std::min(out->k(), scratch.pool.size()); ++i) {
      out->Push({scratch.pool.distance(i), scratch.pool.slot(i)});
    }
  } else {
    VICINAL_RETURN_IF_ERROR(
        codes.codec->Prepare(query, vectors_.type, &scratch.query));
    const CodeScorer score{&ActiveCodeKernels(), &codes.codec->layout(),
                           &scratch.query.code_query(), codes.records};
    status = WalkWith(score, ef, filter, max_distances, stop, &scratch, stats,
                      &complete);
    const size_t depth =
        params.rerank == 0 ? ef : std::max(params.rerank, params.k);
    const size_t n = ScoreExactly(exact, depth, &scratch);
    stats->distance_computations += n;
    for (size_t i = 0; i < n; ++i) {
      out->Push({scratch.exact[i], scratch.reranked[i]});
    }
  }
  VICINAL_RETURN_IF_ERROR(status);
  return complete && out->size() >= std::min(out->k(), num_accepted);
}

template <typename Scorer>
absl::Status HnswIndex::WalkWith(const Scorer& score, size_t ef,
                                 const Filter& filter, size_t max_distances,
                                 const StopCondition& stop,
                                 HnswScratch* scratch, SearchStats* stats,
                                 bool* complete) const {
  const HnswLevel& level0 = state_->graph.levels[0];
  uint64_t num_distances = 0;
  const HnswStep start =
      Descend(state_->graph, 0, score, scratch, &num_distances);
  ExpansionGate gate(stop);
  if (filter.AcceptsAll()) {
    PoolWalk(level0, score, start, ef, scratch, &num_distances,
             [&] { return gate(); });
    *complete = true;
  } else {
    FilteredPoolWalk(
        level0, score, start, ef, scratch, &num_distances,
        [&](uint32_t slot) { return filter.Accepts(slot); },
        // Past that many distances the scan would have been cheaper.
        [&] { return num_distances <= max_distances && gate(); });
    *complete = num_distances <= max_distances;
  }
  stats->distance_computations += num_distances;
  stats->expanded_nodes += gate.expanded();
  return gate.status();
}

size_t HnswIndex::CountReachable() const {
  const HnswGraph& graph = state_->graph;
  if (graph.levels.empty()) return 0;
  const HnswLevel& level0 = graph.levels[0];
  std::vector<bool> seen(level0.num_nodes);
  std::vector<uint32_t> queue = {graph.levels.back().RowOf(graph.entry)};
  seen[queue[0]] = true;
  for (size_t head = 0; head < queue.size(); ++head) {
    const uint32_t* links = level0.LinksOf(queue[head]);
    for (size_t i = 0; i < level0.stride && links[i] != kNoLink; ++i) {
      if (seen[links[i]]) continue;
      seen[links[i]] = true;
      queue.push_back(links[i]);
    }
  }
  return queue.size();
}

}  // namespace vicinal
