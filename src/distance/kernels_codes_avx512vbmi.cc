// AVX-512 as kernels_codes_avx512.cc and VBMI, whose look-ups go over a whole
// register: scans of blocks.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_blocks_avx512.h"
#include "src/distance/kernels_codes.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

struct Vbmi {
  // Of each byte only the low six bits count, and the table repeats.
  static VICINAL_INLINE __m512i Levels(__m512i table, __m512i codes) {
    return _mm512_permutexvar_epi8(codes, table);
  }

  // Four bits of a byte at a time choose the sum of their four values, by where
  // in its lane of 32 bits the byte is.
  static constexpr bool kHasFours = true;
  static VICINAL_INLINE __m512i DotsOfFours(const CodeSegment& segment,
                                            const uint8_t* groups,
                                            const int8_t* fours) {
    const __m512i place = _mm512_set1_epi32(0x30201000);
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i ones = _mm512_set1_epi8(1);
    constexpr int kAndOr = 0xEA;  // (a & b) | c
    __m512i low = _mm512_setzero_si512();
    __m512i high = _mm512_setzero_si512();
    for (size_t at = 0; at < segment.num_dims; at += 32) {
      const __m512i codes = _mm512_loadu_si512(groups);
      const __m512i first =
          _mm512_ternarylogic_epi32(codes, nibble, place, kAndOr);
      const __m512i second = _mm512_ternarylogic_epi32(
          _mm512_srli_epi16(codes, 4), nibble, place, kAndOr);
      low = _mm512_dpbusd_epi32(
          low, ones, _mm512_permutexvar_epi8(first, _mm512_loadu_si512(fours)));
      high = _mm512_dpbusd_epi32(
          high, ones,
          _mm512_permutexvar_epi8(second, _mm512_loadu_si512(fours + 64)));
      groups += 64;
      fours += 128;
    }
    return _mm512_add_epi32(low, high);
  }
};

void ScanBlocks(const CodeLayout& layout, const CodeQuery& query,
                const uint8_t* blocks, size_t num_blocks, float limit,
                float* out) {
  ScanBlocksWith<Vbmi>(layout, query, blocks, num_blocks, limit, out);
}

void SumFours(const CodeLayout& layout, const int8_t* values, int8_t* fours) {
  // picks[p]: in byte 16 i + n, value 4 p + i of sixteen, zero where bit p of n
  // is not set.
  __m512i picks[4];
  for (size_t p = 0; p < 4; ++p) {
    alignas(64) uint8_t pick[64];
    for (size_t i = 0; i < 4; ++i) {
      for (size_t n = 0; n < 16; ++n) {
        pick[16 * i + n] = (n >> p & 1) != 0 ? 4 * p + i : 0x80;
      }
    }
    picks[p] = _mm512_load_si512(pick);
  }
  for (size_t s = 0; s < layout.num_segments; ++s) {
    const CodeSegment& segment = layout.segments[s];
    if (segment.bits != 1) continue;
    const int8_t* from = values + segment.query_offset;
    for (size_t at = 0; at < segment.num_dims; at += 16, fours += 64) {
      const __m512i sixteen = _mm512_broadcast_i32x4(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
      const __m512i ab =
          _mm512_add_epi8(_mm512_shuffle_epi8(sixteen, picks[0]),
                          _mm512_shuffle_epi8(sixteen, picks[1]));
      const __m512i cd =
          _mm512_add_epi8(_mm512_shuffle_epi8(sixteen, picks[2]),
                          _mm512_shuffle_epi8(sixteen, picks[3]));
      _mm512_storeu_si512(fours, _mm512_add_epi8(ab, cd));
    }
    if (segment.num_dims % 32 != 0) {
      _mm512_storeu_si512(fours, _mm512_setzero_si512());
      fours += 64;
    }
  }
}

}  // namespace

const CodeKernels kAvx512VbmiCodeTable = {
    .name = "avx512vbmi", .scan_blocks = ScanBlocks, .sum_fours = SumFours};

}  // namespace vicinal::kernels
