// Which table is chosen, and the functions that use the active one. Ctest runs
// these under every value of VICINAL_SIMD too.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "src/base/random.h"
#include "src/base/types.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

double NormOf(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += double{value} * value;
  return std::sqrt(sum);
}

TEST(DispatchTest, ScalarTableAlwaysExists) {
  ASSERT_NE(FindKernels("scalar"), nullptr);
  EXPECT_STREQ(FindKernels("scalar")->name, "scalar");
}

TEST(DispatchTest, FindsNoTableOfAnotherName) {
  EXPECT_EQ(FindKernels(""), nullptr);
  EXPECT_EQ(FindKernels("AVX2"), nullptr);
  EXPECT_EQ(FindKernels("neon"), nullptr);
}

TEST(DispatchTest, ActiveTableIsTheForcedOneOrTheFastest) {
  const char* forced = std::getenv("VICINAL_SIMD");
  const DistanceKernels& active = ActiveKernels();
  if (forced != nullptr && FindKernels(forced) != nullptr) {
    EXPECT_STREQ(active.name, forced);
  } else if (forced != nullptr && ForcedKernels() == "avx512vbmi") {
    EXPECT_STREQ(active.name, "avx512");
  } else if (FindKernels("avx2") != nullptr) {
    EXPECT_STRNE(active.name, "scalar");
  }
  EXPECT_EQ(&active, FindKernels(active.name));
  EXPECT_EQ(&active, &ActiveKernels());
}

TEST(DispatchTest, OpsForReadsTheActiveTable) {
  const float a[] = {1, 2, 3};
  const float b[] = {4, 6, 3};
  EXPECT_EQ(OpsFor(Metric::kL2, ElementType::kFloat32).one(a, b, 3), 25.0f);
  EXPECT_EQ(OpsFor(Metric::kInnerProduct, ElementType::kFloat32).one(a, b, 3),
            -25.0f);
}

TEST(NormalizeTest, GivesUnitLengthAndReturnsTheNorm) {
  Random random(1);
  for (const size_t dim : {1, 2, 15, 16, 17, 63, 64, 65, 100, 784}) {
    std::vector<float> row(dim);
    for (float& value : row) value = static_cast<float>(random.Gaussian());
    std::vector<float> unit(dim);
    const float norm = NormalizeInto(row.data(), dim, unit.data());
    EXPECT_NEAR(norm, NormOf(row), 1e-6 * NormOf(row)) << dim;
    EXPECT_NEAR(NormOf(unit), 1.0, 1e-6) << dim;
    for (size_t i = 0; i < dim; ++i) EXPECT_EQ(unit[i], row[i] / norm);
  }
}

TEST(NormalizeTest, MayWriteOverItsInput) {
  std::vector<float> row = {3, 0, -4};
  EXPECT_EQ(NormalizeInto(row.data(), row.size(), row.data()), 5.0f);
  EXPECT_EQ(row, (std::vector<float>{0.6f, 0, -0.8f}));
}

TEST(NormalizeTest, LeavesAZeroRowZero) {
  const std::vector<float> row = {0, -0.0f, 0};
  std::vector<float> unit(3, 7.0f);
  EXPECT_EQ(NormalizeInto(row.data(), 3, unit.data()), 0.0f);
  EXPECT_EQ(unit, (std::vector<float>{0, 0, 0}));
}

TEST(NormalizeTest, SurvivesSquaresThatOverflowOrVanish) {
  for (const float scale : {3e38f, 1e30f, 1e-25f, 1e-38f, 1e-44f}) {
    const std::vector<float> row = {scale, -scale, 0, scale};
    std::vector<float> unit(4);
    const float norm = NormalizeInto(row.data(), 4, unit.data());
    EXPECT_NEAR(NormOf(unit), 1.0, 1e-6) << scale;
    EXPECT_LT(unit[1], 0) << scale;
    EXPECT_GT(norm, 0) << scale;
    // 3e38 * sqrt(3) is no float; every other norm is.
    EXPECT_EQ(norm < kInfinity, scale < 1e38f) << scale;
  }
}

TEST(NormalizeTest, MayWriteOverItsInputWhenItRescales) {
  std::vector<float> row = {3e30f, 0, -4e30f};
  EXPECT_FLOAT_EQ(NormalizeInto(row.data(), 3, row.data()), 5e30f);
  EXPECT_FLOAT_EQ(row[0], 0.6f);
  EXPECT_FLOAT_EQ(row[2], -0.8f);
}

TEST(AllFiniteTest, FindsOneBadValueAnywhere) {
  for (const float bad : {kInfinity, -kInfinity, kNan, -kNan,
                          std::numeric_limits<float>::signaling_NaN()}) {
    for (size_t n = 1; n <= 200; ++n) {
      std::vector<float> values(n, -1.5f);
      ASSERT_TRUE(AllFinite(values.data(), n));
      for (size_t i = 0; i < n; ++i) {
        values[i] = bad;
        ASSERT_FALSE(AllFinite(values.data(), n)) << n << " at " << i;
        values[i] = -1.5f;
      }
    }
  }
}

TEST(AllFiniteTest, AcceptsExtremesAndNothing) {
  const std::vector<float> values = {0.0f,
                                     -0.0f,
                                     std::numeric_limits<float>::max(),
                                     std::numeric_limits<float>::lowest(),
                                     std::numeric_limits<float>::denorm_min(),
                                     -std::numeric_limits<float>::denorm_min()};
  EXPECT_TRUE(AllFinite(values.data(), values.size()));
  EXPECT_TRUE(AllFinite(nullptr, 0));
}

TEST(AllFiniteTest, DoesNotLookBehindTheEnd) {
  std::vector<float> values(130, kNan);
  for (size_t n = 0; n < 129; ++n) {
    EXPECT_TRUE(AllFinite(values.data(), n)) << n;
    values[n] = 1;
  }
}

}  // namespace
}  // namespace vicinal
