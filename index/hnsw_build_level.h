// One level of an HNSW graph while it is built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "index/hnsw_graph.h"
#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal {

// One level while it is built. Link rows hold their ids in `links`, the ends
// filled with kNoLink, and the distances beside them.
struct BuildLevel {
  size_t degree = 0;
  size_t stride = 0;
  std::vector<RowId> rows;  // ascending; empty at level 0
  std::vector<uint32_t> down;
  std::vector<uint32_t> links;
  std::vector<float> distances;
  std::vector<uint8_t> counts;

  void Init(size_t num_nodes, size_t max_degree) {
    degree = max_degree;
    stride = HnswLinkStride(degree);
    links.assign(num_nodes * stride, kNoLink);
    distances.assign(num_nodes * stride, 0);
    counts.assign(num_nodes, 0);
  }
  size_t num_nodes() const { return counts.size(); }
  RowId RowOf(uint32_t slot) const { return rows.empty() ? slot : rows[slot]; }
  HnswLevel View() const {
    return {.rows = rows.empty() ? nullptr : rows.data(),
            .down = down.empty() ? nullptr : down.data(),
            .links = links.data(),
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

// Makes every slot reachable from `entry`: adds a link to each unreachable one
// (in a full link row in place of one that nothing depends on), from the
// nearest place that nearest(slot) offers: reachable slots, ascending. Links
// that other slots are reached by stay.
void Connect(BuildLevel* level, uint32_t entry,
             const std::function<std::vector<Neighbor>(uint32_t)>& nearest);

}  // namespace vicinal
