// What both kernels that compare tiles do with a score.
#pragma once

#include <cstdint>

#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {

__device__ inline uint32_t TileAt(const Round& round, uint32_t number) {
  if (round.ratio == 0) return number * round.step;
  return (number + number / (round.ratio - 1) + 1) * round.step;
}

__device__ inline bool IsAccepted(const DeviceRows& rows,
                                  const uint64_t* accepted, uint32_t row) {
  return row < rows.num_rows &&
         (accepted == nullptr || (accepted[row / 64] >> (row % 64) & 1) != 0);
}

__device__ inline void StoreCandidate(const DeviceRows& rows,
                                      const QueryState& state,
                                      const uint64_t* accepted, uint32_t query,
                                      float score, uint32_t number,
                                      uint32_t row) {
  if (!IsAccepted(rows, accepted, row)) score = -INFINITY;
  state.candidates[size_t{query} * state.capacity + number] = {score, row};
}

__device__ inline void AppendCandidate(const DeviceRows& rows,
                                       const QueryState& state,
                                       const uint64_t* accepted, uint32_t query,
                                       float score, uint32_t row) {
  if (!IsAccepted(rows, accepted, row)) return;
  const uint32_t at = atomicAdd(&state.counts[query], 1);
  if (at < state.capacity) {
    state.candidates[size_t{query} * state.capacity + at] = {score, row};
  }
}

}  // namespace vicinal::gpu
