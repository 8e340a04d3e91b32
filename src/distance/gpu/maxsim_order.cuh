// The end of a query of MaxSim.
#pragma once

#include <cstdint>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/signal.cuh"
#include "src/distance/gpu/sort.cuh"

namespace vicinal::gpu {

inline constexpr uint32_t kSorted = 2048;  // neighbours

// The k nearest of the survivors; distance_of(survivor, candidate), infinite:
// it has no tokens. By blockDim.x threads that wait for each other.
template <class Distance, class Sync = BlockSync>
__device__ void WriteRanked(const MaxSimState& state, uint32_t q,
                            const TokenQuery& query, uint32_t count,
                            Neighbor* neighbors, const Distance& distance_of,
                            const Sync& sync = {}) {
  uint32_t kept = 0;
  for (uint32_t first = 0; first < count;) {
    const uint32_t taken = min(count - first, kSorted - kept);
    const uint32_t n = kept + taken;
    const uint32_t sorted = PowerOfTwo(n);
    sync();
    for (uint32_t i = kept + threadIdx.x; i < sorted; i += blockDim.x) {
      Neighbor neighbor = {INFINITY, kInvalidRow};
      if (i < n) {
        const uint32_t survivor = first + i - kept;
        const uint32_t slot = state.survivors[query.list_begin + survivor];
        const float distance = distance_of(survivor, slot);
        if (distance < INFINITY) {
          neighbor = {distance, state.docs == nullptr
                                    ? slot
                                    : state.docs[query.list_begin + slot]};
        }
      }
      neighbors[i] = neighbor;
    }
    SortNeighbors(neighbors, sorted, sync);
    kept = min(state.k, n);
    first += taken;
  }
  for (uint32_t i = threadIdx.x; i < state.k; i += blockDim.x) {
    state.out[size_t{q} * state.k + i] =
        i < kept ? neighbors[i] : Neighbor{INFINITY, kInvalidRow};
  }
  sync();
  if (threadIdx.x == 0) {
    MaxSimReport* const report = &state.reports[q];
    report->candidates = count;
    report->unbounded = state.errors[q] < INFINITY ? 0 : 1;
    Signal(&report->done, 1);
  }
}

}  // namespace vicinal::gpu
