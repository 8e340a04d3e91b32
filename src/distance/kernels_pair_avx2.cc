// pair_l2 in AVX2: blocks of 5 rows and one panel, 10 of the 16 registers sums.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/kernels.h"

#define VICINAL_INLINE inline __attribute__((always_inline))

namespace vicinal::kernels {
namespace {

constexpr size_t kPanel = 16;
constexpr size_t kLanes = 8;
constexpr size_t kVectors = kPanel / kLanes;  // of one panel

// What is summed over the dimensions.
enum class Sum { kSquaredDifference, kProduct };

// kRows rows against kPanels panels, which lie one after the other.
template <Sum kSum, int kRows, int kPanels>
VICINAL_INLINE void Block(const float* rows, size_t row_stride,
                          const float* panels, size_t dim, float* out,
                          size_t out_stride) {
  constexpr int kColumns = kPanels * kVectors;
  __m256 sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) sums[r][c] = _mm256_setzero_ps();
  }
  for (size_t t = 0; t < dim; ++t) {
    __m256 columns[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      columns[c] = _mm256_loadu_ps(panels + (c / kVectors * dim + t) * kPanel +
                                   c % kVectors * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m256 value = _mm256_set1_ps(rows[r * row_stride + t]);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        if constexpr (kSum == Sum::kProduct) {
          sums[r][c] = _mm256_fmadd_ps(value, columns[c], sums[r][c]);
        } else {
          const __m256 diff = _mm256_sub_ps(value, columns[c]);
          sums[r][c] = _mm256_fmadd_ps(diff, diff, sums[r][c]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      _mm256_storeu_ps(out + r * out_stride + c * kLanes, sums[r][c]);
    }
  }
}

template <Sum kSum, int kPanels>
void Columns(const float* rows, size_t row_stride, size_t num_rows,
             const float* panels, size_t dim, float* out, size_t out_stride) {
  constexpr size_t kRows = 5;
  size_t r = 0;
  for (; r + kRows <= num_rows; r += kRows) {
    Block<kSum, kRows, kPanels>(rows + r * row_stride, row_stride, panels, dim,
                                out + r * out_stride, out_stride);
  }
  // One row alone waits for its sums: it takes nearly as long as five.
  const auto rest = [&]<int kRest>() {
    Block<kSum, kRest, kPanels>(rows + r * row_stride, row_stride, panels, dim,
                                out + r * out_stride, out_stride);
  };
  switch (num_rows - r) {
    case 4:
      return rest.template operator()<4>();
    case 3:
      return rest.template operator()<3>();
    case 2:
      return rest.template operator()<2>();
    case 1:
      return rest.template operator()<1>();
    default:
      return;
  }
}

template <Sum kSum>
void Pairs(const float* rows, size_t row_stride, size_t num_rows,
           const float* panels, size_t num_panels, size_t dim, float* out,
           size_t out_stride) {
  constexpr size_t kPanels = 1;
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
  const __m256 bound = _mm256_set1_ps(limit);
  size_t found = 0;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    auto within = static_cast<uint32_t>(_mm256_movemask_ps(
        _mm256_cmp_ps(_mm256_loadu_ps(values + i), bound, _CMP_LE_OQ)));
    for (; within != 0; within &= within - 1) {
      out[found++] = static_cast<uint32_t>(i) +
                     static_cast<uint32_t>(__builtin_ctz(within));
    }
  }
  for (; i < n; ++i) {
    if (values[i] <= limit) out[found++] = static_cast<uint32_t>(i);
  }
  return found;
}

}  // namespace

constexpr PairTable kAvx2PairTable = {Pairs<Sum::kSquaredDifference>,
                                      SelectWithin, Pairs<Sum::kProduct>};

}  // namespace vicinal::kernels
