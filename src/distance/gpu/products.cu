// Products of f32 by the units of f32: second moments and rotations, for which
// precision is worth more than time. Blocks of 256 threads make tiles of 128 x
// 128, 8 x 8 a thread, from slices of 16 in shared memory, two of them, so that
// one is filled while the other is multiplied.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/train_kernels.h"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kDepth = 16;
constexpr uint32_t kPitch = kProductTile + 4;  // fewer bank conflicts
constexpr uint32_t kTileSize = kProductTile * kProductTile;
// Quads of four that each thread moves of a slice.
constexpr uint32_t kQuads = kProductTile * kDepth / 4 / kThreads;

using Slice = float[kDepth][kPitch];

// Four consecutive floats, zeros from `valid` on. kAligned: valid is a multiple
// of four, and so is the address, of 16 bytes.
template <bool kAligned>
__device__ inline float4 ReadQuad(const float* from, uint32_t valid) {
  float4 out = {0, 0, 0, 0};
  if constexpr (kAligned) {
    if (valid > 0) out = __ldg(reinterpret_cast<const float4*>(from));
  } else {
    if (valid > 0) out.x = __ldg(from);
    if (valid > 1) out.y = __ldg(from + 1);
    if (valid > 2) out.z = __ldg(from + 2);
    if (valid > 3) out.w = __ldg(from + 3);
  }
  return out;
}

__device__ inline uint32_t Left(uint32_t size, uint32_t at) {
  return at < size ? size - at : 0;
}

// A slice of 128 vectors and 16 dimensions whose dimensions lie together.
template <bool kAligned>
struct VectorReader {
  const float* vectors;  // the first of the tile
  uint32_t num;          // of vectors that there are
  uint32_t dim;

  __device__ float4 Read(uint32_t slice, uint32_t quad) const {
    const uint32_t vector = quad / (kDepth / 4);
    const uint32_t at = slice * kDepth + quad % (kDepth / 4) * 4;
    return ReadQuad<kAligned>(vectors + size_t{vector} * dim + at,
                              vector < num ? Left(dim, at) : 0);
  }
  __device__ static void Write(Slice& to, uint32_t quad, const float4& value) {
    const uint32_t vector = quad / (kDepth / 4);
    const uint32_t at = quad % (kDepth / 4) * 4;
    to[at][vector] = value.x;
    to[at + 1][vector] = value.y;
    to[at + 2][vector] = value.z;
    to[at + 3][vector] = value.w;
  }
};

// A slice of 128 dimensions, from `first` on, of 16 rows, less their mean.
template <bool kAligned>
struct DimensionReader {
  const float* rows;  // the first of the chunk
  uint32_t num;       // of rows
  uint32_t dim;
  uint32_t first;
  const float* mean;  // null: zero

  __device__ float4 Read(uint32_t slice, uint32_t quad) const {
    const uint32_t row = slice * kDepth + quad / (kProductTile / 4);
    const uint32_t at = first + quad % (kProductTile / 4) * 4;
    const uint32_t valid = row < num ? Left(dim, at) : 0;
    float4 value = ReadQuad<kAligned>(rows + size_t{row} * dim + at, valid);
    if (mean == nullptr) return value;
    const float4 around = ReadQuad<kAligned>(mean + at, valid);
    value.x -= around.x;
    value.y -= around.y;
    value.z -= around.z;
    value.w -= around.w;
    return value;
  }
  __device__ static void Write(Slice& to, uint32_t quad, const float4& value) {
    *reinterpret_cast<float4*>(
        &to[quad / (kProductTile / 4)][quad % (kProductTile / 4) * 4]) = value;
  }
};

// Thread t has rows 4 (t / 16) + i and 64 more, columns 4 (t % 16) + j and 64
// more: sums[i][j], i and j from 4 on being those of the 64.
__device__ inline uint32_t Place(uint32_t thread, int i) {
  return i / 4 * 64 + thread * 4 + i % 4;
}

__device__ inline void ReadEight(const float* from, uint32_t thread,
                                 float (&out)[8]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float4 quad =
        *reinterpret_cast<const float4*>(from + Place(thread, half * 4));
    out[half * 4] = quad.x;
    out[half * 4 + 1] = quad.y;
    out[half * 4 + 2] = quad.z;
    out[half * 4 + 3] = quad.w;
  }
}

__device__ inline void MultiplyAdd(const Slice& a, const Slice& b,
                                   float (&sums)[8][8]) {
#pragma unroll
  for (uint32_t k = 0; k < kDepth; ++k) {
    float left[8];
    float right[8];
    ReadEight(a[k], threadIdx.x / 16, left);
    ReadEight(b[k], threadIdx.x % 16, right);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        sums[i][j] = fmaf(left[i], right[j], sums[i][j]);
      }
    }
  }
}

template <class Reader>
__device__ void MultiplyTile(const Reader& a, const Reader& b,
                             uint32_t num_slices, float (&sums)[8][8]) {
  __shared__ alignas(16) Slice left[2];
  __shared__ alignas(16) Slice right[2];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < 8; ++j) sums[i][j] = 0;
  }
  float4 next_left[kQuads];
  float4 next_right[kQuads];
  for (uint32_t slice = 0; slice <= num_slices; ++slice) {
    if (slice < num_slices) {
#pragma unroll
      for (uint32_t i = 0; i < kQuads; ++i) {
        next_left[i] = a.Read(slice, threadIdx.x + i * kThreads);
        next_right[i] = b.Read(slice, threadIdx.x + i * kThreads);
      }
    }
    if (slice > 0) {
      MultiplyAdd(left[(slice - 1) % 2], right[(slice - 1) % 2], sums);
    }
    if (slice < num_slices) {
      // Last read two steps ago, with a barrier since.
#pragma unroll
      for (uint32_t i = 0; i < kQuads; ++i) {
        Reader::Write(left[slice % 2], threadIdx.x + i * kThreads,
                      next_left[i]);
        Reader::Write(right[slice % 2], threadIdx.x + i * kThreads,
                      next_right[i]);
      }
    }
    __syncthreads();
  }
}

// Where the number-th tile on or above the diagonal is; side: tiles a row.
__device__ inline uint2 UpperTile(uint32_t number, uint32_t side) {
  uint32_t row = 0;
  while (number >= side - row) number -= side - row++;
  return {row, row + number};
}

template <bool kAligned>
__global__ __launch_bounds__(kThreads, 2) void MomentsKernel(
    const float* rows, uint32_t num_rows, uint32_t dim, const float* mean,
    uint32_t first_chunk, float* partial) {
  const uint32_t side = (dim + kProductTile - 1) / kProductTile;
  const uint2 tile = UpperTile(blockIdx.x, side);
  const uint32_t begin = (first_chunk + blockIdx.y) * kMomentRows;
  const uint32_t num = min(kMomentRows, num_rows - begin);
  const float* const chunk = rows + size_t{begin} * dim;
  const DimensionReader<kAligned> a = {chunk, num, dim, tile.x * kProductTile,
                                       mean};
  const DimensionReader<kAligned> b = {chunk, num, dim, tile.y * kProductTile,
                                       mean};
  float sums[8][8];
  MultiplyTile(a, b, (num + kDepth - 1) / kDepth, sums);
  float* const out =
      partial + (size_t{blockIdx.y} * gridDim.x + blockIdx.x) * kTileSize;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float* const to = out + Place(threadIdx.x / 16, i) * kProductTile +
                        Place(threadIdx.x % 16, half * 4);
      *reinterpret_cast<float4*>(to) =
          make_float4(sums[i][half * 4], sums[i][half * 4 + 1],
                      sums[i][half * 4 + 2], sums[i][half * 4 + 3]);
    }
  }
}

__global__ __launch_bounds__(kThreads) void AddKernel(uint32_t size,
                                                      uint32_t num_chunks,
                                                      const float* partial,
                                                      double* sums) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= size) return;
  double sum = sums[i];
#pragma unroll 8
  for (uint32_t chunk = 0; chunk < num_chunks; ++chunk) {
    sum += __ldcs(partial + size_t{chunk} * size + i);
  }
  sums[i] = sum;
}

// One block a tile.
__global__ __launch_bounds__(kThreads) void WriteKernel(uint32_t dim,
                                                        const double* sums,
                                                        double factor,
                                                        float* out) {
  const uint32_t side = (dim + kProductTile - 1) / kProductTile;
  const uint2 tile = UpperTile(blockIdx.x, side);
  for (uint32_t i = threadIdx.x; i < kTileSize; i += kThreads) {
    const uint32_t row = tile.x * kProductTile + i / kProductTile;
    const uint32_t column = tile.y * kProductTile + i % kProductTile;
    if (row > column || column >= dim) continue;
    const auto value =
        static_cast<float>(sums[size_t{blockIdx.x} * kTileSize + i] * factor);
    out[size_t{row} * dim + column] = value;
    out[size_t{column} * dim + row] = value;
  }
}

template <bool kAligned>
__global__ __launch_bounds__(kThreads, 2) void RotateKernel(
    const float* rows, uint32_t count, uint32_t dim, const float* matrix,
    uint32_t num_out, float* out) {
  const uint32_t row = blockIdx.y * kProductTile;
  const uint32_t column = blockIdx.x * kProductTile;
  const VectorReader<kAligned> a = {rows + size_t{row} * dim, count - row, dim};
  const VectorReader<kAligned> b = {matrix + size_t{column} * dim,
                                    num_out - column, dim};
  float sums[8][8];
  MultiplyTile(a, b, (dim + kDepth - 1) / kDepth, sums);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t at = row + Place(threadIdx.x / 16, i);
    if (at >= count) continue;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const uint32_t number = column + Place(threadIdx.x % 16, j);
      if (number < num_out) out[size_t{at} * num_out + number] = sums[i][j];
    }
  }
}

}  // namespace

cudaError_t MomentTiles(const DeviceRows& rows, const float* mean,
                        uint32_t first_chunk, uint32_t num_chunks,
                        float* partial, cudaStream_t stream) {
  const auto* exact = static_cast<const float*>(rows.exact);
  const dim3 grid(NumMomentTiles(rows.dim), num_chunks);
  if (rows.dim % 4 == 0) {
    MomentsKernel<true><<<grid, kThreads, 0, stream>>>(
        exact, rows.num_rows, rows.dim, mean, first_chunk, partial);
  } else {
    MomentsKernel<false><<<grid, kThreads, 0, stream>>>(
        exact, rows.num_rows, rows.dim, mean, first_chunk, partial);
  }
  return cudaGetLastError();
}

cudaError_t AddMoments(uint32_t dim, uint32_t num_chunks, const float* partial,
                       double* sums, cudaStream_t stream) {
  const uint32_t size = NumMomentTiles(dim) * kTileSize;
  AddKernel<<<size / kThreads, kThreads, 0, stream>>>(size, num_chunks, partial,
                                                      sums);
  return cudaGetLastError();
}

cudaError_t WriteMoments(uint32_t dim, const double* sums, double factor,
                         float* out, cudaStream_t stream) {
  WriteKernel<<<NumMomentTiles(dim), kThreads, 0, stream>>>(dim, sums, factor,
                                                            out);
  return cudaGetLastError();
}

cudaError_t RotateRows(const DeviceRows& rows, const float* matrix,
                       uint32_t num_out, uint32_t first, uint32_t count,
                       float* out, cudaStream_t stream) {
  const float* const exact =
      static_cast<const float*>(rows.exact) + size_t{first} * rows.dim;
  const dim3 grid((num_out + kProductTile - 1) / kProductTile,
                  (count + kProductTile - 1) / kProductTile);
  if (rows.dim % 4 == 0) {
    RotateKernel<true><<<grid, kThreads, 0, stream>>>(exact, count, rows.dim,
                                                      matrix, num_out, out);
  } else {
    RotateKernel<false><<<grid, kThreads, 0, stream>>>(exact, count, rows.dim,
                                                       matrix, num_out, out);
  }
  return cudaGetLastError();
}

}  // namespace vicinal::gpu
