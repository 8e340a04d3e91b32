// AVX2, FMA, F16C. The 64 canonical sums of a row take eight of the sixteen
// registers, so rows are summed one by one, and the next row is prefetched
// meanwhile.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

constexpr size_t kLineBytes = 64;

// The last size_bytes < 16 bytes of a vector that ends at `end`, zeros behind;
// reads nothing before `begin`.
VICINAL_INLINE __m128i LoadEnd(const uint8_t* begin, const uint8_t* end,
                               size_t size_bytes) {
  if (static_cast<size_t>(end - begin) < 16) {
    alignas(16) uint8_t buffer[16] = {};
    for (size_t i = 0; i < size_bytes; ++i) buffer[i] = end[i - size_bytes];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(buffer));
  }
  // Byte j of the result is byte 16 - size_bytes + j of the last 16; an index
  // of 128 or more gives zero.
  const __m128i index = _mm_add_epi8(
      _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      _mm_set1_epi8(static_cast<char>(16 - size_bytes)));
  const __m128i past = _mm_cmpgt_epi8(index, _mm_set1_epi8(15));
  return _mm_shuffle_epi8(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(end - 16)),
      _mm_or_si128(index, past));
}

// Load: kLanes elements. LoadTail: the last `left` < kLanes elements of a
// vector of `dim`, in the first lanes, zeros behind. Neither reads outside.

struct F32 {
  static constexpr bool kIsFloat = true;
  static constexpr size_t kSize = 4;
  static constexpr size_t kLanes = 8;
  static VICINAL_INLINE __m256 Load(const uint8_t* p) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  }
  static VICINAL_INLINE __m256 LoadTail(const uint8_t* p, size_t dim,
                                        size_t left) {
    const __m256i mask =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(left)),
                           _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_maskload_ps(
        reinterpret_cast<const float*>(p + (dim - left) * kSize), mask);
  }
};

struct F16 {
  static constexpr bool kIsFloat = true;
  static constexpr size_t kSize = 2;
  static constexpr size_t kLanes = 8;
  static VICINAL_INLINE __m256 Load(const uint8_t* p) {
    return _mm256_cvtph_ps(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static VICINAL_INLINE __m256 LoadTail(const uint8_t* p, size_t dim,
                                        size_t left) {
    return _mm256_cvtph_ps(LoadEnd(p, p + dim * kSize, left * kSize));
  }
};

// Integers come as 16-bit ones.
struct I8 {
  static constexpr bool kIsFloat = false;
  static constexpr size_t kSize = 1;
  static constexpr size_t kLanes = 16;
  static VICINAL_INLINE __m256i Load(const uint8_t* p) {
    return _mm256_cvtepi8_epi16(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static VICINAL_INLINE __m256i LoadTail(const uint8_t* p, size_t dim,
                                         size_t left) {
    return _mm256_cvtepi8_epi16(LoadEnd(p, p + dim, left));
  }
};

struct U8 {
  static constexpr bool kIsFloat = false;
  static constexpr size_t kSize = 1;
  static constexpr size_t kLanes = 16;
  static VICINAL_INLINE __m256i Load(const uint8_t* p) {
    return _mm256_cvtepu8_epi16(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static VICINAL_INLINE __m256i LoadTail(const uint8_t* p, size_t dim,
                                         size_t left) {
    return _mm256_cvtepu8_epi16(LoadEnd(p, p + dim, left));
  }
};

template <int kMetric>
VICINAL_INLINE __m256 Step(__m256 q, __m256 r, __m256 sum) {
  if (kMetric == kL2) {
    const __m256 diff = _mm256_sub_ps(q, r);
    return _mm256_fmadd_ps(diff, diff, sum);
  }
  return _mm256_fmadd_ps(q, r, sum);
}

VICINAL_INLINE float Total(const __m256 (&s)[8]) {
  const __m256 s16a =
      _mm256_add_ps(_mm256_add_ps(s[0], s[4]), _mm256_add_ps(s[2], s[6]));
  const __m256 s16b =
      _mm256_add_ps(_mm256_add_ps(s[1], s[5]), _mm256_add_ps(s[3], s[7]));
  const __m256 s8 = _mm256_add_ps(s16a, s16b);
  const __m128 s4 =
      _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

// Asks for num_lines lines from `ahead` on; null: for nothing.
VICINAL_INLINE void Prefetch(const uint8_t* ahead, size_t offset,
                             size_t num_lines) {
  if (ahead == nullptr) return;
  for (size_t line = 0; line < num_lines; ++line) {
    _mm_prefetch(ahead + offset + line * kLineBytes, _MM_HINT_T0);
  }
}

template <int kMetric, class E>
VICINAL_INLINE float SumFloats(const uint8_t* a, const uint8_t* b,
                               const uint8_t* ahead, size_t dim) {
  __m256 sums[8];
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) sums[c] = _mm256_setzero_ps();
  size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    Prefetch(ahead, i * E::kSize, E::kSize);
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const size_t at = (i + 8 * c) * E::kSize;
      sums[c] = Step<kMetric>(E::Load(a + at), E::Load(b + at), sums[c]);
    }
  }
  if (i < dim) {
    const size_t rest_bytes = (dim - i) * E::kSize;
    Prefetch(ahead, i * E::kSize, (rest_bytes + kLineBytes - 1) / kLineBytes);
  }
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) {
    if (i + 8 * c + 8 <= dim) {
      const size_t at = (i + 8 * c) * E::kSize;
      sums[c] = Step<kMetric>(E::Load(a + at), E::Load(b + at), sums[c]);
    } else if (i + 8 * c < dim) {
      const size_t left = dim - i - 8 * c;
      const __m256 sum = Step<kMetric>(E::LoadTail(a, dim, left),
                                       E::LoadTail(b, dim, left), sums[c]);
      // Lanes past the end keep their bits: even adding a zero could turn a
      // sum of -0 into +0.
      const __m256i keep =
          _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(left)),
                             _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
      sums[c] = _mm256_blendv_ps(sums[c], sum, _mm256_castsi256_ps(keep));
    }
  }
  return Total(sums);
}

template <int kMetric>
VICINAL_INLINE __m256i StepInt(__m256i q, __m256i r, __m256i sum) {
  if (kMetric == kL2) {
    const __m256i diff = _mm256_sub_epi16(q, r);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(diff, diff));
  }
  return _mm256_add_epi32(sum, _mm256_madd_epi16(q, r));
}

VICINAL_INLINE __m256i Widen(__m256i lanes) {
  return _mm256_add_epi64(
      _mm256_cvtepi32_epi64(_mm256_castsi256_si128(lanes)),
      _mm256_cvtepi32_epi64(_mm256_extracti128_si256(lanes, 1)));
}

// Exact. A 32-bit lane takes dim / 16 products of at most 255^2 in two
// registers: it overflows beyond dim 528,000, far above the limit of 65,536.
template <int kMetric, class E>
VICINAL_INLINE int64_t SumInts(const uint8_t* a, const uint8_t* b,
                               const uint8_t* ahead, size_t dim) {
  __m256i even = _mm256_setzero_si256();
  __m256i odd = _mm256_setzero_si256();
  size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    Prefetch(ahead, i, 1);
#pragma GCC unroll 2
    for (size_t c = i; c < i + 64; c += 32) {
      even = StepInt<kMetric>(E::Load(a + c), E::Load(b + c), even);
      odd = StepInt<kMetric>(E::Load(a + c + 16), E::Load(b + c + 16), odd);
    }
  }
  if (i < dim) Prefetch(ahead, i, 1);
  for (; i + 16 <= dim; i += 16) {
    even = StepInt<kMetric>(E::Load(a + i), E::Load(b + i), even);
  }
  if (i < dim) {
    odd = StepInt<kMetric>(E::LoadTail(a, dim, dim - i),
                           E::LoadTail(b, dim, dim - i), odd);
  }
  const __m256i sums = _mm256_add_epi64(Widen(even), Widen(odd));
  const __m128i s2 = _mm_add_epi64(_mm256_castsi256_si128(sums),
                                   _mm256_extracti128_si256(sums, 1));
  return _mm_cvtsi128_si64(s2) + _mm_extract_epi64(s2, 1);
}

template <int kMetric, class E>
VICINAL_INLINE auto Sum(const uint8_t* a, const uint8_t* b,
                        const uint8_t* ahead, size_t dim) {
  if constexpr (E::kIsFloat) {
    return SumFloats<kMetric, E>(a, b, ahead, dim);
  } else {
    return SumInts<kMetric, E>(a, b, ahead, dim);
  }
}

template <int kMetric, class E>
VICINAL_INLINE double QueryNorm2(const uint8_t* query, size_t dim) {
  if (kMetric != kCosine) return 0;
  return static_cast<double>(Sum<kInnerProduct, E>(query, query, nullptr, dim));
}

template <int kMetric, class E>
VICINAL_INLINE float Distance(const uint8_t* query, double query_norm2,
                              const uint8_t* row, const uint8_t* ahead,
                              size_t dim) {
  if (kMetric == kL2) {
    return Ordered(static_cast<float>(Sum<kL2, E>(query, row, ahead, dim)));
  }
  const auto ip = Sum<kInnerProduct, E>(query, row, ahead, dim);
  if (kMetric == kInnerProduct) return Ordered(-static_cast<float>(ip));
  // A second pass: two sets of sums would not fit the registers, and the row
  // is in the first-level cache by now.
  return CosineDistance(
      static_cast<double>(ip), query_norm2,
      static_cast<double>(Sum<kInnerProduct, E>(row, row, nullptr, dim)));
}

template <int kMetric, class E>
float One(const void* query, const void* row, size_t dim) {
  const auto* q = static_cast<const uint8_t*>(query);
  return Distance<kMetric, E>(q, QueryNorm2<kMetric, E>(q, dim),
                              static_cast<const uint8_t*>(row), nullptr, dim);
}

// A gather asks for the first lines of the rows this far ahead, and for the
// whole next row while one is summed (see the measurements in
// kernels_avx512.cc; one row at a time leaves more for prefetching to win).
constexpr size_t kRowsAhead = 16;
constexpr size_t kLinesAhead = 4;

template <int kMetric, class E>
void Gather(const void* query, const void* base, size_t stride_bytes,
            const uint32_t* rows, size_t n, size_t dim, float* out) {
  const auto* q = static_cast<const uint8_t*>(query);
  const auto* b = static_cast<const uint8_t*>(base);
  const size_t row_lines = (dim * E::kSize + kLineBytes - 1) / kLineBytes;
  const size_t num_lines = row_lines < kLinesAhead ? row_lines : kLinesAhead;
  for (size_t i = 0; i < n && i < kRowsAhead; ++i) {
    Prefetch(b + rows[i] * stride_bytes, 0, num_lines);
  }
  const double query_norm2 = QueryNorm2<kMetric, E>(q, dim);
  for (size_t i = 0; i < n; ++i) {
    if (i + kRowsAhead < n) {
      Prefetch(b + rows[i + kRowsAhead] * stride_bytes, 0, num_lines);
    }
    const uint8_t* row = b + rows[i] * stride_bytes;
    out[i] = i + 1 < n
                 ? Distance<kMetric, E>(q, query_norm2, row,
                                        b + rows[i + 1] * stride_bytes, dim)
                 : Distance<kMetric, E>(q, query_norm2, row, nullptr, dim);
  }
}

template <int kMetric, class E>
void Scan(const void* query, const void* base, size_t stride_bytes, size_t n,
          size_t dim, float* out) {
  const auto* q = static_cast<const uint8_t*>(query);
  const auto* row = static_cast<const uint8_t*>(base);
  const double query_norm2 = QueryNorm2<kMetric, E>(q, dim);
  for (size_t i = 0; i < n; ++i, row += stride_bytes) {
    out[i] = Distance<kMetric, E>(q, query_norm2, row, nullptr, dim);
  }
}

float SumSquares(const float* values, size_t n) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values);
  return SumFloats<kInnerProduct, F32>(bytes, bytes, nullptr, n);
}

void Divide(const float* values, size_t n, float divisor, float* out) {
  const __m256 d = _mm256_set1_ps(divisor);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, _mm256_div_ps(_mm256_loadu_ps(values + i), d));
  }
  for (; i < n; ++i) out[i] = values[i] / divisor;
}

bool AllFinite(const float* values, size_t n) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  const __m256i largest_finite = _mm256_set1_epi32(0x7F7FFFFF);
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    __m256i largest = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m256i bits = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(values + i + 8 * c));
      largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
    }
    if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(largest, largest_finite))) {
      return false;
    }
  }
  for (; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, values + i, sizeof(bits));
    if ((bits & 0x7F800000) == 0x7F800000) return false;
  }
  return true;
}

template <int kMetric, class E>
constexpr OpsEntry kEntry = {One<kMetric, E>, Gather<kMetric, E>,
                             Scan<kMetric, E>};

}  // namespace

constexpr KernelTable kAvx2Table = {
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
