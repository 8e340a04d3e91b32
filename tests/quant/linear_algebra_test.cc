#include "quant/linear_algebra.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/random.h"

namespace vicinal {
namespace {

std::vector<float> RandomMatrix(size_t rows, size_t columns, uint64_t seed) {
  Random random(seed);
  std::vector<float> out(rows * columns);
  for (float& value : out) value = static_cast<float>(random.Gaussian());
  return out;
}

TEST(LinearAlgebraTest, ProductsAreThoseOfTheDefinition) {
  const size_t n = 7, m = 5, d = 19;
  const auto a = RandomMatrix(n, d, 1), b = RandomMatrix(m, d, 2);
  std::vector<float> out(n * m);
  MultiplyTransposed({a.data(), n, d, d}, {b.data(), m, d, d}, out.data(), m);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < m; ++j) {
      double sum = 0;
      for (size_t k = 0; k < d; ++k) sum += a[i * d + k] * b[j * d + k];
      EXPECT_NEAR(out[i * m + j], sum, 1e-4);
    }
  }
}

TEST(LinearAlgebraTest, SecondMomentsAreThoseOfTheDefinition) {
  const size_t n = 1'300, d = 6;
  const auto rows = RandomMatrix(n, d, 3);
  const std::vector<float> mean = {1, 0, -1, 0.5, 0, 2};
  const auto moments = SecondMoments({rows.data(), n, d, d}, mean);
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = 0; j < d; ++j) {
      double sum = 0;
      for (size_t r = 0; r < n; ++r) {
        sum += (rows[r * d + i] - mean[i]) * (rows[r * d + j] - mean[j]);
      }
      EXPECT_NEAR(moments[i * d + j], sum / n, 1e-4);
    }
  }
}

// A matrix that is not diagonal: transposed vectors would not satisfy this.
TEST(LinearAlgebraTest, EigenvectorsSatisfyTheirEquation) {
  const size_t d = 9;
  const auto root = RandomMatrix(d, d, 4);
  std::vector<float> matrix(d * d);
  MultiplyTransposed({root.data(), d, d, d}, {root.data(), d, d, d},
                     matrix.data(), d);
  const auto eigen = SymmetricEigen(matrix, d);
  ASSERT_TRUE(eigen.ok());
  for (size_t i = 0; i < d; ++i) {
    if (i > 0) {
      EXPECT_LE(eigen->values[i], eigen->values[i - 1]);
    }
    const float* v = &eigen->vectors[i * d];
    float largest = 0;
    for (size_t r = 0; r < d; ++r) {
      double sum = 0;
      for (size_t c = 0; c < d; ++c) sum += matrix[r * d + c] * v[c];
      EXPECT_NEAR(sum, eigen->values[i] * v[r], 1e-3);
      if (std::abs(v[r]) > std::abs(largest)) largest = v[r];
    }
    EXPECT_GT(largest, 0) << "the sign is fixed";
  }
}

}  // namespace
}  // namespace vicinal
