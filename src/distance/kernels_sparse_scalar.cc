#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_sparse.h"

namespace vicinal::kernels {
namespace {

constexpr size_t kNumSums = 16;

float Load(const float* p) { return *p; }

float Load(const uint16_t* p) {
  const uint16_t half = *p;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1F;
  uint32_t mantissa = half & 0x3FF;
  uint32_t bits;
  if (exponent == 0x1F) {
    bits = sign | 0x7F800000 | (mantissa << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else {
    // Subnormal: mantissa / 2^24.
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    __builtin_memcpy(&bits, &value, sizeof(bits));
    bits |= sign;
  }
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

template <typename Term, typename Weight>
float Dot(const Term* terms, const Weight* weights, size_t n,
          const float* query) {
  float sums[kNumSums] = {};
  for (size_t i = 0; i < n; ++i) {
    sums[i % kNumSums] =
        __builtin_fmaf(query[terms[i]], Load(weights + i), sums[i % kNumSums]);
  }
  for (size_t half = kNumSums / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

float Bm25(const uint32_t* entries, size_t n, float norm, const float* query) {
  float sums[kNumSums] = {};
  for (size_t i = 0; i < n; ++i) {
    const auto tf = static_cast<float>(entries[i] & 0xFF);
    sums[i % kNumSums] = __builtin_fmaf(query[entries[i] >> 8],
                                        tf / (tf + norm), sums[i % kNumSums]);
  }
  for (size_t half = kNumSums / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

size_t SelectAtLeast(const int16_t* sums, size_t n, int16_t limit,
                     uint16_t* out) {
  size_t count = 0;
  for (size_t i = 0; i < n; ++i) {
    out[count] = static_cast<uint16_t>(i);
    count += sums[i] >= limit ? 1 : 0;
  }
  return count;
}

}  // namespace

const SparseKernels kScalarSparseTable = {"scalar",
                                          Dot<uint16_t, float>,
                                          Dot<uint16_t, uint16_t>,
                                          Dot<uint32_t, float>,
                                          Dot<uint32_t, uint16_t>,
                                          Bm25,
                                          SelectAtLeast};

}  // namespace vicinal::kernels
