// Points against centroids on the tensor cores of compute capability 9.0: a
// block keeps 128 points while all tiles of 256 centroids pass, and its threads
// keep the best and the second-best score of each point in registers.
//
// The points' slices are read again for every tile of centroids: with them in
// shared memory for good (196 KiB at 768 dimensions) there would be no room for
// a ring.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/best_two.cuh"
#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/matrix_sm90.cuh"
#include "src/distance/gpu/tensor_maps.h"
#include "src/distance/gpu/train_kernels.h"

namespace vicinal::gpu {
namespace {

struct Work {
  uint32_t num_groups;  // of as many tiles of points as a cluster has blocks
  uint32_t num_tiles;   // of centroids
  uint32_t num_slices;  // whole ones
  bool half_slice;      // and one of 32 dimensions
  uint32_t num_points;
  uint32_t num_centroids;
  uint32_t score_bits;  // kScoreBits, which the compiler must not know
};

template <uint32_t kCluster>
__device__ void Copy(const CUtensorMap& point_map,
                     const CUtensorMap& centroid_map, const Work& work,
                     const Pipeline& at) {
  Ring ring;
  const uint32_t slices = work.num_slices + (work.half_slice ? 1 : 0);
  for (uint32_t group = at.cluster; group < work.num_groups;
       group += at.num_clusters) {
    const int point =
        static_cast<int>((group * kCluster + at.rank) * kQueryTile);
    for (uint32_t tile = 0; tile < work.num_tiles; ++tile) {
      for (uint32_t slice = 0; slice < slices; ++slice) {
        CopySlice<kCluster>(point_map, centroid_map, at.stages, at.full,
                            at.empty, at.rank,
                            static_cast<int>(slice * kSliceDims), point, 0,
                            static_cast<int>(tile * kStripes), &ring);
      }
    }
  }
}

// Offers the sums of a tile: those of two points in each thread.
__device__ inline void OfferAll(const float (&sums)[128],
                                const float2* __restrict__ biases,
                                const float (&scales)[2], uint32_t mask,
                                uint32_t tile, BestTwo (&found)[2]) {
  const float before[2] = {found[0].best, found[1].best};
#pragma unroll
  for (int j = 0; j < 32; ++j) {
    const float2 bias = __ldg(biases + 4 * j);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float a = fmaf(sums[4 * j + 2 * half], scales[half], bias.x);
      const float b = fmaf(sums[4 * j + 2 * half + 1], scales[half], bias.y);
      found[half].Offer(Tagged(a, 2 * j, mask), Tagged(b, 2 * j + 1, mask));
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (found[half].best != before[half]) found[half].tile = tile;
  }
}

// Merges what the four lanes of a point have found; the first one writes it.
__device__ inline void Write(const BestTwo& found, const PointState& state,
                             const Work& work, uint32_t point, uint32_t lane) {
  float best = found.best;
  float second = found.second;
  uint32_t centroid = found.tile * kTileRows + found.column(lane);
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
    const float other = __shfl_xor_sync(~0u, best, step);
    const float other_second = __shfl_xor_sync(~0u, second, step);
    const uint32_t other_centroid = __shfl_xor_sync(~0u, centroid, step);
    second = fmaxf(fmaxf(second, other_second), fminf(best, other));
    if (other > best || (other == best && other_centroid < centroid)) {
      centroid = other_centroid;
    }
    best = fmaxf(best, other);
  }
  if (lane % 4 != 0 || point >= work.num_points) return;
  // Where all scores are NaN, a gap is the best.
  state.nearest[point] = min(centroid, work.num_centroids - 1);
  state.best[point] = best;
  state.margin[point] = best - second;
}

template <uint32_t kCluster>
__device__ void Multiply(const PointState& state, const float* bias,
                         const Work& work, const Pipeline& at) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t first_point =
      threadIdx.x / 128 * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
  const float2* const biases = reinterpret_cast<const float2*>(bias) + lane % 4;
  Ring ring;
  float sums[128];
  for (uint32_t group = at.cluster; group < work.num_groups;
       group += at.num_clusters) {
    const uint32_t point =
        (group * kCluster + at.rank) * kQueryTile + first_point;
    const uint32_t points[2] = {point, point + 8};
    float scales[2] = {1, 1};
    BestTwo found[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (state.scale != nullptr && points[half] < work.num_points) {
        scales[half] = state.scale[points[half]];
      }
    }
    for (uint32_t tile = 0; tile < work.num_tiles; ++tile) {
      uint32_t before = kStages;  // the stage that is read but not released
      for (uint32_t slice = 0; slice < work.num_slices; ++slice) {
        MultiplySlice<kCluster, kSteps>(at.stages, at.full, at.empty, slice > 0,
                                        lane, &ring, &before, sums);
      }
      if (work.half_slice) {
        MultiplySlice<kCluster, kSteps / 2>(at.stages, at.full, at.empty,
                                            work.num_slices > 0, lane, &ring,
                                            &before, sums);
      }
      ProductWait<0>();
      KeepBelow(sums);
      Release<kCluster>(&at.empty[before], lane);
      OfferAll(sums, biases + tile * (kTileRows / 2), scales, work.score_bits,
               tile, found);
      __syncwarp();  // products are of whole warps
    }
    Write(found[0], state, work, points[0], lane);
    Write(found[1], state, work, points[1], lane);
  }
}

template <uint32_t kCluster>
__global__ __cluster_dims__(kCluster, 1, 1)
    __launch_bounds__(kMatrixThreads, 1) void AssignKernel(
        const __grid_constant__ CUtensorMap point_map,
        const __grid_constant__ CUtensorMap centroid_map,
        const PointState state, const float* bias, const Work work) {
  RunPipeline<kCluster>(
      [&](const Pipeline& at) {
        Copy<kCluster>(point_map, centroid_map, work, at);
      },
      [&](const Pipeline& at) { Multiply<kCluster>(state, bias, work, at); });
}

template <uint32_t kCluster>
cudaError_t Start(const TensorMaps& maps, const DeviceCentroids& centroids,
                  const PointState& state, uint32_t num_points,
                  int num_processors, cudaStream_t stream) {
  const uint32_t num_point_tiles = (num_points + kQueryTile - 1) / kQueryTile;
  Work work;
  work.num_groups = (num_point_tiles + kCluster - 1) / kCluster;
  work.num_tiles = centroids.num_tiles();
  work.num_slices = centroids.padded_dim / kSliceDims;
  work.half_slice = centroids.padded_dim % kSliceDims != 0;
  work.num_points = num_points;
  work.num_centroids = centroids.num;
  work.score_bits = kScoreBits;
  const cudaError_t sized = cudaFuncSetAttribute(
      AssignKernel<kCluster>, cudaFuncAttributeMaxDynamicSharedMemorySize,
      kMatrixSharedBytes);
  if (sized != cudaSuccess) return sized;
  const uint32_t grid =
      std::min<uint32_t>(num_processors / kCluster, work.num_groups) * kCluster;
  AssignKernel<kCluster><<<grid, kMatrixThreads, kMatrixSharedBytes, stream>>>(
      maps.queries, maps.rows, state, centroids.bias, work);
  return cudaGetLastError();
}

}  // namespace

cudaError_t AssignTiles(const TensorMaps& maps,
                        const DeviceCentroids& centroids,
                        const PointState& state, uint32_t num_points,
                        int num_processors, cudaStream_t stream) {
  return maps.cluster == 1 ? Start<1>(maps, centroids, state, num_points,
                                      num_processors, stream)
                           : Start<2>(maps, centroids, state, num_points,
                                      num_processors, stream);
}

}  // namespace vicinal::gpu
