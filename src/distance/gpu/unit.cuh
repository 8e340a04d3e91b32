// Unit vectors as kernels::Normalize makes them, to the last bit.
#pragma once

#include <cstdint>

#include "src/distance/gpu/canonical.cuh"

namespace vicinal::gpu {

// Exactly x 2^-exponent, rounded once where that is no float.
__device__ inline float Scaled(float x, int exponent) {
  return __double2float_rn(__dmul_rn(x, ldexp(1.0, -exponent)));
}

// The sum of get(i)^2 in canonical order, by a warp.
template <class Get>
__device__ float CanonicalSquares(const Get& get, uint32_t dim, uint32_t lane) {
  float low = 0;
  float high = 0;
  for (uint32_t i = lane; i < dim; i += 64) {
    const float x = get(i);
    low = __fmaf_rn(x, x, low);
    if (i + 32 < dim) {
      const float y = get(i + 32);
      high = __fmaf_rn(y, y, high);
    }
  }
  return HalvingTree(low, high);
}

// What kernels::Normalize divides by, as UnitElement takes it.
template <class Element>
__device__ float NormOf(const Element* token, uint32_t dim, float largest,
                        uint32_t lane) {
  const float norm2 = CanonicalSquares(
      [&](uint32_t i) { return ToFloat(token[i]); }, dim, lane);
  if (norm2 >= 0x1p-100f && norm2 < INFINITY) return __fsqrt_rn(norm2);
  if (largest == 0) return 0;
  const int exponent = ilogbf(largest);
  return -__fsqrt_rn(CanonicalSquares(
      [&](uint32_t i) { return Scaled(ToFloat(token[i]), exponent); }, dim,
      lane));
}

// Elements of a token as they are compared: divided by its length, as
// kernels::Normalize does it. norm: 0, of a zero vector; below 0: elements are
// brought near 1 first, so that their squares are floats, and their length is
// then -norm.
template <class Element>
__device__ float UnitElement(const Element* token, uint32_t dim, uint32_t i,
                             float norm) {
  const float x = ToFloat(token[i]);
  if (norm > 0) return __fdiv_rn(x, norm);
  if (norm == 0) return 0;
  float largest = 0;
  for (uint32_t j = 0; j < dim; ++j) {
    largest = fmaxf(largest, fabsf(ToFloat(token[j])));
  }
  return __fdiv_rn(Scaled(x, ilogbf(largest)), -norm);
}

}  // namespace vicinal::gpu
