#include "src/base/half.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "src/base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vicinal {
namespace {

#if defined(__x86_64__)

bool HasF16c() {
  static const bool kHas =
      __builtin_cpu_supports("f16c") && __builtin_cpu_supports("avx");
  return kHas;
}

// Both return how many elements they converted, a multiple of 8.
__attribute__((target("avx,f16c"))) size_t HalfToFloatF16c(const uint16_t* in,
                                                           size_t n,
                                                           float* out) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
  }
  return i;
}

__attribute__((target("avx,f16c"))) size_t FloatToHalfF16c(const float* in,
                                                           size_t n,
                                                           uint16_t* out) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(
        _mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), half);
  }
  return i;
}

#endif

}  // namespace

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1F;
  const uint32_t mantissa = half & 0x3FF;
  if (exponent == 0) {
    // Zero or subnormal: mantissa * 2^-24, exact in binary32.
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 31) {
    // NaNs become quiet, as the F16C instruction makes them.
    const uint32_t quiet = mantissa != 0 ? 0x00400000 : 0;
    return std::bit_cast<float>(sign | 0x7F800000 | quiet | (mantissa << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) |
                              (mantissa << 13));
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {  // NaN: quiet, with the payload's top bits
    return sign | 0x7E00 | static_cast<uint16_t>((magnitude >> 13) & 0x3FF);
  }
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // >= 65520
  if (magnitude < 0x38800000) {
    // Below 2^-14 the result counts units of 2^-24, which is the last place
    // of a float in [0.5, 1): adding 0.5 rounds to it, to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) -
                                        std::bit_cast<uint32_t>(0.5F));
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return sign | static_cast<uint16_t>(
                    (magnitude - (uint32_t{112} << 23) + 0xFFF + odd) >> 13);
}

float BfloatToFloat(uint16_t bfloat) {
  return std::bit_cast<float>(static_cast<uint32_t>(bfloat) << 16);
}

uint16_t FloatToBfloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) {  // NaN: quiet
    return static_cast<uint16_t>((bits >> 16) | 0x0040);
  }
  const uint32_t odd = (bits >> 16) & 1;
  return static_cast<uint16_t>((bits + 0x7FFF + odd) >> 16);
}

void HalfToFloat(std::span<const uint16_t> in, std::span<float> out) {
  VICINAL_CHECK_EQ(in.size(), out.size());
  size_t i = 0;
#if defined(__x86_64__)
  if (HasF16c()) i = HalfToFloatF16c(in.data(), in.size(), out.data());
#endif
  for (; i < in.size(); ++i) out[i] = HalfToFloat(in[i]);
}

void FloatToHalf(std::span<const float> in, std::span<uint16_t> out) {
  VICINAL_CHECK_EQ(in.size(), out.size());
  size_t i = 0;
#if defined(__x86_64__)
  if (HasF16c()) i = FloatToHalfF16c(in.data(), in.size(), out.data());
#endif
  for (; i < in.size(); ++i) out[i] = FloatToHalf(in[i]);
}

}  // namespace vicinal
