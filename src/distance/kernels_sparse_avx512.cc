#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_sparse.h"

namespace vicinal::kernels {
namespace {

inline __m512i Terms(const uint16_t* p, __mmask16 mask) {
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
}
inline __m512i Terms(const uint32_t* p, __mmask16 mask) {
  return _mm512_maskz_loadu_epi32(mask, p);
}
inline __m512 Weights(const float* p, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, p);
}
inline __m512 Weights(const uint16_t* p, __mmask16 mask) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p));
}

// By halves.
inline float Sum(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums),
                                     _mm512_extractf32x8_ps(sums, 1));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                           _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  four = _mm_add_ss(four, _mm_movehdup_ps(four));
  return _mm_cvtss_f32(four);
}

float Bm25(const uint32_t* entries, size_t n, float norm, const float* query) {
  __m512 sums = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 mask = n - i >= 16
                               ? static_cast<__mmask16>(0xFFFF)
                               : static_cast<__mmask16>((1u << (n - i)) - 1);
    const __m512i sixteen = Terms(entries + i, mask);
    const __m512 tf =
        _mm512_cvtepi32_ps(_mm512_and_si512(sixteen, _mm512_set1_epi32(0xFF)));
    const __m512 share =
        _mm512_div_ps(tf, _mm512_add_ps(tf, _mm512_set1_ps(norm)));
    const __m512 elements = _mm512_mask_i32gather_ps(
        _mm512_setzero_ps(), mask, _mm512_srli_epi32(sixteen, 8), query, 4);
    sums = _mm512_mask3_fmadd_ps(elements, share, sums, mask);
  }
  return Sum(sums);
}

template <typename Term, typename Weight>
float Dot(const Term* terms, const Weight* weights, size_t n,
          const float* query) {
  __m512 sums = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 mask = n - i >= 16
                               ? static_cast<__mmask16>(0xFFFF)
                               : static_cast<__mmask16>((1u << (n - i)) - 1);
    const __m512 elements = _mm512_mask_i32gather_ps(
        _mm512_setzero_ps(), mask, Terms(terms + i, mask), query, 4);
    sums =
        _mm512_mask3_fmadd_ps(elements, Weights(weights + i, mask), sums, mask);
  }
  return Sum(sums);
}

size_t SelectAtLeast(const int16_t* sums, size_t n, int16_t limit,
                     uint16_t* out) {
  size_t count = 0;
  const __m512i least = _mm512_set1_epi16(limit);
  for (size_t i = 0; i < n; i += 32) {
    const __mmask32 valid =
        n - i >= 32 ? 0xFFFFFFFFu : (uint32_t{1} << (n - i)) - 1;
    uint32_t mask = _mm512_mask_cmpge_epi16_mask(
        valid, _mm512_maskz_loadu_epi16(valid, sums + i), least);
    for (; mask != 0; mask &= mask - 1) {
      out[count++] =
          static_cast<uint16_t>(i + static_cast<size_t>(__builtin_ctz(mask)));
    }
  }
  return count;
}

}  // namespace

const SparseKernels kAvx512SparseTable = {"avx512",
                                          Dot<uint16_t, float>,
                                          Dot<uint16_t, uint16_t>,
                                          Dot<uint32_t, float>,
                                          Dot<uint32_t, uint16_t>,
                                          Bm25,
                                          SelectAtLeast};

}  // namespace vicinal::kernels
