// How points are sorted by their centroids and become means, in an order that
// repeats.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/train_kernels.h"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;

// How many points of each chunk each centroid has.
__global__ __launch_bounds__(kThreads) void CountKernel(
    const Grouping grouping, const uint32_t* nearest) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= grouping.num_points) return;
  const size_t chunk = i / grouping.chunk_points;
  atomicAdd(&grouping.before[chunk * grouping.num_centroids + nearest[i]], 1);
}

// From those counts to how many are in the chunks before, and in all.
__global__ __launch_bounds__(kThreads) void ScanChunksKernel(
    const Grouping grouping, uint32_t num_chunks) {
  const uint32_t centroid = blockIdx.x * kThreads + threadIdx.x;
  if (centroid >= grouping.num_centroids) return;
  uint32_t* const column = grouping.before + centroid;
  const size_t step = grouping.num_centroids;
  constexpr uint32_t kAtOnce = 8;
  uint32_t sum = 0;
  for (uint32_t first = 0; first < num_chunks; first += kAtOnce) {
    uint32_t counts[kAtOnce];
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      const uint32_t chunk = first + i;
      counts[i] = chunk < num_chunks ? column[chunk * step] : 0;
    }
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      const uint32_t chunk = first + i;
      if (chunk < num_chunks) column[chunk * step] = sum;
      sum += counts[i];
    }
  }
  grouping.offsets[centroid] = sum;
}

// Of one value a thread, those of the threads before; *total becomes the sum of
// all. By a block of 1,024.
__device__ uint32_t ScanBlock(uint32_t value, uint32_t* total) {
  __shared__ uint32_t sums[32];
  const uint32_t lane = threadIdx.x % 32;
  uint32_t sum = value;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();  // of an earlier scan's sums
  if (lane == 31) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  uint32_t before = 0;
  *total = 0;
  for (uint32_t warp = 0; warp < 32; ++warp) {
    if (warp < threadIdx.x / 32) before += sums[warp];
    *total += sums[warp];
  }
  return before + sum - value;
}

// From the points of each centroid to where they and their pieces begin.
__global__ __launch_bounds__(1024) void ScanCentroidsKernel(
    const Grouping grouping) {
  const uint32_t n = grouping.num_centroids;
  uint32_t num_points = 0;
  uint32_t num_pieces = 0;
  uint32_t num_empty = 0;
  for (uint32_t first = 0; first < n; first += 1024) {
    const uint32_t i = first + threadIdx.x;
    const uint32_t points = i < n ? grouping.offsets[i] : 0;
    const uint32_t pieces = (points + kPieceRows - 1) / kPieceRows;
    uint32_t all_points;
    uint32_t all_pieces;
    const uint32_t points_before = ScanBlock(points, &all_points);
    const uint32_t pieces_before = ScanBlock(pieces, &all_pieces);
    if (i < n) {
      grouping.offsets[i] = num_points + points_before;
      grouping.piece_offsets[i] = num_pieces + pieces_before;
    }
    num_points += all_points;
    num_pieces += all_pieces;
    num_empty += __syncthreads_count(i < n && points == 0);
  }
  if (threadIdx.x == 0) {
    grouping.offsets[n] = num_points;
    grouping.piece_offsets[n] = num_pieces;
    *grouping.num_empty = num_empty;
  }
}

// One warp a chunk, so that points of a centroid stay in order.
__global__ __launch_bounds__(32) void OrderKernel(const Grouping grouping,
                                                  const uint32_t* nearest) {
  const uint32_t lane = threadIdx.x;
  const uint32_t begin = blockIdx.x * grouping.chunk_points;
  const uint32_t end = min(begin + grouping.chunk_points, grouping.num_points);
  uint32_t* const before =
      grouping.before + size_t{blockIdx.x} * grouping.num_centroids;
  for (uint32_t first = begin; first < end; first += 32) {
    const uint32_t i = first + lane;
    const bool is_point = i < end;
    // No centroid has the number ~0.
    const uint32_t centroid = is_point ? nearest[i] : ~0u;
    const uint32_t peers = __match_any_sync(~0u, centroid);
    const uint32_t leader = __ffs(static_cast<int>(peers)) - 1;
    uint32_t at = 0;
    if (lane == leader && is_point) {
      at = atomicAdd(&before[centroid], __popc(peers));
    }
    at = __shfl_sync(~0u, at, static_cast<int>(leader)) +
         __popc(peers & ((1u << lane) - 1));
    if (is_point) grouping.order[grouping.offsets[centroid] + at] = i;
    __syncwarp();  // the next step's additions come after these
  }
}

template <int kWidth>
struct Columns {
  float values[kWidth];
};

template <int kWidth>
__device__ inline Columns<kWidth> ReadColumns(const float* from) {
  Columns<kWidth> out;
  if constexpr (kWidth == 4) {
    const float4 all = __ldcs(reinterpret_cast<const float4*>(from));
    out.values[0] = all.x;
    out.values[1] = all.y;
    out.values[2] = all.z;
    out.values[3] = all.w;
  } else {
    out.values[0] = __ldcs(from);
  }
  return out;
}

// The rows order[begin] .. order[end - 1] (or begin .. end - 1), summed in
// that order; at most kPieceRows. Each thread has kWidth columns at a time.
template <int kWidth>
__device__ void SumPiece(const float* rows, uint32_t dim, const uint32_t* order,
                         uint32_t begin, uint32_t end, float* out) {
  __shared__ uint32_t list[kPieceRows];
  const uint32_t n = end - begin;
  for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
    list[i] = order == nullptr ? begin + i : order[begin + i];
  }
  __syncthreads();
  constexpr uint32_t kAtOnce = 8;
  for (uint32_t column = threadIdx.x * kWidth; column < dim;
       column += blockDim.x * kWidth) {
    Columns<kWidth> sum = {};
    uint32_t i = 0;
    for (; i + kAtOnce <= n; i += kAtOnce) {
      Columns<kWidth> next[kAtOnce];
#pragma unroll
      for (uint32_t j = 0; j < kAtOnce; ++j) {
        next[j] =
            ReadColumns<kWidth>(rows + size_t{list[i + j]} * dim + column);
      }
#pragma unroll
      for (uint32_t j = 0; j < kAtOnce; ++j) {
#pragma unroll
        for (int c = 0; c < kWidth; ++c) sum.values[c] += next[j].values[c];
      }
    }
    for (; i < n; ++i) {
      const auto next =
          ReadColumns<kWidth>(rows + size_t{list[i]} * dim + column);
#pragma unroll
      for (int c = 0; c < kWidth; ++c) sum.values[c] += next.values[c];
    }
#pragma unroll
    for (int c = 0; c < kWidth; ++c) out[column + c] = sum.values[c];
  }
}

// One block a piece of a centroid's points; there may be fewer pieces.
template <int kWidth>
__global__ void PiecesKernel(const float* rows, uint32_t dim,
                             const Grouping grouping) {
  const uint32_t piece = blockIdx.x;
  const uint32_t* const ends = grouping.piece_offsets;
  if (piece >= ends[grouping.num_centroids]) return;
  uint32_t low = 0;  // the last centroid whose pieces begin at or before this
  uint32_t high = grouping.num_centroids;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (ends[middle] <= piece ? low : high) = middle;
  }
  const uint32_t begin =
      grouping.offsets[low] + (piece - ends[low]) * kPieceRows;
  const uint32_t end = min(begin + kPieceRows, grouping.offsets[low + 1]);
  SumPiece<kWidth>(rows, dim, grouping.order, begin, end,
                   grouping.sums + size_t{piece} * dim);
}

// One block a piece of all rows.
template <int kWidth>
__global__ void AllPiecesKernel(const float* rows, uint32_t num_rows,
                                uint32_t dim, float* sums) {
  const uint32_t begin = blockIdx.x * kPieceRows;
  SumPiece<kWidth>(rows, dim, nullptr, begin, min(begin + kPieceRows, num_rows),
                   sums + size_t{blockIdx.x} * dim);
}

// The sum of a column over consecutive pieces, in order.
__device__ inline double SumPieces(const float* sums, uint32_t num_pieces,
                                   uint32_t dim, uint32_t column) {
  double sum = 0;
#pragma unroll 8
  for (uint32_t i = 0; i < num_pieces; ++i) {
    sum += sums[size_t{i} * dim + column];
  }
  return sum;
}

// One block a centroid.
__global__ __launch_bounds__(kThreads) void MoveKernel(const Grouping grouping,
                                                       uint32_t dim,
                                                       float* centroids) {
  const uint32_t centroid = blockIdx.x;
  const uint32_t count =
      grouping.offsets[centroid + 1] - grouping.offsets[centroid];
  if (count == 0) return;
  const uint32_t first = grouping.piece_offsets[centroid];
  const uint32_t num = grouping.piece_offsets[centroid + 1] - first;
  for (uint32_t i = threadIdx.x; i < dim; i += kThreads) {
    centroids[size_t{centroid} * dim + i] = static_cast<float>(
        SumPieces(grouping.sums + size_t{first} * dim, num, dim, i) / count);
  }
}

__global__ __launch_bounds__(32) void MeanKernel(const float* sums,
                                                 uint32_t num_rows,
                                                 uint32_t dim, float* mean) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  if (i >= dim) return;
  const uint32_t num_pieces = (num_rows + kPieceRows - 1) / kPieceRows;
  mean[i] = static_cast<float>(SumPieces(sums, num_pieces, dim, i) / num_rows);
}

uint32_t BlocksOf(uint32_t n) { return (n + kThreads - 1) / kThreads; }

// As many threads as there are columns for, so that most have some.
uint32_t PieceThreads(uint32_t dim, uint32_t width) {
  const uint32_t columns = (dim + width - 1) / width;
  return std::clamp((columns + 31) / 32 * 32, 32u, kThreads);
}

}  // namespace

cudaError_t GroupPoints(const Grouping& grouping, const uint32_t* nearest,
                        cudaStream_t stream) {
  const size_t counts = size_t{grouping.num_chunks()} * grouping.num_centroids;
  const cudaError_t cleared =
      cudaMemsetAsync(grouping.before, 0, counts * sizeof(uint32_t), stream);
  if (cleared != cudaSuccess) return cleared;
  CountKernel<<<BlocksOf(grouping.num_points), kThreads, 0, stream>>>(grouping,
                                                                      nearest);
  ScanChunksKernel<<<BlocksOf(grouping.num_centroids), kThreads, 0, stream>>>(
      grouping, grouping.num_chunks());
  ScanCentroidsKernel<<<1, 1024, 0, stream>>>(grouping);
  OrderKernel<<<grouping.num_chunks(), 32, 0, stream>>>(grouping, nearest);
  return cudaGetLastError();
}

cudaError_t MoveCentroids(const DeviceRows& points, const Grouping& grouping,
                          float* centroids, cudaStream_t stream) {
  const auto* rows = static_cast<const float*>(points.exact);
  const uint32_t blocks = grouping.max_pieces();
  if (points.dim % 4 == 0) {
    PiecesKernel<4><<<blocks, PieceThreads(points.dim, 4), 0, stream>>>(
        rows, points.dim, grouping);
  } else {
    PiecesKernel<1><<<blocks, PieceThreads(points.dim, 1), 0, stream>>>(
        rows, points.dim, grouping);
  }
  MoveKernel<<<grouping.num_centroids, kThreads, 0, stream>>>(
      grouping, points.dim, centroids);
  return cudaGetLastError();
}

cudaError_t MeanOfRows(const DeviceRows& rows, float* sums, float* mean,
                       cudaStream_t stream) {
  const auto* exact = static_cast<const float*>(rows.exact);
  const uint32_t blocks = (rows.num_rows + kPieceRows - 1) / kPieceRows;
  if (rows.dim % 4 == 0) {
    AllPiecesKernel<4><<<blocks, PieceThreads(rows.dim, 4), 0, stream>>>(
        exact, rows.num_rows, rows.dim, sums);
  } else {
    AllPiecesKernel<1><<<blocks, PieceThreads(rows.dim, 1), 0, stream>>>(
        exact, rows.num_rows, rows.dim, sums);
  }
  MeanKernel<<<(rows.dim + 31) / 32, 32, 0, stream>>>(sums, rows.num_rows,
                                                      rows.dim, mean);
  return cudaGetLastError();
}

}  // namespace vicinal::gpu
