// Puts the hits of a search into groups, nearest first.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "src/engine/query.h"
#include "src/payload/group_value.h"

namespace vicinal {

// The groups of the first num_groups values that it meets, with the first
// group_size hits of each. Used once, by one thread.
class HitGrouper {
 public:
  explicit HitGrouper(const GroupBy& by) : by_(by) {}

  // The next hit, with its values, each once: it joins the group of each.
  void Add(const Hit& hit, const std::vector<GroupValue>& values);
  // No further hit changes anything.
  bool full() const { return num_full_ == by_.num_groups; }
  // The hits, group by group, those with the nearest hits first.
  void MoveTo(SearchResult* result);

 private:
  struct Group {
    GroupValue value;
    std::vector<Hit> hits;
  };

  const GroupBy& by_;
  std::vector<Group> groups_;
  absl::flat_hash_map<GroupValue, size_t> by_value_;  // index of groups_
  size_t num_full_ = 0;
};

}  // namespace vicinal
