// The real clock against the system's own.
#include "src/base/clock.h"

#include <chrono>
#include <cstdint>

#include "gtest/gtest.h"

namespace vicinal {
namespace {

TEST(ClockTest, RealIsOneObject) { EXPECT_EQ(&Clock::Real(), &Clock::Real()); }

TEST(ClockTest, NowIsTheSteadyClocks) {
  for (int i = 0; i < 1'000; ++i) {
    const auto before = std::chrono::steady_clock::now();
    const auto now = Clock::Real().Now();
    const auto after = std::chrono::steady_clock::now();
    ASSERT_LE(before, now);
    ASSERT_LE(now, after);
  }
}

TEST(ClockTest, UnixMicrosCountsFrom1970) {
  // The wall clock may be set at any time, so only its century is certain.
  const int64_t micros = Clock::Real().UnixMicros();
  constexpr int64_t kYearMicros = int64_t{365} * 24 * 3600 * 1'000'000;
  EXPECT_GT(micros, 50 * kYearMicros);
  EXPECT_LT(micros, 150 * kYearMicros);
}

}  // namespace
}  // namespace vicinal
