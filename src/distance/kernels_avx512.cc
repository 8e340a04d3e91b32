// AVX-512 F, BW, DQ, VL. The 64 canonical sums of a row are four registers, so
// four rows and the query fit the 32 registers and share the query's loads.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

constexpr size_t kLineBytes = 64;

// 16 elements as floats.
struct F32 {
  static constexpr bool kIsFloat = true;
  static constexpr size_t kSize = 4;
  static VICINAL_INLINE __m512 Load(const uint8_t* p, size_t i) {
    return _mm512_loadu_ps(p + i * kSize);
  }
  static VICINAL_INLINE __m512 Load(const uint8_t* p, size_t i,
                                    __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, p + i * kSize);
  }
};

struct F16 {
  static constexpr bool kIsFloat = true;
  static constexpr size_t kSize = 2;
  static VICINAL_INLINE __m512 Load(const uint8_t* p, size_t i) {
    return _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i * kSize)));
  }
  static VICINAL_INLINE __m512 Load(const uint8_t* p, size_t i,
                                    __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p + i * kSize));
  }
};

// 32 elements as 16-bit integers.
struct I8 {
  static constexpr bool kIsFloat = false;
  static constexpr size_t kSize = 1;
  static VICINAL_INLINE __m512i Load(const uint8_t* p, size_t i) {
    return _mm512_cvtepi8_epi16(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i)));
  }
  static VICINAL_INLINE __m512i Load(const uint8_t* p, size_t i,
                                     __mmask32 mask) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, p + i));
  }
};

struct U8 {
  static constexpr bool kIsFloat = false;
  static constexpr size_t kSize = 1;
  static VICINAL_INLINE __m512i Load(const uint8_t* p, size_t i) {
    return _mm512_cvtepu8_epi16(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i)));
  }
  static VICINAL_INLINE __m512i Load(const uint8_t* p, size_t i,
                                     __mmask32 mask) {
    return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, p + i));
  }
};

// Adds 16 products to one accumulator. Masked-off lanes keep their bits: even
// adding a zero could turn a sum of -0 into +0.
template <int kMetric>
VICINAL_INLINE void Step(__m512 q, __m512 r, __m512& sum, __m512& norm2) {
  if (kMetric == kL2) {
    const __m512 diff = _mm512_sub_ps(q, r);
    sum = _mm512_fmadd_ps(diff, diff, sum);
  } else {
    sum = _mm512_fmadd_ps(q, r, sum);
    if (kMetric == kCosine) norm2 = _mm512_fmadd_ps(r, r, norm2);
  }
}

template <int kMetric>
VICINAL_INLINE void Step(__m512 q, __m512 r, __mmask16 mask, __m512& sum,
                         __m512& norm2) {
  if (kMetric == kL2) {
    const __m512 diff = _mm512_sub_ps(q, r);
    sum = _mm512_mask3_fmadd_ps(diff, diff, sum, mask);
  } else {
    sum = _mm512_mask3_fmadd_ps(q, r, sum, mask);
    if (kMetric == kCosine) norm2 = _mm512_mask3_fmadd_ps(r, r, norm2, mask);
  }
}

// Steps 32 and 16 of the halving tree.
VICINAL_INLINE __m512 Fold(const __m512 (&sums)[4]) {
  return _mm512_add_ps(_mm512_add_ps(sums[0], sums[2]),
                       _mm512_add_ps(sums[1], sums[3]));
}

// Steps 8, 4, 2, 1 for one row.
VICINAL_INLINE float Finish(__m512 sums) {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(sums),
                                  _mm512_extractf32x8_ps(sums, 1));
  const __m128 s4 =
      _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

// Steps 8, 4, 2, 1 for four rows at once.
VICINAL_INLINE __m128 Finish(const __m512 (&rows)[4]) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(rows[0], rows[1], 0x44),
                                  _mm512_shuffle_f32x4(rows[0], rows[1], 0xEE));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(rows[2], rows[3], 0x44),
                                  _mm512_shuffle_f32x4(rows[2], rows[3], 0xEE));
  const __m512 s4 = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88),
                                  _mm512_shuffle_f32x4(ab, cd, 0xDD));
  const __m512 s2 = _mm512_add_ps(s4, _mm512_permute_ps(s4, 0x4E));
  const __m512 s1 = _mm512_add_ps(s2, _mm512_permute_ps(s2, 0xB1));
  const __m512i first =
      _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s1));
}

// Sums kRows rows up to step 16 of the tree.
template <int kMetric, class E, int kRows>
VICINAL_INLINE void SumRows(const uint8_t* query,
                            const uint8_t* const (&rows)[kRows], size_t dim,
                            __m512 (&folded)[kRows],
                            __m512 (&folded_norm2)[kRows]) {
  __m512 sums[kRows][4];
  __m512 norm2[kRows][4];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sums[r][c] = norm2[r][c] = _mm512_setzero_ps();
  }
  size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m512 q = E::Load(query, i + 16 * c);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        Step<kMetric>(q, E::Load(rows[r], i + 16 * c), sums[r][c], norm2[r][c]);
      }
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    if (i + 16 * c < dim) {
      const size_t left = dim - i - 16 * c;
      const auto mask =
          static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1u << left) - 1);
      const __m512 q = E::Load(query, i + 16 * c, mask);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        Step<kMetric>(q, E::Load(rows[r], i + 16 * c, mask), mask, sums[r][c],
                      norm2[r][c]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    folded[r] = Fold(sums[r]);
    if (kMetric == kCosine) folded_norm2[r] = Fold(norm2[r]);
  }
}

// Exact sums. A 32-bit lane takes dim / 16 products of at most 255^2: it
// overflows beyond dim 528,000, far above the limit of 65,536.
template <int kMetric>
VICINAL_INLINE void StepInt(__m512i q, __m512i r, __m512i& sum,
                            __m512i& norm2) {
  if (kMetric == kL2) {
    const __m512i diff = _mm512_sub_epi16(q, r);
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(diff, diff));
  } else {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(q, r));
    if (kMetric == kCosine) {
      norm2 = _mm512_add_epi32(norm2, _mm512_madd_epi16(r, r));
    }
  }
}

VICINAL_INLINE int64_t SumLanes(__m512i lanes) {
  return _mm512_reduce_add_epi64(_mm512_add_epi64(
      _mm512_cvtepi32_epi64(_mm512_castsi512_si256(lanes)),
      _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(lanes, 1))));
}

template <int kMetric, class E, int kRows>
VICINAL_INLINE void SumIntRows(const uint8_t* query,
                               const uint8_t* const (&rows)[kRows], size_t dim,
                               int64_t (&total)[kRows],
                               int64_t (&total_norm2)[kRows]) {
  __m512i sums[kRows];
  __m512i norm2[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sums[r] = norm2[r] = _mm512_setzero_si512();
  size_t i = 0;
  for (; i + 32 <= dim; i += 32) {
    const __m512i q = E::Load(query, i);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      StepInt<kMetric>(q, E::Load(rows[r], i), sums[r], norm2[r]);
    }
  }
  if (i < dim) {
    const __mmask32 mask = (1u << (dim - i)) - 1;
    const __m512i q = E::Load(query, i, mask);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      StepInt<kMetric>(q, E::Load(rows[r], i, mask), sums[r], norm2[r]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    total[r] = SumLanes(sums[r]);
    if (kMetric == kCosine) total_norm2[r] = SumLanes(norm2[r]);
  }
}

// |query|^2 under cosine, else nothing.
template <int kMetric, class E>
VICINAL_INLINE double QueryNorm2(const uint8_t* query, size_t dim) {
  if constexpr (kMetric != kCosine) {
    return 0;
  } else if constexpr (E::kIsFloat) {
    __m512 sum[1], unused[1];
    SumRows<kInnerProduct, E, 1>(query, {query}, dim, sum, unused);
    return Finish(sum[0]);
  } else {
    int64_t sum[1], unused[1];
    SumIntRows<kInnerProduct, E, 1>(query, {query}, dim, sum, unused);
    return static_cast<double>(sum[0]);
  }
}

template <int kMetric, class T>
VICINAL_INLINE float ToDistance(T sum, double query_norm2, T norm2) {
  if (kMetric == kL2) return Ordered(static_cast<float>(sum));
  if (kMetric == kInnerProduct) return Ordered(-static_cast<float>(sum));
  return CosineDistance(static_cast<double>(sum), query_norm2,
                        static_cast<double>(norm2));
}

template <int kMetric, class E, int kRows>
VICINAL_INLINE void Distances(const uint8_t* query, double query_norm2,
                              const uint8_t* const (&rows)[kRows], size_t dim,
                              float* out) {
  if constexpr (!E::kIsFloat) {
    int64_t sum[kRows], norm2[kRows] = {};
    SumIntRows<kMetric, E, kRows>(query, rows, dim, sum, norm2);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      out[r] = ToDistance<kMetric>(sum[r], query_norm2, norm2[r]);
    }
  } else if constexpr (kRows == 4 && kMetric != kCosine) {
    __m512 folded[4], unused[4];
    SumRows<kMetric, E, 4>(query, rows, dim, folded, unused);
    __m128 sum = Finish(folded);
    if (kMetric == kInnerProduct) sum = _mm_xor_ps(sum, _mm_set1_ps(-0.0f));
    // minps returns its second operand when the first is NaN: Ordered().
    _mm_storeu_ps(out, _mm_min_ps(sum, _mm_set1_ps(__builtin_inff())));
  } else {
    __m512 folded[kRows], norm2[kRows];
    SumRows<kMetric, E, kRows>(query, rows, dim, folded, norm2);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      out[r] =
          ToDistance<kMetric>(Finish(folded[r]), query_norm2,
                              kMetric == kCosine ? Finish(norm2[r]) : 0.0f);
    }
  }
}

// Cosine keeps two sums per row, so only two rows fit the registers.
template <int kMetric>
constexpr int kGroup = kMetric == kCosine ? 2 : 4;

template <int kMetric, class E>
float One(const void* query, const void* row, size_t dim) {
  const auto* q = static_cast<const uint8_t*>(query);
  float out;
  Distances<kMetric, E, 1>(q, QueryNorm2<kMetric, E>(q, dim),
                           {static_cast<const uint8_t*>(row)}, dim, &out);
  return out;
}

// A gather asks for the first lines of rows this far ahead; the hardware
// follows within a row. Measured on random rows of a 188 MB table (Zen 5):
// 128-d f32 30 -> 28 ns a row, 784-d no difference, while prefetching whole
// rows is slower. Summing four rows at once matters more: 784-d 145 -> 97 ns.
constexpr size_t kRowsAhead = 16;
constexpr size_t kLinesAhead = 4;

VICINAL_INLINE void PrefetchRow(const uint8_t* row, size_t num_lines) {
  for (size_t line = 0; line < num_lines; ++line) {
    _mm_prefetch(row + line * kLineBytes, _MM_HINT_T0);
  }
}

// The rows after the last full group, n < kGroup, still side by side.
template <int kMetric, class E>
VICINAL_INLINE void LastDistances(const uint8_t* query, double query_norm2,
                                  const uint8_t* const* rows, size_t n,
                                  size_t dim, float* out) {
  if (n == 1) {
    Distances<kMetric, E, 1>(query, query_norm2, {rows[0]}, dim, out);
  }
  if constexpr (kGroup<kMetric> > 2) {
    if (n == 2) {
      Distances<kMetric, E, 2>(query, query_norm2, {rows[0], rows[1]}, dim,
                               out);
    }
    if (n == 3) {
      Distances<kMetric, E, 3>(query, query_norm2, {rows[0], rows[1], rows[2]},
                               dim, out);
    }
  }
}

template <int kMetric, class E>
void Gather(const void* query, const void* base, size_t stride_bytes,
            const uint32_t* rows, size_t n, size_t dim, float* out) {
  constexpr int kRows = kGroup<kMetric>;
  const auto* q = static_cast<const uint8_t*>(query);
  const auto* b = static_cast<const uint8_t*>(base);
  const size_t row_lines = (dim * E::kSize + kLineBytes - 1) / kLineBytes;
  const size_t num_lines = row_lines < kLinesAhead ? row_lines : kLinesAhead;
  for (size_t i = 0; i < n && i < kRowsAhead; ++i) {
    PrefetchRow(b + rows[i] * stride_bytes, num_lines);
  }
  const double query_norm2 = QueryNorm2<kMetric, E>(q, dim);
  const uint8_t* group[kRows];
  size_t i = 0;
  for (; i + kRows <= n; i += kRows) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      group[r] = b + rows[i + r] * stride_bytes;
      if (i + r + kRowsAhead < n) {
        PrefetchRow(b + rows[i + r + kRowsAhead] * stride_bytes, num_lines);
      }
    }
    Distances<kMetric, E, kRows>(q, query_norm2, group, dim, out + i);
  }
  for (size_t r = 0; r < n - i; ++r) group[r] = b + rows[i + r] * stride_bytes;
  LastDistances<kMetric, E>(q, query_norm2, group, n - i, dim, out + i);
}

template <int kMetric, class E>
void Scan(const void* query, const void* base, size_t stride_bytes, size_t n,
          size_t dim, float* out) {
  constexpr int kRows = kGroup<kMetric>;
  const auto* q = static_cast<const uint8_t*>(query);
  const auto* b = static_cast<const uint8_t*>(base);
  const double query_norm2 = QueryNorm2<kMetric, E>(q, dim);
  const uint8_t* group[kRows];
  size_t i = 0;
  for (; i + kRows <= n; i += kRows) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) group[r] = b + (i + r) * stride_bytes;
    Distances<kMetric, E, kRows>(q, query_norm2, group, dim, out + i);
  }
  for (size_t r = 0; r < n - i; ++r) group[r] = b + (i + r) * stride_bytes;
  LastDistances<kMetric, E>(q, query_norm2, group, n - i, dim, out + i);
}

float SumSquares(const float* values, size_t n) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values);
  __m512 sum[1], unused[1];
  SumRows<kInnerProduct, F32, 1>(bytes, {bytes}, n, sum, unused);
  return Finish(sum[0]);
}

void Divide(const float* values, size_t n, float divisor, float* out) {
  const __m512 d = _mm512_set1_ps(divisor);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(out + i, _mm512_div_ps(_mm512_loadu_ps(values + i), d));
  }
  if (i < n) {
    const auto mask = static_cast<__mmask16>((1u << (n - i)) - 1);
    _mm512_mask_storeu_ps(
        out + i, mask,
        _mm512_div_ps(_mm512_maskz_loadu_ps(mask, values + i), d));
  }
}

// Lanes whose exponent bits are all ones, i.e. |x| as an integer is at least
// that of infinity.
VICINAL_INLINE __m512i Largest(__m512i largest, __m512i values) {
  const __m512i magnitude =
      _mm512_and_si512(values, _mm512_set1_epi32(0x7FFFFFFF));
  return _mm512_max_epi32(largest, magnitude);
}

bool AllFinite(const float* values, size_t n) {
  const __m512i infinity = _mm512_set1_epi32(0x7F800000);
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    __m512i largest = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      largest = Largest(largest, _mm512_loadu_si512(values + i + 16 * c));
    }
    if (_mm512_cmpge_epi32_mask(largest, infinity) != 0) return false;
  }
  for (; i < n; i += 16) {
    const auto mask =
        static_cast<__mmask16>(n - i >= 16 ? 0xFFFF : (1u << (n - i)) - 1);
    const __m512i largest = Largest(_mm512_setzero_si512(),
                                    _mm512_maskz_loadu_epi32(mask, values + i));
    if (_mm512_cmpge_epi32_mask(largest, infinity) != 0) return false;
  }
  return true;
}

template <int kMetric, class E>
constexpr OpsEntry kEntry = {One<kMetric, E>, Gather<kMetric, E>,
                             Scan<kMetric, E>};

}  // namespace

constexpr KernelTable kAvx512Table = {
    {{kEntry<kL2, F32>, kEntry<kL2, F16>, kEntry<kL2, I8>, kEntry<kL2, U8>},
     {kEntry<kInnerProduct, F32>, kEntry<kInnerProduct, F16>,
      kEntry<kInnerProduct, I8>, kEntry<kInnerProduct, U8>},
     {kEntry<kCosine, F32>, kEntry<kCosine, F16>, kEntry<kCosine, I8>,
      kEntry<kCosine, U8>}},
    SumSquares,
    Divide,
    AllFinite,
};

}  // namespace vicinal::kernels
