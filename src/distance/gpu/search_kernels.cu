// What a search does before and after its queries are compared with rows.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/search_kernels.h"
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
  const uint32_t query = blockIdx.x;
  const Element* from =
      static_cast<const Element*>(state.raw) + size_t{query} * rows.dim;
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

// Larger scores have larger keys.
__device__ inline uint32_t KeyOf(float score) {
  const uint32_t bits = __float_as_uint(score);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float ScoreOf(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7FFFFFFFu : ~key);
}

// The largest bin from which on upwards there are at least k; *above becomes
// how many there are in larger ones. All threads of the first warp.
__device__ uint32_t BinOf(const uint32_t* bins, uint32_t k, uint32_t lane,
                          uint32_t* above) {
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

// kEach: candidates that a thread holds.
template <uint32_t kBlock, int kEach>
__global__ __launch_bounds__(kBlock) void RaiseKernel(const QueryState state,
                                                      uint32_t k,
                                                      uint32_t num_stored) {
  __shared__ uint32_t bins[256];
  __shared__ uint32_t extremes[2];
  __shared__ uint32_t num_valid;
  __shared__ uint32_t chosen[2];
  __shared__ uint32_t written;
  const uint32_t query = blockIdx.x;
  const uint32_t thread = threadIdx.x;
  const uint32_t lane = thread % 32;
  if (state.lost[query] == 2) return;
  Candidate* const candidates =
      state.candidates + size_t{query} * state.capacity;
  const uint32_t found = num_stored != 0 ? num_stored : state.counts[query];
  const uint32_t n = min(found, state.capacity);
  // Nothing new: nothing to raise.
  if (n == state.kept[query] && found <= state.capacity) return;
  if (thread == 0) {
    extremes[0] = ~0u;
    extremes[1] = 0;
    num_valid = 0;
    written = 0;
    if (found > state.capacity) state.lost[query] = 1;
  }
  Candidate own[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const uint32_t at = i * kBlock + thread;
    own[i] = at < n ? candidates[at] : Candidate{-INFINITY, 0};
  }
  __syncthreads();
  uint32_t least = ~0u;
  uint32_t most = 0;
  uint32_t valid = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (own[i].score == -INFINITY) continue;
    const uint32_t key = KeyOf(own[i].score);
    least = min(least, key);
    most = max(most, key);
    ++valid;
  }
  least = __reduce_min_sync(~0u, least);
  most = __reduce_max_sync(~0u, most);
  valid = __reduce_add_sync(~0u, valid);
  if (lane == 0 && valid > 0) {
    atomicMin(&extremes[0], least);
    atomicMax(&extremes[1], most);
    atomicAdd(&num_valid, valid);
  }
  __syncthreads();
  float floor = state.floor[query];
  if (num_valid >= k) {
    // Sixteen bits of the k-th largest key, counted from the first in which
    // keys differ; what follows counts as zeros, which keeps a few more.
    uint32_t edge = extremes[0];
    uint32_t wanted = k;
    uint32_t width = 32 - __clz(static_cast<int>(edge ^ extremes[1]));
    for (int pass = 0; pass < 2 && width > 0; ++pass) {
      const uint32_t shift = width > 8 ? width - 8 : 0;
      const uint32_t prefix = width < 32 ? edge >> width : 0;
      for (uint32_t i = thread; i < 256; i += kBlock) bins[i] = 0;
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if (own[i].score == -INFINITY) continue;
        const uint32_t key = KeyOf(own[i].score);
        if ((width < 32 ? key >> width : 0) != prefix) continue;
        atomicAdd(&bins[key >> shift & ((1u << (width - shift)) - 1)], 1);
      }
      __syncthreads();
      if (thread < 32) {
        uint32_t above;
        const uint32_t bin = BinOf(bins, wanted, lane, &above);
        if (lane == 0) {
          chosen[0] = bin;
          chosen[1] = above;
        }
      }
      __syncthreads();
      edge = (width < 32 ? prefix << width : 0) | chosen[0] << shift;
      wanted -= chosen[1];
      width = shift;
    }
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

template <Metric kMetric, class Element>
__device__ float NormOfQuery(const Element* query, uint32_t dim,
                             uint32_t lane) {
  if constexpr (kMetric != Metric::kCosine) return 0;
  return CanonicalProduct(query, query, dim, lane);
}

// Writes the k first of n sorted neighbours, but for `exclude`.
__device__ void WriteNearest(const Neighbor* neighbors, uint32_t n, uint32_t k,
                             uint32_t exclude, Neighbor* out) {
  // Where it is, or n.
  __shared__ uint32_t position;
  if (threadIdx.x == 0) position = n;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < min(n, k); i += blockDim.x) {
    if (neighbors[i].row == exclude && exclude != kInvalidRow) position = i;
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < k; i += blockDim.x) {
    const uint32_t at = i < position ? i : i + 1;
    out[i] = at < n ? neighbors[at] : Neighbor{INFINITY, kInvalidRow};
  }
}

// Of queries with at_least to at_most candidates, so that those with few take
// little room.
template <Metric kMetric, class Element>
__global__ __launch_bounds__(1024) void RankKernel(
    const DeviceRows rows, const QueryState state, uint32_t k,
    uint32_t at_least, uint32_t at_most, Neighbor* out) {
  extern __shared__ float query_floats[];
  const uint32_t query = blockIdx.x;
  const uint32_t n = state.counts[query];
  if (state.lost[query] != 0 || n < at_least || n > at_most) return;
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
  const float norm2 = NormOfQuery<kMetric>(query_floats, rows.dim, lane);
  const Candidate* candidates =
      state.candidates + size_t{query} * state.capacity;
  for (uint32_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {
    uint32_t row = candidates[i].row;
    if (rows.row_map != nullptr) row = rows.row_map[row];
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
}

// Distances as the upper halves of keys, so that keys are ordered as
// neighbours are; rows that are not wanted have the largest.
template <Metric kMetric, class Element>
__global__ __launch_bounds__(kThreads) void AllKeysKernel(
    const DeviceRows rows, const void* query, const uint64_t* accepted,
    uint32_t exclude, uint64_t* keys) {
  extern __shared__ float query_floats[];
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t i = threadIdx.x; i < rows.dim; i += kThreads) {
    query_floats[i] = ToFloat(static_cast<const Element*>(query)[i]);
  }
  __syncthreads();
  const float norm2 = NormOfQuery<kMetric>(query_floats, rows.dim, lane);
  const uint32_t warps = gridDim.x * (kThreads / 32);
  for (uint32_t row = blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
       row < rows.num_rows; row += warps) {
    uint64_t key = ~uint64_t{0};
    if (row != exclude &&
        (accepted == nullptr || (accepted[row / 64] >> (row % 64) & 1) != 0)) {
      const float distance = CanonicalDistance<kMetric>(
          query_floats, norm2,
          static_cast<const Element*>(rows.exact) + size_t{row} * rows.dim,
          rows.dim, lane);
      key = uint64_t{KeyOf(__fadd_rn(distance, 0.0f))} << 32 | row;
    }
    if (lane == 0) keys[row] = key;
  }
}

// The k smallest of n different keys, by one block: eight bits of the k-th at a
// time.
template <Metric kMetric, class Element>
__global__ __launch_bounds__(1024) void SmallestKeysKernel(
    const DeviceRows rows, const void* query, const uint64_t* keys, uint32_t k,
    Neighbor* out) {
  __shared__ uint32_t bins[256];
  __shared__ uint64_t prefix;
  __shared__ uint32_t wanted;
  __shared__ uint32_t written;
  __shared__ Neighbor neighbors[kMaxNeighbors];
  extern __shared__ float query_floats[];
  const uint32_t thread = threadIdx.x;
  const uint32_t lane = thread % 32;
  for (uint32_t i = thread; i < rows.dim; i += blockDim.x) {
    query_floats[i] = ToFloat(static_cast<const Element*>(query)[i]);
  }
  const uint32_t n = rows.num_rows;
  if (thread == 0) {
    prefix = 0;
    wanted = min(k, n);
    written = 0;
  }
  for (int shift = 56; shift >= 0; shift -= 8) {
    if (thread < 256) bins[thread] = 0;
    __syncthreads();
    for (uint32_t i = thread; i < n; i += blockDim.x) {
      const uint64_t key = keys[i];
      if (shift < 56 && key >> (shift + 8) != prefix) continue;
      atomicAdd(&bins[key >> shift & 255], 1);
    }
    __syncthreads();
    if (thread == 0) {
      uint32_t bin = 0;
      while (bins[bin] < wanted) wanted -= bins[bin++];
      prefix = prefix << 8 | bin;
    }
    __syncthreads();
  }
  // `prefix` is the k-th smallest key, of no row where too few are wanted.
  for (uint32_t i = thread; i < n; i += blockDim.x) {
    const uint64_t key = keys[i];
    if (key <= prefix && key != ~uint64_t{0}) {
      neighbors[atomicAdd(&written, 1)] = {0, static_cast<uint32_t>(key)};
    }
  }
  __syncthreads();
  const uint32_t num = written;
  const float norm2 = NormOfQuery<kMetric>(query_floats, rows.dim, lane);
  // Again, since a key does not tell -0 from 0.
  for (uint32_t i = thread / 32; i < num; i += blockDim.x / 32) {
    const float distance =
        CanonicalDistance<kMetric>(query_floats, norm2,
                                   static_cast<const Element*>(rows.exact) +
                                       size_t{neighbors[i].row} * rows.dim,
                                   rows.dim, lane);
    if (lane == 0) neighbors[i].distance = distance;
  }
  const uint32_t sorted = PowerOfTwo(num);
  for (uint32_t i = num + thread; i < sorted; i += blockDim.x) {
    neighbors[i] = {INFINITY, kInvalidRow};
  }
  SortNeighbors(neighbors, sorted);
  WriteNearest(neighbors, num, k, kInvalidRow, out);
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
                       from.bf16)[size_t{map[row]} * per_row + i % per_row]
                 : uint4{0, 0, 0, 0};
  }
}

template <Metric kMetric, class Element>
__global__ __launch_bounds__(kThreads) void ScoreKernel(
    const DeviceRows rows, const void* queries, uint32_t num_queries,
    const uint32_t* offsets, const uint32_t* list, float* out) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t total = offsets[num_queries];
  const uint32_t warps = gridDim.x * (kThreads / 32);
  for (uint32_t i = blockIdx.x * (kThreads / 32) + threadIdx.x / 32; i < total;
       i += warps) {
    uint32_t low = 0;  // the last query whose list begins at or before i
    uint32_t high = num_queries;
    while (high - low > 1) {
      const uint32_t middle = (low + high) / 2;
      (offsets[middle] <= i ? low : high) = middle;
    }
    const Element* query =
        static_cast<const Element*>(queries) + size_t{low} * rows.dim;
    const float norm2 = NormOfQuery<kMetric>(query, rows.dim, lane);
    const float distance = CanonicalDistance<kMetric>(
        query, norm2,
        static_cast<const Element*>(rows.exact) + size_t{list[i]} * rows.dim,
        rows.dim, lane);
    if (lane == 0) out[i] = distance;
  }
}

// Calls call.template operator()<metric, element>() for those of the rows.
template <class Call>
cudaError_t ForRows(const DeviceRows& rows, const Call& call) {
  const auto of_type = [&]<class Element>() {
    switch (rows.metric) {
      case Metric::kL2:
        return call.template operator()<Metric::kL2, Element>();
      case Metric::kInnerProduct:
        return call.template operator()<Metric::kInnerProduct, Element>();
      case Metric::kCosine:
        return call.template operator()<Metric::kCosine, Element>();
    }
    return cudaErrorInvalidValue;
  };
  if (rows.type == ElementType::kFloat32) {
    return of_type.template operator()<float>();
  }
  if (rows.type == ElementType::kFloat16) {
    return of_type.template operator()<__half>();
  }
  return cudaErrorInvalidValue;
}

template <class Kernel>
cudaError_t AllowShared(Kernel* kernel, size_t bytes) {
  if (bytes <= 48 << 10) return cudaSuccess;
  return cudaFuncSetAttribute(kernel,
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

// Blocks enough for any device.
constexpr uint32_t kManyBlocks = 4096;

uint32_t BlocksFor(size_t warps) {
  return static_cast<uint32_t>(std::clamp<size_t>(
      (warps + kThreads / 32 - 1) / (kThreads / 32), 1, kManyBlocks));
}

}  // namespace

cudaError_t RoundRows(const DeviceRows& rows, uint16_t* bf16, float* maxima,
                      cudaStream_t stream) {
  const uint32_t blocks = std::min(rows.num_rows, kManyBlocks);
  if (rows.type == ElementType::kFloat32) {
    RoundRowsKernel<float>
        <<<blocks, kRoundThreads, 0, stream>>>(rows, bf16, maxima);
  } else {
    RoundRowsKernel<__half>
        <<<blocks, kRoundThreads, 0, stream>>>(rows, bf16, maxima);
  }
  return cudaGetLastError();
}

cudaError_t PrepareQueries(const DeviceRows& rows, const QueryState& state,
                           bool keep_floor, cudaStream_t stream) {
  if (rows.type == ElementType::kFloat32) {
    PrepareKernel<float><<<state.num_queries, kRoundThreads, 0, stream>>>(
        rows, state, keep_floor);
  } else {
    PrepareKernel<__half><<<state.num_queries, kRoundThreads, 0, stream>>>(
        rows, state, keep_floor);
  }
  return cudaGetLastError();
}

cudaError_t RaiseFloors(const QueryState& state, uint32_t k,
                        uint32_t num_stored, cudaStream_t stream) {
  const uint32_t blocks = state.num_queries;
  if (state.capacity <= 1024) {
    // Most find a few dozen: small blocks, so that many are there at once.
    RaiseKernel<64, 16><<<blocks, 64, 0, stream>>>(state, k, num_stored);
  } else if (state.capacity <= 4096 || (num_stored > 0 && num_stored <= 4096)) {
    RaiseKernel<512, 8><<<blocks, 512, 0, stream>>>(state, k, num_stored);
  } else {
    RaiseKernel<1024, 16><<<blocks, 1024, 0, stream>>>(state, k, num_stored);
  }
  return cudaGetLastError();
}

cudaError_t RankCandidates(const DeviceRows& rows, const QueryState& state,
                           uint32_t k, Neighbor* out, cudaStream_t stream) {
  return ForRows(rows, [&]<Metric kMetric, class Element>() {
    uint32_t at_least = 0;
    // One query at a time has many warps and all room; many have little.
    const bool few = state.num_queries <= kStreamQueries;
    const uint32_t threads = few ? 1024 : kThreads;
    for (uint32_t at_most = few ? state.capacity
                                : std::min<uint32_t>(512, state.capacity);
         ; at_most = state.capacity) {
      const size_t shared = (size_t{rows.dim} + 1) / 2 * 2 * sizeof(float) +
                            at_most * sizeof(Neighbor);
      const auto kernel = RankKernel<kMetric, Element>;
      const cudaError_t allowed = AllowShared(kernel, shared);
      if (allowed != cudaSuccess) return allowed;
      kernel<<<state.num_queries, threads, shared, stream>>>(
          rows, state, k, at_least, at_most, out);
      if (at_most == state.capacity) return cudaGetLastError();
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

cudaError_t RankAll(const DeviceRows& rows, const void* query, uint32_t k,
                    const uint64_t* accepted, uint32_t exclude, uint64_t* keys,
                    Neighbor* out, cudaStream_t stream) {
  return ForRows(rows, [&]<Metric kMetric, class Element>() {
    const size_t shared = rows.dim * sizeof(float);
    const auto select = SmallestKeysKernel<kMetric, Element>;
    const cudaError_t allowed = AllowShared(select, shared);
    if (allowed != cudaSuccess) return allowed;
    AllKeysKernel<kMetric, Element>
        <<<BlocksFor(rows.num_rows), kThreads, shared, stream>>>(
            rows, query, accepted, exclude, keys);
    select<<<1, 1024, shared, stream>>>(rows, query, keys, k, out);
    return cudaGetLastError();
  });
}

cudaError_t ScoreLists(const DeviceRows& rows, const void* queries,
                       uint32_t num_queries, const uint32_t* offsets,
                       const uint32_t* list, float* out, cudaStream_t stream) {
  return ForRows(rows, [&]<Metric kMetric, class Element>() {
    ScoreKernel<kMetric, Element><<<kManyBlocks, kThreads, 0, stream>>>(
        rows, queries, num_queries, offsets, list, out);
    return cudaGetLastError();
  });
}

}  // namespace vicinal::gpu
