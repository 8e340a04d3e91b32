// Halves of tokens, and how far they are off.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_tokens.cuh"
#include "src/distance/gpu/overlap.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kPrepareThreads = 1024;
// Blocks enough for any device.
constexpr uint32_t kManyBlocks = 4096;

// Of norms that are sums in float, and of differences whose squares float
// loses, in units of the scale.
constexpr float kInflation = 1.001f;
constexpr float kLost = 1e-18f;
// Products that float loses below its smallest number.
constexpr float kLostProducts = 1e-34f;

__device__ inline float WarpSum(float value) {
  for (int half = 16; half > 0; half /= 2) {
    value += __shfl_xor_sync(~0u, value, half);
  }
  return value;
}
__device__ inline float WarpMax(float value) {
  for (int half = 16; half > 0; half /= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, half));
  }
  return value;
}

// A power of two that brings the largest element to [1, 2), or near.
__device__ inline float ScaleFor(float largest) {
  if (largest == 0) return 1;
  return ldexpf(1.0f, min(max(ilogbf(largest), -100), 100));
}

struct Measure {
  float norm;
  float error;
};

// Of one token by a warp: halves that are not there yet, the scale and the norm
// where they are wanted.
template <class Element>
__device__ Measure MeasureOne(const DeviceTokens& tokens, uint32_t token,
                              uint16_t* half, float* scales, float* norms,
                              uint32_t lane) {
  const uint32_t dim = tokens.dim;
  const Element* from = static_cast<const Element*>(tokens.exact) +
                        size_t{token} * tokens.exact_stride;
  __half* const to =
      reinterpret_cast<__half*>(half) + size_t{token} * tokens.padded_dim;
  constexpr bool kIsHalf =
      sizeof(Element) == sizeof(__half) && !std::is_same_v<Element, Bfloat>;
  float largest = 0;
  for (uint32_t i = lane; i < dim; i += 32) {
    largest = fmaxf(largest, fabsf(ToFloat(from[i])));
  }
  largest = WarpMax(largest);
  const float unit = kIsHalf ? 1.0f : ScaleFor(largest);
  const float norm = tokens.cosine ? NormOf(from, dim, largest, lane) : 1.0f;
  // p ~ scale p'. Under the cosine errors are of unit vectors, else they are
  // measured in `unit`.
  float scale = tokens.cosine ? 0 : 1;
  if (norm > 0 && tokens.cosine) scale = __fdiv_rn(unit, norm);
  if (norm < 0) scale = __fdiv_rn(Scaled(unit, ilogbf(largest)), -norm);
  float squares = 0;
  float missed = 0;
  for (uint32_t i = lane; i < dim; i += 32) {
    const float scaled = ToFloat(from[i]) * (1 / unit);
    const __half rounded = kIsHalf ? to[i] : __float2half_rn(scaled);
    if (!kIsHalf) to[i] = rounded;
    const float exact =
        tokens.cosine ? UnitElement(from, dim, i, norm) : scaled;
    const float difference = fmaf(-scale, __half2float(rounded), exact);
    squares = fmaf(exact, exact, squares);
    missed = fmaf(difference, difference, missed);
  }
  if (!kIsHalf) {
    for (uint32_t i = dim + lane; i < tokens.padded_dim; i += 32) {
      to[i] = __ushort_as_half(0);
    }
  }
  const float measured_in = tokens.cosine ? 1.0f : unit;
  if (lane == 0) {
    if (scales != nullptr) scales[token] = tokens.cosine ? scale : unit;
    if (norms != nullptr) norms[token] = norm;
  }
  return {sqrtf(WarpSum(squares)) * kInflation * measured_in,
          (sqrtf(WarpSum(missed)) * kInflation + kLost) * measured_in};
}

template <class Element>
__global__ __launch_bounds__(kThreads) void MeasureKernel(
    const DeviceTokens tokens, uint16_t* half, float* scales, float* norms,
    float* maxima) {
  const uint32_t lane = threadIdx.x % 32;
  float max_norm = 0;
  float max_error = 0;
  const uint32_t num_warps = gridDim.x * kWarps;
  for (uint32_t token = blockIdx.x * kWarps + threadIdx.x / 32;
       token < tokens.num_tokens; token += num_warps) {
    const Measure measure =
        MeasureOne<Element>(tokens, token, half, scales, norms, lane);
    // Written so that a NaN counts as infinite.
    max_norm =
        fmaxf(max_norm, measure.norm < INFINITY ? measure.norm : INFINITY);
    max_error =
        fmaxf(max_error, measure.error < INFINITY ? measure.error : INFINITY);
  }
  if (lane == 0) {  // floats of one sign are ordered as integers are
    atomicMax(reinterpret_cast<int*>(maxima), __float_as_int(max_norm));
    atomicMax(reinterpret_cast<int*>(maxima) + 1, __float_as_int(max_error));
  }
}

// Halves of one query token by a warp; returns the bound on the error of its
// maximum times its weight, infinite where there is none.
__device__ float PrepareOne(const DeviceTokens& tokens, const float* from,
                            float weight, uint32_t num_tokens, __half* to,
                            float* factor, uint32_t lane) {
  const uint32_t dim = tokens.dim;
  float largest = 0;
#pragma unroll 4
  for (uint32_t i = lane; i < dim; i += 32) {
    largest = fmaxf(largest, fabsf(from[i]));
  }
  const float scale = ScaleFor(WarpMax(largest));
  float squares = 0;
  float missed = 0;
  for (uint32_t i = lane; i < tokens.padded_dim; i += 32) {
    const float scaled = i < dim ? from[i] * (1 / scale) : 0.0f;
    const __half rounded = __float2half_rn(scaled);
    to[i] = rounded;
    const float difference = scaled - __half2float(rounded);
    squares = fmaf(scaled, scaled, squares);
    missed = fmaf(difference, difference, missed);
  }
  const float norm = sqrtf(WarpSum(squares)) * kInflation * scale;
  const float error = (sqrtf(WarpSum(missed)) * kInflation + kLost) * scale;
  if (lane == 0) *factor = weight * scale;
  // Rounding of the tokens; of the tensor cores' sums, as in PrepareKernel of
  // search_kernels.cu; of the canonical sums, one dimension after the other;
  // of the sum over the query's tokens.
  const float both =
      (norm + error) * (tokens.max_norm + tokens.max_error) * 1.01f;
  const float bound = error * tokens.max_norm +
                      1.01f * (norm + error) * tokens.max_error +
                      (tokens.padded_dim * 0x1p-23f + 0x1p-20f +
                       (dim + num_tokens + 16) * 0x1p-24f) *
                          both +
                      kLostProducts;
  // A factor that is no normal float has lost bits.
  const bool bounded = both < 1e30f && bound < INFINITY &&
                       both * weight < 1e30f && weight < 1e30f &&
                       (weight == 0 || weight * scale >= 0x1p-126f);
  return bounded ? bound * weight * 1.01f + kLostProducts : INFINITY;
}

// All of it is asked for at once. By the only block.
__device__ void Receive(const MaxSimState& state) {
  const uint4* const __restrict__ from = state.sent;
  uint4* const __restrict__ to = state.received;
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < state.num_sent; i += kPrepareThreads) {
    to[i] = from[i];
  }
  __syncthreads();
}

// Sets what later kernels count in to 0. By all threads of the query's block.
__device__ void BeginQuery(const MaxSimState& state, uint32_t q,
                           const TokenQuery& query) {
  const uint32_t thread = threadIdx.x;
  if (state.finished != nullptr) {
    for (uint32_t i = thread; i < query.list_size; i += kPrepareThreads) {
      state.finished[query.list_begin + i] = 0;
    }
  }
  if (state.ranked != nullptr && thread == 0) state.ranked[q] = 0;
  if (state.exact_finished != nullptr && thread < kSplitCandidates) {
    state.exact_finished[q * kSplitCandidates + thread] = 0;
  }
  if (q == 0) {
    for (uint32_t i = thread; i < state.num_passes; i += kPrepareThreads) {
      state.next_parts[i] = 0;
    }
  }
}

__device__ inline uint32_t NumColumns(const TokenQuery& query) {
  return (query.num_tokens + kTokenColumns - 1) / kTokenColumns * kTokenColumns;
}

__global__ __launch_bounds__(kPrepareThreads) void PrepareKernel(
    const DeviceTokens tokens, const MaxSimState state) {
  WaitForKernelBefore();
  Receive(state);
  __shared__ float errors[kPrepareThreads / 32];
  const uint32_t q = blockIdx.x;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warp = threadIdx.x / 32;
  const TokenQuery query = state.queries[q];
  const uint32_t num_columns = NumColumns(query);
  float error = 0;
  for (uint32_t i = warp; i < num_columns; i += kPrepareThreads / 32) {
    const uint32_t column = query.first_column + i;
    __half* const to = reinterpret_cast<__half*>(state.columns) +
                       size_t{column} * tokens.padded_dim;
    if (i >= query.num_tokens) {
      for (uint32_t j = lane; j < tokens.padded_dim; j += 32) {
        to[j] = __ushort_as_half(0);
      }
      if (lane == 0) state.factors[column] = 0;
      continue;
    }
    const uint32_t token = query.first_token + i;
    error += PrepareOne(tokens, state.tokens + size_t{token} * tokens.dim,
                        state.weights == nullptr ? 1.0f : state.weights[token],
                        query.num_tokens, to, state.factors + column, lane);
  }
  if (lane == 0) errors[warp] = error;
  BeginQuery(state, q, query);
  __syncthreads();
  if (warp != 0) return;
  const float sum = WarpSum(errors[lane]) * 1.01f;
  // Scores are then below 1e33.
  if (lane == 0) state.errors[q] = sum < 1e30f ? sum : INFINITY;
}

// Columns of a query of coded tokens from its panels.
__global__ __launch_bounds__(kPrepareThreads) void PrepareCodesKernel(
    const DeviceTokens tokens, const MaxSimState state) {
  WaitForKernelBefore();
  Receive(state);
  const uint32_t q = blockIdx.x;
  const TokenQuery query = state.queries[q];
  const uint32_t dim = tokens.padded_dim;
  const uint32_t num_columns = NumColumns(query);
  const int8_t* const panels =
      state.panels + size_t{query.first_panel} * 16 * state.code_dim;
  for (uint32_t i = threadIdx.x; i < num_columns * dim; i += kPrepareThreads) {
    const uint32_t token = i / dim;
    const uint32_t t = i % dim;
    int8_t value = 0;
    if (token < query.num_tokens && t < state.code_dim) {
      value = panels[((token / 16 * (state.code_dim / 4) + t / 4) * 16 +
                      token % 16) *
                         4 +
                     t % 4];
    }
    state.columns[(size_t{query.first_column} + token) * dim +
                  PlaceOf(tokens.code_bits, t)] = static_cast<std::byte>(value);
  }
  const int32_t offset =
      tokens.code_bits == 8 ? 128 : (1 << tokens.code_bits) - 1;
  for (uint32_t i = threadIdx.x; i < num_columns; i += kPrepareThreads) {
    const bool there = i < query.num_tokens;
    const uint32_t column = query.first_column + i;
    state.shifts[column] =
        there ? offset * state.sums[query.first_panel * 16 + i] : 0;
    state.factors[column] = there ? state.weights[query.first_token + i] : 0;
  }
  BeginQuery(state, q, query);
  if (threadIdx.x == 0) state.errors[q] = 0;
}

// A warp a record.
__global__ __launch_bounds__(kThreads) void PlaceCodesKernel(
    const TokenRecords from, uint32_t num_tokens, uint32_t row_bytes,
    std::byte* codes, float* scales, uint32_t* centroids) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t num_warps = gridDim.x * kWarps;
  const uint32_t before = from.record_bytes - from.code_bytes;
  for (uint32_t token = blockIdx.x * kWarps + threadIdx.x / 32;
       token < num_tokens; token += num_warps) {
    const uint8_t* const record =
        from.records + size_t{token} * from.record_bytes;
    for (uint32_t i = lane; i < row_bytes; i += 32) {
      codes[size_t{token} * row_bytes + i] =
          static_cast<std::byte>(i < from.code_bytes ? record[before + i] : 0);
    }
    if (lane == 0) {
      uint32_t bits = 0;
      for (uint32_t i = 0; i < 4; ++i) bits |= uint32_t{record[i]} << 8 * i;
      scales[token] = __uint_as_float(bits);
      if (centroids != nullptr) centroids[token] = record[4];
    }
  }
}

}  // namespace

cudaError_t MeasureTokens(const DeviceTokens& tokens, uint16_t* half,
                          float* scales, float* norms, float* maxima,
                          cudaStream_t stream) {
  return ForTokens(tokens, [&]<class Element>() {
    const uint32_t blocks =
        std::min((tokens.num_tokens + kWarps - 1) / kWarps, kManyBlocks);
    MeasureKernel<Element>
        <<<blocks, kThreads, 0, stream>>>(tokens, half, scales, norms, maxima);
    return cudaGetLastError();
  });
}

cudaError_t PlaceCodes(const DeviceTokens& tokens, const TokenRecords& records,
                       std::byte* codes, float* scales, uint32_t* centroids,
                       cudaStream_t stream) {
  const uint32_t blocks =
      std::min((tokens.num_tokens + kWarps - 1) / kWarps, kManyBlocks);
  PlaceCodesKernel<<<blocks, kThreads, 0, stream>>>(
      records, tokens.num_tokens, tokens.row_bytes(), codes, scales, centroids);
  return cudaGetLastError();
}

cudaError_t PrepareMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                          cudaStream_t stream) {
  const auto kernel =
      tokens.code_bits == 0 ? PrepareKernel : PrepareCodesKernel;
  kernel<<<state.num_queries, kPrepareThreads, 0, stream>>>(tokens, state);
  return cudaGetLastError();
}

}  // namespace vicinal::gpu
