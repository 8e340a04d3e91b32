// When a search is told to stop, and why.
#include "src/base/cancel.h"

#include <chrono>
#include <thread>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "tests/client/matchers.h"

namespace vicinal {
namespace {

using client::Fails;
using client::IsOk;
using Time = std::chrono::steady_clock::time_point;

Time InAnHour() {
  return std::chrono::steady_clock::now() + std::chrono::hours(1);
}

TEST(CancelTokenTest, StaysCancelledOnceAnyThreadSaysSo) {
  CancelToken token;
  EXPECT_FALSE(token.cancelled());
  std::thread([&token] { token.Cancel(); }).join();
  EXPECT_TRUE(token.cancelled());
  token.Cancel();
  EXPECT_TRUE(token.cancelled());
}

TEST(StopConditionTest, NeverStopsUnlessSaidOtherwise) {
  EXPECT_THAT(StopCondition().Check(), IsOk());
}

TEST(StopConditionTest, StopsFromTheDeadlineOn) {
  EXPECT_THAT(StopCondition{.deadline = InAnHour()}.Check(), IsOk());
  for (const Time passed : {std::chrono::steady_clock::now(), Time::min()}) {
    EXPECT_THAT(
        StopCondition{.deadline = passed}.Check(),
        Fails(absl::StatusCode::kDeadlineExceeded, "The deadline passed"));
  }
}

TEST(StopConditionTest, StopsAsSoonAsTheCallerCancels) {
  CancelToken token;
  const StopCondition stop{.deadline = InAnHour(),
                           .cancelled = [&token] { return token.cancelled(); }};
  const StopCondition copy = stop;
  EXPECT_THAT(stop.Check(), IsOk());
  token.Cancel();
  for (const StopCondition& condition : {stop, copy}) {
    EXPECT_THAT(condition.Check(),
                Fails(absl::StatusCode::kCancelled, "The caller cancelled"));
  }
}

TEST(StopConditionTest, SaysCancelledWhenTheDeadlinePassedToo) {
  const StopCondition stop{.deadline = Time::min(),
                           .cancelled = [] { return true; }};
  EXPECT_EQ(stop.Check().code(), absl::StatusCode::kCancelled);
  const StopCondition late{.deadline = Time::min(),
                           .cancelled = [] { return false; }};
  EXPECT_EQ(late.Check().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(ProgressTest, StartsAtNothingOfAnUnknownTotal) {
  const Progress progress;
  EXPECT_EQ(progress.done, 0U);
  EXPECT_EQ(progress.total, 0U);
}

}  // namespace
}  // namespace vicinal
