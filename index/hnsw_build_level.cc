#include "index/hnsw_build_level.h"

#include <algorithm>
#include <atomic>
#include <optional>

#include "src/base/check.h"

namespace vicinal {
namespace {

// Slots that are fetched before they are looked at: they lie anywhere.
constexpr size_t kAhead = 8;

void Prefetch(const void* address) { __builtin_prefetch(address); }

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
      if (head + kAhead < queue.size()) {
        const uint32_t later = queue[head + kAhead];
        Prefetch(&level_.counts[later]);
        // A cache line has 16 links.
        for (size_t i = 0; i < level_.stride; i += 16) {
          Prefetch(&level_.links[later * level_.stride + i]);
        }
      }
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

void ReverseLinks::Count(const BuildLevel& level, uint32_t slot) {
  for (size_t i = 0; i < level.counts[slot]; ++i) {
    const uint32_t target = level.links[slot * level.stride + i];
    std::atomic_ref<uint32_t>(counts_[target])
        .fetch_add(1, std::memory_order_relaxed);
  }
}

void ReverseLinks::Build(const BuildLevel& level, Workers* workers) {
  const size_t n = counts_.size();
  for (size_t t = 0; t < n; ++t) starts_[t + 1] = starts_[t] + counts_[t];
  links_ = std::make_unique_for_overwrite<Link[]>(starts_[n]);
  workers->For(n, 1024, [&](size_t begin, size_t end, size_t) {
    for (size_t slot = begin; slot < end; ++slot) {
      for (size_t i = 0; i < level.counts[slot]; ++i) {
        const size_t at = slot * level.stride + i;
        const uint32_t target = level.links[at];
        const uint32_t left = std::atomic_ref<uint32_t>(counts_[target])
                                  .fetch_sub(1, std::memory_order_relaxed);
        links_[starts_[target] + left - 1] = {static_cast<uint32_t>(slot),
                                              level.distances[at]};
      }
    }
  });
}

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
