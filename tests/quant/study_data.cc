#include "tests/quant/study_data.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "quant/rotation.h"
#include "src/base/random.h"

namespace vicinal {

std::vector<float> StudyRows(size_t num_rows, size_t dim, double alpha,
                             uint64_t seed) {
  constexpr size_t kClusters = 300;
  Random random(seed);
  std::vector<double> deviation(dim);
  for (size_t j = 0; j < dim; ++j) {
    deviation[j] = std::pow(static_cast<double>(j) + 1, -alpha / 2);
  }
  std::vector<double> centres(kClusters * dim);
  for (size_t i = 0; i < centres.size(); ++i) {
    centres[i] = 0.7 * random.Gaussian() * deviation[i % dim];
  }
  std::vector<float> rows(num_rows * dim);
  for (size_t i = 0; i < num_rows; ++i) {
    const double* centre = &centres[random.Uniform(kClusters) * dim];
    const double length = std::exp(0.15 * random.Gaussian());
    for (size_t j = 0; j < dim; ++j) {
      rows[i * dim + j] = static_cast<float>(
          length * (centre[j] + 0.72 * random.Gaussian() * deviation[j]));
    }
  }
  return rows;
}

std::vector<float> TurnedStudyRows(size_t num_rows, size_t dim, double alpha,
                                   uint64_t seed) {
  std::vector<float> rows = StudyRows(num_rows, dim, alpha, seed);
  std::vector<float> columns(rows.size());
  for (size_t i = 0; i < num_rows; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      columns[j * num_rows + i] = rows[i * dim + j];
    }
  }
  Rotation(dim, seed).Apply(columns.data(), num_rows);
  for (size_t i = 0; i < num_rows; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      rows[i * dim + j] = columns[j * num_rows + i];
    }
  }
  return rows;
}

}  // namespace vicinal
