// Elements of document tokens.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "src/base/types.h"
#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/unit.cuh"

namespace vicinal::gpu {

// The upper half of a binary32.
struct Bfloat {
  uint16_t bits;
};
__device__ inline float ToFloat(Bfloat value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

// Where StreamOnHopper has a dimension of a query's column. Codes of less than
// 8 bits are unpacked: in products a lane wants eight of each 32 bytes, and it
// reads those of a document that lie side by side.
__device__ inline uint32_t PlaceOf(uint32_t bits, uint32_t dim) {
  if (bits == 8) return dim;
  // 32 elements a lane: four products of two words of four bytes.
  const uint32_t lane = dim / 32 % 4;
  const uint32_t own = dim % 32;
  uint32_t word;
  uint32_t byte;
  if (bits == 4) {
    word = own / 8 * 2 + own % 2;
    byte = own % 8 / 2;
  } else if (bits == 2) {
    word = own / 16 * 4 + own % 4;
    byte = own % 16 / 4;
  } else {
    word = own % 8;
    byte = own / 8;
  }
  return dim / 128 * 128 + word / 2 * 32 + word % 2 * 16 + 4 * lane + byte;
}

// Tokens that are compared at once: a part of a candidate's document.
struct TokenPart {
  uint32_t first_token = 0;
  uint32_t num_tokens = 0;
  uint32_t candidate = 0;
  uint32_t of_document = 0;  // tokens
};
__device__ inline TokenPart PartAt(const DeviceTokens& tokens,
                                   const MaxSimPass& pass, uint32_t number) {
  const uint32_t candidate = number / pass.num_parts;
  const uint32_t part = number % pass.num_parts;
  const uint32_t doc =
      pass.docs == nullptr ? candidate : __ldg(pass.docs + candidate);
  const uint32_t first = __ldg(tokens.offsets + doc);
  const uint32_t length = __ldg(tokens.offsets + doc + 1) - first;
  const uint32_t steps = (length + kTokenStep - 1) / kTokenStep;
  const uint32_t begin =
      min(length, steps * part / pass.num_parts * kTokenStep);
  const uint32_t end =
      min(length, steps * (part + 1) / pass.num_parts * kTokenStep);
  return {first + begin, end - begin, candidate, length};
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
