// The callers' side of a collection: searches whose hits are grouped.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/hit_grouper.h"
#include "src/engine/searcher.h"
#include "src/payload/group_value.h"
#include "storage/collection_store.h"

namespace vicinal {
namespace {

// Searches that are repeated because versions that they found were replaced
// before their payloads were read.
constexpr int kMaxRounds = 8;

using GroupValues = absl::flat_hash_map<Ordinal, std::vector<GroupValue>>;

// Adds the values of those of the hits that have a payload in the snapshot, and
// takes them out of *hits.
absl::Status TakeFrom(const StoreSnapshot& snapshot,
                      const CollectionStore& store, const std::string& path,
                      const StopCondition& stop, std::vector<const Hit*>* hits,
                      GroupValues* values) {
  constexpr size_t kChunk = 256;
  std::vector<const Hit*> rest;
  for (size_t begin = 0; begin < hits->size(); begin += kChunk) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    const auto part =
        std::span(*hits).subspan(begin, std::min(kChunk, hits->size() - begin));
    std::vector<Ordinal> ordinals;
    for (const Hit* hit : part) ordinals.push_back(hit->ordinal);
    VICINAL_ASSIGN_OR_RETURN(const auto payloads,
                             store.GetPayloads(ordinals, &snapshot));
    for (size_t i = 0; i < part.size(); ++i) {
      if (payloads[i].has_value()) {
        (*values)[ordinals[i]] = GroupValuesOf(*payloads[i], path);
      } else {
        rest.push_back(part[i]);
      }
    }
  }
  *hits = std::move(rest);
  return absl::OkStatus();
}

// Adds the values of hits that are not there yet, from snapshots that are older
// and newer than the search: one has the payload of a version that it found.
// False: but for those that were written and replaced in between; with
// take_newer these have the values of the version that replaced theirs.
absl::StatusOr<bool> ReadValues(const std::vector<Hit>& hits,
                                const std::string& path,
                                const StoreSnapshot& before,
                                const StoreSnapshot& after, bool take_newer,
                                const CollectionStore& store,
                                const StopCondition& stop,
                                GroupValues* values) {
  std::vector<const Hit*> unknown;
  for (const Hit& hit : hits) {
    if (!values->contains(hit.ordinal)) unknown.push_back(&hit);
  }
  VICINAL_RETURN_IF_ERROR(
      TakeFrom(before, store, path, stop, &unknown, values));
  VICINAL_RETURN_IF_ERROR(TakeFrom(after, store, path, stop, &unknown, values));
  if (unknown.empty()) return true;
  std::vector<PointId> ids;
  for (const Hit* hit : unknown) ids.push_back(hit->id);
  VICINAL_ASSIGN_OR_RETURN(const auto entries, store.LookupIds(ids, &after));
  bool all_there = true;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (entries[i].has_value() && entries[i]->ordinal == unknown[i]->ordinal) {
      (*values)[unknown[i]->ordinal] = {};  // it has no payload
    } else if (take_newer && entries[i].has_value()) {
      VICINAL_ASSIGN_OR_RETURN(
          const auto payloads,
          store.GetPayloads({entries[i]->ordinal}, &after));
      (*values)[unknown[i]->ordinal] =
          GroupValuesOf(payloads[0].value_or(""), path);
    } else {
      all_there = false;
    }
  }
  return all_there;
}

}  // namespace

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
    const std::unique_ptr<StoreSnapshot> after = context_->store->Snapshot();
    // A writer may be faster than any number of searches.
    const bool take_newer = num_repetitions >= kMaxRounds;
    VICINAL_ASSIGN_OR_RETURN(const bool all_there,
                             ReadValues(result.hits, by.path, *before, *after,
                                        take_newer, store_, stop, &values));
    // The new versions are found by the next search.
    if (!all_there && !take_newer) {
      ++num_repetitions;
      continue;
    }
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
