// What the scans of codes share.
#pragma once

#include <cstdint>

#include "src/distance/gpu/append.cuh"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/select.cuh"

namespace vicinal::gpu {

// An item whose tiles are numbers of the round, where there is no list.
__device__ inline ScanItem ItemAt(const CodeScan& scan, uint32_t id) {
  if (scan.items != nullptr) return scan.items[id];
  const uint32_t groups =
      (scan.num_probes + scan.probes_per_item - 1) / scan.probes_per_item;
  ScanItem item;
  item.first_probe = id % groups * scan.probes_per_item;
  item.num_probes =
      min(scan.probes_per_item, scan.num_probes - item.first_probe);
  item.first_tile = id / groups * scan.tiles_per_item;
  item.num_tiles =
      min(scan.tiles_per_item, scan.round.num_tiles - item.first_tile);
  return item;
}

// The item's i-th tile.
__device__ inline uint32_t ItemTile(const CodeScan& scan, const ScanItem& item,
                                    uint32_t i) {
  return scan.items != nullptr ? item.first_tile + i
                               : TileAt(scan.round, item.first_tile + i);
}

// number: of the tile in its round, where there is no list of items.
__device__ inline void StoreEstimate(const DeviceCodes& codes,
                                     const CodeScan& scan,
                                     const QueryState& state,
                                     const DeviceProbe& probe, float estimate,
                                     uint32_t row, uint32_t number) {
  const bool in_range = row >= probe.begin && row < probe.end;
  uint32_t slot;
  if (scan.items == nullptr) {
    slot = number * kScanTileRows + row % kScanTileRows;
  } else if (in_range) {
    slot = probe.slot + (row - probe.begin);
  } else {
    return;
  }
  const bool accepted =
      in_range && row < codes.num_rows &&
      (scan.accepted == nullptr || (scan.accepted[row / 64] >> (row % 64) & 1));
  state.candidates[size_t{probe.query} * state.capacity + slot] = {
      accepted ? -estimate : -INFINITY, row};
}

__device__ inline bool IsWanted(const CodeScan& scan, const DeviceProbe& probe,
                                uint32_t row) {
  return row >= probe.begin && row < probe.end &&
         (scan.accepted == nullptr ||
          (scan.accepted[row / 64] >> (row % 64) & 1) != 0);
}

__device__ inline void Append(const QueryState& state, uint32_t query,
                              float estimate, uint32_t row) {
  const uint32_t at = atomicAdd(&state.counts[query], 1);
  if (at < state.capacity) {
    state.candidates[size_t{query} * state.capacity + at] = {-estimate, row};
  }
}

__device__ inline void AppendEstimate(const CodeScan& scan,
                                      const QueryState& state,
                                      const DeviceProbe& probe, float estimate,
                                      uint32_t row) {
  if (IsWanted(scan, probe, row)) Append(state, probe.query, estimate, row);
}

// A bit for each of the 32 rows from first_row on, a multiple of 32.
__device__ inline uint32_t AcceptedRows(const DeviceCodes& codes,
                                        const CodeScan& scan,
                                        uint32_t first_row) {
  if (first_row >= codes.num_rows) return 0;
  uint32_t bits = ~0u;
  if (scan.accepted != nullptr) {
    bits = __ldg(reinterpret_cast<const uint32_t*>(scan.accepted) +
                 first_row / 32);
  }
  const uint32_t left = codes.num_rows - first_row;
  return left < 32 ? bits & ((1u << left) - 1) : bits;
}

// -0 counts as 0, as it does where candidates are put in order.
__device__ inline void RaiseMaximum(const CodeScan& scan, uint32_t query,
                                    uint32_t tile, float score) {
  if (!(score > -INFINITY)) return;
  atomicMax(&scan.maxima[query * scan.num_groups + tile / scan.tiles_per_group],
            KeyOf(__fadd_rn(score, 0.0f)));
}

// How many items there are.
inline uint32_t NumItems(const CodeScan& scan) {
  if (scan.items != nullptr) return scan.num_items;
  return (scan.num_probes + scan.probes_per_item - 1) / scan.probes_per_item *
         ((scan.round.num_tiles + scan.tiles_per_item - 1) /
          scan.tiles_per_item);
}

}  // namespace vicinal::gpu
