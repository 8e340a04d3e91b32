// AVX2, FMA and F16C. Four records at a time share the query's loads and the
// last steps of their sums.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_codes.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

VICINAL_INLINE __m256i Load32(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
VICINAL_INLINE __m128i Load16(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
VICINAL_INLINE __m128i Load8(const void* p) {
  return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}

// Half kHalf of the 64 codes of a block, one per byte in the order of the
// dimensions.
template <int kBits, int kHalf>
VICINAL_INLINE __m256i Unpack32(const uint8_t* p) {
  if constexpr (kBits == 8) {
    return Load32(p + 32 * kHalf);
  } else if constexpr (kBits == 4) {
    const __m256i v = Load32(p);
    return _mm256_and_si256(kHalf == 0 ? v : _mm256_srli_epi64(v, 4),
                            _mm256_set1_epi8(15));
  } else if constexpr (kBits == 2) {
    const __m256i wide = _mm256_broadcastsi128_si256(Load16(p));
    const __m256i shifts = kHalf == 0 ? _mm256_set_epi64x(2, 2, 0, 0)
                                      : _mm256_set_epi64x(6, 6, 4, 4);
    return _mm256_and_si256(_mm256_srlv_epi64(wide, shifts),
                            _mm256_set1_epi8(3));
  } else {
    const __m256i wide = _mm256_broadcastq_epi64(Load8(p));
    const __m256i shifts = kHalf == 0 ? _mm256_set_epi64x(3, 2, 1, 0)
                                      : _mm256_set_epi64x(7, 6, 5, 4);
    return _mm256_and_si256(_mm256_srlv_epi64(wide, shifts),
                            _mm256_set1_epi8(1));
  }
}

template <int kBits>
VICINAL_INLINE __m128i Unpack16(const uint8_t* p) {
  if constexpr (kBits == 8) {
    return Load16(p);
  } else if constexpr (kBits == 4) {
    const __m128i wide = _mm_broadcastq_epi64(Load8(p));
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
    // Lane i keeps bit i of both bytes.
    const __m128i bits = _mm_set_epi64x(
        static_cast<int64_t>(0x8080404020201010), 0x0808040402020101);
    return _mm_min_epu8(_mm_and_si128(_mm_set1_epi16(word), bits),
                        _mm_set1_epi8(1));
  }
}

// Sums of neighbouring products u * q in 32 bits. Below eight bits u is at
// most 127, so that two products fit 16 bits.
template <int kBits>
VICINAL_INLINE __m256i Products(__m256i u, __m256i q) {
  if constexpr (kBits < 8) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, q), _mm256_set1_epi16(1));
  } else {
    const __m256i low =
        _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(u)),
                          _mm256_cvtepi8_epi16(_mm256_castsi256_si128(q)));
    const __m256i high =
        _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(u, 1)),
                          _mm256_cvtepi8_epi16(_mm256_extracti128_si256(q, 1)));
    return _mm256_add_epi32(low, high);
  }
}

template <int kBits>
VICINAL_INLINE __m128i Products(__m128i u, __m128i q) {
  if constexpr (kBits < 8) {
    return _mm_madd_epi16(_mm_maddubs_epi16(u, q), _mm_set1_epi16(1));
  } else {
    const __m256i sum =
        _mm256_madd_epi16(_mm256_cvtepu8_epi16(u), _mm256_cvtepi8_epi16(q));
    return _mm_add_epi32(_mm256_castsi256_si128(sum),
                         _mm256_extracti128_si256(sum, 1));
  }
}

VICINAL_INLINE __m128i Fold(__m256i v) {
  return _mm_add_epi32(_mm256_castsi256_si128(v),
                       _mm256_extracti128_si256(v, 1));
}

// Sums of the four lanes of each: (a, b, c, d).
VICINAL_INLINE __m128i SumLanes(__m128i a, __m128i b, __m128i c, __m128i d) {
  return _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
}

// The exact sums of one segment of four records.
template <int kBits, bool kLevels>
VICINAL_INLINE __m128i DotsOf(const CodeSegment& segment,
                              const uint8_t* const* records,
                              const int8_t* query) {
  constexpr size_t kBlockBytes = 8 * kBits;
  __m256i sums[4];
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  const __m128i table = Load16(segment.levels);
  const __m256i table32 = _mm256_broadcastsi128_si256(table);
  size_t offset = segment.payload_offset;
  size_t at = 0;
  for (; at + 64 <= segment.num_dims; at += 64, offset += kBlockBytes) {
    const __m256i q0 = Load32(query + at);
    const __m256i q1 = Load32(query + at + 32);
    for (size_t r = 0; r < 4; ++r) {
      __m256i u0 = Unpack32<kBits, 0>(records[r] + offset);
      __m256i u1 = Unpack32<kBits, 1>(records[r] + offset);
      if constexpr (kLevels) {
        u0 = _mm256_shuffle_epi8(table32, u0);
        u1 = _mm256_shuffle_epi8(table32, u1);
      }
      sums[r] = _mm256_add_epi32(
          sums[r],
          _mm256_add_epi32(Products<kBits>(u0, q0), Products<kBits>(u1, q1)));
    }
  }
  __m128i folded[4];
  for (size_t r = 0; r < 4; ++r) folded[r] = Fold(sums[r]);
  for (; at < segment.num_dims; at += 16, offset += kBlockBytes / 4) {
    const __m128i q = Load16(query + at);
    for (size_t r = 0; r < 4; ++r) {
      __m128i u = Unpack16<kBits>(records[r] + offset);
      if constexpr (kLevels) u = _mm_shuffle_epi8(table, u);
      folded[r] = _mm_add_epi32(folded[r], Products<kBits>(u, q));
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
  for (size_t r = 0; r < 4; ++r) {
    const uint8_t* factors = records[r] + layout.additive_offset;
    __builtin_memcpy(&additive[r], factors, sizeof(float));
    factors += sizeof(float);
    if (layout.rescale_is_f16) {
      alignas(16) uint16_t halves[kMaxCodeSegments] = {};
      for (size_t s = 0; s < layout.num_segments; ++s) {
        __builtin_memcpy(&halves[s], factors + 2 * s, 2);
      }
      _mm256_store_ps(rescale[r], _mm256_cvtph_ps(Load16(halves)));
    } else {
      for (size_t s = 0; s < layout.num_segments; ++s) {
        __builtin_memcpy(&rescale[r][s], factors + 4 * s, 4);
      }
    }
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
  alignas(16) float last[4];
  _mm_store_ps(last, Estimates(layout, query, records));
  for (size_t r = 0; i + r < n; ++r) out[i + r] = last[r];
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

// Sums of half a block: the eight records whose bytes begin at `groups`.
template <int kBits, bool kLevels>
VICINAL_INLINE __m256i BlockDotsOf(const CodeSegment& segment,
                                   const uint8_t* groups, const int8_t* query) {
  constexpr size_t kPlanes = 8 / kBits;
  const __m256i mask = _mm256_set1_epi8((1 << (kBits % 8)) - 1);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i table = _mm256_broadcastsi128_si256(Load16(segment.levels));
  __m256i sum = _mm256_setzero_si256();
  for (size_t at = 0; at < segment.num_dims; groups += 64) {
    const __m256i codes = Load32(groups);
    for (size_t p = 0; p < kPlanes && at < segment.num_dims; ++p, at += 4) {
      int32_t four;
      __builtin_memcpy(&four, query + at, sizeof(four));
      const __m256i q = _mm256_set1_epi32(four);
      if constexpr (kBits == 8) {
        // In two nibbles: sums of two products must fit 16 bits.
        const __m256i low =
            _mm256_maddubs_epi16(_mm256_and_si256(codes, nibble), q);
        const __m256i high = _mm256_maddubs_epi16(
            _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble), q);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, ones));
        sum = _mm256_add_epi32(
            sum, _mm256_slli_epi32(_mm256_madd_epi16(high, ones), 4));
      } else {
        __m256i u = _mm256_and_si256(
            _mm256_srli_epi16(codes, static_cast<int>(p * kBits)), mask);
        if constexpr (kLevels) u = _mm256_shuffle_epi8(table, u);
        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, q), ones));
      }
    }
  }
  return sum;
}

VICINAL_INLINE __m256i BlockDots(const CodeSegment& segment,
                                 const uint8_t* groups, const int8_t* query) {
  switch (segment.bits) {
    case 0:
      return _mm256_setzero_si256();
    case 1:
      return BlockDotsOf<1, false>(segment, groups, query);
    case 2:
      return segment.has_levels ? BlockDotsOf<2, true>(segment, groups, query)
                                : BlockDotsOf<2, false>(segment, groups, query);
    case 4:
      return segment.has_levels ? BlockDotsOf<4, true>(segment, groups, query)
                                : BlockDotsOf<4, false>(segment, groups, query);
    default:
      return BlockDotsOf<8, false>(segment, groups, query);
  }
}

void ScanBlocks(const CodeLayout& layout, const CodeQuery& query,
                const uint8_t* blocks, size_t num_blocks, float limit,
                float* out) {
  const size_t width = layout.rescale_is_f16 ? 2 : 4;
  size_t segment_bytes[kMaxCodeSegments];
  size_t codes_bytes = 0;
  for (size_t s = 0; s < layout.num_segments; ++s) {
    const CodeSegment& segment = layout.segments[s];
    const size_t dims_per_group = segment.bits == 0 ? 4 : 32 / segment.bits;
    segment_bytes[s] =
        (segment.num_dims + dims_per_group - 1) / dims_per_group * 64;
    codes_bytes += segment_bytes[s];
  }
  const size_t factors_bytes =
      kCodeBlockRows * (4 + width * layout.num_segments);
  const size_t block_bytes = (codes_bytes + factors_bytes + 63) / 64 * 64;
  const size_t look_after = query.look_after > 0 && limit < __builtin_inff()
                                ? query.look_after
                                : layout.num_segments;
  for (size_t b = 0; b < num_blocks; ++b, out += kCodeBlockRows) {
    const uint8_t* groups = blocks + b * block_bytes;
    const uint8_t* factors = groups + codes_bytes;
    const auto rescale = [&](size_t s, size_t half) {
      const uint8_t* at =
          factors + 64 + (kCodeBlockRows * s + 8 * half) * width;
      return layout.rescale_is_f16
                 ? _mm256_cvtph_ps(Load16(at))
                 : _mm256_loadu_ps(reinterpret_cast<const float*>(at));
    };
    __m256 sums[2];
    for (size_t half = 0; half < 2; ++half) {
      sums[half] = _mm256_fmadd_ps(
          _mm256_set1_ps(query.additive_scale),
          _mm256_loadu_ps(reinterpret_cast<const float*>(factors) + 8 * half),
          _mm256_set1_ps(query.additive));
    }
    // Segments first .. last of one half.
    const auto add = [&](size_t half, size_t first, size_t last) {
      const uint8_t* at = groups + 32 * half;
      for (size_t s = 0; s < first; ++s) at += segment_bytes[s];
      __m256 sum = sums[half];
      for (size_t s = first; s < last; ++s) {
        const CodeSegment& segment = layout.segments[s];
        const __m256 dots = _mm256_cvtepi32_ps(
            BlockDots(segment, at, query.values + segment.query_offset));
        __m256 product = _mm256_fmadd_ps(_mm256_set1_ps(query.scale[s]), dots,
                                         _mm256_set1_ps(query.offset[s]));
        if (segment.low_offset != 0) {
          const __m256 low = _mm256_cvtepi32_ps(BlockDotsOf<8, false>(
              segment, at, query.values + segment.low_offset));
          product =
              _mm256_fmadd_ps(_mm256_set1_ps(query.low_scale[s]), low, product);
        }
        sum = _mm256_fmadd_ps(rescale(s, half), product, sum);
        at += segment_bytes[s];
      }
      sums[half] = sum;
    };
    add(0, 0, look_after);
    add(1, 0, look_after);
    if (look_after < layout.num_segments) {
      int is_near = 0;
      for (size_t half = 0; half < 2; ++half) {
        __m256 least = sums[half];
        for (size_t s = look_after; s < layout.num_segments; ++s) {
          least = _mm256_fmadd_ps(rescale(s, half),
                                  _mm256_set1_ps(query.least[s]), least);
        }
        is_near |= _mm256_movemask_ps(
            _mm256_cmp_ps(least, _mm256_set1_ps(limit), _CMP_LE_OQ));
      }
      if (is_near == 0) {
        sums[0] = sums[1] = _mm256_set1_ps(__builtin_inff());
      } else {
        add(0, look_after, layout.num_segments);
        add(1, look_after, layout.num_segments);
      }
    }
    _mm256_storeu_ps(out, sums[0]);
    _mm256_storeu_ps(out + 8, sums[1]);
  }
}

void Project(const int16_t* matrix, const int16_t* vector, size_t num_rows,
             size_t dim, int32_t* out) {
  for (size_t i = 0; i < num_rows; ++i) {
    __m256i sum = _mm256_setzero_si256();
    for (size_t j = 0; j < dim; j += 16) {
      sum = _mm256_add_epi32(
          sum,
          _mm256_madd_epi16(Load32(matrix + i * dim + j), Load32(vector + j)));
    }
    const __m128i folded = Fold(sum);
    out[i] = _mm_cvtsi128_si32(SumLanes(folded, folded, folded, folded));
  }
}

int32_t DotI8(const int8_t* a, const int8_t* b, size_t n) {
  __m256i sum = _mm256_setzero_si256();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    sum = _mm256_add_epi32(
        sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(Load16(a + i)),
                               _mm256_cvtepi8_epi16(Load16(b + i))));
  }
  const __m128i folded = Fold(sum);
  int32_t total = _mm_cvtsi128_si32(SumLanes(folded, folded, folded, folded));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

}  // namespace

const CodeKernels kAvx2CodeTable = {"avx2",  Gather,  Scan, ScanBlocks,
                                    nullptr, Project, DotI8};

}  // namespace vicinal::kernels
