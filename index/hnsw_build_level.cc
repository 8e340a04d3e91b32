#include "index/hnsw_build_level.h"

#include <algorithm>
#include <optional>

#include "src/base/check.h"

namespace vicinal {
namespace {

// The tree of a breadth-first walk over a level; its links must stay.
class ReachTree {
 public:
  ReachTree(BuildLevel* level, uint32_t entry)
      : level_(*level), parent_(level->num_nodes(), kNoLink) {
    parent_[entry] = entry;
    Grow(entry);
  }

  bool Reached(uint32_t slot) const { return parent_[slot] != kNoLink; }

  // Whether `from`, which is reached, can take a link more.
  bool CanTake(uint32_t from) const {
    return level_.counts[from] < level_.degree || Spare(from).has_value();
  }

  void Attach(uint32_t from, Neighbor to) {
    std::vector<Neighbor> links;
    const std::optional<size_t> spare =
        level_.counts[from] < level_.degree ? std::nullopt : Spare(from);
    for (size_t i = 0; i < level_.counts[from]; ++i) {
      if (i == spare) continue;
      links.push_back({level_.distances[from * level_.stride + i],
                       level_.links[from * level_.stride + i]});
    }
    links.push_back(to);
    std::sort(links.begin(), links.end());
    level_.SetLinks(from, links);
    parent_[to.row] = from;
    Grow(to.row);
  }

 private:
  // Position of the longest link of `from` that is not in the tree.
  std::optional<size_t> Spare(uint32_t from) const {
    for (size_t i = level_.counts[from]; i-- > 0;) {
      if (parent_[level_.links[from * level_.stride + i]] != from) return i;
    }
    return std::nullopt;
  }

  void Grow(uint32_t root) {
    std::vector<uint32_t> queue = {root};
    for (size_t head = 0; head < queue.size(); ++head) {
      const uint32_t from = queue[head];
      for (size_t i = 0; i < level_.counts[from]; ++i) {
        const uint32_t to = level_.links[from * level_.stride + i];
        if (Reached(to)) continue;
        parent_[to] = from;
        queue.push_back(to);
      }
    }
  }

  BuildLevel& level_;
  std::vector<uint32_t> parent_;
};

}  // namespace

void Connect(BuildLevel* level, uint32_t entry,
             const std::function<std::vector<Neighbor>(uint32_t)>& nearest) {
  ReachTree tree(level, entry);
  const size_t n = level->num_nodes();
  uint32_t last = entry;  // the slot attached last: among copies of one
                          // vector the only one with room
  size_t cursor = 0;
  for (uint32_t slot = 0; slot < n; ++slot) {
    if (tree.Reached(slot)) continue;
    std::optional<Neighbor> from;
    const std::vector<Neighbor> places = nearest(slot);
    for (const Neighbor& place : places) {
      if (tree.CanTake(place.row)) {
        from = place;
        break;
      }
    }
    if (!from.has_value()) {
      const float far = places.empty() ? 0 : places.back().distance;
      if (tree.CanTake(last)) {
        from = {far, last};
      } else {
        // A tree of r slots has r - 1 links, so some slot has room.
        while (cursor < n && !(tree.Reached(cursor) && tree.CanTake(cursor))) {
          ++cursor;
        }
        if (cursor == n) cursor = 0;
        while (!(tree.Reached(cursor) && tree.CanTake(cursor))) {
          ++cursor;
          VICINAL_CHECK_LT(cursor, n);
        }
        from = {far, static_cast<RowId>(cursor)};
      }
    }
    tree.Attach(from->row, {from->distance, slot});
    last = slot;
  }
}

}  // namespace vicinal
