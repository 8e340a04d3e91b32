#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_sparse.h"

namespace vicinal::kernels {
namespace {

inline __m256i Terms(const uint16_t* p) {
  return _mm256_cvtepu16_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline __m256i Terms(const uint32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline __m256 Weights(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 Weights(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// By halves.
inline float Sum(__m256 low, __m256 high) {
  const __m256 eight = _mm256_add_ps(low, high);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                           _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  four = _mm_add_ss(four, _mm_movehdup_ps(four));
  return _mm_cvtss_f32(four);
}

inline __m256 AddBm25(const uint32_t* entries, __m256 norm, const float* query,
                      __m256 sums) {
  const __m256i eight = Terms(entries);
  const __m256 tf =
      _mm256_cvtepi32_ps(_mm256_and_si256(eight, _mm256_set1_epi32(0xFF)));
  return _mm256_fmadd_ps(
      _mm256_i32gather_ps(query, _mm256_srli_epi32(eight, 8), 4),
      _mm256_div_ps(tf, _mm256_add_ps(tf, norm)), sums);
}

float Bm25(const uint32_t* entries, size_t n, float norm, const float* query) {
  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();
  const __m256 norms = _mm256_set1_ps(norm);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    low = AddBm25(entries + i, norms, query, low);
    high = AddBm25(entries + i + 8, norms, query, high);
  }
  if (i < n) {
    // A frequency of 0 adds 0, as a norm is above it.
    uint32_t last[16] = {};
    for (size_t j = i; j < n; ++j) last[j - i] = entries[j];
    low = AddBm25(last, norms, query, low);
    high = AddBm25(last + 8, norms, query, high);
  }
  return Sum(low, high);
}

template <typename Term, typename Weight>
float Dot(const Term* terms, const Weight* weights, size_t n,
          const float* query) {
  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    low = _mm256_fmadd_ps(_mm256_i32gather_ps(query, Terms(terms + i), 4),
                          Weights(weights + i), low);
    high = _mm256_fmadd_ps(_mm256_i32gather_ps(query, Terms(terms + i + 8), 4),
                           Weights(weights + i + 8), high);
  }
  if (i < n) {
    // The rest, as entries of weight zero where there are none: sums that
    // nothing is added to stay as they are.
    Term last_terms[16] = {};
    Weight last_weights[16] = {};
    for (size_t j = i; j < n; ++j) {
      last_terms[j - i] = terms[j];
      last_weights[j - i] = weights[j];
    }
    low = _mm256_fmadd_ps(_mm256_i32gather_ps(query, Terms(last_terms), 4),
                          Weights(last_weights), low);
    high = _mm256_fmadd_ps(_mm256_i32gather_ps(query, Terms(last_terms + 8), 4),
                           Weights(last_weights + 8), high);
  }
  return Sum(low, high);
}

size_t SelectAtLeast(const int16_t* sums, size_t n, int16_t limit,
                     uint16_t* out) {
  size_t count = 0;
  size_t i = 0;
  const __m256i below = _mm256_set1_epi16(limit);
  for (; i + 16 <= n; i += 16) {
    const __m256i block =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + i));
    // A bit pair per element that is not less.
    uint32_t mask = ~static_cast<uint32_t>(
        _mm256_movemask_epi8(_mm256_cmpgt_epi16(below, block)));
    while (mask != 0) {
      const int bit = __builtin_ctz(mask);
      out[count++] = static_cast<uint16_t>(i + static_cast<size_t>(bit) / 2);
      mask &= ~(uint32_t{3} << bit);
    }
  }
  for (; i < n; ++i) {
    out[count] = static_cast<uint16_t>(i);
    count += sums[i] >= limit ? 1 : 0;
  }
  return count;
}

}  // namespace

const SparseKernels kAvx2SparseTable = {"avx2",
                                        Dot<uint16_t, float>,
                                        Dot<uint16_t, uint16_t>,
                                        Dot<uint32_t, float>,
                                        Dot<uint32_t, uint16_t>,
                                        Bm25,
                                        SelectAtLeast};

}  // namespace vicinal::kernels
