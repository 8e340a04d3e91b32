// Queries of one call that devices answer together.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/status_macros.h"
#include "src/base/thread_pool.h"
#include "src/engine/searcher.h"
#include "src/engine/searcher_stages.h"

namespace vicinal {
namespace {

// Kinds of queries in one call that are looked for.
constexpr size_t kMaxGroups = 16;
// Answers that a call keeps until its queries come for them: 32 MiB.
constexpr size_t kMaxHeld = size_t{1} << 22;

// Whether the stages ask the same of a segment, but for the vector.
bool AreAlike(const RetrieveStage& a, const RetrieveStage& b) {
  return a.vector_name == b.vector_name && a.k == b.k && a.exact == b.exact &&
         a.ef == b.ef && a.nprobe == b.nprobe &&
         a.recall_target == b.recall_target && a.force == b.force &&
         a.filter == b.filter && a.excluded_ids.size() == b.excluded_ids.size();
}

}  // namespace

// All alike; the vectors as segments are asked.
struct Searcher::Group {
  std::vector<const RetrieveStage*> stages;
  size_t field = 0;
  std::vector<std::byte> vectors;

  // Rows for each; as FindNearest asks first.
  size_t wanted() const {
    return stages[0]->k + stages[0]->excluded_ids.size();
  }
};

// Of one segment.
struct Searcher::GroupAnswer {
  std::vector<Neighbor> nearest;  // as many of each stage; or none at all
  DeviceUse use;
};

std::vector<Searcher::Group> Searcher::GroupsOf(
    std::span<const Query> queries) const {
  std::vector<Group> groups;
  for (const Query& query : queries) {
    const auto* stage = std::get_if<RetrieveStage>(&query.stage);
    if (stage == nullptr || stage->feedback.has_value() ||
        query.group_by.has_value() || stage->force == ForcedPlan::kIndex ||
        stage->ef.has_value() || stage->nprobe.has_value()) {
      continue;
    }
    std::vector<float> normalized;
    const void* vector = nullptr;
    const auto field =
        PrepareVector(stage->vector_name, stage->query, &normalized, &vector);
    if (!field.ok()) continue;  // Run says so
    auto group = std::find_if(
        groups.begin(), groups.end(),
        [&](const Group& g) { return AreAlike(*g.stages[0], *stage); });
    if (group == groups.end()) {
      if (groups.size() == kMaxGroups) continue;
      group = groups.insert(groups.end(), Group{.field = *field});
    }
    group->stages.push_back(stage);
    const auto* bytes = static_cast<const std::byte*>(vector);
    group->vectors.insert(group->vectors.end(), bytes,
                          bytes + layout_.fields[*field].row_bytes);
  }
  std::erase_if(groups, [](const Group& g) { return g.stages.size() < 2; });
  return groups;
}

absl::Status Searcher::AskDevices(std::span<const Query> queries,
                                  ThreadPool* pool) {
  if (device_ == nullptr || queries.size() < 2 || pin_.view->sealed.empty()) {
    return absl::OkStatus();
  }
  for (const Group& group : GroupsOf(queries)) {
    VICINAL_RETURN_IF_ERROR(AskDevices(group, pool));
  }
  return absl::OkStatus();
}

absl::StatusOr<Searcher::GroupAnswer> Searcher::AskDevice(
    const Group& group, size_t i, size_t cpu_threads) const {
  VICINAL_RETURN_IF_ERROR(stop_.Check());
  const SealedSegment& segment = *pin_.view->sealed[i];
  const RetrieveStage& first = *group.stages[0];
  GroupAnswer answer;
  SegmentQuery query =
      QueryOf(first, group.field, std::min(group.wanted(), segment.num_rows()));
  std::shared_ptr<const RowSet> rows;
  if (RowFilter* filter = FilterOf(first.filter)) {
    VICINAL_ASSIGN_OR_RETURN(
        rows, filter->RowsOf(segment, segment.num_rows(), stop_));
    if (rows->count == 0) return answer;
    query.rows = rows.get();
  }
  query.device_use = &answer.use;
  VICINAL_ASSIGN_OR_RETURN(
      answer.nearest, segment.SearchOnDevice(query,
                                             {.vectors = group.vectors.data(),
                                              .num = group.stages.size(),
                                              .cpu_threads = cpu_threads},
                                             stop_));
  return answer;
}

absl::Status Searcher::AskDevices(const Group& group, ThreadPool* pool) {
  const size_t num_sealed = pin_.view->sealed.size();
  const size_t cpu_threads = pool == nullptr ? 1 : pool->num_threads() + 1;
  std::vector<absl::StatusOr<GroupAnswer>> answers(num_sealed, GroupAnswer());
  std::atomic<size_t> num_held = 0;
  const auto ask = [&](size_t i) {
    // The others are searched query by query.
    if (num_held > kMaxHeld) return;
    answers[i] = AskDevice(group, i, cpu_threads);
    if (answers[i].ok()) num_held += answers[i]->nearest.size();
  };
  // One device answers one call at a time.
  if (pool != nullptr && device_->num_devices() > 1) {
    pool->ParallelFor(num_sealed, ask);
  } else {
    for (size_t i = 0; i < num_sealed; ++i) ask(i);
  }
  for (size_t i = 0; i < num_sealed; ++i) {
    VICINAL_RETURN_IF_ERROR(answers[i].status());
    const auto& [nearest, use] = *answers[i];
    if (nearest.empty()) continue;
    const auto k =
        static_cast<std::ptrdiff_t>(nearest.size() / group.stages.size());
    auto begin = nearest.begin();
    for (const RetrieveStage* stage : group.stages) {
      AskedAhead& ahead = ahead_[stage];
      ahead.k = group.wanted();
      ahead.nearest.resize(num_sealed);
      ahead.uses.resize(num_sealed);
      ahead.nearest[i].assign(begin, begin + k);
      ahead.uses[i] = use;
      begin += k;
    }
  }
  return absl::OkStatus();
}

void Searcher::TakeAhead(const AskedAhead& ahead, size_t i, TopK* top,
                         SearchStats* stats, SegmentExplanation* about) const {
  for (const Neighbor& neighbor : ahead.nearest[i]) {
    if (neighbor.row != kInvalidRow) top->Push(neighbor);
  }
  stats->plan = SearchPlan::kDevice;
  stats->distance_computations += about->num_accepted;
  about->device = ahead.uses[i];
}

}  // namespace vicinal
