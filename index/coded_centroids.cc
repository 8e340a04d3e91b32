#include "index/coded_centroids.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/distance.h"

namespace vicinal {

float CodedCentroids::Round(std::span<const float> values, int8_t* out) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  const float inverse = largest > 0 ? 127 / largest : 0;
  for (size_t i = 0; i < values.size(); ++i) {
    // To the nearest integer, without a call: 1.5 * 2^23 leaves no fraction.
    constexpr float kShift = 12'582'912;
    out[i] = static_cast<int8_t>(
        std::bit_cast<int32_t>(values[i] * inverse + kShift) -
        std::bit_cast<int32_t>(kShift));
  }
  return largest / 127;
}

CodedCentroids::CodedCentroids(MatrixView centroids, Metric metric)
    : ops_(&OpsFor(Metric::kInnerProduct, ElementType::kInt8)),
      is_l2_(metric == Metric::kL2),
      mean_(centroids.dim),
      codes_(centroids.num_rows * centroids.dim),
      norms2_(centroids.num_rows) {
  const size_t dim = centroids.dim;
  for (size_t i = 0; i < centroids.num_rows; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      mean_[j] += centroids.row(i)[j] / static_cast<float>(centroids.num_rows);
    }
  }
  std::vector<float> centred(dim);
  for (size_t i = 0; i < centroids.num_rows; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      centred[j] = centroids.row(i)[j] - mean_[j];
      if (is_l2_) norms2_[i] += centred[j] * centred[j];
    }
    scales_.push_back(Round(centred, &codes_[i * dim]));
  }
}

void CodedCentroids::Estimate(const float* query, size_t first, size_t count,
                              Scratch* scratch, float* out) const {
  const size_t dim = mean_.size();
  scratch->centred.assign(query, query + dim);
  if (is_l2_) {
    for (size_t j = 0; j < dim; ++j) scratch->centred[j] -= mean_[j];
  }
  scratch->query.resize(dim);
  const float scale =
      (is_l2_ ? 2 : 1) * Round(scratch->centred, scratch->query.data());
  ops_->scan(scratch->query.data(), codes_.data() + first * dim, dim, count,
             dim, out);
  // |q - c|^2 is |c|^2 - 2 <q, c> and |q|^2, which all share; the kernel gives
  // minus the product.
  for (size_t i = 0; i < count; ++i) {
    out[i] = norms2_[first + i] + scale * scales_[first + i] * out[i];
  }
}

}  // namespace vicinal
