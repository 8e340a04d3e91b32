#include "src/engine/hit_grouper.h"

#include <utility>
#include <vector>

namespace vicinal {

void HitGrouper::Add(const Hit& hit, const std::vector<GroupValue>& values) {
  for (const GroupValue& value : values) {
    auto found = by_value_.find(value);
    if (found == by_value_.end()) {
      if (groups_.size() == by_.num_groups) continue;
      found = by_value_.emplace(value, groups_.size()).first;
      groups_.push_back({value, {}});
    }
    std::vector<Hit>& hits = groups_[found->second].hits;
    if (hits.size() == by_.group_size) continue;
    hits.push_back(hit);
    num_full_ += hits.size() == by_.group_size;
  }
}

void HitGrouper::MoveTo(SearchResult* result) {
  result->hits.clear();
  result->groups.clear();
  for (Group& group : groups_) {
    result->groups.push_back({std::move(group.value), group.hits.size()});
    for (Hit& hit : group.hits) result->hits.push_back(std::move(hit));
  }
}

}  // namespace vicinal
