// What the kernels share that compare rows exactly and bring them into order.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/select.cuh"

namespace vicinal::gpu {

// Blocks enough for any device.
inline constexpr uint32_t kManyBlocks = 4096;

template <Metric kMetric, class Element, class Query>
__device__ double NormOfQuery(const Query* query, uint32_t dim, uint32_t lane) {
  if constexpr (kMetric != Metric::kCosine) return 0;
  return CanonicalNorm2<Element>(query, dim, lane);
}

// Writes the k first of n sorted neighbours, but for `exclude`.
__device__ inline void WriteNearest(const Neighbor* neighbors, uint32_t n,
                                    uint32_t k, uint32_t exclude,
                                    Neighbor* out) {
  // Where it is, or n.
  __shared__ uint32_t position;
  if (threadIdx.x == 0) position = n;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < min(n, k); i += blockDim.x) {
    if (neighbors[i].row == exclude && exclude != kInvalidRow) position = i;
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < k; i += blockDim.x) {
    const uint32_t at = i < position ? i : i + 1;
    out[i] = at < n ? neighbors[at] : Neighbor{INFINITY, kInvalidRow};
  }
}

// Calls call.template operator()<element>() for that of the rows.
template <class Call>
cudaError_t ForType(const DeviceRows& rows, const Call& call) {
  switch (rows.type) {
    case ElementType::kFloat32:
      return call.template operator()<float>();
    case ElementType::kFloat16:
      return call.template operator()<__half>();
    case ElementType::kInt8:
      return call.template operator()<int8_t>();
    case ElementType::kUint8:
      return call.template operator()<uint8_t>();
    case ElementType::kBfloat16:
      break;  // of multi-vectors only
  }
  return cudaErrorInvalidValue;
}

// Calls call.template operator()<metric, element>() for those of the rows.
template <class Call>
cudaError_t ForRows(const DeviceRows& rows, const Call& call) {
  return ForType(rows, [&]<class Element>() {
    switch (rows.metric) {
      case Metric::kL2:
        return call.template operator()<Metric::kL2, Element>();
      case Metric::kInnerProduct:
        return call.template operator()<Metric::kInnerProduct, Element>();
      case Metric::kCosine:
        return call.template operator()<Metric::kCosine, Element>();
    }
    return cudaErrorInvalidValue;
  });
}

}  // namespace vicinal::gpu
