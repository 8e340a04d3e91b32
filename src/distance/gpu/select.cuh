// Scores in order as integers, and the k-th largest of what a block holds.
#pragma once

#include <cstdint>

namespace vicinal::gpu {

// Larger scores have larger keys, that are not 0.
__device__ inline uint32_t KeyOf(float score) {
  const uint32_t bits = __float_as_uint(score);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float ScoreOf(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7FFFFFFFu : ~key);
}

// The largest bin from which on upwards there are at least k; *above becomes
// how many there are in larger ones. All threads of the first warp.
__device__ inline uint32_t BinOf(const uint32_t* bins, uint32_t k,
                                 uint32_t lane, uint32_t* above) {
  // Lane l has the bins 255 - 8 l and down.
  uint32_t own = 0;
  for (uint32_t i = 0; i < 8; ++i) own += bins[255 - 8 * lane - i];
  uint32_t sum = own;
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, sum, step);
    if (lane >= step) sum += other;
  }
  const uint32_t reached = __ballot_sync(~0u, sum >= k);
  const uint32_t owner = __ffs(static_cast<int>(reached)) - 1;
  uint32_t before = __shfl_sync(~0u, sum - own, owner);
  uint32_t bin = 255 - 8 * owner;
  while (before + bins[bin] < k) before += bins[bin--];
  *above = before;
  return bin;
}

// The least and the largest key of a block, and how many there are.
struct KeyRange {
  uint32_t least;
  uint32_t most;
  uint32_t count;
};

// key_at(i) is key i of the thread's kEach; 0: there is none. By all threads.
template <int kEach, class KeyAt>
__device__ KeyRange RangeOf(const KeyAt& key_at) {
  __shared__ KeyRange all;
  if (threadIdx.x == 0) all = {~0u, 0, 0};
  __syncthreads();
  uint32_t least = ~0u;
  uint32_t most = 0;
  uint32_t count = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const uint32_t key = key_at(i);
    if (key == 0) continue;
    least = min(least, key);
    most = max(most, key);
    ++count;
  }
  least = __reduce_min_sync(~0u, least);
  most = __reduce_max_sync(~0u, most);
  count = __reduce_add_sync(~0u, count);
  if (threadIdx.x % 32 == 0 && count > 0) {
    atomicMin(&all.least, least);
    atomicMax(&all.most, most);
    atomicAdd(&all.count, count);
  }
  __syncthreads();
  return all;
}

// Eight bits a pass of the k-th largest of at least k keys, counted from the
// first in which keys differ; what follows is zeros. Four passes find it; fewer
// where not more than `most` keys are that large, most >= k.
template <uint32_t kBlock, int kEach, class KeyAt>
__device__ uint32_t KthLargestKey(const KeyAt& key_at, const KeyRange& range,
                                  uint32_t k, uint32_t most, int num_passes) {
  __shared__ uint32_t bins[256];
  __shared__ uint32_t chosen[3];
  uint32_t edge = range.least;
  uint32_t num_reached = range.count;
  uint32_t width = 32 - __clz(static_cast<int>(edge ^ range.most));
  for (int pass = 0; pass < num_passes && width > 0 && num_reached > most;
       ++pass) {
    const uint32_t shift = width > 8 ? width - 8 : 0;
    const uint32_t prefix = width < 32 ? edge >> width : 0;
    for (uint32_t i = threadIdx.x; i < 256; i += kBlock) bins[i] = 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const uint32_t key = key_at(i);
      if (key == 0) continue;
      if ((width < 32 ? key >> width : 0) != prefix) continue;
      atomicAdd(&bins[key >> shift & ((1u << (width - shift)) - 1)], 1);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      uint32_t above;
      const uint32_t bin = BinOf(bins, k, threadIdx.x, &above);
      if (threadIdx.x == 0) {
        chosen[0] = bin;
        chosen[1] = above;
        chosen[2] = bins[bin];
      }
    }
    __syncthreads();
    edge = (width < 32 ? prefix << width : 0) | chosen[0] << shift;
    // Of those that share the prefix, k are wanted, and `most` may be taken.
    k -= chosen[1];
    most -= chosen[1];
    num_reached = chosen[2];
    width = shift;
  }
  return edge;
}

}  // namespace vicinal::gpu
