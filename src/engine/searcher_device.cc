// Queries of one call that a device answers together.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "src/base/status_macros.h"
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

absl::Status Searcher::AskDevice(std::span<const Query> queries,
                                 size_t cpu_threads) {
  if (device_ == nullptr || queries.size() < 2 || pin_.view->sealed.empty()) {
    return absl::OkStatus();
  }
  for (const Group& group : GroupsOf(queries)) {
    VICINAL_RETURN_IF_ERROR(AskDevice(group, cpu_threads));
  }
  return absl::OkStatus();
}

absl::Status Searcher::AskDevice(const Group& group, size_t cpu_threads) {
  const auto& sealed = pin_.view->sealed;
  const RetrieveStage& first = *group.stages[0];
  size_t num_held = 0;  // answers
  // As FindNearest asks first.
  const size_t wanted = first.k + first.excluded_ids.size();
  for (size_t i = 0; i < sealed.size(); ++i) {
    SegmentQuery query =
        QueryOf(first, group.field, std::min(wanted, sealed[i]->num_rows()));
    std::shared_ptr<const RowSet> rows;
    if (RowFilter* filter = FilterOf(first.filter)) {
      VICINAL_ASSIGN_OR_RETURN(
          rows, filter->RowsOf(*sealed[i], sealed[i]->num_rows(), stop_));
      if (rows->count == 0) continue;
      query.rows = rows.get();
    }
    DeviceUse use;
    query.device_use = &use;
    VICINAL_ASSIGN_OR_RETURN(
        const std::vector<Neighbor> nearest,
        sealed[i]->SearchOnDevice(query,
                                  {.vectors = group.vectors.data(),
                                   .num = group.stages.size(),
                                   .cpu_threads = cpu_threads},
                                  stop_));
    if (nearest.empty()) continue;
    num_held += nearest.size();
    for (size_t q = 0; q < group.stages.size(); ++q) {
      AskedAhead& ahead = ahead_[group.stages[q]];
      ahead.k = wanted;
      ahead.nearest.resize(sealed.size());
      ahead.uses.resize(sealed.size());
      const auto begin =
          nearest.begin() + static_cast<std::ptrdiff_t>(q * query.k);
      ahead.nearest[i].assign(begin,
                              begin + static_cast<std::ptrdiff_t>(query.k));
      ahead.uses[i] = use;
    }
    // The other segments are searched query by query.
    if (num_held > kMaxHeld) break;
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
