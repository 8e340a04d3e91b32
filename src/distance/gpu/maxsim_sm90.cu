// Scores of documents of token vectors on compute capability 9.0.
//
// A block is some pairs of a thread that copies (maxsim_ring.cuh) and a
// warpgroup that multiplies (maxsim_compare.cuh), which share the queries'
// columns and nothing else.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/maxsim_compare.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_ring.cuh"
#include "src/distance/gpu/maxsim_scores.cuh"
#include "src/distance/gpu/overlap.cuh"

namespace vicinal::gpu {
namespace maxsim {
namespace {

template <class C>
__global__ __launch_bounds__(C::kThreads, 1) void HopperKernel(
    const __grid_constant__ DeviceTokens tokens,
    const __grid_constant__ MaxSimState state,
    const __grid_constant__ MaxSimPass pass,
    const __grid_constant__ CUtensorMap map, uint32_t row_bytes,
    uint32_t column_bytes, uint32_t num_stages) {
  extern __shared__ uint4 dynamic_shared[];
  uint8_t* room = reinterpret_cast<uint8_t*>(dynamic_shared);
  room += (1024 - SharedAddress(room) % 1024) % 1024;
  const Places places = PlacesOf<C>(row_bytes, column_bytes, num_stages);
  auto* const full = reinterpret_cast<uint64_t*>(room + places.full);
  auto* const empty = reinterpret_cast<uint64_t*>(room + places.empty);
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < C::kPairs * num_stages; ++i) {
      BarrierInit(&full[i], 1);
      BarrierInit(&empty[i], 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  const uint32_t warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
  const bool copies = warp >= 4 * C::kPairs;
  const uint32_t pair = copies ? warp % 4 : warp / 4;
  const uint32_t first = pair * num_stages;
  const Ring ring = {
      room + places.ring + first * StageBytes<C>(row_bytes),
      reinterpret_cast<float*>(room + places.scales) + first * kFloatRoom,
      reinterpret_cast<uint32_t*>(room + places.centroids) + first * kFloatRoom,
      reinterpret_cast<Note*>(room + places.notes) + first,
      full + first,
      empty + first,
      num_stages};
  if (copies) {
    if constexpr (C::kPairs == 2) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    }
    if (pair < C::kPairs && threadIdx.x % 32 == 0) {
      CopyParts<C>(tokens, pass, &map, row_bytes, pair, ring);
    }
  } else {
    if constexpr (C::kPairs == 2) {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    }
    auto* const factors = reinterpret_cast<float*>(room + places.factors);
    auto* const shifts = reinterpret_cast<int32_t*>(room + places.shifts);
    auto* const table = reinterpret_cast<float*>(room + places.table);
    WaitForKernelBefore();
    const ColumnScale scale = LoadScale<C>(state, pass);
    LoadColumns<C>(state, pass, column_bytes, room);
    if (threadIdx.x < C::kColumns) {
      factors[threadIdx.x] = scale.factor;
      shifts[threadIdx.x] = scale.shift;
    }
    if constexpr (C::kCentroids) LoadTable<C>(state, pass, table);
    asm volatile("bar.sync %0, %1;" ::"n"(C::kPairs + 1), "n"(C::kConsumers)
                 : "memory");
    const Shared shared = {
        reinterpret_cast<float*>(room + places.maxima) + pair * 4 * C::kColumns,
        reinterpret_cast<float*>(room + places.best) + pair * C::kColumns,
        reinterpret_cast<float*>(room + places.tile_sums) +
            pair * kMaxPassTiles,
        reinterpret_cast<uint32_t*>(room + places.is_last) + pair,
        factors,
        shifts,
        table};
    CompareParts<C>(tokens, state, pass, room, row_bytes, column_bytes, pair,
                    threadIdx.x % kGroupThreads, shared, ring);
  }
}

// 0: they do not fit.
template <class C>
uint32_t StagesFor(uint32_t row_bytes, uint32_t column_bytes) {
  uint32_t stages = kMostStages;
  while (stages >= kFewestStages &&
         PlacesOf<C>(row_bytes, column_bytes, stages).size + 1024 >
             kSharedBytes) {
    --stages;
  }
  return stages < kFewestStages ? 0 : stages;
}

// Calls call.template operator()<C>() for the configuration of so many tiles of
// columns. Pairs of such narrow rows as codes are have less to wait for, and of
// wide ones there is not room for as many.
template <int kBits, bool kScaled, bool kCentroids, class Call>
auto ForWidth(uint32_t row_bytes, uint32_t num_tiles, const Call& call) {
  const auto with = [&]<int kN, int kGroups, int kPairs>() {
    return call.template
    operator()<Config<kBits, kScaled, kCentroids, kN, kGroups, kPairs>>();
  };
  constexpr int kMany = kBits == 0 ? 2 : 4;
  const bool wide = row_bytes > kMostNarrowBytes;
  if (num_tiles <= 4) {
    return wide ? with.template operator()<32, 1, 2>()
                : with.template operator()<32, 1, kMany>();
  }
  // Of centroids a table of more columns would take too much room.
  if (num_tiles <= 8 || kCentroids) {
    return wide ? with.template operator()<64, 1, 2>()
                : with.template operator()<64, 1, kMany>();
  }
  if constexpr (!kCentroids) {
    if (num_tiles > 16) return with.template operator()<128, 2, 2>();
  }
  return with.template operator()<kCentroids ? 64 : 128, 1, 2>();
}

template <class Call>
auto ForKind(const DeviceTokens& tokens, uint32_t num_tiles, const Call& call) {
  const uint32_t row_bytes = tokens.row_bytes();
  switch (tokens.code_bits) {
    case 8:
      return ForWidth<8, true, false>(row_bytes, num_tiles, call);
    case 4:
      return ForWidth<4, true, false>(row_bytes, num_tiles, call);
    case 2:
      return ForWidth<2, true, true>(row_bytes, num_tiles, call);
    case 1:
      return ForWidth<1, true, false>(row_bytes, num_tiles, call);
    default:
      return tokens.scales != nullptr
                 ? ForWidth<0, true, false>(row_bytes, num_tiles, call)
                 : ForWidth<0, false, false>(row_bytes, num_tiles, call);
  }
}

}  // namespace
}  // namespace maxsim

uint32_t MostHopperTiles(const DeviceTokens& tokens) {
  if (tokens.row_bytes() > maxsim::kMostRowBytes ||
      tokens.column_bytes() > maxsim::kMostColumnBytes) {
    return 0;
  }
  uint32_t most = tokens.code_bits == 2 ? 8 : kMaxPassTiles;
  for (; most >= 4; most /= 2) {
    const uint32_t stages = maxsim::ForKind(tokens, most, [&]<class C>() {
      return maxsim::StagesFor<C>(tokens.row_bytes(), tokens.column_bytes());
    });
    if (stages > 0) return most;
  }
  return 0;
}

cudaError_t AllowHopper(const DeviceTokens& tokens) {
  for (uint32_t tiles = 4; tiles <= kMaxPassTiles; tiles *= 2) {
    const cudaError_t allowed = maxsim::ForKind(tokens, tiles, [&]<class C>() {
      return AllowShared(maxsim::HopperKernel<C>, maxsim::kSharedBytes);
    });
    if (allowed != cudaSuccess) return allowed;
  }
  return cudaSuccess;
}

cudaError_t StreamOnHopper(const DeviceTokens& tokens, const MaxSimState& state,
                           const MaxSimPass& pass, int num_processors,
                           cudaStream_t stream) {
  if (pass.num_candidates == 0) return cudaSuccess;
  return maxsim::ForKind(tokens, pass.num_tiles, [&]<class C>() {
    const uint32_t row_bytes = tokens.row_bytes();
    const uint32_t column_bytes = tokens.column_bytes();
    const uint32_t stages = maxsim::StagesFor<C>(row_bytes, column_bytes);
    const uint32_t size =
        maxsim::PlacesOf<C>(row_bytes, column_bytes, stages).size + 1024;
    const auto kernel = maxsim::HopperKernel<C>;
    const uint32_t grid = std::min<uint32_t>(
        pass.num_candidates * pass.num_parts, num_processors);
    return LaunchAfter(state.overlaps, kernel, grid, C::kThreads, size, stream,
                       tokens, state, pass, *state.map, row_bytes, column_bytes,
                       stages);
  });
}

}  // namespace vicinal::gpu
