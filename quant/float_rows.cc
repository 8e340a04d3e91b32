#include "quant/float_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/base/vector_set.h"
#include "src/distance/distance.h"

namespace vicinal {

void PutFloats(std::string* out, std::span<const float> values) {
  out->append(reinterpret_cast<const char*>(values.data()),
              values.size() * sizeof(float));
}

bool TakeFloats(absl::string_view* in, size_t n, std::vector<float>* out) {
  if (in->size() / sizeof(float) < n) return false;
  out->resize(n);
  if (n == 0) return true;
  std::memcpy(out->data(), in->data(), n * sizeof(float));
  in->remove_prefix(n * sizeof(float));
  return AllFinite(out->data(), n);
}

std::vector<float> MeanOf(MatrixView rows) {
  std::vector<double> sums(rows.dim);
  for (size_t i = 0; i < rows.num_rows; ++i) {
    for (size_t t = 0; t < rows.dim; ++t) sums[t] += rows.row(i)[t];
  }
  std::vector<float> mean(rows.dim);
  const auto n = static_cast<double>(std::max<size_t>(1, rows.num_rows));
  for (size_t t = 0; t < rows.dim; ++t) {
    mean[t] = static_cast<float>(sums[t] / n);
  }
  return mean;
}

double SumSquares(const float* values, size_t n) {
  constexpr size_t kBlock = 64;
  double sum = 0;
  for (size_t first = 0; first < n; first += kBlock) {
    float block = 0;
    for (size_t i = first; i < std::min(n, first + kBlock); ++i) {
      block += values[i] * values[i];
    }
    sum += block;
  }
  return sum;
}

}  // namespace vicinal
