// Up to eight queries against rows: every row is read once, straight into the
// operands of tensor-core products, so that the time is that of the bytes.
//
// A warp takes two or four runs of eight rows at a time. Lane 4 r + c reads
// 32 bytes of row r: of 64 dimensions those from 16 c on, so that each load
// of a warp touches whole lines (it is lines that a processor can wait for only
// so many of). A product's operand wants other dimensions in that lane, but
// which dimension is which does not matter to a sum as long as queries are read
// in the same way.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "src/distance/gpu/append.cuh"
#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/overlap.cuh"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;

__device__ inline void Multiply(float (&sums)[4], uint32_t a0, uint32_t a1,
                                uint32_t a2, uint32_t a3, uint32_t b0,
                                uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ inline uint4 Load(const uint16_t* from) {
  return __ldg(reinterpret_cast<const uint4*>(from));
}

template <int kRuns, bool kStoreAll>
__global__ __launch_bounds__(kThreads) void StreamKernel(
    const DeviceRows rows, const QueryState state, uint32_t first_query,
    const Round round, const uint64_t* accepted) {
  WaitForKernelBefore();
  constexpr uint32_t kUnitsPerTile = kStripes / kRuns;
  constexpr int kPairs = kRuns / 2;
  // Slices of 64 dimensions that are loaded before the first is used.
  constexpr int kAhead = 8 / kRuns;
  extern __shared__ uint16_t queries[];
  const uint32_t dim = rows.padded_dim;
  const uint32_t pitch = dim + 8;  // lanes then use all banks
  const uint32_t num_queries =
      min(kStreamQueries, state.num_queries - first_query);
  for (uint32_t i = threadIdx.x; i < kStreamQueries * dim / 8; i += kThreads) {
    const uint32_t query = i / (dim / 8);
    const uint32_t at = i % (dim / 8) * 8;
    *reinterpret_cast<uint4*>(queries + query * pitch + at) =
        query < num_queries
            ? *reinterpret_cast<const uint4*>(
                  state.bf16 + size_t{first_query + query} * dim + at)
            : uint4{0, 0, 0, 0};
  }
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t row_of_run = lane / 4;
  const uint32_t column = lane % 4;
  float floors[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    floors[i] = 2 * column + i < num_queries
                    ? state.floor[first_query + 2 * column + i]
                    : INFINITY;
  }
  const uint16_t* const own_query = queries + row_of_run * pitch;
  const uint32_t num_units = round.num_tiles * kUnitsPerTile;
  for (uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32; unit < num_units;
       unit += gridDim.x * kWarps) {
    const uint32_t number = unit / kUnitsPerTile;  // of the tile
    const uint32_t stripe = unit % kUnitsPerTile * kRuns;
    const uint32_t row = TileAt(round, number) * kStripeRun + row_of_run;
    const uint16_t* from[kRuns];
#pragma unroll
    for (int run = 0; run < kRuns; ++run) {
      from[run] =
          rows.bf16 + (size_t{stripe + run} * rows.stripe_rows + row) * dim;
    }
    float sums[kPairs][4] = {};
    // kCount pieces of 8 dimensions for each lane, two of a slice side by side.
    const auto pieces = [&](uint32_t first, auto count) {
      constexpr int kCount = decltype(count)::value;
      uint4 values[kCount][kRuns];
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
#pragma unroll
        for (int run = 0; run < kRuns; ++run) {
          values[i][run] = Load(from[run] + first + i / 2 * 64 + i % 2 * 8);
        }
      }
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const uint4 query = *reinterpret_cast<const uint4*>(
            own_query + first + i / 2 * 64 + i % 2 * 8);
#pragma unroll
        for (int pair = 0; pair < kPairs; ++pair) {
          const uint4& a = values[i][2 * pair];
          const uint4& b = values[i][2 * pair + 1];
          Multiply(sums[pair], a.x, b.x, a.y, b.y, query.x, query.y);
          Multiply(sums[pair], a.z, b.z, a.w, b.w, query.z, query.w);
        }
      }
    };
    uint32_t slice = 0;
    for (; slice + kAhead * 64 <= dim; slice += kAhead * 64) {
      pieces(slice + column * 16, std::integral_constant<int, 2 * kAhead>());
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
      for (int i = 0; i < 4; ++i) {
        const uint32_t query = first_query + 2 * column + i % 2;
        if (query >= state.num_queries) continue;
        const uint32_t at_stripe = stripe + 2 * pair + i / 2;
        const float score = sums[pair][i];
        if constexpr (kStoreAll) {
          StoreCandidate(
              rows, state, accepted, query, score,
              number * kTileRows + at_stripe * kStripeRun + row_of_run,
              at_stripe * rows.stripe_rows + row);
        } else if (score > floors[i % 2]) {
          AppendCandidate(rows, state, accepted, query, score,
                          at_stripe * rows.stripe_rows + row);
        }
      }
    }
    __syncwarp();  // products are of whole warps
  }
}

template <int kRuns, bool kStoreAll>
cudaError_t Start(const DeviceRows& rows, const QueryState& state,
                  const Round& round, const uint64_t* accepted,
                  int num_processors, cudaStream_t stream) {
  const auto kernel = StreamKernel<kRuns, kStoreAll>;
  const uint32_t shared = kStreamQueries * (rows.padded_dim + 8) * 2;
  uint32_t at_once = 0;
  const cudaError_t counted =
      BlocksAtOnce(kernel, kThreads, shared, num_processors, &at_once);
  if (counted != cudaSuccess) return counted;
  const uint32_t num_units = round.num_tiles * kStripes / kRuns;
  const uint32_t grid =
      std::clamp<uint32_t>((num_units + kWarps - 1) / kWarps, 1, at_once);
  for (uint32_t first = 0; first < state.num_queries; first += kStreamQueries) {
    const cudaError_t started =
        LaunchAfter(state.overlaps, kernel, grid, kThreads, shared, stream,
                    rows, state, first, round, accepted);
    if (started != cudaSuccess) return started;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t StreamTiles(const DeviceRows& rows, const QueryState& state,
                        const Round& round, bool store_all,
                        const uint64_t* accepted, int num_processors,
                        cudaStream_t stream) {
  if (round.num_tiles == 0) return cudaSuccess;
  // Few tiles are spread over more warps.
  return store_all ? Start<2, true>(rows, state, round, accepted,
                                    num_processors, stream)
                   : Start<4, false>(rows, state, round, accepted,
                                     num_processors, stream);
}

}  // namespace vicinal::gpu
