// The callers' side of a collection: searches whose hits are grouped.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/hit_grouper.h"
#include "src/engine/searcher.h"
#include "src/payload/group_value.h"

namespace vicinal {
namespace {

// Searches that are repeated because versions that they found were replaced
// before their payloads were read, while commits come one after the other.
constexpr int kMaxRepetitions = 8;

}  // namespace

absl::StatusOr<bool> CollectionImpl::ReadLatestGroupValues(
    const std::vector<const Hit*>& hits, const GroupBy& by,
    GroupValues* values) const {
  if (hits.empty()) return true;
  std::vector<Ordinal> ordinals;
  std::vector<PointId> ids;
  for (const Hit* hit : hits) {
    ordinals.push_back(hit->ordinal);
    ids.push_back(hit->id);
  }
  VICINAL_ASSIGN_OR_RETURN(const auto payloads, store_.GetPayloads(ordinals));
  VICINAL_ASSIGN_OR_RETURN(const auto entries, store_.LookupIds(ids));
  bool all_there = true;
  for (size_t i = 0; i < hits.size(); ++i) {
    if (payloads[i].has_value()) {
      (*values)[ordinals[i]] = GroupValuesOf(*payloads[i], by.path);
    } else if (entries[i].has_value() && entries[i]->ordinal == ordinals[i]) {
      (*values)[ordinals[i]] = {};  // it has no payload
    } else {
      all_there = false;
    }
  }
  return all_there;
}

absl::StatusOr<bool> CollectionImpl::ReadGroupValues(
    const std::vector<Hit>& hits, const GroupBy& by,
    const StoreSnapshot& before, const StopCondition& stop,
    GroupValues* values) const {
  constexpr size_t kChunk = 256;
  bool all_there = true;
  std::vector<const Hit*> unknown;
  for (const Hit& hit : hits) {
    if (!values->contains(hit.ordinal)) unknown.push_back(&hit);
  }
  const std::span<const Hit* const> todo(unknown);
  for (size_t begin = 0; begin < todo.size(); begin += kChunk) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    const size_t n = std::min(kChunk, todo.size() - begin);
    std::vector<Ordinal> ordinals;
    for (const Hit* hit : todo.subspan(begin, n)) {
      ordinals.push_back(hit->ordinal);
    }
    VICINAL_ASSIGN_OR_RETURN(const auto payloads,
                             store_.GetPayloads(ordinals, &before));
    std::vector<const Hit*> rest;
    for (size_t i = 0; i < n; ++i) {
      if (payloads[i].has_value()) {
        (*values)[ordinals[i]] = GroupValuesOf(*payloads[i], by.path);
      } else {
        rest.push_back(todo[begin + i]);
      }
    }
    VICINAL_ASSIGN_OR_RETURN(const bool found,
                             ReadLatestGroupValues(rest, by, values));
    all_there = all_there && found;
  }
  return all_there;
}

absl::StatusOr<SearchResult> CollectionImpl::SearchGroups(
    const Searcher& searcher, const Query& query, ThreadPool* pool,
    const StopCondition& stop) const {
  const GroupBy& by = *query.group_by;
  const size_t max_k = context_->options->limits.max_k;
  GroupValues values;
  SearchStats stats;
  int num_repetitions = 0;
  // Twice what would do if no hit were in vain.
  size_t k = std::min(2 * by.group_size * by.num_groups, max_k);
  while (true) {
    const std::unique_ptr<StoreSnapshot> before = context_->store->Snapshot();
    VICINAL_ASSIGN_OR_RETURN(SearchResult result, searcher.Run(query, k, pool));
    stats.distance_computations += result.stats.distance_computations;
    stats.expanded_nodes += result.stats.expanded_nodes;
    VICINAL_ASSIGN_OR_RETURN(
        const bool all_there,
        ReadGroupValues(result.hits, by, *before, stop, &values));
    // The new versions are found by the next search.
    if (!all_there && ++num_repetitions <= kMaxRepetitions) continue;
    HitGrouper grouper(by);
    for (const Hit& hit : result.hits) {
      const auto found = values.find(hit.ordinal);
      if (found != values.end()) grouper.Add(hit, found->second);
    }
    const bool may_be_more = !grouper.full() && result.hits.size() >= k;
    if (may_be_more && k < max_k) {
      k = std::min(2 * k, max_k);
      continue;
    }
    result.exact = result.exact && !may_be_more;
    result.stats = stats;
    grouper.MoveTo(&result);
    return result;
  }
}

}  // namespace vicinal
