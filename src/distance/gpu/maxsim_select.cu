// From scores with a known error to the candidates that it cannot rule out; of
// exact scores, to the nearest.
#include <cuda_runtime.h>

#include <cstdint>

#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_order.cuh"
#include "src/distance/gpu/overlap.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kSelectThreads = 1024;
constexpr uint32_t kBins = 2 * kSelectThreads;
// Scores that a thread of SelectKernel holds; more are read again and again.
constexpr uint32_t kHeld = 8;

struct Range {
  float low = INFINITY;
  float high = -INFINITY;
};
__device__ inline void Include(float score, Range* range) {
  range->low = fminf(range->low, score);
  range->high = fmaxf(range->high, score);
}
__device__ inline void JoinWarp(Range* range) {
  for (int half = 16; half > 0; half /= 2) {
    range->low = fminf(range->low, __shfl_xor_sync(~0u, range->low, half));
    range->high = fmaxf(range->high, __shfl_xor_sync(~0u, range->high, half));
  }
}
// Over a block of kSelectThreads; all get it.
__device__ Range JoinBlock(Range range) {
  __shared__ float lows[32];
  __shared__ float highs[32];
  JoinWarp(&range);
  __syncthreads();  // of the last time they may still be read
  if (threadIdx.x % 32 == 0) {
    lows[threadIdx.x / 32] = range.low;
    highs[threadIdx.x / 32] = range.high;
  }
  __syncthreads();
  range = {lows[threadIdx.x % 32], highs[threadIdx.x % 32]};
  JoinWarp(&range);
  return range;
}

// The bin in which the wanted-th is, counted from bin 0 on, and how many are in
// those before. kBins: there are not as many. By all threads.
struct Bin {
  uint32_t number;
  uint32_t before;
  uint32_t count;
};
__device__ Bin FindBin(const uint32_t* bins, uint32_t wanted) {
  __shared__ uint32_t warp_sums[32];
  __shared__ Bin found;
  const uint32_t thread = threadIdx.x;
  const uint32_t lane = thread % 32;
  const uint32_t counts[2] = {bins[2 * thread], bins[2 * thread + 1]};
  uint32_t sum = counts[0] + counts[1];
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) warp_sums[thread / 32] = sum;
  if (thread == 0) found = {kBins, 0, 0};
  __syncthreads();
  uint32_t before = lane < thread / 32 ? warp_sums[lane] : 0;
  for (int half = 16; half > 0; half /= 2) {
    before += __shfl_xor_sync(~0u, before, half);
  }
  before += sum - counts[0] - counts[1];
  for (uint32_t i = 0; i < 2; ++i) {
    if (before < wanted && wanted <= before + counts[i]) {
      found = {2 * thread + i, before, counts[i]};
    }
    before += counts[i];
  }
  __syncthreads();
  return found;
}

// A score that is not above the k-th largest, and little below it; -infinity:
// fewer than k are above that. each(visit) calls visit(score) for the thread's
// share. By bins of equal width: scores of one query are of one size, so that
// bins of their leading bits would be few.
template <class Each>
__device__ float KthLargest(const Each& each, uint32_t k) {
  __shared__ uint32_t bins[kBins];
  constexpr uint32_t kFew = 32;
  Range own;
  each([&](float score) {
    if (score > -INFINITY) Include(score, &own);
  });
  Range all = JoinBlock(own);
  uint32_t wanted = k;
  for (int round = 0; round < 8; ++round) {
    const auto is_in = [&](float score) {
      return score >= all.low && score <= all.high;
    };
    // Monotone in the score, whatever is rounded.
    const float width = (kBins - 1) / (all.high - all.low);
    const auto bin_of = [&](float score) -> uint32_t {
      if (!(all.low < all.high)) return 0;
      return min(kBins - 1, static_cast<uint32_t>((all.high - score) * width));
    };
    for (uint32_t i = threadIdx.x; i < kBins; i += kSelectThreads) bins[i] = 0;
    __syncthreads();
    each([&](float score) {
      if (is_in(score)) atomicAdd(&bins[bin_of(score)], 1);
    });
    __syncthreads();
    const Bin bin = FindBin(bins, wanted);
    if (bin.number == kBins) return -INFINITY;
    own = {};
    each([&](float score) {
      if (is_in(score) && bin_of(score) == bin.number) Include(score, &own);
    });
    all = JoinBlock(own);
    wanted -= bin.before;
    if (bin.count <= kFew || all.low == all.high) break;
  }
  return all.low;
}

template <bool kHolds>
__global__ __launch_bounds__(kSelectThreads) void SelectKernel(
    const MaxSimState state) {
  WaitForKernelBefore();
  __shared__ uint32_t count;
  const uint32_t q = blockIdx.x;
  const uint32_t n = state.queries[q].list_size;
  const uint32_t begin = state.queries[q].list_begin;
  const float* const scores = state.scores + begin;
  float held[kHolds ? kHeld : 1];
  if (kHolds) {
#pragma unroll
    for (uint32_t i = 0; i < kHeld; ++i) {
      const uint32_t at = i * kSelectThreads + threadIdx.x;
      held[i] = at < n ? scores[at] : -INFINITY;
    }
  }
  const auto each = [&](const auto& visit) {
    if constexpr (kHolds) {
#pragma unroll
      for (uint32_t i = 0; i < kHeld; ++i) visit(held[i]);
    } else {
      for (uint32_t i = threadIdx.x; i < n; i += kSelectThreads) {
        visit(scores[i]);
      }
    }
  };
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  const float error = state.errors[q];
  float floor = -INFINITY;
  if (error < INFINITY && state.k < n) {
    floor = __fsub_rd(KthLargest(each, state.k), 2 * error);
  }
  const auto choose = [&](float score, uint32_t i) {
    // What is no number is compared, too.
    if (i < n && !(score < floor)) {
      state.survivors[begin + atomicAdd(&count, 1)] = i;
    }
  };
  if constexpr (kHolds) {
#pragma unroll
    for (uint32_t i = 0; i < kHeld; ++i) {
      choose(held[i], i * kSelectThreads + threadIdx.x);
    }
  } else {
    for (uint32_t i = threadIdx.x; i < n; i += kSelectThreads) {
      choose(scores[i], i);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) state.counts[q] = count;
  if (state.distances != nullptr) return;
  __shared__ Neighbor neighbors[kSorted];
  WriteRanked(state, q, state.queries[q], count, neighbors,
              [&](uint32_t, uint32_t i) { return -scores[i]; });
}

}  // namespace

cudaError_t SelectMaxSim(const MaxSimState& state, uint32_t most_candidates,
                         cudaStream_t stream) {
  const auto kernel = most_candidates <= kHeld * kSelectThreads
                          ? SelectKernel<true>
                          : SelectKernel<false>;
  return LaunchAfter(state.overlaps, kernel, state.num_queries, kSelectThreads,
                     0, stream, state);
}

}  // namespace vicinal::gpu
