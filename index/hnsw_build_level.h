// One level of an HNSW graph while it is built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "index/hnsw_graph.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/workers.h"

namespace vicinal {

// One level while it is built. Link rows hold their ids in `links`, the ends
// filled with kNoLink, and the distances beside them.
struct BuildLevel {
  size_t degree = 0;
  size_t stride = 0;
  std::vector<RowId> rows;  // ascending; empty at level 0
  std::vector<uint32_t> down;
  std::unique_ptr<uint32_t[]> links;
  std::unique_ptr<float[]> distances;
  std::vector<uint8_t> counts;

  // Nothing but counts is filled, which would be one thread's work: SetLinks
  // fills the row of its slot.
  void Init(size_t num_nodes, size_t max_degree) {
    degree = max_degree;
    stride = HnswLinkStride(degree);
    links = std::make_unique_for_overwrite<uint32_t[]>(num_nodes * stride);
    distances = std::make_unique_for_overwrite<float[]>(num_nodes * stride);
    counts.assign(num_nodes, 0);
  }
  size_t num_nodes() const { return counts.size(); }
  RowId RowOf(uint32_t slot) const { return rows.empty() ? slot : rows[slot]; }
  HnswLevel View() const {
    return {.rows = rows.empty() ? nullptr : rows.data(),
            .down = down.empty() ? nullptr : down.data(),
            .links = links.get(),
            .num_nodes = num_nodes(),
            .stride = stride};
  }
  void SetLinks(uint32_t slot, std::span<const Neighbor> neighbors) {
    for (size_t i = 0; i < stride; ++i) {
      const bool used = i < neighbors.size();
      links[slot * stride + i] = used ? neighbors[i].row : kNoLink;
      distances[slot * stride + i] = used ? neighbors[i].distance : 0;
    }
    counts[slot] = neighbors.size();
  }
};

// The links that lead to each slot of a level, in any order.
// Life: counted slot by slot, then built, then const. Count may be called for
// different slots from any number of threads.
class ReverseLinks {
 public:
  struct Link {
    uint32_t source;
    float distance;
  };

  explicit ReverseLinks(size_t num_slots)
      : counts_(num_slots), starts_(num_slots + 1) {}

  // Once for each slot, when its links are there.
  void Count(const BuildLevel& level, uint32_t slot);
  // When all are counted.
  void Build(const BuildLevel& level, Workers* workers);
  std::span<const Link> Of(uint32_t target) const {
    return {links_.get() + starts_[target], links_.get() + starts_[target + 1]};
  }

 private:
  std::vector<uint32_t> counts_;  // of a target
  // links_[starts_[t] .. starts_[t + 1]) go to target t.
  std::vector<size_t> starts_;
  std::unique_ptr<Link[]> links_;
};

// Makes every slot reachable from `entry`: adds a link to each unreachable one
// (in a full link row in place of one that nothing depends on), from the
// nearest place that nearest(slot) offers: reachable slots, ascending. Links
// that other slots are reached by stay.
void Connect(BuildLevel* level, uint32_t entry,
             const std::function<std::vector<Neighbor>(uint32_t)>& nearest);

}  // namespace vicinal
