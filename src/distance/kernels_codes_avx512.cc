// AVX-512 F, BW, DQ, VL and VNNI. Four records at a time share the query's
// loads and the last steps of their sums.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_blocks_avx512.h"
#include "src/distance/kernels_codes.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

// 64 or 16 codes of a block, one per byte in the order of the dimensions.
template <int kBits>
VICINAL_INLINE __m512i Unpack64(const uint8_t* p) {
  const auto* v = reinterpret_cast<const __m128i*>(p);
  if constexpr (kBits == 8) {
    return _mm512_loadu_si512(p);
  } else if constexpr (kBits == 4) {
    const __m512i wide = _mm512_broadcast_i64x4(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    const __m512i shifts = _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi64(wide, shifts),
                            _mm512_set1_epi8(15));
  } else if constexpr (kBits == 2) {
    const __m512i wide = _mm512_broadcast_i32x4(_mm_loadu_si128(v));
    const __m512i shifts = _mm512_set_epi64(6, 6, 4, 4, 2, 2, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi64(wide, shifts),
                            _mm512_set1_epi8(3));
  } else {
    const __m512i wide = _mm512_broadcastq_epi64(_mm_loadl_epi64(v));
    const __m512i shifts = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_and_si512(_mm512_srlv_epi64(wide, shifts),
                            _mm512_set1_epi8(1));
  }
}

template <int kBits>
VICINAL_INLINE __m128i Unpack16(const uint8_t* p) {
  const auto* v = reinterpret_cast<const __m128i*>(p);
  if constexpr (kBits == 8) {
    return _mm_loadu_si128(v);
  } else if constexpr (kBits == 4) {
    const __m128i wide = _mm_broadcastq_epi64(_mm_loadl_epi64(v));
    return _mm_and_si128(_mm_srlv_epi64(wide, _mm_set_epi64x(4, 0)),
                         _mm_set1_epi8(15));
  } else if constexpr (kBits == 2) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return _mm_and_si128(
        _mm_srlv_epi32(_mm_set1_epi32(word), _mm_set_epi32(6, 4, 2, 0)),
        _mm_set1_epi8(3));
  } else {
    int16_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return _mm_and_si128(_mm_srlv_epi16(_mm_set1_epi16(word),
                                        _mm_set_epi16(7, 6, 5, 4, 3, 2, 1, 0)),
                         _mm_set1_epi8(1));
  }
}

// Sums of the four lanes of each: (a, b, c, d).
VICINAL_INLINE __m128i SumLanes(__m128i a, __m128i b, __m128i c, __m128i d) {
  const __m128i ab =
      _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
  const __m128i cd =
      _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
  return _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
}

VICINAL_INLINE __m128i Fold(__m512i v) {
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v),
                                        _mm512_extracti64x4_epi64(v, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half),
                       _mm256_extracti128_si256(half, 1));
}

// The exact sums of one segment of four records.
template <int kBits, bool kLevels>
VICINAL_INLINE __m128i DotsOf(const CodeSegment& segment,
                              const uint8_t* const* records,
                              const int8_t* query) {
  constexpr size_t kBlockBytes = 8 * kBits;
  __m512i sums[4];
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  const __m128i table =
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(segment.levels));
  const __m512i table64 = _mm512_broadcast_i32x4(table);
  size_t offset = segment.payload_offset;
  size_t at = 0;
  for (; at + 64 <= segment.num_dims; at += 64, offset += kBlockBytes) {
    const __m512i q = _mm512_loadu_si512(query + at);
    for (size_t r = 0; r < 4; ++r) {
      __m512i u = Unpack64<kBits>(records[r] + offset);
      if constexpr (kLevels) u = _mm512_shuffle_epi8(table64, u);
      sums[r] = _mm512_dpbusd_epi32(sums[r], u, q);
    }
  }
  __m128i folded[4];
  for (size_t r = 0; r < 4; ++r) folded[r] = Fold(sums[r]);
  for (; at < segment.num_dims; at += 16, offset += kBlockBytes / 4) {
    const __m128i q =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(query + at));
    for (size_t r = 0; r < 4; ++r) {
      __m128i u = Unpack16<kBits>(records[r] + offset);
      if constexpr (kLevels) u = _mm_shuffle_epi8(table, u);
      folded[r] = _mm_dpbusd_epi32(folded[r], u, q);
    }
  }
  return SumLanes(folded[0], folded[1], folded[2], folded[3]);
}

VICINAL_INLINE __m128i Dots(const CodeSegment& segment,
                            const uint8_t* const* records,
                            const int8_t* query) {
  switch (segment.bits) {
    case 0:
      return _mm_setzero_si128();
    case 1:
      return DotsOf<1, false>(segment, records, query);
    case 2:
      return segment.has_levels ? DotsOf<2, true>(segment, records, query)
                                : DotsOf<2, false>(segment, records, query);
    case 4:
      return segment.has_levels ? DotsOf<4, true>(segment, records, query)
                                : DotsOf<4, false>(segment, records, query);
    default:
      return DotsOf<8, false>(segment, records, query);
  }
}

// Estimates of four records.
VICINAL_INLINE __m128 Estimates(const CodeLayout& layout,
                                const CodeQuery& query,
                                const uint8_t* const* records) {
  alignas(32) float rescale[4][kMaxCodeSegments];
  alignas(16) float additive[4];
  const auto mask = static_cast<__mmask8>((1u << layout.num_segments) - 1);
  for (size_t r = 0; r < 4; ++r) {
    const uint8_t* factors = records[r] + layout.additive_offset;
    __builtin_memcpy(&additive[r], factors, sizeof(float));
    factors += sizeof(float);
    _mm256_store_ps(rescale[r],
                    layout.rescale_is_f16
                        ? _mm256_cvtph_ps(_mm_maskz_loadu_epi16(mask, factors))
                        : _mm256_maskz_loadu_ps(mask, factors));
  }
  __m128 sum = _mm_fmadd_ps(_mm_set1_ps(query.additive_scale),
                            _mm_load_ps(additive), _mm_set1_ps(query.additive));
  for (size_t s = 0; s < layout.num_segments; ++s) {
    const CodeSegment& segment = layout.segments[s];
    const __m128 dots = _mm_cvtepi32_ps(
        Dots(segment, records, query.values + segment.query_offset));
    __m128 product = _mm_fmadd_ps(_mm_set1_ps(query.scale[s]), dots,
                                  _mm_set1_ps(query.offset[s]));
    if (segment.low_offset != 0) {
      const __m128 low = _mm_cvtepi32_ps(DotsOf<8, false>(
          segment, records, query.values + segment.low_offset));
      product = _mm_fmadd_ps(_mm_set1_ps(query.low_scale[s]), low, product);
    }
    sum = _mm_fmadd_ps(
        _mm_setr_ps(rescale[0][s], rescale[1][s], rescale[2][s], rescale[3][s]),
        product, sum);
  }
  return sum;
}

template <typename RecordAt>
VICINAL_INLINE void EstimateAll(const CodeLayout& layout,
                                const CodeQuery& query, size_t n, float* out,
                                const RecordAt& record_at) {
  const uint8_t* records[4];
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (size_t r = 0; r < 4; ++r) records[r] = record_at(i + r);
    _mm_storeu_ps(out + i, Estimates(layout, query, records));
  }
  if (i == n) return;
  // The last record stands in for those that are not there.
  for (size_t r = 0; r < 4; ++r) {
    records[r] = record_at(i + r < n ? i + r : n - 1);
  }
  _mm_mask_storeu_ps(out + i, static_cast<__mmask8>((1u << (n - i)) - 1),
                     Estimates(layout, query, records));
}

void Gather(const CodeLayout& layout, const CodeQuery& query,
            const uint8_t* base, size_t stride_bytes, const uint32_t* rows,
            size_t n, float* out) {
  EstimateAll(layout, query, n, out,
              [&](size_t i) { return base + size_t{rows[i]} * stride_bytes; });
}

void Scan(const CodeLayout& layout, const CodeQuery& query, const uint8_t* base,
          size_t stride_bytes, size_t n, float* out) {
  EstimateAll(layout, query, n, out,
              [&](size_t i) { return base + i * stride_bytes; });
}

struct Plain {
  static VICINAL_INLINE __m512i Levels(__m512i table, __m512i codes) {
    return _mm512_shuffle_epi8(table,
                               _mm512_and_si512(codes, _mm512_set1_epi8(15)));
  }
  static constexpr bool kHasFours = false;
};

void ScanBlocks(const CodeLayout& layout, const CodeQuery& query,
                const uint8_t* blocks, size_t num_blocks, float limit,
                float* out) {
  ScanBlocksWith<Plain>(layout, query, blocks, num_blocks, limit, out);
}

void Project(const int16_t* matrix, const int16_t* vector, size_t num_rows,
             size_t dim, int32_t* out) {
  size_t i = 0;
  for (; i + 4 <= num_rows; i += 4) {
    const int16_t* rows = matrix + i * dim;
    __m512i sums[4];
    for (auto& sum : sums) sum = _mm512_setzero_si512();
    for (size_t j = 0; j < dim; j += 32) {
      const __m512i v = _mm512_loadu_si512(vector + j);
      for (size_t r = 0; r < 4; ++r) {
        sums[r] = _mm512_dpwssd_epi32(
            sums[r], _mm512_loadu_si512(rows + r * dim + j), v);
      }
    }
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(out + i),
        SumLanes(Fold(sums[0]), Fold(sums[1]), Fold(sums[2]), Fold(sums[3])));
  }
  for (; i < num_rows; ++i) {
    __m512i sum = _mm512_setzero_si512();
    for (size_t j = 0; j < dim; j += 32) {
      sum = _mm512_dpwssd_epi32(sum, _mm512_loadu_si512(matrix + i * dim + j),
                                _mm512_loadu_si512(vector + j));
    }
    out[i] = _mm512_reduce_add_epi32(sum);
  }
}

int32_t DotI8(const int8_t* a, const int8_t* b, size_t n) {
  __m512i sum = _mm512_setzero_si512();
  for (size_t i = 0; i < n; i += 32) {
    const __mmask32 mask =
        n - i >= 32 ? 0xFFFFFFFFu : (uint32_t{1} << (n - i)) - 1;
    sum = _mm512_dpwssd_epi32(
        sum, _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, a + i)),
        _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, b + i)));
  }
  return _mm512_reduce_add_epi32(sum);
}

}  // namespace

const CodeKernels kAvx512CodeTable = {"avx512", Gather,  Scan, ScanBlocks,
                                      nullptr,  Project, DotI8};

}  // namespace vicinal::kernels
