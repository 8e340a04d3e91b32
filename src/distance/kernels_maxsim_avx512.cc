// Eight tokens against two panels of the query: 16 of the 32 registers are
// sums, and of each 18 instructions of the inner loop that are not broadcasts
// 16 are products (VPDPBUSD, 64 of them at a time). Codes are expanded to bytes
// first: that costs less than any arithmetic on bits.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_maxsim.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

constexpr int kTile = 8;

VICINAL_INLINE float LoadFloat(const uint8_t* bytes) {
  float value;
  __builtin_memcpy(&value, bytes, sizeof(value));
  return value;
}

// 32 bytes at a time, as dimensions are padded to.
VICINAL_INLINE void Expand4(const uint8_t* code, size_t dim, uint8_t* out) {
  const __m256i mask = _mm256_set1_epi8(0x0F);
  for (size_t t = 0; t < dim; t += 32) {
    const __m256i x = _mm256_cvtepu8_epi16(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(code + t / 2)));
    const __m256i u =
        _mm256_and_si256(_mm256_or_si256(x, _mm256_slli_epi16(x, 4)), mask);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + t), u);
  }
}

VICINAL_INLINE void Expand2(const uint8_t* code, size_t dim, uint8_t* out) {
  const __m256i mask = _mm256_set1_epi8(3);
  for (size_t t = 0; t < dim; t += 32) {
    const __m256i x = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(code + t / 4)));
    const __m256i near = _mm256_or_si256(x, _mm256_slli_epi32(x, 6));
    const __m256i far =
        _mm256_or_si256(_mm256_slli_epi32(x, 12), _mm256_slli_epi32(x, 18));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + t),
                       _mm256_and_si256(_mm256_or_si256(near, far), mask));
  }
}

VICINAL_INLINE void Expand1(const uint8_t* code, size_t dim, uint8_t* out) {
  for (size_t t = 0; t < dim; t += 32) {
    uint32_t bits;
    __builtin_memcpy(&bits, code + t / 8, sizeof(bits));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + t),
                       _mm256_maskz_set1_epi8(bits, 1));
  }
}

struct Query {
  const int8_t* panels;
  size_t num_panels;
  const int32_t* sums;
  const float* table;
};

// kTokens tokens, whose u are `rows`, against kPanels panels from `panel` on.
template <int kTokens, int kPanels>
VICINAL_INLINE void Tile(const TokenCodeForm& form, const Query& query,
                         size_t panel, const uint8_t* const* rows,
                         const uint8_t* records, float* best) {
  __m512i sums[kTokens][kPanels];
#pragma GCC unroll 8
  for (int r = 0; r < kTokens; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_si512();
  }
  const size_t panel_bytes = form.padded_dim * 16;
  const int8_t* q = query.panels + panel * panel_bytes;
  for (size_t t = 0; t < form.padded_dim; t += 4) {
    __m512i columns[kPanels];
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) {
      columns[p] = _mm512_loadu_si512(q + p * panel_bytes + t * 16);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kTokens; ++r) {
      int32_t four;
      __builtin_memcpy(&four, rows[r] + t, sizeof(four));
      const __m512i u = _mm512_set1_epi32(four);
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) {
        sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], u, columns[p]);
      }
    }
  }
  const __m512i offset = _mm512_set1_epi32(CodeOffset(form.bits));
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
    const size_t i = (panel + p) * 16;
    const __m512i shift =
        _mm512_mullo_epi32(offset, _mm512_loadu_si512(query.sums + i));
    __m512 most = _mm512_loadu_ps(best + i);
#pragma GCC unroll 8
    for (int r = 0; r < kTokens; ++r) {
      const uint8_t* record = records + r * form.record_bytes;
      __m512i x = sums[r][p];
      if (form.bits != 8) x = _mm512_slli_epi32(x, 1);
      const __m512 value = _mm512_cvtepi32_ps(_mm512_sub_epi32(x, shift));
      const __m512 scale = _mm512_set1_ps(LoadFloat(record));
      const __m512 product =
          form.has_centroids
              ? _mm512_fmadd_ps(
                    scale, value,
                    _mm512_loadu_ps(query.table +
                                    record[4] * 16 * query.num_panels + i))
              : _mm512_mul_ps(scale, value);
      most = _mm512_max_ps(product, most);
    }
    _mm512_storeu_ps(best + i, most);
  }
}

template <int kTokens>
VICINAL_INLINE void Tokens(const TokenCodeForm& form, const Query& query,
                           const uint8_t* records, uint8_t* scratch,
                           float* best) {
  const uint8_t* rows[kTokens];
  for (int r = 0; r < kTokens; ++r) {
    const uint8_t* code =
        records + r * form.record_bytes + (form.has_centroids ? 5 : 4);
    uint8_t* out = scratch + r * form.padded_dim;
    rows[r] = form.bits == 8 ? code : out;
    if (form.bits == 4) Expand4(code, form.padded_dim, out);
    if (form.bits == 2) Expand2(code, form.padded_dim, out);
    if (form.bits == 1) Expand1(code, form.padded_dim, out);
  }
  size_t panel = 0;
  for (; panel + 2 <= query.num_panels; panel += 2) {
    Tile<kTokens, 2>(form, query, panel, rows, records, best);
  }
  if (panel < query.num_panels) {
    Tile<kTokens, 1>(form, query, panel, rows, records, best);
  }
}

void MaxCodes(const TokenCodeForm& form, const int8_t* panels,
              size_t num_panels, const int32_t* sums, const float* table,
              const uint8_t* records, size_t n, float* best) {
  alignas(64) uint8_t scratch[kTile * kMaxTokenDim];
  const Query query{panels, num_panels, sums, table};
  size_t token = 0;
  for (; token + kTile <= n; token += kTile) {
    Tokens<kTile>(form, query, records + token * form.record_bytes, scratch,
                  best);
  }
  records += token * form.record_bytes;
  if ((n - token) & 4) {
    Tokens<4>(form, query, records, scratch, best);
    records += 4 * form.record_bytes;
  }
  if ((n - token) & 2) {
    Tokens<2>(form, query, records, scratch, best);
    records += 2 * form.record_bytes;
  }
  if ((n - token) & 1) Tokens<1>(form, query, records, scratch, best);
}

}  // namespace

const MaxSimKernels kAvx512MaxSimTable = {"avx512", MaxCodes};

}  // namespace vicinal::kernels
