// Scores of documents of token vectors by halves: every document token is read
// once, straight into the operands of tensor-core products. For chips that have
// no maxsim_sm90.cu, and for tokens that are too long for it.
//
// As in stream.cu a warp takes runs of eight tokens at a time and lane 4 r + c
// reads 32 bytes of token r, so that each load touches whole lines. What
// follows a product is a maximum in a register; lanes are only asked for theirs
// when a document ends. Tokens behind the end of an item are its last one
// again, which changes no maximum and reads no other line.
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_tokens.cuh"
#include "src/distance/gpu/overlap.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
// Shared memory that columns may take, so that two blocks have room.
constexpr uint32_t kMostShared = 72 << 10;
constexpr uint32_t kMostTiles = 8;
constexpr uint32_t kPadding = 8;  // elements a column; lanes use all banks then

uint32_t SharedBytes(uint32_t num_tiles, uint32_t padded_dim) {
  return num_tiles * kTokenColumns * (padded_dim + kPadding) * 2;
}

__device__ inline void Multiply(float (&sums)[4], uint32_t a0, uint32_t a1,
                                uint32_t a2, uint32_t a3, uint32_t b0,
                                uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Copies the columns of a pass, zeros behind the last.
template <int kTiles>
__device__ void LoadColumns(const DeviceTokens& tokens,
                            const MaxSimState& state, const MaxSimPass& pass,
                            uint16_t* columns) {
  const uint32_t dim = tokens.padded_dim;
  const uint16_t* from = reinterpret_cast<const uint16_t*>(state.columns) +
                         size_t{pass.first_tile} * kTokenColumns * dim;
  for (uint32_t i = threadIdx.x; i < kTiles * kTokenColumns * dim / 8;
       i += kThreads) {
    const uint32_t column = i / (dim / 8);
    const uint32_t at = i % (dim / 8) * 8;
    *reinterpret_cast<uint4*>(columns + column * (dim + kPadding) + at) =
        column < pass.num_tiles * kTokenColumns
            ? *reinterpret_cast<const uint4*>(from + size_t{column} * dim + at)
            : uint4{0, 0, 0, 0};
  }
}

// Raises best[t][j], of column 8 t + 2 (lane % 4) + j, by the products with 8
// kRuns tokens. from: the lane's token of each run, own_column: its lane / 4-th
// column.
template <int kRuns, int kTiles>
__device__ void Compare(const uint16_t* const (&from)[kRuns],
                        const float (&scales)[kRuns],
                        const uint16_t* own_column, uint32_t dim, uint32_t lane,
                        float (&best)[kTiles][2]) {
  constexpr int kPairs = kRuns / 2;
  // Slices of 64 dimensions that are loaded before the first is used.
  constexpr int kAhead = 8 / kRuns;
  const uint32_t column = lane % 4;
  const uint32_t tile_pitch = kTokenColumns * (dim + kPadding);
  float sums[kPairs][kTiles][4] = {};
  // kCount pieces of 8 dimensions for each lane, two of a slice side by side.
  const auto pieces = [&](uint32_t first, auto count) {
    constexpr int kCount = decltype(count)::value;
    uint4 values[kCount][kRuns];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int run = 0; run < kRuns; ++run) {
        values[i][run] = __ldg(reinterpret_cast<const uint4*>(
            from[run] + first + i / 2 * 64 + i % 2 * 8));
      }
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint4 query = *reinterpret_cast<const uint4*>(
            own_column + tile * tile_pitch + first + i / 2 * 64 + i % 2 * 8);
#pragma unroll
        for (int pair = 0; pair < kPairs; ++pair) {
          const uint4& a = values[i][2 * pair];
          const uint4& b = values[i][2 * pair + 1];
          Multiply(sums[pair][tile], a.x, b.x, a.y, b.y, query.x, query.y);
          Multiply(sums[pair][tile], a.z, b.z, a.w, b.w, query.z, query.w);
        }
      }
    }
  };
  uint32_t slice = 0;
  for (; slice + kAhead * 64 <= dim; slice += kAhead * 64) {
    pieces(slice + column * 16, std::integral_constant<int, 2 * kAhead>());
  }
  if constexpr (kAhead > 2) {
    for (; slice + 128 <= dim; slice += 128) {
      pieces(slice + column * 16, std::integral_constant<int, 4>());
    }
  }
  for (; slice + 64 <= dim; slice += 64) {
    pieces(slice + column * 16, std::integral_constant<int, 2>());
  }
  if (slice < dim) {
    pieces(slice + column * 8, std::integral_constant<int, 1>());
  }
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        // Sums 0 and 1 are of the pair's first run, 2 and 3 of its second.
        best[tile][i % 2] = fmaxf(
            best[tile][i % 2], sums[pair][tile][i] * scales[2 * pair + i / 2]);
      }
    }
  }
}

// The maxima of a part: those of columns 2 lane and 2 lane + 1, where the pass
// has them.
template <int kRuns, int kTiles, bool kScaled>
__device__ float2 ComparePart(const DeviceTokens& tokens,
                              const uint16_t* columns, const TokenPart& part,
                              uint32_t lane) {
  const uint32_t dim = tokens.padded_dim;
  const uint16_t* const own_column = columns + lane / 4 * (dim + kPadding);
  float best[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    best[tile][0] = -INFINITY;
    best[tile][1] = -INFINITY;
  }
  for (uint32_t done = 0; done < part.num_tokens; done += kRuns * 8) {
    const uint16_t* from[kRuns];
    float scales[kRuns];
#pragma unroll
    for (int run = 0; run < kRuns; ++run) {
      const uint32_t token = part.first_token + min(done + run * 8 + lane / 4,
                                                    part.num_tokens - 1);
      from[run] = tokens.half + size_t{token} * dim;
      scales[run] = kScaled ? __ldg(tokens.scales + token) : 1.0f;
    }
    Compare<kRuns, kTiles>(from, scales, own_column, dim, lane, best);
    __syncwarp();  // products are of whole warps
  }
  float own[2] = {0, 0};
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float value = best[tile][j];
      value = fmaxf(value, __shfl_xor_sync(~0u, value, 4));
      value = fmaxf(value, __shfl_xor_sync(~0u, value, 8));
      value = fmaxf(value, __shfl_xor_sync(~0u, value, 16));
      if (lane / 4 == tile) own[j] = value;
    }
  }
  return {own[0], own[1]};
}

// Of a document in several parts: leaves the maxima of part `number` for the
// warp that finishes the last one. Whether this is it; `own` are then the
// document's.
template <int kTiles>
__device__ bool IsLastPart(const MaxSimPass& pass, uint32_t number,
                           uint32_t lane, float2* own) {
  constexpr uint32_t kColumns = kTiles * kTokenColumns;
  const bool has_columns = 2 * lane < kColumns;
  const uint32_t candidate = number / pass.num_parts;
  if (has_columns) {
    *reinterpret_cast<float2*>(pass.partials + size_t{number} * kColumns +
                               2 * lane) = *own;
  }
  __threadfence();
  __syncwarp();
  uint32_t before = 0;
  if (lane == 0) before = atomicAdd(pass.finished + candidate, 1);
  before = __shfl_sync(~0u, before, 0);
  if (before + 1 != pass.num_parts) return false;
  __threadfence();
  const float* const first =
      pass.partials + size_t{candidate} * pass.num_parts * kColumns;
  for (uint32_t part = 0; part < pass.num_parts && has_columns; ++part) {
    const float2 other = __ldcg(
        reinterpret_cast<const float2*>(first + part * kColumns + 2 * lane));
    own->x = fmaxf(own->x, other.x);
    own->y = fmaxf(own->y, other.y);
  }
  if (lane == 0) pass.finished[candidate] = 0;  // for the next pass
  __syncwarp();
  return true;
}

template <int kRuns, int kTiles, bool kScaled>
__global__ __launch_bounds__(kThreads, 2) void StreamKernel(
    const __grid_constant__ DeviceTokens tokens,
    const __grid_constant__ MaxSimState state,
    const __grid_constant__ MaxSimPass pass) {
  extern __shared__ uint4 shared[];
  uint16_t* const columns = reinterpret_cast<uint16_t*>(shared);
  WaitForKernelBefore();
  LoadColumns<kTiles>(tokens, state, pass, columns);
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32;
  // A lane sums its two columns; the first of a tile's four adds that tile and
  // those of the same query behind it.
  const uint32_t tile = lane / 4;
  const bool has_tile = tile < pass.num_tiles;
  float factors[2] = {0, 0};
  if (has_tile) {
    const float* from =
        state.factors + pass.first_tile * kTokenColumns + 2 * lane;
    factors[0] = from[0];
    factors[1] = from[1];
  }
  const uint32_t begin = has_tile ? pass.score_begin[tile] : ~0u;
  const bool is_first = has_tile && pass.is_first[tile];
  const bool writes = lane % 4 == 0 && has_tile &&
                      (tile == 0 || pass.score_begin[tile - 1] != begin);
  const uint32_t num_warps = gridDim.x * kWarps;
  const uint32_t num_parts = pass.num_candidates * pass.num_parts;
  const auto part_at = [&](uint32_t number) {
    return number < num_parts ? PartAt(tokens, pass, number) : TokenPart();
  };
  uint32_t number = threadIdx.x / 32 * gridDim.x + blockIdx.x;
  uint32_t next = number + num_warps;
  TokenPart part = part_at(number);
  while (number < num_parts) {
    // What comes next and after that is on its way while this is compared.
    const TokenPart following = part_at(next);
    const uint32_t asked = lane == 0 ? atomicAdd(pass.next_part, 1) : 0;
    float2 own =
        ComparePart<kRuns, kTiles, kScaled>(tokens, columns, part, lane);
    if (pass.num_parts == 1 || IsLastPart<kTiles>(pass, number, lane, &own)) {
      float sum = own.x * factors[0] + own.y * factors[1];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      float total = 0;
#pragma unroll
      for (int other = 0; other < kTiles; ++other) {
        const float of_other = __shfl_sync(~0u, sum, 4 * other);
        const uint32_t begin_of_other = __shfl_sync(~0u, begin, 4 * other);
        if (other >= tile && begin_of_other == begin) total += of_other;
      }
      if (part.of_document == 0) total = -INFINITY;
      if (writes) {
        float* const score = state.scores + begin + part.candidate;
        *score = is_first ? total : *score + total;
      }
    }
    part = following;
    number = next;
    next = 2 * num_warps + __shfl_sync(~0u, asked, 0);
  }
}

template <int kTiles, bool kScaled>
cudaError_t Start(const DeviceTokens& tokens, const MaxSimState& state,
                  const MaxSimPass& pass, int num_processors,
                  cudaStream_t stream) {
  // Sums of eight tiles leave registers for half as many tokens.
  constexpr int kRuns = kTiles <= 4 ? 4 : 2;
  const auto kernel = StreamKernel<kRuns, kTiles, kScaled>;
  const uint32_t shared = SharedBytes(kTiles, tokens.padded_dim);
  uint32_t at_once = 0;
  const cudaError_t counted =
      BlocksAtOnce(kernel, kThreads, shared, num_processors, &at_once);
  if (counted != cudaSuccess) return counted;
  const uint32_t grid =
      std::min<uint32_t>(pass.num_candidates * pass.num_parts, at_once);
  return LaunchAfter(state.overlaps, kernel, grid, kThreads, shared, stream,
                     tokens, state, pass);
}

}  // namespace

uint32_t MostPassTiles(const DeviceTokens& tokens) {
  uint32_t most = kMostTiles;
  while (most > 1 && SharedBytes(most, tokens.padded_dim) > kMostShared) {
    most /= 2;
  }
  return most;
}

cudaError_t StreamMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                         const MaxSimPass& pass, int num_processors,
                         cudaStream_t stream) {
  if (pass.num_candidates == 0) return cudaSuccess;
  const auto start = [&]<int kTiles>() {
    return tokens.scales != nullptr
               ? Start<kTiles, true>(tokens, state, pass, num_processors,
                                     stream)
               : Start<kTiles, false>(tokens, state, pass, num_processors,
                                      stream);
  };
  switch (std::bit_ceil(pass.num_tiles)) {
    case 1:
      return start.template operator()<1>();
    case 2:
      return start.template operator()<2>();
    case 4:
      return start.template operator()<4>();
    default:
      return start.template operator()<8>();
  }
}

}  // namespace vicinal::gpu
