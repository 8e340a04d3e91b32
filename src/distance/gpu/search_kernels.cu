// What a search does before and after its queries are compared with rows.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/overlap.cuh"
#include "src/distance/gpu/rank.cuh"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/select.cuh"
#include "src/distance/gpu/signal.cuh"
#include "src/distance/gpu/sort.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;

// Threads that round one vector.
constexpr uint32_t kRoundThreads = 128;

// Over a block of kRoundThreads.
__device__ inline float BlockSum(float value) {
  __shared__ float sums[kRoundThreads / 32];
  for (int half = 16; half > 0; half /= 2) {
    value += __shfl_xor_sync(~0u, value, half);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Sums of squares that float loses below its smallest number.
constexpr float kLostNorm = 1e-17f;
constexpr float kLostProducts = 1e-34f;

struct Rounded {
  float squares;  // of the vector itself
  float norm;     // of what is rounded
  float error;    // of the difference
};

// Rounds one vector by a block; under the cosine what is rounded has length 1.
// A vector whose length float cannot say has an infinite error.
template <class Element>
__device__ Rounded RoundVector(const Element* from, uint32_t dim, Metric metric,
                               uint16_t* to) {
  float squares = 0;
  for (uint32_t i = threadIdx.x; i < dim; i += kRoundThreads) {
    const float x = ToFloat(from[i]);
    squares = fmaf(x, x, squares);
  }
  squares = BlockSum(squares);
  float scale = 1;
  if (metric == Metric::kCosine) {
    if (squares == 0) {
      scale = 0;
    } else if (!(squares < 1e30f && squares > 1e-30f)) {
      scale = INFINITY;
    } else {
      scale = rsqrtf(squares);
    }
  }
  float missed = 0;
  for (uint32_t i = threadIdx.x; i < dim; i += kRoundThreads) {
    const float x = scale < INFINITY ? ToFloat(from[i]) * scale : 0.0f;
    const __nv_bfloat16 rounded = __float2bfloat16_rn(x);
    const float difference = x - __bfloat162float(rounded);
    missed = fmaf(difference, difference, missed);
    to[i] = __bfloat16_as_ushort(rounded);
  }
  missed = BlockSum(missed);
  Rounded out;
  out.squares = squares;
  out.norm = metric != Metric::kCosine ? sqrtf(squares) * 1.0001f
             : scale == 0              ? 0.0f
                                       : 1.0001f;
  // Unit vectors are themselves off by the rounding of their scale.
  out.error =
      scale < INFINITY
          ? sqrtf(missed) * 1.001f + kLostNorm +
                (metric == Metric::kCosine ? (dim / 256 + 16) * 0x1p-23f : 0.0f)
          : INFINITY;
  return out;
}

template <class Element>
__global__ __launch_bounds__(kRoundThreads) void RoundRowsKernel(
    const DeviceRows rows, uint16_t* bf16, float* maxima) {
  float max_norm = 0;
  float max_error = 0;
  for (uint32_t row = blockIdx.x; row < rows.num_rows; row += gridDim.x) {
    const Element* from =
        static_cast<const Element*>(rows.exact) + size_t{row} * rows.dim;
    uint16_t* to = bf16 + size_t{row} * rows.padded_dim;
    const Rounded rounded = RoundVector(from, rows.dim, rows.metric, to);
    const bool is_l2 = rows.metric == Metric::kL2;
    for (uint32_t i = rows.dim + (is_l2 ? 3 : 0) + threadIdx.x;
         i < rows.padded_dim; i += kRoundThreads) {
      to[i] = 0;
    }
    if (is_l2 && threadIdx.x == 0) {
      // Three pieces of eight bits each.
      float rest = -0.5f * rounded.squares;
      for (uint32_t i = 0; i < 3; ++i) {
        const __nv_bfloat16 piece = __float2bfloat16_rn(rest);
        rest -= __bfloat162float(piece);
        to[rows.dim + i] = __bfloat16_as_ushort(piece);
      }
    }
    // Written so that a NaN counts as infinite.
    max_norm =
        fmaxf(max_norm, rounded.norm < INFINITY ? rounded.norm : INFINITY);
    max_error =
        fmaxf(max_error, rounded.error < INFINITY ? rounded.error : INFINITY);
  }
  if (threadIdx.x == 0) {  // floats of one sign are ordered as integers are
    atomicMax(reinterpret_cast<int*>(maxima), __float_as_int(max_norm));
    atomicMax(reinterpret_cast<int*>(maxima) + 1, __float_as_int(max_error));
  }
}

template <class Element>
__global__ __launch_bounds__(kRoundThreads) void PrepareKernel(
    const DeviceRows rows, const QueryState state, bool keep_floor) {
  WaitForKernelBefore();
  const uint32_t query = blockIdx.x;
  const size_t first = size_t{query} * rows.dim;
  const Element* from = static_cast<const Element*>(state.raw) + first;
  if (state.sent != nullptr) {
    // Its own copy.
    auto* const own = const_cast<Element*>(from);
    for (uint32_t i = threadIdx.x; i < rows.dim; i += kRoundThreads) {
      own[i] = static_cast<const Element*>(state.sent)[first + i];
    }
    __syncthreads();
  }
  uint16_t* to = state.bf16 + size_t{query} * rows.padded_dim;
  const Rounded rounded = RoundVector(from, rows.dim, rows.metric, to);
  const bool is_l2 = rows.metric == Metric::kL2;
  for (uint32_t i = rows.dim + threadIdx.x; i < rows.padded_dim;
       i += kRoundThreads) {
    to[i] = is_l2 && i < rows.dim + 3 ? 0x3F80 : 0;
  }
  if (threadIdx.x != 0) return;
  const float x = rows.max_norm;
  const float q = rounded.norm;
  const float product = q * x * 1.02f;  // of the rounded vectors, too
  const float both = is_l2 ? (q + x) * (q + x) : product;
  // Rounding of the vectors; of the tensor cores' sums; of the canonical sums.
  // Of sixteen products and the sum so far, a tensor core keeps two bits (one
  // on Ampere) below those of a float of the largest, of each, and drops the
  // rest. That is 16 * 2^-24 + 2 * 2^-23 of the largest in sixteen dimensions.
  const bool is_cosine = rows.metric == Metric::kCosine;
  float error =
      rounded.error * x + 1.01f * q * rows.max_error +
      (rows.padded_dim * 0x1p-23f + 0x1p-20f) *
          (is_l2 ? product + x * x : product) +
      (rows.dim / 64 + 16) * (is_cosine ? 0x1p-23f : 0x1p-24f) * both +
      (is_cosine ? 0x1p-22f : 0.0f) + kLostProducts;
  error *= 1.01f;
  const bool bounded = both < 1e30f && x * x < 1e30f && error < INFINITY;
  state.error[query] = bounded ? error : INFINITY;
  state.lost[query] = bounded ? 0 : 2;
  state.counts[query] = 0;
  state.kept[query] = 0;
  // One that is compared with every row has no candidates.
  if (!bounded) {
    state.floor[query] = INFINITY;
  } else if (!keep_floor) {
    state.floor[query] = -INFINITY;
  }
}

// Drops those of the query's n candidates that are ruled out by the k-th best.
// kEach: candidates that a thread holds.
template <uint32_t kBlock, int kEach>
__device__ void Raise(const QueryState& state, uint32_t query, uint32_t k,
                      uint32_t n) {
  __shared__ uint32_t written;
  const uint32_t thread = threadIdx.x;
  const uint32_t lane = thread % 32;
  Candidate* const candidates =
      state.candidates + size_t{query} * state.capacity;
  if (thread == 0) written = 0;
  Candidate own[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const uint32_t at = i * kBlock + thread;
    own[i] = at < n ? candidates[at] : Candidate{-INFINITY, 0};
  }
  const auto key_at = [&](int i) {
    return own[i].score == -INFINITY ? 0 : KeyOf(own[i].score);
  };
  const KeyRange range = RangeOf<kEach>(key_at);
  float floor = state.floor[query];
  if (range.count >= k) {
    // Sixteen bits of it keep a few more.
    const uint32_t edge = KthLargestKey<kBlock, kEach>(key_at, range, k, k, 2);
    floor = fmaxf(floor,
                  nextafterf(__fsub_rd(ScoreOf(edge), 2 * state.error[query]),
                             -INFINITY));
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const bool stays = own[i].score > floor;
    const uint32_t stay = __ballot_sync(~0u, stays);
    if (stay == 0) continue;
    uint32_t at = 0;
    if (lane == 0) at = atomicAdd(&written, __popc(stay));
    at = __shfl_sync(~0u, at, 0) + __popc(stay & ((1u << lane) - 1));
    if (stays) candidates[at] = own[i];
  }
  __syncthreads();
  if (thread == 0) {
    state.floor[query] = floor;
    state.counts[query] = written;
    state.kept[query] = written;
  }
}

template <uint32_t kBlock, int kEach>
__global__ __launch_bounds__(kBlock) void RaiseKernel(const QueryState state,
                                                      uint32_t k,
                                                      uint32_t num_stored) {
  WaitForKernelBefore();
  const uint32_t query = blockIdx.x;
  if (state.lost[query] == 2) return;
  const uint32_t found = num_stored != 0 ? num_stored : state.counts[query];
  const uint32_t n = min(found, state.capacity);
  // Nothing new: nothing to raise.
  if (n == state.kept[query] && found <= state.capacity) return;
  if (threadIdx.x == 0 && found > state.capacity) state.lost[query] = 1;
  if constexpr (kBlock == 1024) {
    // A few queries mostly find few.
    if (n <= kBlock) return Raise<kBlock, 1>(state, query, k, n);
    if (n <= 4 * kBlock) return Raise<kBlock, 4>(state, query, k, n);
  }
  Raise<kBlock, kEach>(state, query, k, n);
}

// Of queries with at_least to at_most candidates, so that those with few take
// little room.
template <Metric kMetric, class Element>
__global__ __launch_bounds__(1024) void RankKernel(
    const DeviceRows rows, const QueryState state, uint32_t k,
    uint32_t at_least, uint32_t at_most, Neighbor* out) {
  WaitForKernelBefore();
  extern __shared__ float query_floats[];
  const uint32_t query = blockIdx.x;
  const uint32_t n = state.counts[query];
  const uint8_t lost = state.lost[query];
  if (lost != 0 || n < at_least || n > at_most) {
    // Of a lost query the first of the kernels tells.
    if (state.done != nullptr && lost != 0 && at_least == 0 &&
        threadIdx.x == 0) {
      Signal(&state.done[query], DoneWord(lost, n));
    }
    return;
  }
  Neighbor* const neighbors =
      reinterpret_cast<Neighbor*>(query_floats + (rows.dim + 1) / 2 * 2);
  const uint32_t lane = threadIdx.x % 32;
  const Element* raw =
      static_cast<const Element*>(state.raw) + size_t{query} * rows.dim;
  for (uint32_t i = threadIdx.x; i < rows.dim; i += blockDim.x) {
    query_floats[i] = ToFloat(raw[i]);
  }
  const uint32_t sorted = PowerOfTwo(n);
  for (uint32_t i = n + threadIdx.x; i < sorted; i += blockDim.x) {
    neighbors[i] = {INFINITY, kInvalidRow};
  }
  __syncthreads();
  const double norm2 =
      NormOfQuery<kMetric, Element>(query_floats, rows.dim, lane);
  const Candidate* candidates =
      state.candidates + size_t{query} * state.capacity;
  for (uint32_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {
    const uint32_t row = rows.row_map != nullptr
                             ? rows.row_map[candidates[i].row]
                             : rows.first_row + candidates[i].row;
    const float distance = CanonicalDistance<kMetric>(
        query_floats, norm2,
        static_cast<const Element*>(rows.exact) + size_t{row} * rows.dim,
        rows.dim, lane);
    if (lane == 0) neighbors[i] = {distance, row};
  }
  SortNeighbors(neighbors, sorted);
  WriteNearest(neighbors, n, k,
               state.excluded == nullptr ? kInvalidRow : state.excluded[query],
               out + size_t{query} * k);
  if (state.done == nullptr) return;
  __syncthreads();
  if (threadIdx.x == 0) Signal(&state.done[query], DoneWord(0, n));
}

__global__ __launch_bounds__(kThreads) void GatherKernel(const DeviceRows from,
                                                         const DeviceRows to,
                                                         const uint32_t* map,
                                                         uint4* out) {
  const uint32_t per_row = from.padded_dim / 8;
  const size_t total = size_t{to.stripe_rows} * kStripes * per_row;
  for (size_t i = blockIdx.x * kThreads + threadIdx.x; i < total;
       i += size_t{gridDim.x} * kThreads) {
    const uint32_t row = i / per_row;
    out[i] = row < to.num_rows
                 ? reinterpret_cast<const uint4*>(
                       from.bf16)[size_t{map[row] - from.first_row} * per_row +
                                  i % per_row]
                 : uint4{0, 0, 0, 0};
  }
}

}  // namespace

cudaError_t RoundRows(const DeviceRows& rows, uint16_t* bf16, float* maxima,
                      cudaStream_t stream) {
  const uint32_t blocks = std::min(rows.num_rows, kManyBlocks);
  return ForType(rows, [&]<class Element>() {
    RoundRowsKernel<Element>
        <<<blocks, kRoundThreads, 0, stream>>>(rows, bf16, maxima);
    return cudaGetLastError();
  });
}

cudaError_t PrepareQueries(const DeviceRows& rows, const QueryState& state,
                           bool keep_floor, cudaStream_t stream) {
  return ForType(rows, [&]<class Element>() {
    return LaunchAfter(false, PrepareKernel<Element>, state.num_queries,
                       kRoundThreads, 0, stream, rows, state, keep_floor);
  });
}

cudaError_t RaiseFloors(const QueryState& state, uint32_t k,
                        uint32_t num_stored, cudaStream_t stream) {
  const auto start = [&](auto kernel, uint32_t threads) {
    return LaunchAfter(state.overlaps, kernel, state.num_queries, threads, 0,
                       stream, state, k, num_stored);
  };
  // Most find a few dozen: small blocks, so that many are there at once.
  if (state.capacity <= 1024) return start(RaiseKernel<64, 16>, 64);
  if (state.capacity <= 4096 || (num_stored > 0 && num_stored <= 4096)) {
    return start(RaiseKernel<512, 8>, 512);
  }
  return start(RaiseKernel<1024, 16>, 1024);
}

cudaError_t RankCandidates(const DeviceRows& rows, const QueryState& state,
                           uint32_t k, Neighbor* out, cudaStream_t stream) {
  return ForRows(rows, [&]<Metric kMetric, class Element>() {
    uint32_t at_least = 0;
    // One query at a time has many warps and all room; many have little.
    const bool few = state.num_queries <= kStreamQueries;
    const uint32_t threads = few ? 1024 : kThreads;
    const uint32_t mostly = few ? 2048 : 512;
    for (uint32_t at_most = std::min(mostly, state.capacity);;
         at_most = state.capacity) {
      const size_t shared = (size_t{rows.dim} + 1) / 2 * 2 * sizeof(float) +
                            at_most * sizeof(Neighbor);
      const auto kernel = RankKernel<kMetric, Element>;
      const cudaError_t allowed = AllowShared(kernel, shared);
      if (allowed != cudaSuccess) return allowed;
      const cudaError_t started =
          LaunchAfter(state.overlaps, kernel, state.num_queries, threads,
                      shared, stream, rows, state, k, at_least, at_most, out);
      if (started != cudaSuccess || at_most == state.capacity) return started;
      at_least = at_most + 1;
    }
  });
}

cudaError_t GatherRows(const DeviceRows& from, const DeviceRows& to,
                       const uint32_t* map, uint16_t* bf16,
                       cudaStream_t stream) {
  GatherKernel<<<kManyBlocks, kThreads, 0, stream>>>(
      from, to, map, reinterpret_cast<uint4*>(bf16));
  return cudaGetLastError();
}

}  // namespace vicinal::gpu
