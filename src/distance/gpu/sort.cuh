// Neighbours in order, by one block in shared memory.
#pragma once

#include <cstdint>

#include "src/base/top_k.h"

namespace vicinal::gpu {

__device__ inline bool IsBefore(const Neighbor& a, const Neighbor& b) {
  return a.distance < b.distance || (a.distance == b.distance && a.row < b.row);
}

struct BlockSync {
  __device__ void operator()() const { __syncthreads(); }
};

// Bitonic, of a power of two, by blockDim.x threads that wait for each other.
template <class Sync = BlockSync>
__device__ inline void SortNeighbors(Neighbor* neighbors, uint32_t n,
                                     const Sync& sync = {}) {
  for (uint32_t size = 2; size <= n; size *= 2) {
    for (uint32_t step = size / 2; step > 0; step /= 2) {
      sync();
      for (uint32_t i = threadIdx.x; i < n / 2; i += blockDim.x) {
        const uint32_t a = 2 * i - (i & (step - 1));
        const uint32_t b = a + step;
        const bool up = (a & size) == 0;
        const Neighbor first = neighbors[a];
        const Neighbor second = neighbors[b];
        if (IsBefore(second, first) == up) {
          neighbors[a] = second;
          neighbors[b] = first;
        }
      }
    }
  }
  sync();
}

// The least power of two that is not below n, of at least 1.
__host__ __device__ constexpr uint32_t PowerOfTwo(uint32_t n) {
  uint32_t power = 1;
  while (power < n) power *= 2;
  return power;
}

}  // namespace vicinal::gpu
