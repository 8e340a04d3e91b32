// Four tokens against one panel of the query. VPMADDUBSW adds two products of
// bytes in 16 bits; of codes of 4 bits or less, and of the halves of 8, sums of
// 32 dimensions fit them, too: 16 times 15 * 127 is 30,480. Widened only then,
// they take half the multiplications (measured, Zen 3: 3.7 to 2.8 us for 75
// tokens of 4 bits and 128 dimensions against 32, 7.3 to 6.2 us of 8 bits).
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_maxsim.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

constexpr int kTile = 4;

VICINAL_INLINE float LoadFloat(const uint8_t* bytes) {
  float value;
  __builtin_memcpy(&value, bytes, sizeof(value));
  return value;
}

// Each expands 32 dimensions; of 8 bits the low halves, and the high ones to
// `high`.
VICINAL_INLINE void Expand(int bits, const uint8_t* code, size_t dim,
                           uint8_t* out, uint8_t* high) {
  const __m256i low_half = _mm256_set1_epi8(0x0F);
  for (size_t t = 0; t < dim; t += 32) {
    const uint8_t* in = code + t * bits / 8;
    __m256i u;
    if (bits == 8) {
      const __m256i x =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
      u = _mm256_and_si256(x, low_half);
      _mm256_store_si256(reinterpret_cast<__m256i*>(high + t),
                         _mm256_and_si256(_mm256_srli_epi16(x, 4), low_half));
    } else if (bits == 4) {
      const __m256i x = _mm256_cvtepu8_epi16(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
      u = _mm256_and_si256(_mm256_or_si256(x, _mm256_slli_epi16(x, 4)),
                           low_half);
    } else if (bits == 2) {
      const __m256i x = _mm256_cvtepu8_epi32(
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in)));
      const __m256i near = _mm256_or_si256(x, _mm256_slli_epi32(x, 6));
      const __m256i far =
          _mm256_or_si256(_mm256_slli_epi32(x, 12), _mm256_slli_epi32(x, 18));
      u = _mm256_and_si256(_mm256_or_si256(near, far), _mm256_set1_epi8(3));
    } else {
      // Byte t of the result gets the byte of its bit, then the bit itself.
      int32_t word;
      __builtin_memcpy(&word, in, sizeof(word));
      const __m256i spread =
          _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101,
                             0x0202020202020202, 0x0303030303030303);
      const __m256i bit =
          _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
      const __m256i bytes =
          _mm256_shuffle_epi8(_mm256_set1_epi32(word), spread);
      u = _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit),
                           _mm256_set1_epi8(1));
    }
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + t), u);
  }
}

struct Query {
  const int8_t* panels;
  size_t num_panels;
  const int32_t* sums;
  const float* table;
};

// Adds `factor` times the products of 32 dimensions to sums.
template <int kTokens>
VICINAL_INLINE void AddProducts(const int8_t* columns, const uint8_t* rows,
                                size_t stride, int16_t factor,
                                __m256i (*sums)[2]) {
  __m256i pairs[kTokens][2];
#pragma GCC unroll 4
  for (int r = 0; r < kTokens; ++r) {
    pairs[r][0] = pairs[r][1] = _mm256_setzero_si256();
  }
#pragma GCC unroll 8
  for (int t = 0; t < 32; t += 4) {
    __m256i column[2];
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      column[c] = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(columns + t * 16 + c * 32));
    }
#pragma GCC unroll 4
    for (int r = 0; r < kTokens; ++r) {
      int32_t four;
      __builtin_memcpy(&four, rows + r * stride + t, sizeof(four));
      const __m256i u = _mm256_set1_epi32(four);
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        pairs[r][c] =
            _mm256_add_epi16(pairs[r][c], _mm256_maddubs_epi16(u, column[c]));
        // In this order: GCC would rather have more products waiting than
        // there are registers.
        asm volatile("" : "+x"(pairs[r][c]));
      }
    }
  }
  const __m256i factors = _mm256_set1_epi16(factor);
#pragma GCC unroll 4
  for (int r = 0; r < kTokens; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      sums[r][c] =
          _mm256_add_epi32(sums[r][c], _mm256_madd_epi16(pairs[r][c], factors));
    }
  }
}

template <int kTokens, bool kTwoHalves>
VICINAL_INLINE void Tile(const TokenCodeForm& form, const Query& query,
                         size_t panel, const uint8_t* rows,
                         const uint8_t* highs, const uint8_t* records,
                         float* best) {
  __m256i sums[kTokens][2];
#pragma GCC unroll 4
  for (int r = 0; r < kTokens; ++r) {
    sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  }
  const int8_t* q = query.panels + panel * form.padded_dim * 16;
  for (size_t t = 0; t < form.padded_dim; t += 32) {
    AddProducts<kTokens>(q + t * 16, rows + t, form.padded_dim, 1, sums);
    if constexpr (kTwoHalves) {
      AddProducts<kTokens>(q + t * 16, highs + t, form.padded_dim, 16, sums);
    }
  }
  const __m256i offset = _mm256_set1_epi32(CodeOffset(form.bits));
#pragma GCC unroll 2
  for (int c = 0; c < 2; ++c) {
    const size_t i = panel * 16 + c * 8;
    const __m256i shift = _mm256_mullo_epi32(
        offset,
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query.sums + i)));
    __m256 most = _mm256_loadu_ps(best + i);
#pragma GCC unroll 4
    for (int r = 0; r < kTokens; ++r) {
      const uint8_t* record = records + r * form.record_bytes;
      __m256i x = sums[r][c];
      if (form.bits != 8) x = _mm256_slli_epi32(x, 1);
      const __m256 value = _mm256_cvtepi32_ps(_mm256_sub_epi32(x, shift));
      const __m256 scale = _mm256_set1_ps(LoadFloat(record));
      const __m256 product =
          form.has_centroids
              ? _mm256_fmadd_ps(
                    scale, value,
                    _mm256_loadu_ps(query.table +
                                    record[4] * 16 * query.num_panels + i))
              : _mm256_mul_ps(scale, value);
      most = _mm256_max_ps(product, most);
    }
    _mm256_storeu_ps(best + i, most);
  }
}

template <int kTokens>
VICINAL_INLINE void Tokens(const TokenCodeForm& form, const Query& query,
                           const uint8_t* records, uint8_t* scratch,
                           uint8_t* highs, float* best) {
  for (int r = 0; r < kTokens; ++r) {
    Expand(form.bits,
           records + r * form.record_bytes + (form.has_centroids ? 5 : 4),
           form.padded_dim, scratch + r * form.padded_dim,
           highs + r * form.padded_dim);
  }
  for (size_t panel = 0; panel < query.num_panels; ++panel) {
    if (form.bits == 8) {
      Tile<kTokens, true>(form, query, panel, scratch, highs, records, best);
    } else {
      Tile<kTokens, false>(form, query, panel, scratch, highs, records, best);
    }
  }
}

void MaxCodes(const TokenCodeForm& form, const int8_t* panels,
              size_t num_panels, const int32_t* sums, const float* table,
              const uint8_t* records, size_t n, float* best) {
  alignas(64) uint8_t scratch[kTile * kMaxTokenDim];
  alignas(64) uint8_t highs[kTile * kMaxTokenDim];
  const Query query{panels, num_panels, sums, table};
  size_t token = 0;
  for (; token + kTile <= n; token += kTile) {
    Tokens<kTile>(form, query, records + token * form.record_bytes, scratch,
                  highs, best);
  }
  for (; token < n; ++token) {
    Tokens<1>(form, query, records + token * form.record_bytes, scratch, highs,
              best);
  }
}

}  // namespace

const MaxSimKernels kAvx2MaxSimTable = {"avx2", MaxCodes};

}  // namespace vicinal::kernels
