// What an assignment does beside its products: measures and rounds vectors, and
// tells what the products have settled.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/best_two.cuh"
#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/train_kernels.h"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kManyBlocks = 4096;

// Sums of squares, and products, that float loses below its smallest number.
constexpr float kLostNorm = 1e-17f;
constexpr float kLostProducts = 1e-34f;
// The bias of centroids that fill up a tile.
constexpr float kNever = -3e38f;

__device__ inline float WarpSum(float value) {
  for (int half = 16; half > 0; half /= 2) {
    value += __shfl_xor_sync(~0u, value, half);
  }
  return value;
}

// Of numbers that are not negative; a NaN counts as infinite.
__device__ inline void RaiseMaximum(float* maximum, float value) {
  if (!(value < INFINITY)) value = INFINITY;
  atomicMax(reinterpret_cast<int*>(maximum), __float_as_int(value));
}

// One warp a point.
__global__ __launch_bounds__(kThreads) void MeasureKernel(
    const DeviceRows points, const PointState state, float* max_norm) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warps = gridDim.x * kWarps;
  float most = 0;
  for (uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32; i < points.num_rows;
       i += warps) {
    const float* const row =
        static_cast<const float*>(points.exact) + size_t{i} * points.dim;
    const uint16_t* const bf16 = points.bf16 + size_t{i} * points.padded_dim;
    float squares = 0;
#pragma unroll 4
    for (uint32_t j = lane; j < points.dim; j += 32) {
      squares = fmaf(row[j], row[j], squares);
    }
    squares = WarpSum(squares);
    const bool is_unit = points.metric == Metric::kCosine;
    const float scale = is_unit ? sqrtf(squares) : 1.0f;
    float missed = 0;
#pragma unroll 4
    for (uint32_t j = lane; j < points.dim; j += 32) {
      const float rounded = __bfloat162float(__ushort_as_bfloat16(bf16[j]));
      const float difference = fmaf(-scale, rounded, row[j]);
      missed = fmaf(difference, difference, missed);
    }
    missed = WarpSum(missed);
    most = fmaxf(most, squares < INFINITY ? sqrtf(squares) : INFINITY);
    if (lane != 0) continue;
    if (state.scale != nullptr) state.scale[i] = scale;
    state.norm2[i] = squares;
    state.error[i] =
        missed < INFINITY ? sqrtf(missed) * 1.001f + kLostNorm : INFINITY;
  }
  if (lane == 0) RaiseMaximum(max_norm, most);
}

// One warp a centroid.
__global__ __launch_bounds__(kThreads) void RoundCentroidsKernel(
    const DeviceCentroids centroids, uint32_t padded_rows) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32;
  if (i >= padded_rows) return;
  uint16_t* const to = centroids.bf16 + size_t{i} * centroids.padded_dim;
  const bool is_gap = i >= centroids.num;
  const float* const row = centroids.exact + size_t{i} * centroids.dim;
  float squares = 0;
  float missed = 0;
  for (uint32_t j = lane; j < centroids.padded_dim; j += 32) {
    const float x = is_gap || j >= centroids.dim ? 0.0f : row[j];
    const __nv_bfloat16 rounded = __float2bfloat16_rn(x);
    const float difference = x - __bfloat162float(rounded);
    squares = fmaf(x, x, squares);
    missed = fmaf(difference, difference, missed);
    to[j] = __bfloat16_as_ushort(rounded);
  }
  squares = WarpSum(squares);
  missed = WarpSum(missed);
  if (lane != 0) return;
  centroids.bias[i] = is_gap ? kNever : -0.5f * squares;
  if (is_gap) return;
  RaiseMaximum(&centroids.maxima[0], sqrtf(squares) * 1.0001f);
  RaiseMaximum(&centroids.maxima[1], sqrtf(missed) * 1.001f + kLostNorm);
}

// The bound is PrepareKernel's, and what tags take from scores.
__global__ __launch_bounds__(kThreads) void ListKernel(
    const DeviceCentroids centroids, const PointState state,
    uint32_t num_points, uint32_t* list, uint32_t* count) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= num_points) return;
  const float q = sqrtf(state.norm2[i]) * 1.0001f;
  const float x = centroids.maxima[0];
  const float product = q * x * 1.02f;  // of the rounded vectors, too
  const float both = (q + x) * (q + x);
  float error = state.error[i] * x + 1.01f * q * centroids.maxima[1] +
                (centroids.padded_dim * 0x1p-23f + 0x1p-20f + kTagError) *
                    (product + x * x) +
                (centroids.dim / 64 + 16) * 0x1p-24f * both + kLostProducts;
  error *= 1.01f;
  // Written so that a NaN settles nothing.
  const bool settled = both < 1e30f && state.margin[i] > 2 * error;
  if (!settled) list[atomicAdd(count, 1)] = i;
}

__global__ __launch_bounds__(kThreads) void DistancesKernel(
    const DeviceRows points, const DeviceCentroids centroids,
    const uint32_t* nearest, float* distances) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warps = gridDim.x * kWarps;
  for (uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32; i < points.num_rows;
       i += warps) {
    const float distance = CanonicalDistance<Metric::kL2>(
        static_cast<const float*>(points.exact) + size_t{i} * points.dim, 0,
        centroids.exact + size_t{nearest[i]} * centroids.dim, points.dim, lane);
    if (lane == 0) distances[i] = distance;
  }
}

__global__ __launch_bounds__(kThreads) void ScoreDistancesKernel(
    const PointState state, uint32_t num_points, float* distances) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i < num_points) {
    distances[i] = fmaxf(state.norm2[i] - 2 * state.best[i], 0.0f);
  }
}

// Row from[i] of `rows` to row i of `out`, or to row to[i].
__global__ __launch_bounds__(kThreads) void CopyRowsKernel(
    const float* rows, uint32_t dim, const uint32_t* from, const uint32_t* to,
    uint32_t count, float* out) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warps = gridDim.x * kWarps;
  for (uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32; i < count;
       i += warps) {
    const float* const row = rows + size_t{from[i]} * dim;
    float* const there = out + size_t{to == nullptr ? i : to[i]} * dim;
    for (uint32_t j = lane; j < dim; j += 32) there[j] = row[j];
  }
}

__global__ __launch_bounds__(kThreads) void ScatterKernel(
    const Neighbor* found, const uint32_t* list, uint32_t first, uint32_t count,
    uint32_t* nearest, float* distances) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= count) return;
  const uint32_t point = list == nullptr ? first + i : list[i];
  nearest[point] = found[i].row;
  if (distances != nullptr) distances[point] = found[i].distance;
}

uint32_t BlocksOf(uint32_t n) { return (n + kThreads - 1) / kThreads; }
uint32_t BlocksOfWarps(uint32_t n) {
  return std::min((n + kWarps - 1) / kWarps, kManyBlocks);
}

}  // namespace

cudaError_t MeasurePoints(const DeviceRows& points, const PointState& state,
                          float* max_norm, cudaStream_t stream) {
  MeasureKernel<<<BlocksOfWarps(points.num_rows), kThreads, 0, stream>>>(
      points, state, max_norm);
  return cudaGetLastError();
}

cudaError_t RoundCentroids(const DeviceCentroids& centroids,
                           cudaStream_t stream) {
  const cudaError_t cleared =
      cudaMemsetAsync(centroids.maxima, 0, 2 * sizeof(float), stream);
  if (cleared != cudaSuccess) return cleared;
  const auto rows = static_cast<uint32_t>(centroids.padded_rows());
  RoundCentroidsKernel<<<rows / kWarps, kThreads, 0, stream>>>(centroids, rows);
  return cudaGetLastError();
}

cudaError_t ListUnsettled(const DeviceCentroids& centroids,
                          const PointState& state, uint32_t num_points,
                          uint32_t* list, uint32_t* count,
                          cudaStream_t stream) {
  ListKernel<<<BlocksOf(num_points), kThreads, 0, stream>>>(
      centroids, state, num_points, list, count);
  return cudaGetLastError();
}

cudaError_t DistancesToNearest(const DeviceRows& points,
                               const DeviceCentroids& centroids,
                               const uint32_t* nearest, float* distances,
                               cudaStream_t stream) {
  DistancesKernel<<<BlocksOfWarps(points.num_rows), kThreads, 0, stream>>>(
      points, centroids, nearest, distances);
  return cudaGetLastError();
}

cudaError_t DistancesByScores(const PointState& state, uint32_t num_points,
                              float* distances, cudaStream_t stream) {
  ScoreDistancesKernel<<<BlocksOf(num_points), kThreads, 0, stream>>>(
      state, num_points, distances);
  return cudaGetLastError();
}

cudaError_t GatherPoints(const DeviceRows& points, const uint32_t* list,
                         uint32_t count, float* out, cudaStream_t stream) {
  CopyRowsKernel<<<BlocksOfWarps(count), kThreads, 0, stream>>>(
      static_cast<const float*>(points.exact), points.dim, list, nullptr, count,
      out);
  return cudaGetLastError();
}

cudaError_t PlaceCentroids(const DeviceRows& points, const uint32_t* from,
                           const uint32_t* to, uint32_t count, float* centroids,
                           cudaStream_t stream) {
  CopyRowsKernel<<<BlocksOfWarps(count), kThreads, 0, stream>>>(
      static_cast<const float*>(points.exact), points.dim, from, to, count,
      centroids);
  return cudaGetLastError();
}

cudaError_t ScatterNearest(const Neighbor* found, const uint32_t* list,
                           uint32_t first, uint32_t count, uint32_t* nearest,
                           float* distances, cudaStream_t stream) {
  ScatterKernel<<<BlocksOf(count), kThreads, 0, stream>>>(
      found, list, first, count, nearest, distances);
  return cudaGetLastError();
}

}  // namespace vicinal::gpu
