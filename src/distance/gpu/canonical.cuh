// Distances in the canonical order (src/distance/distance.h) by one warp: lane
// j holds the partial sums j and j + 32, and halving is a shuffle. The same
// bits as src/distance/kernels_scalar.cc.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "src/base/types.h"

namespace vicinal::gpu {

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__half value) { return __half2float(value); }

__device__ inline float HalvingTree(float low, float high) {
  float sum = __fadd_rn(low, high);
  for (int half = 16; half > 0; half /= 2) {
    sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, half));
  }
  return sum;
}

__device__ inline float OrderedDistance(float distance) {
  return distance < INFINITY ? distance : INFINITY;
}

__device__ inline float CosineOf(double ip, double query_norm2,
                                 double row_norm2) {
  const double norms2 = __dmul_rn(query_norm2, row_norm2);
  if (norms2 == 0) return 1;
  return OrderedDistance(
      __double2float_rn(__dsub_rn(1.0, __ddiv_rn(ip, __dsqrt_rn(norms2)))));
}

// <a, b> of two vectors, by all lanes of a warp.
template <class A, class B>
__device__ float CanonicalProduct(const A* a, const B* b, uint32_t dim,
                                  uint32_t lane) {
  float low = 0;
  float high = 0;
#pragma unroll 4
  for (uint32_t i = lane; i < dim; i += 64) {
    low = __fmaf_rn(ToFloat(a[i]), ToFloat(b[i]), low);
    if (i + 32 < dim) {
      high = __fmaf_rn(ToFloat(a[i + 32]), ToFloat(b[i + 32]), high);
    }
  }
  return HalvingTree(low, high);
}

// The distance of a query to a row. query_norm2 is its canonical
// squared norm, of use under the cosine.
template <Metric kMetric, class Query, class Element>
__device__ float CanonicalDistance(const Query* query, float query_norm2,
                                   const Element* row, uint32_t dim,
                                   uint32_t lane) {
  float low = 0;
  float high = 0;
  float norm_low = 0;
  float norm_high = 0;
#pragma unroll 4
  for (uint32_t i = lane; i < dim; i += 64) {
    const float x = ToFloat(row[i]);
    const float y = i + 32 < dim ? ToFloat(row[i + 32]) : 0.0f;
    if constexpr (kMetric == Metric::kL2) {
      const float difference = __fsub_rn(ToFloat(query[i]), x);
      low = __fmaf_rn(difference, difference, low);
      if (i + 32 < dim) {
        const float other = __fsub_rn(ToFloat(query[i + 32]), y);
        high = __fmaf_rn(other, other, high);
      }
    } else {
      low = __fmaf_rn(ToFloat(query[i]), x, low);
      if (i + 32 < dim) high = __fmaf_rn(ToFloat(query[i + 32]), y, high);
      if constexpr (kMetric == Metric::kCosine) {
        norm_low = __fmaf_rn(x, x, norm_low);
        if (i + 32 < dim) norm_high = __fmaf_rn(y, y, norm_high);
      }
    }
  }
  const float sum = HalvingTree(low, high);
  if constexpr (kMetric == Metric::kL2) return OrderedDistance(sum);
  if constexpr (kMetric == Metric::kInnerProduct) return OrderedDistance(-sum);
  return CosineOf(sum, query_norm2, HalvingTree(norm_low, norm_high));
}

}  // namespace vicinal::gpu
