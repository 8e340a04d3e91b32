// Elements of document tokens, and what unit vectors are made by.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "src/base/types.h"
#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/maxsim_kernels.h"

namespace vicinal::gpu {

// The upper half of a binary32.
struct Bfloat {
  uint16_t bits;
};
__device__ inline float ToFloat(Bfloat value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

// Exactly x 2^-exponent, rounded once where that is no float.
__device__ inline float Scaled(float x, int exponent) {
  return __double2float_rn(__dmul_rn(x, ldexp(1.0, -exponent)));
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

// Calls call.template operator()<element>() for that of the tokens.
template <class Call>
cudaError_t ForTokens(const DeviceTokens& tokens, const Call& call) {
  switch (tokens.type) {
    case ElementType::kFloat32:
      return call.template operator()<float>();
    case ElementType::kFloat16:
      return call.template operator()<__half>();
    case ElementType::kBfloat16:
      return call.template operator()<Bfloat>();
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace vicinal::gpu
