// The reference for work on blocks of pairs: written to be read.
#include <cstddef>
#include <cstdint>

#include "src/distance/kernels.h"

namespace vicinal::kernels {
namespace {

constexpr size_t kPanel = 16;

// What is summed over the dimensions.
enum class Sum { kSquaredDifference, kProduct };

template <Sum kSum>
void Pairs(const float* rows, size_t row_stride, size_t num_rows,
           const float* panels, size_t num_panels, size_t dim, float* out,
           size_t out_stride) {
  for (size_t p = 0; p < num_panels; ++p) {
    const float* panel = panels + p * dim * kPanel;
    for (size_t r = 0; r < num_rows; ++r) {
      float sums[kPanel] = {};
      for (size_t t = 0; t < dim; ++t) {
        for (size_t j = 0; j < kPanel; ++j) {
          const float value = rows[r * row_stride + t];
          const float column = panel[t * kPanel + j];
          sums[j] =
              kSum == Sum::kProduct
                  ? __builtin_fmaf(value, column, sums[j])
                  : __builtin_fmaf(value - column, value - column, sums[j]);
        }
      }
      for (size_t j = 0; j < kPanel; ++j) {
        out[r * out_stride + p * kPanel + j] = sums[j];
      }
    }
  }
}

size_t SelectWithin(const float* values, size_t n, float limit, uint32_t* out) {
  size_t found = 0;
  for (size_t i = 0; i < n; ++i) {
    if (values[i] <= limit) out[found++] = static_cast<uint32_t>(i);
  }
  return found;
}

}  // namespace

constexpr PairTable kScalarPairTable = {Pairs<Sum::kSquaredDifference>,
                                        SelectWithin, Pairs<Sum::kProduct>};

}  // namespace vicinal::kernels
