// The generator is part of file formats and replays: its values are fixed.
#include "src/base/random.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace vicinal {
namespace {

TEST(RandomTest, HasTheFirstValuesOfSplitMix64) {
  Random zero(0);
  for (const uint64_t expected :
       {0xE220A8397B1DCDAFU, 0x6E789E6AA1B965F4U, 0x06C45D188009454FU,
        0xF88BB8A8724C81ECU, 0x1B39896A51A8749BU}) {
    EXPECT_EQ(zero.Next(), expected);
  }
  Random other(1'234'567);
  for (const uint64_t expected :
       {6'457'827'717'110'365'317U, 3'203'168'211'198'807'973U,
        9'817'491'932'198'370'423U, 4'593'380'528'125'082'431U,
        16'408'922'859'458'223'821U}) {
    EXPECT_EQ(other.Next(), expected);
  }
}

TEST(RandomTest, DerivesItsOtherValuesFromNext) {
  Random raw(9);
  Random uniform(9);
  Random real(9);
  for (int i = 0; i < 1'000; ++i) {
    const uint64_t value = raw.Next();
    EXPECT_EQ(uniform.Uniform(uint64_t{1} << 32), value >> 32);
    EXPECT_EQ(real.UniformDouble(), std::ldexp(value >> 11, -53));
  }
}

TEST(RandomTest, UniformStaysInRangeAndReachesAllOfIt) {
  Random random(10);
  for (const uint64_t n : {1, 2, 3, 7, 100}) {
    std::vector<size_t> counts(n);
    for (uint64_t i = 0; i < 1'000 * n; ++i) ++counts.at(random.Uniform(n));
    for (const size_t count : counts) {  // 6 standard deviations
      EXPECT_NEAR(static_cast<double>(count), 1'000, 6 * std::sqrt(1'000));
    }
  }
  uint64_t largest = 0;
  for (int i = 0; i < 1'000; ++i) {
    const uint64_t value = random.Uniform(UINT64_MAX);
    EXPECT_LT(value, UINT64_MAX);
    largest = std::max(largest, value);
  }
  EXPECT_GT(largest, UINT64_MAX / 100 * 97);
}

TEST(RandomTest, UniformDoubleIsInTheHalfOpenUnitInterval) {
  Random random(11);
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double value = random.UniformDouble();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 6 * std::sqrt(1.0 / 12 / 100'000));
}

TEST(RandomTest, GaussianHasTheMomentsOfTheNormalDistribution) {
  constexpr int kNumValues = 100'000;
  Random random(12);
  double moments[5] = {};
  for (int i = 0; i < kNumValues; ++i) {
    const double value = random.Gaussian();
    ASSERT_TRUE(std::isfinite(value));
    for (int m = 1; m <= 4; ++m) moments[m] += std::pow(value, m) / kNumValues;
  }
  // Tolerances: 6 standard deviations of each mean.
  EXPECT_NEAR(moments[1], 0, 6 * std::sqrt(1.0 / kNumValues));
  EXPECT_NEAR(moments[2], 1, 6 * std::sqrt(2.0 / kNumValues));
  EXPECT_NEAR(moments[3], 0, 6 * std::sqrt(15.0 / kNumValues));
  EXPECT_NEAR(moments[4], 3, 6 * std::sqrt(96.0 / kNumValues));
}

}  // namespace
}  // namespace vicinal
