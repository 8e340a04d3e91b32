// Distances in the canonical order (src/distance/distance.h) by one warp: lane
// j holds the partial sums j and j + 32, and halving is a shuffle; sums over
// bytes are exact. The same bits as src/distance/kernels_scalar.cc.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "src/base/types.h"

namespace vicinal::gpu {

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__half value) { return __half2float(value); }
__device__ inline float ToFloat(int8_t value) { return value; }
__device__ inline float ToFloat(uint8_t value) { return value; }

__device__ inline int ToInt(int8_t value) { return value; }
__device__ inline int ToInt(uint8_t value) { return value; }
__device__ inline int ToInt(float value) { return __float2int_rn(value); }

template <class Element>
inline constexpr bool kIsByte = sizeof(Element) == 1;

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

// |vector|^2 of a vector of Element, which may be there as floats; by all lanes
// of a warp.
template <class Element, class Vector>
__device__ double CanonicalNorm2(const Vector* vector, uint32_t dim,
                                 uint32_t lane) {
  if constexpr (kIsByte<Element>) {
    int sum = 0;
#pragma unroll 8
    for (uint32_t i = lane; i < dim; i += 32) {
      const int x = ToInt(vector[i]);
      sum += x * x;
    }
    return __reduce_add_sync(~0u, sum);
  } else {
    float low = 0;
    float high = 0;
#pragma unroll 4
    for (uint32_t i = lane; i < dim; i += 64) {
      low = __fmaf_rn(ToFloat(vector[i]), ToFloat(vector[i]), low);
      if (i + 32 < dim) {
        const float y = ToFloat(vector[i + 32]);
        high = __fmaf_rn(y, y, high);
      }
    }
    return HalvingTree(low, high);
  }
}

// Of bytes: 255^2 times 32,768 dimensions fit an int.
template <Metric kMetric, class Query, class Element>
__device__ float ByteDistance(const Query* query, double query_norm2,
                              const Element* row, uint32_t dim, uint32_t lane) {
  int sum = 0;
  int norm2 = 0;
#pragma unroll 8
  for (uint32_t i = lane; i < dim; i += 32) {
    const int q = ToInt(query[i]);
    const int x = ToInt(row[i]);
    if constexpr (kMetric == Metric::kL2) {
      sum += (q - x) * (q - x);
    } else {
      sum += q * x;
      if constexpr (kMetric == Metric::kCosine) norm2 += x * x;
    }
  }
  sum = __reduce_add_sync(~0u, sum);
  if constexpr (kMetric == Metric::kL2) return __int2float_rn(sum);
  if constexpr (kMetric == Metric::kInnerProduct) return -__int2float_rn(sum);
  return CosineOf(sum, query_norm2, __reduce_add_sync(~0u, norm2));
}

// The distance of a query, which may be there as floats, to a row. query_norm2
// is its CanonicalNorm2, of use under the cosine.
template <Metric kMetric, class Query, class Element>
__device__ float CanonicalDistance(const Query* query, double query_norm2,
                                   const Element* row, uint32_t dim,
                                   uint32_t lane) {
  if constexpr (kIsByte<Element>) {
    return ByteDistance<kMetric>(query, query_norm2, row, dim, lane);
  }
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
