// Every binary16 there is, and every place where rounding has to choose.
#include "src/base/half.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/random.h"

namespace vicinal {
namespace {

constexpr uint32_t kNumHalves = 65'536;
constexpr uint16_t kSign = 0x8000;
constexpr uint16_t kInfinity = 0x7C00;
constexpr uint16_t kMax = 0x7BFF;  // 65504
constexpr uint16_t kQuiet = 0x0200;

bool IsNan(uint32_t half) { return (half & 0x7FFF) > kInfinity; }

std::vector<uint16_t> AllHalves() {
  std::vector<uint16_t> halves(kNumHalves);
  for (uint32_t h = 0; h < kNumHalves; ++h)
    halves[h] = static_cast<uint16_t>(h);
  return halves;
}

TEST(HalfTest, HasTheValueThatTheStandardSays) {
  for (uint32_t h = 0; h < kNumHalves; ++h) {
    const int exponent = static_cast<int>((h >> 10) & 0x1F);
    const int mantissa = static_cast<int>(h & 0x3FF);
    const float value = HalfToFloat(static_cast<uint16_t>(h));
    ASSERT_EQ(std::signbit(value), (h & kSign) != 0) << h;
    if (IsNan(h)) {
      ASSERT_TRUE(std::isnan(value)) << h;
    } else if (exponent == 31) {
      ASSERT_TRUE(std::isinf(value)) << h;
    } else {
      ASSERT_EQ(std::fabs(value),
                exponent == 0 ? std::ldexp(mantissa, -24)
                              : std::ldexp(1024 + mantissa, exponent - 25))
          << h;
    }
  }
}

TEST(HalfTest, EveryPatternComesBackAndNansComeBackQuiet) {
  for (uint32_t h = 0; h < kNumHalves; ++h) {
    const uint32_t expected = IsNan(h) ? h | kQuiet : h;
    ASSERT_EQ(FloatToHalf(HalfToFloat(static_cast<uint16_t>(h))), expected);
  }
}

TEST(HalfTest, RoundsToNearestAndTiesToEvenBetweenAllNeighbours) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (uint16_t h = 0; h < kMax; ++h) {
    const float low = HalfToFloat(h);
    const float high = HalfToFloat(h + 1);
    const float middle = low + (high - low) / 2;  // exact in binary32
    const uint16_t even = h % 2 == 0 ? h : h + 1;
    ASSERT_EQ(FloatToHalf(middle), even) << h;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0F)), h);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, infinity)), h + 1);
    ASSERT_EQ(FloatToHalf(-middle), even | kSign) << h;
    ASSERT_EQ(FloatToHalf(-std::nextafter(middle, 0.0F)), h | kSign);
    ASSERT_EQ(FloatToHalf(-std::nextafter(middle, infinity)), (h + 1) | kSign);
  }
}

TEST(HalfTest, OverflowGivesInfinityFromHalfAStepAboveTheLargest) {
  EXPECT_EQ(FloatToHalf(65'504.0F), kMax);
  EXPECT_EQ(FloatToHalf(std::nextafter(65'520.0F, 0.0F)), kMax);
  EXPECT_EQ(FloatToHalf(65'520.0F), kInfinity);
  EXPECT_EQ(FloatToHalf(-65'520.0F), kInfinity | kSign);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::infinity()), kInfinity);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::infinity()),
            kInfinity | kSign);
}

TEST(HalfTest, WhatIsTooSmallKeepsOnlyItsSign) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(FloatToHalf(tiny), 0);
  EXPECT_EQ(FloatToHalf(-tiny), kSign);
  EXPECT_EQ(FloatToHalf(0x1.0p-25F), 0);  // a tie with the smallest subnormal
  EXPECT_EQ(FloatToHalf(0x1.000002p-25F), 1);
  EXPECT_EQ(FloatToHalf(-0.0F), kSign);
}

TEST(HalfTest, NansStayNansWhateverTheirPayload) {
  for (uint32_t bit = 0; bit < 23; ++bit) {
    for (const uint32_t sign : {0U, 0x80000000U}) {
      const auto nan =
          std::bit_cast<float>(sign | 0x7F800000U | (uint32_t{1} << bit));
      const uint16_t half = FloatToHalf(nan);
      EXPECT_TRUE(IsNan(half)) << bit;
      EXPECT_EQ((half & kSign) != 0, sign != 0);
      EXPECT_NE(half & kQuiet, 0);
    }
  }
}

TEST(HalfTest, SpansOfHalvesEqualSingleOnes) {
  const std::vector<uint16_t> halves = AllHalves();
  std::vector<float> floats(halves.size());
  HalfToFloat(halves, floats);
  for (uint32_t h = 0; h < kNumHalves; ++h) {
    ASSERT_EQ(std::bit_cast<uint32_t>(floats[h]),
              std::bit_cast<uint32_t>(HalfToFloat(halves[h])))
        << h;
  }
}

TEST(HalfTest, SpansOfFloatsEqualSingleOnesForAnyBits) {
  Random random(5);
  std::vector<float> floats(200'000);
  for (float& value : floats) {
    value = std::bit_cast<float>(static_cast<uint32_t>(random.Next()));
    // Half of them in and around the range of binary16.
    if (random.Uniform(2) == 0) value = std::ldexp(std::fmod(value, 4.0F), -15);
  }
  std::vector<uint16_t> halves(floats.size());
  FloatToHalf(floats, halves);
  for (size_t i = 0; i < floats.size(); ++i) {
    ASSERT_EQ(halves[i], FloatToHalf(floats[i]))
        << std::hexfloat << floats[i] << " at " << i;
  }
}

TEST(HalfTest, SpansOfAnyLengthAndAlignmentWriteNothingBehind) {
  std::vector<float> floats(48);
  for (size_t i = 0; i < floats.size(); ++i) {
    floats[i] = static_cast<float>(i) + 0.5F;
  }
  for (size_t start = 0; start < 8; ++start) {
    for (size_t n = 0; n <= 33; ++n) {
      const auto in = std::span(floats).subspan(start, n);
      std::vector<uint16_t> halves(48, 0xABCD);
      FloatToHalf(in, std::span(halves).subspan(start, n));
      std::vector<float> back(48, -1.0F);
      HalfToFloat(std::span(halves).subspan(start, n),
                  std::span(back).subspan(start, n));
      for (size_t i = 0; i < 48; ++i) {
        const bool inside = i >= start && i < start + n;
        ASSERT_EQ(back[i], inside ? floats[i] : -1.0F) << n << " at " << i;
        ASSERT_EQ(halves[i], inside ? FloatToHalf(floats[i]) : 0xABCD);
      }
    }
  }
}

TEST(HalfDeathTest, SpansOfDifferentLengthsAbort) {
  std::vector<float> floats(8);
  std::vector<uint16_t> halves(9);
  EXPECT_DEATH(FloatToHalf(floats, halves), "8 vs. 9");
  EXPECT_DEATH(HalfToFloat(halves, floats), "9 vs. 8");
}

}  // namespace
}  // namespace vicinal
