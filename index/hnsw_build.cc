// Builds an HNSW graph level by level, the top one first. A level starts from
// the finished graph of the level above and takes the other nodes in batches
// (ParlayANN, Manohar et al., PPoPP 2024): all nodes of a batch search the
// graph as it was before the batch, in parallel; then the new links are
// grouped by target and merged. So no locks, and every bit of the result is
// the same for any number of threads.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "index/hnsw.h"
#include "index/hnsw_build_level.h"
#include "index/hnsw_graph.h"
#include "index/hnsw_search.h"
#include "src/base/workers.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/vector_set.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

// A batch is at most this share of the rows already linked: members do not
// see each other, and this bounds what they miss.
constexpr size_t kBatchShare = 50;
constexpr size_t kMinBatch = 64;
// Levels up to this size are linked by comparing all pairs.
constexpr size_t kAllPairsNodes = 256;
// Copies of one vector that a node may link to: they would otherwise fill the
// link row and cut the group off from the rest.
constexpr size_t kMaxDuplicateLinks = 4;
// Places looked at for the link that attaches an unreachable node.
constexpr size_t kConnectEf = 64;

// Distances between rows, in a metric that link selection may use: its
// triangle inequality is what makes "a is nearer to b than to me" mean "b leads
// to a". For the inner product that is L2 after a lift to one more dimension
// where all rows have the same norm, sqrt(max - |x|^2): the order of inner
// products is kept and rows of large norm do not become hubs (Bachrach et al.,
// RecSys 2014).
class BuildDistance {
 public:
  BuildDistance(VectorSetView vectors, Metric metric, Workers* workers)
      : vectors_(vectors),
        ops_(OpsFor(metric == Metric::kCosine ? Metric::kCosine : Metric::kL2,
                    vectors.type)) {
    if (metric == Metric::kInnerProduct) ComputeLift(workers);
  }

  void Gather(RowId from, const RowId* rows, size_t n, float* out) const {
    GatherAhead(ops_, vectors_.row(from), vectors_, rows, n, out);
    if (lift_.empty()) return;
    for (size_t i = 0; i < n; ++i) {
      const float difference = lift_[from] - lift_[rows[i]];
      out[i] += difference * difference;
    }
  }

 private:
  void ComputeLift(Workers* workers) {
    const DistanceOps& ip = OpsFor(Metric::kInnerProduct, vectors_.type);
    lift_.resize(vectors_.num_rows);
    workers->For(
        vectors_.num_rows, 1024, [&](size_t begin, size_t end, size_t) {
          for (size_t i = begin; i < end; ++i) {
            lift_[i] = -ip.one(vectors_.row(i), vectors_.row(i), vectors_.dim);
          }
        });
    // A norm whose square is no float must not make NaNs of all differences:
    // such a row is far from all others anyway.
    constexpr float kMax = std::numeric_limits<float>::max();
    float largest = 0;
    for (const float value : lift_) {
      if (value <= kMax) largest = std::max(largest, value);
    }
    for (float& value : lift_) {
      value = std::sqrt(std::max(largest - value, 0.0f));
    }
  }

  VectorSetView vectors_;
  const DistanceOps& ops_;
  std::vector<float> lift_;  // empty unless the metric is the inner product
};

// Distances from one row; what the walks take.
struct RowScorer {
  const BuildDistance& distance;
  RowId from;

  void operator()(const RowId* rows, size_t n, float* out) const {
    distance.Gather(from, rows, n, out);
  }
};

// A link to add: `source` at `distance` into the row of `target`.
struct NewLink {
  uint32_t target;
  uint32_t source;
  float distance;

  friend bool operator<(const NewLink& a, const NewLink& b) {
    return a.target != b.target ? a.target < b.target : a.source < b.source;
  }
};

class Builder {
 public:
  Builder(VectorSetView vectors, Metric metric, const HnswParams& params,
          size_t num_threads, const CancelToken* cancel, Progress* progress)
      : n_(vectors.num_rows),
        params_(params),
        workers_(num_threads),
        cancel_(cancel),
        progress_(progress),
        distance_(vectors, metric, &workers_),
        scratches_(workers_.size()),
        work_(workers_.size()) {}

  absl::StatusOr<std::string> Build() {
    if (progress_ != nullptr) progress_->total = n_;
    DrawLevels();
    for (size_t l = levels_.size(); l-- > 0;) {
      VICINAL_RETURN_IF_ERROR(LinkLevel(l));
    }
    if (n_ > 0) ConnectLevel0();
    if (progress_ != nullptr) progress_->done = n_;
    return SerializeHnswGraph(View(0));
  }

 private:
  // Per-thread room for link selection.
  struct Work {
    std::vector<Neighbor> candidates;
    std::vector<Neighbor> selected;
    std::vector<RowId> selected_rows;
    std::vector<float> distances;
  };

  HnswGraph View(size_t lowest) const {
    HnswGraph graph;
    graph.m = params_.m;
    graph.entry = entry_;
    for (size_t l = 0; l < levels_.size(); ++l) {
      graph.levels.push_back(l < lowest ? HnswLevel{} : levels_[l].View());
    }
    return graph;
  }
  bool Cancelled() const { return cancel_ != nullptr && cancel_->cancelled(); }

  // Level of every row, from a hash of its number: P(level >= l) = m^-l.
  void DrawLevels() {
    if (n_ == 0) return;
    const double scale = 1.0 / std::log(static_cast<double>(params_.m));
    std::vector<uint8_t> level_of(n_);
    size_t top = 0;
    for (size_t row = 0; row < n_; ++row) {
      Random random(params_.seed * 0x9E3779B97F4A7C15ULL + row);
      const double u = 1.0 - random.UniformDouble();
      const auto level = static_cast<size_t>(-std::log(u) * scale);
      level_of[row] = std::min(level, kMaxHnswLevels - 1);
      top = std::max<size_t>(top, level_of[row]);
    }
    levels_.resize(top + 1);
    levels_[0].Init(n_, 2 * params_.m);
    for (size_t l = 1; l <= top; ++l) {
      for (size_t slot = 0; slot < levels_[l - 1].num_nodes(); ++slot) {
        const RowId row = levels_[l - 1].RowOf(slot);
        if (level_of[row] < l) continue;
        levels_[l].rows.push_back(row);
        levels_[l].down.push_back(slot);
      }
      levels_[l].Init(levels_[l].rows.size(), params_.m);
    }
    entry_ = 0;
  }

  absl::Status LinkLevel(size_t l) {
    BuildLevel& level = levels_[l];
    if (level.num_nodes() <= kAllPairsNodes) {
      LinkAllPairs(&level);
      return absl::OkStatus();
    }
    std::vector<uint32_t> order = InsertionOrder(l);
    size_t linked = level.num_nodes() - order.size();
    if (linked == 0) {
      // Only a top level of improbable size: one node to start from.
      entry_ = order.back();
      order.pop_back();
      linked = 1;
    }
    std::span<uint32_t> rest(order);
    while (!rest.empty()) {
      if (Cancelled()) return absl::CancelledError("index build cancelled");
      const size_t size =
          std::min(rest.size(), std::max(kMinBatch, linked / kBatchShare));
      std::span<uint32_t> batch = rest.first(size);
      std::sort(batch.begin(), batch.end());
      InsertBatch(l, batch);
      rest = rest.subspan(size);
      linked += size;
      if (progress_ != nullptr && l == 0) progress_->done = linked;
    }
    return absl::OkStatus();
  }

  // Seeds the level with the graph above; returns the other slots, shuffled.
  std::vector<uint32_t> InsertionOrder(size_t l) {
    BuildLevel& level = levels_[l];
    std::vector<uint32_t> order(level.num_nodes());
    std::iota(order.begin(), order.end(), 0);
    if (l + 1 < levels_.size()) {
      const BuildLevel& above = levels_[l + 1];
      std::vector<Neighbor> neighbors;
      for (size_t slot = 0; slot < above.num_nodes(); ++slot) {
        neighbors.clear();
        for (size_t i = 0; i < above.counts[slot]; ++i) {
          neighbors.push_back(
              {above.distances[slot * above.stride + i],
               above.down[above.links[slot * above.stride + i]]});
        }
        level.SetLinks(above.down[slot], neighbors);
        order[above.down[slot]] = kNoLink;
      }
      std::erase(order, kNoLink);
    }
    Random random(params_.seed + l);
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[random.Uniform(i)]);
    }
    return order;
  }

  void LinkAllPairs(BuildLevel* level) {
    const size_t count = level->num_nodes();
    std::vector<RowId> rows(count);
    for (size_t slot = 0; slot < count; ++slot) rows[slot] = level->RowOf(slot);
    std::vector<float> distances(count);
    std::vector<NewLink> reverse;
    Work& work = work_[0];
    for (size_t slot = 0; slot < count; ++slot) {
      distance_.Gather(rows[slot], rows.data(), count, distances.data());
      work.candidates.clear();
      for (uint32_t other = 0; other < count; ++other) {
        if (other != slot) {
          work.candidates.push_back({distances[other], other});
        }
      }
      std::sort(work.candidates.begin(), work.candidates.end());
      Select(*level, level->degree, &work);
      level->SetLinks(slot, work.selected);
    }
    for (uint32_t slot = 0; slot < count; ++slot)
      AddReverse(*level, slot, &reverse);
    MergeReverse(level, &reverse);
  }

  void InsertBatch(size_t l, std::span<const uint32_t> batch) {
    BuildLevel& level = levels_[l];
    const HnswGraph graph = View(l);
    std::vector<std::vector<Neighbor>> forward(batch.size());
    workers_.For(batch.size(), 8, [&](size_t begin, size_t end, size_t worker) {
      for (size_t i = begin; i < end; ++i) {
        FindNeighbors(graph, l, batch[i], &scratches_[worker], &work_[worker]);
        // Half of a level-0 row, as the paper has it: reverse links fill it.
        Select(level, params_.m, &work_[worker]);
        forward[i] = work_[worker].selected;
      }
    });
    std::vector<NewLink> reverse;
    for (size_t i = 0; i < batch.size(); ++i) {
      level.SetLinks(batch[i], forward[i]);
    }
    for (uint32_t slot : batch) AddReverse(level, slot, &reverse);
    MergeReverse(&level, &reverse);
  }

  // The ef_construction nearest linked nodes, ascending, into
  // work->candidates.
  void FindNeighbors(const HnswGraph& graph, size_t l, uint32_t slot,
                     HnswScratch* scratch, Work* work) const {
    const HnswLevel& level = graph.levels[l];
    const RowScorer score{distance_, level.RowOf(slot)};
    scratch->Reserve(level.num_nodes, level.stride);
    uint64_t num_distances = 0;
    const HnswStep start = Descend(graph, l, score, scratch, &num_distances);
    PoolWalk(level, score, start, params_.ef_construction, scratch,
             &num_distances, [] { return true; });
    work->candidates.clear();
    for (size_t i = 0; i < scratch->pool.size(); ++i) {
      work->candidates.push_back(
          {scratch->pool.distance(i), scratch->pool.slot(i)});
    }
    scratch->visited.Clear();
  }

  // Link selection (Malkov and Yashunin, algorithm 4): of the candidates, which
  // ascend, those that are nearer to the node than to every one chosen before.
  void Select(const BuildLevel& level, size_t max_links, Work* work) const {
    work->selected.clear();
    work->selected_rows.clear();
    work->distances.resize(max_links);
    size_t num_duplicates = 0;
    for (const Neighbor& candidate : work->candidates) {
      if (work->selected.size() == max_links) break;
      if (candidate.distance <= 0 && num_duplicates == kMaxDuplicateLinks) {
        continue;
      }
      const RowId row = level.RowOf(candidate.row);
      if (IsCovered(row, candidate.distance, work)) continue;
      if (candidate.distance <= 0) ++num_duplicates;
      work->selected.push_back(candidate);
      work->selected_rows.push_back(row);
    }
  }

  // Whether a chosen row is nearer to `row` than `limit`.
  bool IsCovered(RowId row, float limit, Work* work) const {
    constexpr size_t kStep = 8;
    const size_t count = work->selected_rows.size();
    for (size_t i = 0; i < count; i += kStep) {
      const size_t n = std::min(kStep, count - i);
      distance_.Gather(row, &work->selected_rows[i], n, work->distances.data());
      for (size_t j = 0; j < n; ++j) {
        if (work->distances[j] < limit) return true;
      }
    }
    return false;
  }

  static void AddReverse(const BuildLevel& level, uint32_t slot,
                         std::vector<NewLink>* reverse) {
    for (size_t i = 0; i < level.counts[slot]; ++i) {
      reverse->push_back({level.links[slot * level.stride + i], slot,
                          level.distances[slot * level.stride + i]});
    }
  }

  // Adds the links to their targets; a full row is selected anew.
  void MergeReverse(BuildLevel* level, std::vector<NewLink>* reverse) {
    std::sort(reverse->begin(), reverse->end());
    std::vector<size_t> starts;
    for (size_t i = 0; i < reverse->size(); ++i) {
      if (i == 0 || (*reverse)[i].target != (*reverse)[i - 1].target) {
        starts.push_back(i);
      }
    }
    starts.push_back(reverse->size());
    const std::span<const NewLink> links(*reverse);
    workers_.For(
        starts.size() - 1, 16, [&](size_t begin, size_t end, size_t worker) {
          for (size_t t = begin; t < end; ++t) {
            MergeInto(level,
                      links.subspan(starts[t], starts[t + 1] - starts[t]),
                      &work_[worker]);
          }
        });
  }

  void MergeInto(BuildLevel* level, std::span<const NewLink> links,
                 Work* work) const {
    const uint32_t target = links[0].target;
    work->candidates.clear();
    for (size_t i = 0; i < level->counts[target]; ++i) {
      work->candidates.push_back({level->distances[target * level->stride + i],
                                  level->links[target * level->stride + i]});
    }
    const size_t num_old = work->candidates.size();
    for (const NewLink& link : links) {
      const auto old_end = work->candidates.begin() + num_old;
      if (std::none_of(
              work->candidates.begin(), old_end,
              [&](const Neighbor& old) { return old.row == link.source; })) {
        work->candidates.push_back({link.distance, link.source});
      }
    }
    std::sort(work->candidates.begin(), work->candidates.end());
    if (work->candidates.size() <= level->degree) {
      level->SetLinks(target, work->candidates);
      return;
    }
    Select(*level, level->degree, work);
    level->SetLinks(target, work->selected);
  }

  // Makes every node reachable from the entry's row over level-0 links.
  void ConnectLevel0() {
    HnswScratch* scratch = &scratches_[0];
    scratch->Reserve(n_, levels_[0].stride);
    const RowId entry_row = levels_.back().RowOf(entry_);
    Connect(&levels_[0], entry_row, [&](RowId row) {
      const RowScorer score{distance_, row};
      HnswStep start{.slot = entry_row};
      score(&entry_row, 1, &start.distance);
      uint64_t num_distances = 0;
      PoolWalk(levels_[0].View(), score, start, kConnectEf, scratch,
               &num_distances, [] { return true; });
      std::vector<Neighbor> nearest;
      for (size_t i = 0; i < scratch->pool.size(); ++i) {
        nearest.push_back({scratch->pool.distance(i), scratch->pool.slot(i)});
      }
      scratch->visited.Clear();
      return nearest;
    });
  }

  const size_t n_;
  const HnswParams params_;
  Workers workers_;
  const CancelToken* const cancel_;
  Progress* const progress_;
  const BuildDistance distance_;
  std::vector<BuildLevel> levels_;
  uint32_t entry_ = 0;
  std::vector<HnswScratch> scratches_;
  std::vector<Work> work_;
};

}  // namespace

absl::StatusOr<std::string> BuildHnswGraph(VectorSetView vectors, Metric metric,
                                           const HnswParams& params,
                                           size_t num_threads,
                                           const CancelToken* cancel,
                                           Progress* progress) {
  if (params.m < 4 || params.m > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("m is ", params.m, ", it must be 4..64"));
  }
  if (params.ef_construction < 16 || params.ef_construction > 2000) {
    return absl::InvalidArgumentError(absl::StrCat("ef_construction is ",
                                                   params.ef_construction,
                                                   ", it must be 16..2000"));
  }
  if (vectors.num_rows >= kMaxHnswRows) {
    return absl::InvalidArgumentError(
        absl::StrCat("an HNSW graph holds fewer than ", kMaxHnswRows,
                     " rows, got ", vectors.num_rows));
  }
  return Builder(vectors, metric, params, num_threads, cancel, progress)
      .Build();
}

}  // namespace vicinal
