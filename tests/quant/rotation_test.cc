#include "quant/rotation.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"

namespace vicinal {
namespace {

std::vector<float> RotationOf(size_t n, uint64_t seed) {
  std::vector<float> matrix(n * n);
  for (size_t i = 0; i < n; ++i) matrix[i * n + i] = 1;
  Rotation(n, seed).Apply(matrix.data(), n);
  return matrix;
}

TEST(RotationTest, IsOrthogonal) {
  for (const size_t n : {16, 48, 64, 112, 192, 320, 448}) {
    const auto r = RotationOf(n, 7);
    for (size_t i = 0; i < n; i += 5) {
      for (size_t j = 0; j < n; j += 3) {
        double sum = 0;
        for (size_t k = 0; k < n; ++k) sum += r[i * n + k] * r[j * n + k];
        ASSERT_NEAR(sum, i == j ? 1 : 0, 1e-5) << n;
      }
    }
  }
}

// A single coordinate must not stay in few others.
TEST(RotationTest, SpreadsOneCoordinateOverAll) {
  for (const size_t n : {64, 112, 192, 448}) {
    const auto r = RotationOf(n, 3);
    for (size_t column = 0; column < n; column += 7) {
      double fourth = 0;
      float largest = 0;
      for (size_t i = 0; i < n; ++i) {
        const double value = r[i * n + column];
        fourth += value * value * value * value;
        largest = std::max(largest, std::abs(r[i * n + column]));
      }
      EXPECT_LT(fourth * static_cast<double>(n), 16) << n;  // kurtosis
      EXPECT_LT(largest, 0.8) << n;
    }
  }
}

TEST(RotationTest, OfOneVectorIsThatOfAColumn) {
  for (const size_t n : {16, 64, 112, 448}) {
    const auto r = RotationOf(n, 9);
    std::vector<float> vector(n);
    vector[n / 3] = 1;
    Rotation(n, 9).Apply(vector.data());
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(vector[i], r[i * n + n / 3]);
  }
}

TEST(RotationTest, HasAnInverse) {
  for (const size_t n : {16, 48, 256, 784}) {
    std::vector<float> vector(n);
    for (size_t i = 0; i < n; ++i) vector[i] = static_cast<float>(i % 7) - 2;
    const std::vector<float> before = vector;
    const Rotation rotation(n, 4);
    rotation.Apply(vector.data());
    EXPECT_NE(vector, before);
    rotation.ApplyInverse(vector.data());
    for (size_t i = 0; i < n; ++i) EXPECT_NEAR(vector[i], before[i], 1e-5);
  }
}

TEST(RotationTest, IsGivenByItsSeed) {
  EXPECT_EQ(RotationOf(48, 5), RotationOf(48, 5));
  EXPECT_NE(RotationOf(48, 5), RotationOf(48, 6));
}

}  // namespace
}  // namespace vicinal
