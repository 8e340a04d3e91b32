// The scan of blocks with AVX-512, a template over what a CPU has besides; for
// the kernel files of AVX-512 only, which are compiled with flags of their own.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_codes.h"

namespace vicinal::kernels {
namespace {

// What differs, Extra below:
//   Levels(table, codes)  the table's entries of the low four bits of each byte
//   kHasFours             whether there is DotsOfFours(segment, groups, fours):
//                         BlockDotsOf a segment of one bit, by CodeQuery::fours

// Sums of a segment of the sixteen records of a block.
template <typename Extra, int kBits, bool kLevels>
inline __attribute__((always_inline)) __m512i BlockDotsOf(
    const CodeSegment& segment, const uint8_t* groups, const int8_t* query) {
  constexpr size_t kPlanes = 8 / kBits;
  constexpr int kMask = (1 << kBits) - 1;
  const __m512i table = _mm512_broadcast_i32x4(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(segment.levels)));
  // Several sums, since each product waits for the one before in its own.
  constexpr size_t kSums = kPlanes < 4 ? 4 : kPlanes;
  __m512i sums[kSums];
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  const auto add = [&](__m512i codes, size_t plane, const int8_t* q, size_t s) {
    __m512i u = codes;
    if constexpr (kLevels) {
      u = _mm512_srli_epi16(codes, plane * kBits);
      if constexpr (kBits < 4) u = _mm512_and_si512(u, _mm512_set1_epi8(kMask));
      u = Extra::Levels(table, u);
    } else if constexpr (kBits < 8) {
      // In its place, and the sum is shifted in the end. (Measured: 1.3 times
      // as fast as shifting codes of two bits, 1.1 times of one.)
      u = _mm512_and_si512(
          codes, _mm512_set1_epi8(static_cast<char>(kMask << (plane * kBits))));
    }
    int32_t four;
    __builtin_memcpy(&four, q, sizeof(four));
    sums[s] = _mm512_dpbusd_epi32(sums[s], u, _mm512_set1_epi32(four));
  };
  constexpr size_t kGroups = kSums / kPlanes;  // at a time
  constexpr size_t kStep = 4 * kPlanes * kGroups;
  size_t at = 0;
  for (; at + kStep <= segment.num_dims; at += kStep) {
    for (size_t g = 0; g < kGroups; ++g, groups += 64) {
      const __m512i codes = _mm512_loadu_si512(groups);
      for (size_t p = 0; p < kPlanes; ++p) {
        const size_t j = g * kPlanes + p;
        add(codes, p, query + at + 4 * j, j);
      }
    }
  }
  if constexpr (kBits == 1) {
    if (at < segment.num_dims) {  // half a group
      const __m512i codes = _mm512_loadu_si512(groups);
      for (size_t p = 0; p < 4; ++p) add(codes, p, query + at + 4 * p, p);
    }
  }
  __m512i total = sums[0];
  for (size_t s = 1; s < kSums; ++s) {
    const size_t shift = kLevels ? 0 : s % kPlanes * kBits;
    total = _mm512_add_epi32(total, _mm512_srai_epi32(sums[s], shift));
  }
  return total;
}

template <typename Extra>
inline __attribute__((always_inline)) __m512i
BlockDots(const CodeSegment& segment, const uint8_t* groups,
          const int8_t* query, const int8_t* fours) {
  switch (segment.bits) {
    case 0:
      return _mm512_setzero_si512();
    case 1:
      if constexpr (Extra::kHasFours) {
        if (fours != nullptr) return Extra::DotsOfFours(segment, groups, fours);
      }
      return BlockDotsOf<Extra, 1, false>(segment, groups, query);
    case 2:
      return segment.has_levels
                 ? BlockDotsOf<Extra, 2, true>(segment, groups, query)
                 : BlockDotsOf<Extra, 2, false>(segment, groups, query);
    case 4:
      return segment.has_levels
                 ? BlockDotsOf<Extra, 4, true>(segment, groups, query)
                 : BlockDotsOf<Extra, 4, false>(segment, groups, query);
    default:
      return BlockDotsOf<Extra, 8, false>(segment, groups, query);
  }
}

template <typename Extra>
inline __attribute__((always_inline)) void ScanBlocksWith(
    const CodeLayout& layout, const CodeQuery& query, const uint8_t* blocks,
    size_t num_blocks, float limit, float* out) {
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
  for (size_t b = 0; b < num_blocks; ++b) {
    const uint8_t* groups = blocks + b * block_bytes;
    const uint8_t* factors = groups + codes_bytes;
    const int8_t* fours = query.fours;
    __m512 sum = _mm512_fmadd_ps(_mm512_set1_ps(query.additive_scale),
                                 _mm512_loadu_ps(factors),
                                 _mm512_set1_ps(query.additive));
    const auto rescale = [&](size_t s) {
      const uint8_t* at = factors + 64 + kCodeBlockRows * width * s;
      return layout.rescale_is_f16 ? _mm512_cvtph_ps(_mm256_loadu_si256(
                                         reinterpret_cast<const __m256i*>(at)))
                                   : _mm512_loadu_ps(at);
    };
    for (size_t s = 0; s < layout.num_segments; ++s) {
      if (s == look_after) {
        __m512 least = sum;
        for (size_t t = s; t < layout.num_segments; ++t) {
          least = _mm512_fmadd_ps(rescale(t), _mm512_set1_ps(query.least[t]),
                                  least);
        }
        if (_mm512_cmp_ps_mask(least, _mm512_set1_ps(limit), _CMP_LE_OQ) == 0) {
          sum = _mm512_set1_ps(__builtin_inff());
          break;
        }
      }
      const CodeSegment& segment = layout.segments[s];
      const __m512 dots = _mm512_cvtepi32_ps(BlockDots<Extra>(
          segment, groups, query.values + segment.query_offset, fours));
      if (segment.bits == 1 && fours != nullptr) fours += 2 * segment_bytes[s];
      __m512 product = _mm512_fmadd_ps(_mm512_set1_ps(query.scale[s]), dots,
                                       _mm512_set1_ps(query.offset[s]));
      if (segment.low_offset != 0) {
        const __m512 low = _mm512_cvtepi32_ps(BlockDotsOf<Extra, 8, false>(
            segment, groups, query.values + segment.low_offset));
        product =
            _mm512_fmadd_ps(_mm512_set1_ps(query.low_scale[s]), low, product);
      }
      sum = _mm512_fmadd_ps(rescale(s), product, sum);
      groups += segment_bytes[s];
    }
    _mm512_storeu_ps(out + b * kCodeBlockRows, sum);
  }
}

}  // namespace
}  // namespace vicinal::kernels
