// pair_l2 in AVX-512: blocks of 8 rows and 3 panels, 24 of the 32 registers
// sums. Zen 4 adds and multiplies at the same time, so the subtraction is free
// and nothing is lost to the cancellation of |x|^2 + |y|^2 - 2 xy.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

constexpr size_t kPanel = 16;
constexpr size_t kLanes = 16;
constexpr size_t kVectors = kPanel / kLanes;  // of one panel

// What is summed over the dimensions.
enum class Sum { kSquaredDifference, kProduct };

// kRows rows against kPanels panels, which lie one after the other.
template <Sum kSum, int kRows, int kPanels>
VICINAL_INLINE void Block(const float* rows, size_t row_stride,
                          const float* panels, size_t dim, float* out,
                          size_t out_stride) {
  constexpr int kColumns = kPanels * kVectors;
  __m512 sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) sums[r][c] = _mm512_setzero_ps();
  }
  for (size_t t = 0; t < dim; ++t) {
    __m512 columns[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      columns[c] = _mm512_loadu_ps(panels + (c / kVectors * dim + t) * kPanel +
                                   c % kVectors * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512 value = _mm512_set1_ps(rows[r * row_stride + t]);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        if constexpr (kSum == Sum::kProduct) {
          sums[r][c] = _mm512_fmadd_ps(value, columns[c], sums[r][c]);
        } else {
          const __m512 diff = _mm512_sub_ps(value, columns[c]);
          sums[r][c] = _mm512_fmadd_ps(diff, diff, sums[r][c]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      _mm512_storeu_ps(out + r * out_stride + c * kLanes, sums[r][c]);
    }
  }
}

template <Sum kSum, int kPanels>
void Columns(const float* rows, size_t row_stride, size_t num_rows,
             const float* panels, size_t dim, float* out, size_t out_stride) {
  constexpr size_t kRows = 8;
  size_t r = 0;
  for (; r + kRows <= num_rows; r += kRows) {
    Block<kSum, kRows, kPanels>(rows + r * row_stride, row_stride, panels, dim,
                                out + r * out_stride, out_stride);
  }
  for (; r < num_rows; ++r) {
    Block<kSum, 1, kPanels>(rows + r * row_stride, row_stride, panels, dim,
                            out + r * out_stride, out_stride);
  }
}

template <Sum kSum>
void Pairs(const float* rows, size_t row_stride, size_t num_rows,
           const float* panels, size_t num_panels, size_t dim, float* out,
           size_t out_stride) {
  constexpr size_t kPanels = 3;
  size_t p = 0;
  for (; p + kPanels <= num_panels; p += kPanels) {
    Columns<kSum, kPanels>(rows, row_stride, num_rows,
                           panels + p * dim * kPanel, dim, out + p * kPanel,
                           out_stride);
  }
  for (; p < num_panels; ++p) {
    Columns<kSum, 1>(rows, row_stride, num_rows, panels + p * dim * kPanel, dim,
                     out + p * kPanel, out_stride);
  }
}

size_t SelectWithin(const float* values, size_t n, float limit, uint32_t* out) {
  const __m512 bound = _mm512_set1_ps(limit);
  __m512i index =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  size_t found = 0;
  for (size_t i = 0; i < n; i += kLanes) {
    const auto valid =
        static_cast<__mmask16>(n - i >= kLanes ? 0xFFFF : (1u << (n - i)) - 1);
    const __mmask16 within = _mm512_mask_cmp_ps_mask(
        valid, _mm512_maskz_loadu_ps(valid, values + i), bound, _CMP_LE_OQ);
    // In a register: compressing into memory is slow on Zen 4.
    _mm512_storeu_si512(out + found,
                        _mm512_maskz_compress_epi32(within, index));
    found += static_cast<size_t>(__builtin_popcount(within));
    index = _mm512_add_epi32(index, _mm512_set1_epi32(kLanes));
  }
  return found;
}

}  // namespace

constexpr PairTable kAvx512PairTable = {Pairs<Sum::kSquaredDifference>,
                                        SelectWithin, Pairs<Sum::kProduct>};

}  // namespace vicinal::kernels
