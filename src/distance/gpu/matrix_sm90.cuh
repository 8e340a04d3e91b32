// What the kernels share that multiply tiles of 128 vectors with tiles of 256
// on the tensor cores of compute capability 9.0: a ring of slices in shared
// memory, filled by one warp and multiplied by two warpgroups. Blocks may come
// in pairs that share the slices of the 256.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {

inline constexpr int kSliceDims = 64;
inline constexpr int kSteps = kSliceDims / 16;  // products of a slice
inline constexpr int kStages = 4;
inline constexpr uint32_t kQueryBytes = kQueryTile * kSliceDims * 2;
inline constexpr uint32_t kRowBytes = kTileRows * kSliceDims * 2;
inline constexpr uint32_t kStageBytes = kQueryBytes + kRowBytes;
inline constexpr uint32_t kMatrixSharedBytes = kStages * kStageBytes + 1024;
inline constexpr uint32_t kConsumerWarps = 8;
inline constexpr uint32_t kMatrixThreads = 384;

// Where a role is in the ring.
struct Ring {
  uint32_t stage = 0;
  uint32_t parity = 0;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Copies a slice from `dim` on of 128 vectors from `query` on and of 256, the
// tile at (run, stripe), once there is room for it. Each block of a cluster
// brings its part of the 256 to all.
template <uint32_t kCluster>
__device__ inline void CopySlice(const CUtensorMap& query_map,
                                 const CUtensorMap& row_map, uint8_t* stages,
                                 uint64_t* full, uint64_t* empty, uint32_t rank,
                                 int dim, int query, int run, int stripe,
                                 Ring* ring) {
  BarrierWait(&empty[ring->stage], ring->parity ^ 1);
  uint8_t* const stage = stages + ring->stage * kStageBytes;
  BarrierExpect(&full[ring->stage], kStageBytes);
  CopyTile2(stage, &query_map, &full[ring->stage], dim, query);
  if constexpr (kCluster == 1) {
    CopyTile3(stage + kQueryBytes, &row_map, &full[ring->stage], dim, run,
              stripe);
  } else {
    CopyTile3To(stage + kQueryBytes + rank * (kRowBytes / kCluster), &row_map,
                &full[ring->stage], dim, run,
                stripe + static_cast<int>(rank * (kStripes / kCluster)),
                (1 << kCluster) - 1);
  }
  ring->Next();
}

template <uint32_t kCluster>
__device__ inline void Release(uint64_t* empty, uint32_t lane) {
  if constexpr (kCluster == 1) {
    if (lane == 0) BarrierArrive(empty);
  } else {
    if (lane < kCluster) BarrierArriveAt(empty, lane);
  }
}

// Adds the products of the next slice, once it is there, to the sums, and gives
// the one before back.
template <uint32_t kCluster, int kNumSteps>
__device__ inline void MultiplySlice(const uint8_t* stages, uint64_t* full,
                                     uint64_t* empty, bool add, uint32_t lane,
                                     Ring* ring, uint32_t* before,
                                     float (&sums)[128]) {
  BarrierWait(&full[ring->stage], ring->parity);
  const uint8_t* const stage = stages + ring->stage * kStageBytes;
  const uint64_t a =
      TileDescriptor(stage + threadIdx.x / 128 * (kQueryBytes / 2));
  const uint64_t b = TileDescriptor(stage + kQueryBytes);
  ProductFence();
#pragma unroll
  for (int step = 0; step < kNumSteps; ++step) {
    Product(sums, a + step * kDescriptorStep, b + step * kDescriptorStep,
            add || step > 0);
  }
  ProductCommit();
  ProductWait<1>();
  if (*before != kStages) Release<kCluster>(&empty[*before], lane);
  *before = ring->stage;
  ring->Next();
}

// What the roles of a block know.
struct Pipeline {
  uint8_t* stages;
  uint64_t* full;
  uint64_t* empty;
  uint32_t cluster;
  uint32_t num_clusters;
  uint32_t rank;  // of the block in its cluster
};

// The body of such a kernel: one thread copies all slices, and two warpgroups
// multiply them, in the same order. kMatrixThreads threads with
// kMatrixSharedBytes, one block a processor.
template <uint32_t kCluster, class CopyAll, class MultiplyAll>
__device__ inline void RunPipeline(const CopyAll& copy,
                                   const MultiplyAll& multiply) {
  extern __shared__ uint8_t room[];
  __shared__ uint64_t full[kStages];
  __shared__ uint64_t empty[kStages];
  uint8_t* const stages = room + (1024 - SharedAddress(room) % 1024) % 1024;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      BarrierInit(&full[i], 1);
      BarrierInit(&empty[i], kConsumerWarps * kCluster);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if constexpr (kCluster > 1) ClusterSync();
  const Pipeline at = {stages,
                       full,
                       empty,
                       blockIdx.x / kCluster,
                       gridDim.x / kCluster,
                       blockIdx.x % kCluster};
  if (threadIdx.x >= kConsumerWarps * 32) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == kConsumerWarps * 32) copy(at);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    multiply(at);
  }
  // A block that is gone cannot be told that its slices were read.
  if constexpr (kCluster > 1) {
    __syncwarp();
    ClusterSync();
  }
}

}  // namespace vicinal::gpu
