#include "quant/rounded_matrix.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/float_rows.h"
#include "src/distance/code_kernels.h"

namespace vicinal {
namespace {

// Length of rounded rows and vectors: their product is below 2^31 for any
// dimension.
constexpr float kRoundedNorm = 32'000;

}  // namespace

RoundedMatrix::RoundedMatrix(std::span<const float> rows, size_t dim)
    : dim_(dim),
      padded_dim_((dim + 31) / 32 * 32),
      rows_(rows.size() / dim * padded_dim_),
      scale_(rows.size() / dim) {
  for (size_t i = 0; i < scale_.size(); ++i) {
    const float* row = &rows[i * dim];
    const auto norm = static_cast<float>(std::sqrt(SumSquares(row, dim)));
    if (!(norm > 0)) continue;
    scale_[i] = norm / kRoundedNorm;
    for (size_t j = 0; j < dim; ++j) {
      rows_[i * padded_dim_ + j] =
          static_cast<int16_t>(std::lrint(row[j] / scale_[i]));
    }
  }
}

void RoundedMatrix::Multiply(const float* vector, float norm, Scratch* scratch,
                             float* out) const {
  scratch->vector.assign(padded_dim_, 0);
  scratch->products.resize(num_rows());
  const float to_rounded = norm > 0 ? kRoundedNorm / norm : 0;
  for (size_t j = 0; j < dim_; ++j) {
    scratch->vector[j] =
        static_cast<int16_t>(RoundToInteger(vector[j] * to_rounded));
  }
  ActiveCodeKernels().project(rows_.data(), scratch->vector.data(), num_rows(),
                              padded_dim_, scratch->products.data());
  const float from_rounded = norm / kRoundedNorm;
  for (size_t i = 0; i < num_rows(); ++i) {
    out[i] =
        static_cast<float>(scratch->products[i]) * scale_[i] * from_rounded;
  }
}

}  // namespace vicinal
