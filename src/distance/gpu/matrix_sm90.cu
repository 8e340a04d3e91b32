// Queries against rows as a matrix product on the tensor cores of compute
// capability 9.0 whose sums never leave the registers: each is compared with
// its query's floor, and only what is above it is written.
//
// A block keeps going through tiles of 128 queries x 256 rows: one warp copies
// slices of 64 dimensions into a ring of shared memory, two warpgroups multiply
// 64 queries x 256 rows each, and while one of them looks at its sums the other
// has the tensor cores. Blocks come in pairs that share the rows' slices.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/append.cuh"
#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/matrix_sm90.cuh"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/tensor_maps.h"

namespace vicinal::gpu {
namespace {

struct Work {
  uint32_t num_query_groups;  // of as many tiles as a cluster has blocks
  uint32_t num_items;
  uint32_t tiles_per_item;
  Round round;
  uint32_t num_slices;  // whole ones
  bool half_slice;      // and one of 32 dimensions
};

template <uint32_t kCluster>
__device__ void Copy(const CUtensorMap& query_map, const CUtensorMap& row_map,
                     const Work& work, uint8_t* stages, uint64_t* full,
                     uint64_t* empty, uint32_t cluster, uint32_t num_clusters,
                     uint32_t rank) {
  Ring ring;
  const uint32_t slices = work.num_slices + (work.half_slice ? 1 : 0);
  for (uint32_t item = cluster; item < work.num_items; item += num_clusters) {
    const uint32_t group = item % work.num_query_groups;
    const uint32_t chunk = item / work.num_query_groups;
    const uint32_t first = chunk * work.tiles_per_item;
    const uint32_t last =
        min(first + work.tiles_per_item, work.round.num_tiles);
    const int query = static_cast<int>((group * kCluster + rank) * kQueryTile);
    for (uint32_t number = first; number < last; ++number) {
      const int tile = static_cast<int>(TileAt(work.round, number));
      for (uint32_t slice = 0; slice < slices; ++slice) {
        CopySlice<kCluster>(query_map, row_map, stages, full, empty, rank,
                            static_cast<int>(slice * kSliceDims), query,
                            tile * static_cast<int>(kStripeRun), 0, &ring);
      }
    }
  }
}

// Looks through the sums of one warp: those of two queries in each thread.
template <bool kStoreAll>
__device__ void LookAt(const float (&sums)[128], const DeviceRows& rows,
                       const QueryState& state, const uint64_t* accepted,
                       const uint32_t (&queries)[2], const float (&floors)[2],
                       uint32_t tile, uint32_t number, uint32_t lane) {
  const uint32_t column = 2 * (lane % 4);
  if constexpr (kStoreAll) {
#pragma unroll
    for (int i = 0; i < 128; ++i) {
      const uint32_t query = queries[i / 2 % 2];
      if (query >= state.num_queries) continue;
      const uint32_t stripe = i / 4;
      const uint32_t run = column + i % 2;
      StoreCandidate(rows, state, accepted, query, sums[i],
                     number * kTileRows + stripe * kStripeRun + run,
                     stripe * rows.stripe_rows + tile * kStripeRun + run);
    }
  } else {
    // The largest of each eight sums of a query.
    float largest[16];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int group = 0; group < 8; ++group) {
        const int at = 16 * group + 2 * half;
        const float a = fmaxf(sums[at], sums[at + 1]);
        const float b = fmaxf(sums[at + 4], sums[at + 5]);
        const float c = fmaxf(sums[at + 8], sums[at + 9]);
        const float d = fmaxf(sums[at + 12], sums[at + 13]);
        largest[half * 8 + group] = fmaxf(fmaxf(a, b), fmaxf(c, d));
      }
    }
    bool any = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = largest[half * 8];
#pragma unroll
      for (int group = 1; group < 8; ++group) {
        most = fmaxf(most, largest[half * 8 + group]);
      }
      any |= most > floors[half];
    }
    if (!any) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int group = 0; group < 8; ++group) {
        if (!(largest[half * 8 + group] > floors[half])) continue;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int at = 16 * group + 4 * (i / 2) + 2 * half + i % 2;
          if (sums[at] > floors[half]) {
            AppendCandidate(rows, state, accepted, queries[half], sums[at],
                            (at / 4) * rows.stripe_rows + tile * kStripeRun +
                                column + i % 2);
          }
        }
      }
    }
  }
}

template <uint32_t kCluster, bool kStoreAll>
__device__ void Multiply(const DeviceRows& rows, const QueryState& state,
                         const uint64_t* accepted, const Work& work,
                         const uint8_t* stages, uint64_t* full, uint64_t* empty,
                         uint32_t cluster, uint32_t num_clusters,
                         uint32_t rank) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t first_query =
      threadIdx.x / 128 * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
  Ring ring;
  float sums[128];
  for (uint32_t item = cluster; item < work.num_items; item += num_clusters) {
    const uint32_t group = item % work.num_query_groups;
    const uint32_t chunk = item / work.num_query_groups;
    const uint32_t first = chunk * work.tiles_per_item;
    const uint32_t last =
        min(first + work.tiles_per_item, work.round.num_tiles);
    const uint32_t query = (group * kCluster + rank) * kQueryTile + first_query;
    const uint32_t queries[2] = {query, query + 8};
    float floors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      floors[half] = queries[half] < state.num_queries
                         ? state.floor[queries[half]]
                         : INFINITY;
    }
    for (uint32_t number = first; number < last; ++number) {
      uint32_t before = kStages;  // the stage that is read but not released
      for (uint32_t slice = 0; slice < work.num_slices; ++slice) {
        MultiplySlice<kCluster, kSteps>(stages, full, empty, slice > 0, lane,
                                        &ring, &before, sums);
      }
      if (work.half_slice) {
        MultiplySlice<kCluster, kSteps / 2>(stages, full, empty,
                                            work.num_slices > 0, lane, &ring,
                                            &before, sums);
      }
      ProductWait<0>();
      KeepBelow(sums);
      Release<kCluster>(&empty[before], lane);
      LookAt<kStoreAll>(sums, rows, state, accepted, queries, floors,
                        TileAt(work.round, number), number, lane);
      __syncwarp();  // products are of whole warps
    }
  }
}

template <uint32_t kCluster, bool kStoreAll>
__global__ __cluster_dims__(kCluster, 1, 1)
    __launch_bounds__(kMatrixThreads, 1) void MatrixKernel(
        const __grid_constant__ CUtensorMap query_map,
        const __grid_constant__ CUtensorMap row_map, const DeviceRows rows,
        const QueryState state, const uint64_t* accepted, const Work work) {
  RunPipeline<kCluster>(
      [&](const Pipeline& at) {
        Copy<kCluster>(query_map, row_map, work, at.stages, at.full, at.empty,
                       at.cluster, at.num_clusters, at.rank);
      },
      [&](const Pipeline& at) {
        Multiply<kCluster, kStoreAll>(rows, state, accepted, work, at.stages,
                                      at.full, at.empty, at.cluster,
                                      at.num_clusters, at.rank);
      });
}

template <uint32_t kCluster, bool kStoreAll>
cudaError_t Start(const TensorMaps& maps, const DeviceRows& rows,
                  const QueryState& state, const Round& round,
                  const uint64_t* accepted, int num_processors,
                  cudaStream_t stream) {
  const uint32_t num_query_tiles =
      (state.num_queries + kQueryTile - 1) / kQueryTile;
  const uint32_t num_tiles = round.num_tiles;
  Work work;
  work.num_query_groups = (num_query_tiles + kCluster - 1) / kCluster;
  // Items of 16 tiles, or fewer so that each block gets eight of them.
  const uint32_t num_clusters = num_processors / kCluster;
  work.tiles_per_item = std::clamp<uint32_t>(
      num_tiles * work.num_query_groups / (num_clusters * 8), 1, 16);
  work.num_items = (num_tiles + work.tiles_per_item - 1) / work.tiles_per_item *
                   work.num_query_groups;
  work.round = round;
  work.num_slices = rows.padded_dim / kSliceDims;
  work.half_slice = rows.padded_dim % kSliceDims != 0;
  const cudaError_t sized = cudaFuncSetAttribute(
      MatrixKernel<kCluster, kStoreAll>,
      cudaFuncAttributeMaxDynamicSharedMemorySize, kMatrixSharedBytes);
  if (sized != cudaSuccess) return sized;
  const uint32_t grid =
      std::min<uint32_t>(num_clusters, work.num_items) * kCluster;
  MatrixKernel<kCluster, kStoreAll>
      <<<grid, kMatrixThreads, kMatrixSharedBytes, stream>>>(
          maps.queries, maps.rows, rows, state, accepted, work);
  return cudaGetLastError();
}

}  // namespace

cudaError_t MatrixTiles(const TensorMaps& maps, const DeviceRows& rows,
                        const QueryState& state, const Round& round,
                        bool store_all, const uint64_t* accepted,
                        int num_processors, cudaStream_t stream) {
  if (round.num_tiles == 0) return cudaSuccess;
  const auto start = [&]<uint32_t kCluster>() {
    return store_all ? Start<kCluster, true>(maps, rows, state, round, accepted,
                                             num_processors, stream)
                     : Start<kCluster, false>(maps, rows, state, round,
                                              accepted, num_processors, stream);
  };
  return maps.cluster == 1 ? start.template operator()<1>()
                           : start.template operator()<2>();
}

}  // namespace vicinal::gpu
