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

// What is summed over the elements of a row.
enum class Sum { kSquaredDifference, kProduct, kRowSquare };

// Adds 16 products to one accumulator. Masked-off lanes keep their bits: even
// adding a zero could turn a sum of -0 into +0.
template <Sum kSum>
VICINAL_INLINE __m512 Step(__m512 q, __m512 r, __m512 sum) {
  if (kSum == Sum::kSquaredDifference) {
    const __m512 diff = _mm512_sub_ps(q, r);
    return _mm512_fmadd_ps(diff, diff, sum);
  }
  return _mm512_fmadd_ps(kSum == Sum::kProduct ? q : r, r, sum);
}

template <Sum kSum>
VICINAL_INLINE __m512 Step(__m512 q, __m512 r, __m512 sum, __mmask16 mask) {
  if (kSum == Sum::kSquaredDifference) {
    const __m512 diff = _mm512_sub_ps(q, r);
    return _mm512_mask3_fmadd_ps(diff, diff, sum, mask);
  }
  return _mm512_mask3_fmadd_ps(kSum == Sum::kProduct ? q : r, r, sum, mask);
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

// The rows whose lines are asked for while others are summed.
template <int kRows>
struct Ahead {
  const uint8_t* rows[kRows];
};
template <>
struct Ahead<0> {};

template <int kRows>
VICINAL_INLINE void Prefetch(const Ahead<kRows>& ahead, size_t offset) {
  if constexpr (kRows > 0) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      _mm_prefetch(ahead.rows[r] + offset, _MM_HINT_T0);
    }
  }
}

// Sums kRows rows up to step 16 of the tree.
template <Sum kSum, class E, int kRows, int kAhead>
VICINAL_INLINE void SumRows(const uint8_t* query,
                            const uint8_t* const (&rows)[kRows],
                            const Ahead<kAhead>& ahead, size_t dim,
                            __m512 (&folded)[kRows]) {
  __m512 sums[kRows][4];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sums[r][c] = _mm512_setzero_ps();
  }
  size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
#pragma GCC unroll 4
    for (size_t line = 0; line < E::kSize; ++line) {
      Prefetch(ahead, i * E::kSize + line * kLineBytes);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m512 q = E::Load(query, i + 16 * c);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sums[r][c] = Step<kSum>(q, E::Load(rows[r], i + 16 * c), sums[r][c]);
      }
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    if (i + 16 * c < dim) {
      if (c * 16 * E::kSize % kLineBytes == 0) {
        Prefetch(ahead, (i + 16 * c) * E::kSize);
      }
      const size_t left = dim - i - 16 * c;
      const auto mask =
          static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1u << left) - 1);
      const __m512 q = E::Load(query, i + 16 * c, mask);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sums[r][c] =
            Step<kSum>(q, E::Load(rows[r], i + 16 * c, mask), sums[r][c], mask);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) folded[r] = Fold(sums[r]);
}

template <Sum kSum>
VICINAL_INLINE __m512i StepInt(__m512i q, __m512i r, __m512i sum) {
  if (kSum == Sum::kSquaredDifference) {
    const __m512i diff = _mm512_sub_epi16(q, r);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(diff, diff));
  }
  return _mm512_add_epi32(sum,
                          _mm512_madd_epi16(kSum == Sum::kProduct ? q : r, r));
}

VICINAL_INLINE int64_t SumLanes(__m512i lanes) {
  return _mm512_reduce_add_epi64(_mm512_add_epi64(
      _mm512_cvtepi32_epi64(_mm512_castsi512_si256(lanes)),
      _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(lanes, 1))));
}

// Exact sums. A 32-bit lane takes dim / 16 products of at most 255^2: it
// overflows beyond dim 528,000, far above the limit of 65,536.
template <Sum kSum, class E, int kRows, int kAhead>
VICINAL_INLINE void SumRows(const uint8_t* query,
                            const uint8_t* const (&rows)[kRows],
                            const Ahead<kAhead>& ahead, size_t dim,
                            int64_t (&totals)[kRows]) {
  __m512i sums[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_si512();
  size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    Prefetch(ahead, i);
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      const __m512i q = E::Load(query, i + 32 * c);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sums[r] = StepInt<kSum>(q, E::Load(rows[r], i + 32 * c), sums[r]);
      }
    }
  }
  if (i < dim) Prefetch(ahead, i);
  for (; i < dim; i += 32) {
    const size_t left = dim - i;
    const __mmask32 mask = left >= 32 ? 0xFFFFFFFF : (1u << left) - 1;
    const __m512i q = E::Load(query, i, mask);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sums[r] = StepInt<kSum>(q, E::Load(rows[r], i, mask), sums[r]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) totals[r] = SumLanes(sums[r]);
}

template <Sum kSum, class E>
VICINAL_INLINE auto SumRow(const uint8_t* query, const uint8_t* row,
                           size_t dim) {
  if constexpr (E::kIsFloat) {
    __m512 folded[1];
    SumRows<kSum, E, 1, 0>(query, {row}, {}, dim, folded);
    return Finish(folded[0]);
  } else {
    int64_t totals[1];
    SumRows<kSum, E, 1, 0>(query, {row}, {}, dim, totals);
    return totals[0];
  }
}

// |query|^2 under cosine, else nothing.
template <int kMetric, class E>
VICINAL_INLINE double QueryNorm2(const uint8_t* query, size_t dim) {
  if (kMetric != kCosine) return 0;
  return static_cast<double>(SumRow<Sum::kRowSquare, E>(query, query, dim));
}

template <int kMetric>
constexpr Sum kSumOf = kMetric == kL2 ? Sum::kSquaredDifference : Sum::kProduct;

// Four distances at once, the same operations as CosineDistance().
VICINAL_INLINE __m128 CosineDistances(__m128 ips, double query_norm2,
                                      __m128 row_norms2) {
  const __m256d norms2 =
      _mm256_mul_pd(_mm256_set1_pd(query_norm2), _mm256_cvtps_pd(row_norms2));
  const __m256d distances = _mm256_sub_pd(
      _mm256_set1_pd(1),
      _mm256_div_pd(_mm256_cvtps_pd(ips), _mm256_sqrt_pd(norms2)));
  const __mmask8 zero =
      _mm256_cmp_pd_mask(norms2, _mm256_setzero_pd(), _CMP_EQ_OQ);
  return _mm256_cvtpd_ps(
      _mm256_mask_mov_pd(distances, zero, _mm256_set1_pd(1)));
}

// Cosine reads the rows a second time for their norms: the sums of both would
// not fit the registers for four rows, and by then the rows are cached.
template <int kMetric, class E, int kRows, int kAhead>
VICINAL_INLINE void Distances(const uint8_t* query, double query_norm2,
                              const uint8_t* const (&rows)[kRows],
                              const Ahead<kAhead>& ahead, size_t dim,
                              float* out) {
  constexpr Sum kSum = kSumOf<kMetric>;
  if constexpr (E::kIsFloat && kRows == 4) {
    __m512 folded[4];
    SumRows<kSum, E>(query, rows, ahead, dim, folded);
    __m128 values = Finish(folded);
    if constexpr (kMetric == kInnerProduct) {
      values = _mm_xor_ps(values, _mm_set1_ps(-0.0f));
    } else if constexpr (kMetric == kCosine) {
      __m512 norms2[4];
      SumRows<Sum::kRowSquare, E, 4, 0>(query, rows, {}, dim, norms2);
      values = CosineDistances(values, query_norm2, Finish(norms2));
    }
    // minps returns its second operand when the first is NaN: Ordered().
    _mm_storeu_ps(out, _mm_min_ps(values, _mm_set1_ps(__builtin_inff())));
    return;
  }
  using Total = decltype(SumRow<kSum, E>(query, query, dim));
  Total totals[kRows];
  Total norms2[kRows] = {};
  if constexpr (E::kIsFloat) {
    __m512 folded[kRows];
    SumRows<kSum, E>(query, rows, ahead, dim, folded);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) totals[r] = Finish(folded[r]);
    if constexpr (kMetric == kCosine) {
      SumRows<Sum::kRowSquare, E, kRows, 0>(query, rows, {}, dim, folded);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) norms2[r] = Finish(folded[r]);
    }
  } else {
    SumRows<kSum, E>(query, rows, ahead, dim, totals);
    if constexpr (kMetric == kCosine) {
      SumRows<Sum::kRowSquare, E, kRows, 0>(query, rows, {}, dim, norms2);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const auto total = static_cast<float>(totals[r]);
    out[r] = kMetric == kL2 ? Ordered(total)
             : kMetric == kInnerProduct
                 ? Ordered(-total)
                 : CosineDistance(static_cast<double>(totals[r]), query_norm2,
                                  static_cast<double>(norms2[r]));
  }
}

constexpr int kGroup = 4;

// The rows after the last full group, n < kGroup, still side by side.
template <int kMetric, class E>
VICINAL_INLINE void LastDistances(const uint8_t* query, double query_norm2,
                                  const uint8_t* const (&rows)[kGroup],
                                  size_t n, size_t dim, float* out) {
  if (n == 1) {
    Distances<kMetric, E, 1, 0>(query, query_norm2, {rows[0]}, {}, dim, out);
  } else if (n == 2) {
    Distances<kMetric, E, 2, 0>(query, query_norm2, {rows[0], rows[1]}, {}, dim,
                                out);
  } else if (n == 3) {
    Distances<kMetric, E, 3, 0>(query, query_norm2, {rows[0], rows[1], rows[2]},
                                {}, dim, out);
  }
}

template <int kMetric, class E>
float One(const void* query, const void* row, size_t dim) {
  const auto* q = static_cast<const uint8_t*>(query);
  float out;
  Distances<kMetric, E, 1, 0>(q, QueryNorm2<kMetric, E>(q, dim),
                              {static_cast<const uint8_t*>(row)}, {}, dim,
                              &out);
  return out;
}

// Prefetching, measured on a 188 MB table (Zen 5, ns a row, 16 random rows a
// gather). Hardware follows a 4-byte row by itself: asking for the whole next
// rows made 784-d f32 slower (99 -> 107). Rows of smaller elements are summed
// too fast for that, so the next group's lines are asked for meanwhile: f16
// 103 -> 73, u8 71 -> 49. The first lines of rows further on help short rows.
constexpr size_t kRowsAhead = 16;
constexpr size_t kLinesAhead = 4;
template <class E>
constexpr bool kPrefetchNextGroup = E::kSize < 4;

// Four rows side by side confuse the hardware's stream detection when rows are
// short, so a scan asks for what lies this far on: 128-d f32 25 -> 18, f16
// 25 -> 8. From this stride on f32 does better without (784-d 89 -> 81).
constexpr size_t kScanAheadBytes = 8192;
constexpr size_t kLongStrideBytes = 2048;

VICINAL_INLINE void PrefetchStart(const uint8_t* row, size_t num_lines) {
  for (size_t line = 0; line < num_lines; ++line) {
    _mm_prefetch(row + line * kLineBytes, _MM_HINT_T0);
  }
}

template <int kMetric, class E>
void Gather(const void* query, const void* base, size_t stride_bytes,
            const uint32_t* rows, size_t n, size_t dim, float* out) {
  const auto* q = static_cast<const uint8_t*>(query);
  const auto* b = static_cast<const uint8_t*>(base);
  const size_t row_lines = (dim * E::kSize + kLineBytes - 1) / kLineBytes;
  const size_t num_lines = row_lines < kLinesAhead ? row_lines : kLinesAhead;
  for (size_t i = 0; i < n && i < kRowsAhead; ++i) {
    PrefetchStart(b + rows[i] * stride_bytes, num_lines);
  }
  const double query_norm2 = QueryNorm2<kMetric, E>(q, dim);
  const uint8_t* group[kGroup];
  size_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    for (int r = 0; r < kGroup; ++r) {
      group[r] = b + rows[i + r] * stride_bytes;
      if (i + r + kRowsAhead < n) {
        PrefetchStart(b + rows[i + r + kRowsAhead] * stride_bytes, num_lines);
      }
    }
    if (kPrefetchNextGroup<E> && i + kGroup < n) {
      Ahead<kGroup> ahead;
      for (int r = 0; r < kGroup; ++r) {
        const size_t next = i + kGroup + r;
        ahead.rows[r] = b + rows[next < n ? next : n - 1] * stride_bytes;
      }
      Distances<kMetric, E, kGroup>(q, query_norm2, group, ahead, dim, out + i);
    } else {
      Distances<kMetric, E, kGroup, 0>(q, query_norm2, group, {}, dim, out + i);
    }
  }
  for (size_t r = 0; r < n - i; ++r) group[r] = b + rows[i + r] * stride_bytes;
  LastDistances<kMetric, E>(q, query_norm2, group, n - i, dim, out + i);
}

template <int kMetric, class E>
void Scan(const void* query, const void* base, size_t stride_bytes, size_t n,
          size_t dim, float* out) {
  const auto* q = static_cast<const uint8_t*>(query);
  const auto* b = static_cast<const uint8_t*>(base);
  const double query_norm2 = QueryNorm2<kMetric, E>(q, dim);
  const bool prefetch =
      kPrefetchNextGroup<E> || stride_bytes < kLongStrideBytes;
  const size_t group_bytes = kGroup * stride_bytes;
  const size_t ahead_bytes =
      group_bytes > kScanAheadBytes ? group_bytes : kScanAheadBytes;
  const uint8_t* group[kGroup];
  size_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    for (int r = 0; r < kGroup; ++r) group[r] = b + (i + r) * stride_bytes;
    if (prefetch) {
      // May lie behind the rows: an integer, and a prefetch never faults.
      Ahead<kGroup> ahead;
      for (int r = 0; r < kGroup; ++r) {
        ahead.rows[r] = reinterpret_cast<const uint8_t*>(
            reinterpret_cast<uintptr_t>(group[r]) + ahead_bytes);
      }
      Distances<kMetric, E, kGroup>(q, query_norm2, group, ahead, dim, out + i);
    } else {
      Distances<kMetric, E, kGroup, 0>(q, query_norm2, group, {}, dim, out + i);
    }
  }
  for (size_t r = 0; r < n - i; ++r) group[r] = b + (i + r) * stride_bytes;
  LastDistances<kMetric, E>(q, query_norm2, group, n - i, dim, out + i);
}

float SumSquares(const float* values, size_t n) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values);
  return SumRow<Sum::kRowSquare, F32>(bytes, bytes, n);
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
