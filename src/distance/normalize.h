// Unit vectors in the canonical order, by any table of kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "src/distance/kernels.h"

namespace vicinal::kernels {

// See NormalizeInto in distance.h. Only distance.cc and the backend of the CPU,
// which sees nothing of Abseil, use this.
inline float Normalize(const KernelTable& table, const float* row, size_t dim,
                       float* out) {
  const float norm2 = table.sum_squares(row, dim);
  if (norm2 >= 0x1p-100f && norm2 <= std::numeric_limits<float>::max()) {
    const float norm = std::sqrt(norm2);
    table.divide(row, dim, norm, out);
    return norm;
  }
  // Squares overflowed or lost bits below the smallest float: bring the
  // largest element to [1, 2) first, which is exact.
  float largest = 0;
  for (size_t i = 0; i < dim; ++i)
    largest = std::max(largest, std::abs(row[i]));
  if (largest == 0) {
    std::fill_n(out, dim, 0.0f);
    return 0;
  }
  const int exponent = std::ilogb(largest);
  for (size_t i = 0; i < dim; ++i) out[i] = std::scalbn(row[i], -exponent);
  const float norm = std::sqrt(table.sum_squares(out, dim));
  table.divide(out, dim, norm, out);
  return std::scalbn(norm, exponent);
}

}  // namespace vicinal::kernels
