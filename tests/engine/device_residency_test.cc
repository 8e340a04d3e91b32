// What is loaded onto a device, what is given up, and what is told when it is
// lost.
#include "src/engine/device_residency.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/engine/shared_device.h"
#include "tests/engine/device_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DeviceResidencyTest : public ::testing::Test {
 protected:
  DeviceResidencyTest() {
    shared_.WhenFull([this] { return residency_->EvictOldest(); });
  }
  // As a search that requires it.
  std::shared_ptr<const LoadedSegment> Load(
      const std::shared_ptr<DeviceCopy>& copy) {
    auto loaded = residency_->WaitFor(copy, {});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *loaded;
  }

  const TestRows rows_{1};
  TestDevice device_;
  StoppedClock clock_;
  SharedDevice shared_{&device_, {}};
  std::unique_ptr<DeviceResidency> residency_ =
      std::make_unique<DeviceResidency>(&shared_, &clock_);
};

TEST_F(DeviceResidencyTest, LoadsInTheBackgroundAndOnce) {
  const auto copy = rows_.NewCopy();
  device_.BlockLoads();
  EXPECT_EQ(residency_->Find(copy), nullptr);
  EXPECT_EQ(residency_->Find(copy), nullptr);
  device_.Unblock();
  const auto loaded = Load(copy);
  ASSERT_NE(loaded, nullptr);
  EXPECT_EQ(residency_->Find(copy), loaded);
  EXPECT_EQ(device_.num_loads(), 1);
  const ResidencyStats stats = residency_->stats();
  EXPECT_EQ(stats.num_segments, 1u);
  EXPECT_EQ(stats.resident_bytes, 1000u);
  EXPECT_EQ(stats.num_loads, 1u);
}

TEST_F(DeviceResidencyTest, GivesUpTheLeastRecentlyUsed) {
  device_.HoldAtMost(2);
  const auto a = rows_.NewCopy(), b = rows_.NewCopy(), c = rows_.NewCopy();
  Load(a), Load(b);
  EXPECT_NE(residency_->Find(a), nullptr);
  EXPECT_NE(Load(c), nullptr);
  EXPECT_EQ(residency_->stats().num_evictions, 1u);
  EXPECT_NE(residency_->Find(a), nullptr);
  EXPECT_NE(residency_->Find(c), nullptr);
  // b was, and comes back in place of a.
  EXPECT_NE(Load(b), nullptr);
  EXPECT_NE(residency_->Find(c), nullptr);
  EXPECT_EQ(residency_->stats().num_evictions, 2u);
  EXPECT_EQ(device_.num_copies(), 2u);
}

TEST_F(DeviceResidencyTest, BuildsGetRoomToo) {
  device_.HoldAtMost(1);
  const auto a = rows_.NewCopy();
  Load(a);
  std::shared_ptr<const LoadedSegment> of_build;
  EXPECT_EQ(shared_.Load(a->rows(), &of_build), BackendStatus::kOk);
  EXPECT_EQ(residency_->stats().num_evictions, 1u);
  EXPECT_EQ(residency_->stats().num_segments, 0u);
  // What a build holds is not given up.
  EXPECT_EQ(Load(a), nullptr);
  EXPECT_EQ(shared_.refusals().num_no_memory, 1u);
}

TEST_F(DeviceResidencyTest, WaitsUntilAnEvictedCopyIsNotSearchedAnyMore) {
  device_.HoldAtMost(1);
  const auto a = rows_.NewCopy(), b = rows_.NewCopy();
  auto searched = Load(a);
  EXPECT_EQ(residency_->Find(b), nullptr);
  WaitUntil([&] { return residency_->stats().num_evictions == 1; });
  EXPECT_EQ(searched->num_rows(), TestRows::kNum);  // it is still there
  EXPECT_EQ(device_.num_copies(), 1u);
  searched.reset();
  EXPECT_NE(Load(b), nullptr);
  EXPECT_EQ(device_.num_loads(), 3);  // one more when there was room
}

TEST_F(DeviceResidencyTest, TriesWhatDoesNotFitAgainAfterAWhile) {
  device_.HoldAtMost(0);
  const auto copy = rows_.NewCopy();
  EXPECT_EQ(Load(copy), nullptr);
  EXPECT_EQ(Load(copy), nullptr);
  EXPECT_EQ(device_.num_loads(), 1);
  device_.HoldAtMost(1);
  EXPECT_EQ(Load(copy), nullptr);
  clock_.Advance(DeviceResidency::kRetryDelay);
  EXPECT_NE(Load(copy), nullptr);
  EXPECT_EQ(device_.num_loads(), 2);
}

TEST_F(DeviceResidencyTest, DoesNotTryWhatIsUnsupportedAgain) {
  device_.FailLoads(BackendStatus::kUnsupported, 1);
  const auto copy = rows_.NewCopy();
  EXPECT_EQ(Load(copy), nullptr);
  clock_.Advance(2 * DeviceResidency::kRetryDelay);
  EXPECT_EQ(Load(copy), nullptr);
  EXPECT_EQ(device_.num_loads(), 1);
}

TEST_F(DeviceResidencyTest, ACopyGoesWithItsSegment) {
  auto copy = rows_.NewCopy();
  Load(copy);
  EXPECT_EQ(device_.num_copies(), 1u);
  copy.reset();
  WaitUntil([&] { return device_.num_copies() == 0; });
  EXPECT_EQ(residency_->stats().num_segments, 0u);
}

TEST_F(DeviceResidencyTest, DoesNotLoadASegmentThatIsGone) {
  auto rows = std::make_unique<TestRows>(2);
  const auto gone = rows->NewCopy(), blocked = rows_.NewCopy();
  device_.BlockLoads();
  residency_->Find(blocked);
  device_.WaitForBlocked(1);
  residency_->Find(gone);
  rows.reset();
  device_.Unblock();
  EXPECT_EQ(Load(gone), nullptr);
  EXPECT_EQ(device_.num_loads(), 1);
}

TEST_F(DeviceResidencyTest, FreesCopiesOfSegmentsThatOutliveIt) {
  const auto a = rows_.NewCopy(), b = rows_.NewCopy();
  Load(a);
  residency_->Find(b);
  residency_.reset();
  EXPECT_EQ(device_.num_copies(), 0u);
}

TEST_F(DeviceResidencyTest, WaitsNoLongerThanTheCaller) {
  const auto copy = rows_.NewCopy();
  device_.BlockLoads();
  StopCondition stop;
  stop.deadline = std::chrono::steady_clock::now();
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(residency_->WaitFor(copy, stop).status()));
  stop = {};
  stop.cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(residency_->WaitFor(copy, stop).status()));
  device_.Unblock();
  EXPECT_NE(Load(copy), nullptr);
}

TEST(SharedDeviceTest, CountsRefusalsAndTellsOfALossOnce) {
  const TestRows rows(1);
  TestDevice device;
  std::vector<std::string> warnings;
  SharedDevice shared(&device, [&](absl::string_view message) {
    warnings.emplace_back(message);
  });
  std::shared_ptr<const LoadedSegment> segment;
  const SegmentRows wanted = {rows.view, Metric::kL2};
  ASSERT_EQ(shared.Load(wanted, &segment), BackendStatus::kOk);
  std::vector<Neighbor> out(1);
  const auto search = [&] {
    return shared.Search(*segment, {rows.view.data, 1}, 1, nullptr, out.data(),
                         nullptr);
  };
  EXPECT_EQ(search(), BackendStatus::kOk);
  EXPECT_EQ(out[0].row, 0u);
  device.FailSearches(BackendStatus::kNoMemory);
  EXPECT_EQ(search(), BackendStatus::kNoMemory);
  device.FailSearches(BackendStatus::kUnsupported);
  EXPECT_EQ(search(), BackendStatus::kUnsupported);
  EXPECT_EQ(search(), BackendStatus::kUnsupported);
  EXPECT_TRUE(warnings.empty());
  device.FailSearches(BackendStatus::kDeviceLost);
  EXPECT_EQ(search(), BackendStatus::kDeviceLost);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("test:0 is lost")));
  const int num_searches = device.num_searches();
  EXPECT_EQ(search(), BackendStatus::kDeviceLost);
  EXPECT_EQ(shared.Load(wanted, &segment), BackendStatus::kDeviceLost);
  EXPECT_EQ(warnings.size(), 1u);
  EXPECT_EQ(device.num_searches(), num_searches);
  EXPECT_EQ(shared.refusals().num_no_memory, 1u);
  EXPECT_EQ(shared.refusals().num_unsupported, 2u);
  EXPECT_EQ(shared.refusals().num_lost, 3u);
}

}  // namespace
}  // namespace vicinal
