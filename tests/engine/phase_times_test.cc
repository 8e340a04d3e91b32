#include "src/engine/phase_times.h"

#include <chrono>

#include "gtest/gtest.h"
#include "tests/engine/device_testing.h"

namespace vicinal {
namespace {

TEST(PhaseTimesTest, AddsUpPhasesThatComeAgainAndLeavesShortOnesOut) {
  StoppedClock clock;
  PhaseTimes times(clock);
  EXPECT_EQ(times.Text(), "0.0 s");
  clock.Advance(std::chrono::seconds(1));  // of no phase
  times.Begin("ordering");
  clock.Advance(std::chrono::seconds(2));
  times.Begin("encoding");
  clock.Advance(std::chrono::milliseconds(500));
  times.Begin("ordering");
  clock.Advance(std::chrono::seconds(6));
  times.Begin("committing");
  clock.Advance(std::chrono::milliseconds(500));
  EXPECT_EQ(times.Text(), "10.0 s: ordering 8.0 s");
  clock.Advance(std::chrono::seconds(2));  // it goes on
  EXPECT_EQ(times.Text(), "12.0 s: ordering 8.0 s, committing 2.5 s");
}

}  // namespace
}  // namespace vicinal
