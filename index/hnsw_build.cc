// Builds an HNSW graph without inserting: for each level, the top one first,
// rows are put into overlapping leaves of near rows, all pairs inside a leaf
// are compared by a blocked kernel, and link selection prunes what each row
// was offered (the idea of PiPNN, arXiv 2602.21247). Where there is a device,
// it compares all rows with all in place of that, and selects links. Every step
// is a function of sets of rows, so the graph depends neither on their order
// nor, in any bit, on the number of threads, unless a device fails meanwhile.
//
// Leaves know only short links. Insertion leaves long ones behind, in the rows
// that came early; here they come from the level above, whose links a row
// keeps as long as it has room. Between two levels of the hierarchy there is
// one more, which is only built for its links: without it the 128-d set of
// docs/BENCHMARKS.md takes 1.2x the distances at recall 0.99.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "index/build_distance.h"
#include "index/hnsw.h"
#include "index/hnsw_build_level.h"
#include "index/hnsw_device.h"
#include "index/hnsw_graph.h"
#include "index/hnsw_search.h"
#include "index/leaf_neighbors.h"
#include "index/leaf_partition.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/vector_set.h"
#include "src/base/workers.h"

namespace vicinal {
namespace {

// Levels built for each one of the hierarchy.
constexpr size_t kStages = 2;
// A candidate is dropped when a chosen row is nearer to it than this share of
// its own (squared) distance: RobustPrune with alpha^2 = 1 / 0.9. Measured: 1
// takes 1.1x the distances at recall 0.99 on 100-d word vectors.
constexpr float kPruneShare = 0.9f;
// Copies of one vector that a node may link to: they would otherwise fill the
// link row and cut the group off from the rest.
constexpr size_t kMaxDuplicateLinks = 4;
// Places looked at for the link that attaches an unreachable node.
constexpr size_t kConnectEf = 64;

// Distances from one row; what the walks take.
struct RowScorer {
  const BuildDistance& distance;
  RowId from;

  void operator()(const RowId* rows, size_t n, float* out) const {
    distance.Gather(from, rows, n, out);
  }
};

// Candidates kept for a row of a stage and leaves it lies in. Upper stages are
// small, so many candidates cost little there, and they bring the links from
// one cluster to the next.
size_t NumCandidates(const HnswParams& params, size_t stage) {
  const size_t ef = params.ef_construction;
  const size_t n = stage == 0 ? ef * 8 / 25 : stage == 1 ? ef * 4 / 5 : ef * 2;
  return std::max<size_t>(n, 2 * params.m);
}
size_t NumLeaves(const HnswParams& params) {
  return std::clamp<size_t>(params.ef_construction / 50, 2, kMaxLeafFanout);
}

class Builder {
 public:
  Builder(VectorSetView vectors, Metric metric, const HnswParams& params,
          size_t num_threads, const CancelToken* cancel, Progress* progress,
          DistanceBackend* backend)
      : n_(vectors.num_rows),
        params_(params),
        workers_(num_threads),
        cancel_(cancel),
        progress_(progress),
        backend_(backend),
        distance_(vectors, metric, &workers_),
        scratches_(workers_.size()),
        work_(workers_.size()) {}

  absl::StatusOr<std::string> Build() {
    if (progress_ != nullptr) {
      progress_->total = n_;
      progress_->done = 0;
    }
    DrawStages();
    VICINAL_RETURN_IF_ERROR(LinkStages());
    DropInnerStages();
    if (n_ > 0 && !Cancelled()) ConnectLevel0();
    if (Cancelled()) return CancelledStatus();
    if (progress_ != nullptr) progress_->done = n_;
    return SerializeHnswGraph(Graph());
  }

 private:
  // Per-thread room for link selection.
  struct Work {
    std::vector<Neighbor> candidates;
    std::vector<Neighbor> selected;
    std::vector<RowId> selected_rows;
    std::vector<float> distances;
  };

  // Rows that a device selects links of, all at once.
  struct FullRows {
    std::vector<uint32_t> slots;
    std::vector<uint32_t> offsets = {0};
    std::vector<Neighbor> candidates;

    void Add(uint32_t slot, const std::vector<Neighbor>& own) {
      slots.push_back(slot);
      candidates.insert(candidates.end(), own.begin(), own.end());
      std::sort(candidates.begin() + offsets.back(), candidates.end());
      offsets.push_back(candidates.size());
    }
  };

  bool Cancelled() const { return cancel_ != nullptr && cancel_->cancelled(); }
  static absl::Status CancelledStatus() {
    return absl::CancelledError("index build cancelled");
  }

  // The whole levels, when the inner stages are gone.
  HnswGraph Graph() const {
    HnswGraph graph;
    graph.m = params_.m;
    graph.entry = 0;
    for (const BuildLevel& level : stages_) {
      graph.levels.push_back(level.View());
    }
    return graph;
  }

  // Highest stage of every row, from a hash of its number: P(stage >= s) =
  // m^(-s / kStages), so that whole levels have the usual m^-l.
  void DrawStages() {
    if (n_ == 0) return;
    const double scale = kStages / std::log(static_cast<double>(params_.m));
    std::vector<uint8_t> stage_of(n_);
    workers_.For(n_, 4096, [&](size_t begin, size_t end, size_t) {
      for (size_t row = begin; row < end; ++row) {
        Random random(params_.seed * 0x9E3779B97F4A7C15ULL + row);
        const double u = 1.0 - random.UniformDouble();
        const auto stage = static_cast<size_t>(-std::log(u) * scale);
        stage_of[row] = std::min(stage, (kMaxHnswLevels - 1) * kStages);
      }
    });
    const size_t top =
        *std::max_element(stage_of.begin(), stage_of.end()) / kStages * kStages;
    stages_.resize(top + 1);
    stages_[0].Init(n_, 2 * params_.m);
    for (size_t s = 1; s <= top; ++s) {
      for (size_t slot = 0; slot < stages_[s - 1].num_nodes(); ++slot) {
        const RowId row = stages_[s - 1].RowOf(slot);
        if (stage_of[row] < s) continue;
        stages_[s].rows.push_back(row);
        stages_[s].down.push_back(slot);
      }
      // Links of the stages within level 0 go to its rows.
      stages_[s].Init(stages_[s].rows.size(),
                      s < kStages ? 2 * params_.m : params_.m);
    }
  }

  void DropInnerStages() {
    std::vector<BuildLevel> whole;
    for (size_t s = 0; s < stages_.size(); ++s) {
      if (s % kStages != 0) continue;
      for (uint32_t& slot : stages_[s].down) {
        for (size_t i = 1; i < kStages; ++i) slot = stages_[s - i].down[slot];
      }
      whole.push_back(std::move(stages_[s]));
    }
    stages_ = std::move(whole);
  }

  RowSource RowsOf(const BuildLevel& level) const {
    return {.num_rows = level.num_nodes(),
            .dim = distance_.pair_dim(),
            .load = [this, &level](uint32_t slot, float* out) {
              distance_.Load(level.RowOf(slot), out);
            }};
  }

  absl::Status LinkStages() {
    // A device gets the rows of the lowest stage that it takes, and makes those
    // of the others, which are among them, by itself. Where there is no room
    // for both, it gets the rows of one stage at a time.
    DeviceStage lowest(backend_, distance_.pair_scale());
    size_t lowest_stage = 0;
    while (lowest_stage < stages_.size() && !Cancelled() &&
           !lowest.Load(RowsOf(stages_[lowest_stage]), &workers_)) {
      ++lowest_stage;
    }
    for (size_t stage = stages_.size(); stage-- > 0;) {
      const BuildLevel& level = stages_[stage];
      DeviceStage part(backend_, distance_.pair_scale());
      if (stage > lowest_stage) {
        if (lowest.is_loaded() && part.Serves(RowsOf(level)) &&
            !part.LoadPart(lowest, SlotsIn(lowest_stage, stage))) {
          lowest.Drop();
        }
        if (!lowest.is_loaded()) part.Load(RowsOf(level), &workers_);
      } else if (stage == lowest_stage && !lowest.is_loaded()) {
        lowest.Load(RowsOf(level), &workers_);
      }
      const DeviceStage& device = stage == lowest_stage ? lowest : part;
      ReverseLinks reverse(stages_[stage].num_nodes());
      VICINAL_RETURN_IF_ERROR(LinkStage(stage, device, &reverse));
      MergeReverse(&stages_[stage], device, &reverse);
    }
    return absl::OkStatus();
  }

  // Slots that the nodes of a stage have in a lower one.
  std::vector<uint32_t> SlotsIn(size_t lower, size_t stage) const {
    std::vector<uint32_t> slots = stages_[stage].down;
    while (--stage > lower) {
      for (uint32_t& slot : slots) slot = stages_[stage].down[slot];
    }
    return slots;
  }

  // Fills the link rows of a stage with what its rows choose, and counts them.
  absl::Status LinkStage(size_t stage, const DeviceStage& device,
                         ReverseLinks* reverse) {
    if (device.is_loaded()) {
      if (LinkByDevice(stage, device, reverse)) {
        return Cancelled() ? CancelledStatus() : absl::OkStatus();
      }
      if (Cancelled()) return CancelledStatus();
      if (stage == 0 && progress_ != nullptr) progress_->done = 0;
      *reverse = ReverseLinks(stages_[stage].num_nodes());
    }
    BuildLevel& level = stages_[stage];
    const size_t n = level.num_nodes();
    const RowSource rows = RowsOf(level);
    VICINAL_ASSIGN_OR_RETURN(
        const Leaves leaves,
        PartitionIntoLeaves(rows, {.fanout = NumLeaves(params_)}, &workers_,
                            cancel_));
    // Half of the way is the leaves, the other half the selection.
    const auto report = [&](size_t part, size_t whole) {
      if (stage == 0 && progress_ != nullptr) {
        progress_->done.fetch_add(part * n_ / (2 * whole),
                                  std::memory_order_relaxed);
      }
    };
    NeighborLists lists(n, NumCandidates(params_, stage));
    VICINAL_RETURN_IF_ERROR(CompareInsideLeaves(
        rows, leaves, distance_.pair_scale(), &workers_, cancel_,
        [&](size_t num_rows) { report(num_rows, leaves.members.size()); },
        &lists));
    const std::vector<uint32_t> above = SlotsAbove(stage);
    workers_.For(n, 64, [&](size_t begin, size_t end, size_t worker) {
      if (Cancelled()) return;
      Work& work = work_[worker];
      for (size_t slot = begin; slot < end; ++slot) {
        work.candidates.clear();
        for (const uint64_t key : lists.Of(slot)) {
          work.candidates.push_back(NeighborLists::FromKey(key));
        }
        // Half of a level-0 row, as the paper has it: reverse links fill it.
        Select(level, params_.m, &work);
        if (!above.empty() && above[slot] != kNoLink) {
          AddLinksAbove(stage, above[slot], &work);
          SelectUnlessRoom(level, &work);
        }
        level.SetLinks(slot, work.selected);
        reverse->Count(level, slot);
      }
      report(end - begin, n);
    });
    return Cancelled() ? CancelledStatus() : absl::OkStatus();
  }

  static LinkRule RuleFor(size_t max_links) {
    return {.max_links = max_links,
            .share = kPruneShare,
            .max_duplicates = kMaxDuplicateLinks};
  }

  // False where the device fails: links may be set and counted then.
  bool LinkByDevice(size_t stage, const DeviceStage& device,
                    ReverseLinks* reverse) {
    BuildLevel& level = stages_[stage];
    const std::vector<uint32_t> above = SlotsAbove(stage);
    std::vector<FullRows> full(workers_.size());
    const auto take = [&](size_t first, size_t last, const Neighbor* links) {
      const auto set = [&](size_t i, size_t worker) {
        const auto slot = static_cast<uint32_t>(first + i);
        Work& work = work_[worker];
        TakeLinks(links, i, params_.m, &work);
        if (!above.empty() && above[slot] != kNoLink) {
          AddLinksAbove(stage, above[slot], &work);
          if (DeferIfFull(level, slot, work, &full[worker])) return;
          SelectUnlessRoom(level, &work);
        }
        level.SetLinks(slot, work.selected);
        reverse->Count(level, slot);
      };
      workers_.For(last - first, 64,
                   [&](size_t begin, size_t end, size_t worker) {
                     for (size_t i = begin; i < end; ++i) set(i, worker);
                   });
      if (stage == 0 && progress_ != nullptr) {
        progress_->done.fetch_add((last - first) / 2,
                                  std::memory_order_relaxed);
      }
      return !Cancelled();
    };
    if (!device.Link(NumCandidates(params_, stage), RuleFor(params_.m),
                     kMaxLeafDuplicates, take)) {
      return false;
    }
    for (const FullRows& rows : full) {
      SelectFull(rows, device, &level);
      if (Cancelled()) return true;
      workers_.For(rows.slots.size(), 256,
                   [&](size_t begin, size_t end, size_t) {
                     for (size_t i = begin; i < end; ++i) {
                       reverse->Count(level, rows.slots[i]);
                     }
                   });
    }
    if (stage == 0 && progress_ != nullptr) progress_->done = n_ / 2;
    return true;
  }

  // List i of those that a device chose, into work->selected.
  static void TakeLinks(const Neighbor* links, size_t i, size_t max_links,
                        Work* work) {
    const Neighbor* const begin = links + i * max_links;
    work->selected.assign(
        begin, std::find_if(begin, begin + max_links, [](const Neighbor& link) {
          return link.row == kInvalidRow;
        }));
  }

  // Slot of every node in the stage above, kNoLink where it has none; empty
  // for the top one.
  std::vector<uint32_t> SlotsAbove(size_t stage) const {
    std::vector<uint32_t> out;
    if (stage + 1 == stages_.size()) return out;
    out.assign(stages_[stage].num_nodes(), kNoLink);
    const std::vector<uint32_t>& down = stages_[stage + 1].down;
    for (uint32_t slot = 0; slot < down.size(); ++slot) out[down[slot]] = slot;
    return out;
  }

  // work->selected and the links that the node has one stage up, into
  // work->candidates.
  void AddLinksAbove(size_t stage, uint32_t slot_above, Work* work) const {
    const BuildLevel& above = stages_[stage + 1];
    work->candidates = work->selected;
    const size_t num_own = work->candidates.size();
    for (size_t i = 0; i < above.counts[slot_above]; ++i) {
      const size_t at = slot_above * above.stride + i;
      AddNew({above.distances[at], above.down[above.links[at]]}, num_own, work);
    }
  }

  // Adds a candidate unless it is among the first num_known.
  static void AddNew(Neighbor candidate, size_t num_known, Work* work) {
    const auto end = work->candidates.begin() + num_known;
    if (std::none_of(work->candidates.begin(), end, [&](const Neighbor& old) {
          return old.row == candidate.row;
        })) {
      work->candidates.push_back(candidate);
    }
  }

  // All candidates when they fit a link row, else a selection.
  void SelectUnlessRoom(const BuildLevel& level, Work* work) const {
    std::sort(work->candidates.begin(), work->candidates.end());
    if (work->candidates.size() <= level.degree) {
      work->selected = work->candidates;
    } else {
      Select(level, level.degree, work);
    }
  }

  // Link selection (Malkov and Yashunin, algorithm 4): of the candidates, which
  // ascend, those that are (by kPruneShare) nearer to the node than to every
  // one chosen before.
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
      if (IsCovered(row, candidate.distance * kPruneShare, work)) continue;
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

  // Gives every link its reverse, all of which are counted; a full row is
  // selected anew.
  void MergeReverse(BuildLevel* level, const DeviceStage& device,
                    ReverseLinks* reverse) {
    const size_t n = level->num_nodes();
    reverse->Build(*level, &workers_);
    std::vector<FullRows> full(workers_.size());
    workers_.For(n, 64, [&](size_t begin, size_t end, size_t worker) {
      if (Cancelled()) return;
      Work& work = work_[worker];
      for (size_t target = begin; target < end; ++target) {
        Merge(*level, target, reverse->Of(target), &work);
        if (device.is_loaded() &&
            DeferIfFull(*level, target, work, &full[worker])) {
          continue;
        }
        SelectUnlessRoom(*level, &work);
        level->SetLinks(target, work.selected);
      }
    });
    for (const FullRows& rows : full) SelectFull(rows, device, level);
  }

  // Whether there are too many candidates, which a device is then to select of
  // with those of other rows.
  static bool DeferIfFull(const BuildLevel& level, uint32_t slot,
                          const Work& work, FullRows* full) {
    if (work.candidates.size() <= level.degree) return false;
    full->Add(slot, work.candidates);
    return true;
  }

  void SelectFull(const FullRows& rows, const DeviceStage& device,
                  BuildLevel* level) {
    if (rows.slots.empty() || Cancelled()) return;
    std::vector<Neighbor> chosen;
    const bool done = device.Select(rows.offsets, rows.candidates,
                                    RuleFor(level->degree), &chosen);
    workers_.For(rows.slots.size(), 64,
                 [&](size_t begin, size_t end, size_t worker) {
                   Work& work = work_[worker];
                   for (size_t i = begin; i < end; ++i) {
                     if (done) {
                       TakeLinks(chosen.data(), i, level->degree, &work);
                     } else {
                       work.candidates.assign(
                           rows.candidates.begin() + rows.offsets[i],
                           rows.candidates.begin() + rows.offsets[i + 1]);
                       Select(*level, level->degree, &work);
                     }
                     level->SetLinks(rows.slots[i], work.selected);
                   }
                 });
  }

  // The links of a node and those that lead to it, into work->candidates.
  void Merge(const BuildLevel& level, uint32_t target,
             std::span<const ReverseLinks::Link> links, Work* work) const {
    work->candidates.clear();
    for (size_t i = 0; i < level.counts[target]; ++i) {
      const size_t at = target * level.stride + i;
      work->candidates.push_back({level.distances[at], level.links[at]});
    }
    const size_t num_own = work->candidates.size();
    for (const ReverseLinks::Link& link : links) {
      AddNew({link.distance, link.source}, num_own, work);
    }
  }

  // Makes every node reachable from the entry's row over level-0 links.
  void ConnectLevel0() {
    HnswScratch* scratch = &scratches_[0];
    scratch->Reserve(n_, stages_[0].stride);
    const RowId entry_row = stages_.back().RowOf(0);
    Connect(&stages_[0], entry_row, [&](RowId row) {
      const RowScorer score{distance_, row};
      HnswStep start{.slot = entry_row};
      score(&entry_row, 1, &start.distance);
      uint64_t num_distances = 0;
      PoolWalk(stages_[0].View(), score, start, kConnectEf, scratch,
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
  DistanceBackend* const backend_;  // null: there is none
  const BuildDistance distance_;
  std::vector<BuildLevel> stages_;  // level l of the graph: l * kStages
  std::vector<HnswScratch> scratches_;
  std::vector<Work> work_;
};

}  // namespace

absl::StatusOr<std::string> BuildHnswGraph(VectorSetView vectors, Metric metric,
                                           const HnswParams& params,
                                           size_t num_threads,
                                           const CancelToken* cancel,
                                           Progress* progress,
                                           DistanceBackend* backend) {
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
  return Builder(vectors, metric, params, num_threads, cancel, progress,
                 backend)
      .Build();
}

}  // namespace vicinal
