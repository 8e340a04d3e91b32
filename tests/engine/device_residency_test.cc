// What is loaded onto which device, what is given up, and what is told when one
// is lost.
#include "src/engine/device_residency.h"

#include <chrono>
#include <memory>
#include <string>
#include <thread>
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
    shared_.WhenFull([this] { return residency_->EvictOldest(0); });
    other_shared_.WhenFull([this] { return residency_->EvictOldest(1); });
  }
  void UseBoth() {
    residency_ = std::make_unique<DeviceResidency>(
        std::vector<SharedDevice*>{&shared_, &other_shared_}, &clock_);
  }
  // As a search that requires it.
  PlacedSegment Place(const std::shared_ptr<DeviceCopy>& copy) {
    auto placed = residency_->WaitFor(copy, {});
    EXPECT_TRUE(placed.ok()) << placed.status();
    return *placed;
  }
  std::shared_ptr<const LoadedSegment> Load(
      const std::shared_ptr<DeviceCopy>& copy) {
    return Place(copy).segment;
  }
  // As one that does not.
  std::shared_ptr<const LoadedSegment> Find(
      const std::shared_ptr<DeviceCopy>& copy) {
    return residency_->Find(copy).segment;
  }
  // Where it is now.
  size_t DeviceOf(const std::shared_ptr<DeviceCopy>& copy) {
    const PlacedSegment placed = Place(copy);
    EXPECT_NE(placed.segment, nullptr);
    return placed.device;
  }

  const TestRows rows_{1};
  TestDevice device_;
  TestDevice other_{"test:1"};
  StoppedClock clock_;
  SharedDevice shared_{&device_, {}};
  SharedDevice other_shared_{&other_, {}};
  std::unique_ptr<DeviceResidency> residency_ =
      std::make_unique<DeviceResidency>(std::vector<SharedDevice*>{&shared_},
                                        &clock_);
};

TEST_F(DeviceResidencyTest, LoadsInTheBackgroundAndOnce) {
  const auto copy = rows_.NewCopy();
  device_.BlockLoads();
  EXPECT_EQ(Find(copy), nullptr);
  EXPECT_EQ(Find(copy), nullptr);
  device_.Unblock();
  const auto loaded = Load(copy);
  ASSERT_NE(loaded, nullptr);
  EXPECT_EQ(Find(copy), loaded);
  EXPECT_EQ(device_.num_loads(), 1);
  const ResidencyStats stats = residency_->stats(0);
  EXPECT_EQ(stats.num_segments, 1u);
  EXPECT_EQ(stats.resident_bytes, 1000u);
  EXPECT_EQ(stats.num_loads, 1u);
}

TEST_F(DeviceResidencyTest, GivesUpTheLeastRecentlyUsed) {
  device_.HoldAtMost(2);
  const auto a = rows_.NewCopy(), b = rows_.NewCopy(), c = rows_.NewCopy();
  Load(a), Load(b);
  EXPECT_NE(Find(a), nullptr);
  EXPECT_NE(Load(c), nullptr);
  EXPECT_EQ(residency_->stats(0).num_evictions, 1u);
  EXPECT_NE(Find(a), nullptr);
  EXPECT_NE(Find(c), nullptr);
  // b was, and comes back in place of a.
  EXPECT_NE(Load(b), nullptr);
  EXPECT_NE(Find(c), nullptr);
  EXPECT_EQ(residency_->stats(0).num_evictions, 2u);
  EXPECT_EQ(device_.num_copies(), 2u);
}

TEST_F(DeviceResidencyTest, BuildsGetRoomToo) {
  device_.HoldAtMost(1);
  const auto a = rows_.NewCopy();
  Load(a);
  std::shared_ptr<const LoadedSegment> of_build;
  EXPECT_EQ(shared_.Load({rows_.view, Metric::kL2}, &of_build),
            BackendStatus::kOk);
  EXPECT_EQ(residency_->stats(0).num_evictions, 1u);
  EXPECT_EQ(residency_->stats(0).num_segments, 0u);
  // For what is not worth it nothing is given up.
  of_build.reset();
  Load(a);
  EXPECT_EQ(shared_.Load({.rows = rows_.view, .is_modest = true}, &of_build),
            BackendStatus::kNoMemory);
  EXPECT_EQ(residency_->stats(0).num_segments, 1u);
  EXPECT_EQ(shared_.Load({rows_.view, Metric::kL2}, &of_build),
            BackendStatus::kOk);
  // What a build holds is not given up.
  EXPECT_EQ(Load(a), nullptr);
  EXPECT_EQ(shared_.refusals().num_no_memory, 2u);
}

TEST_F(DeviceResidencyTest, WaitsUntilAnEvictedCopyIsNotSearchedAnyMore) {
  device_.HoldAtMost(1);
  const auto a = rows_.NewCopy(), b = rows_.NewCopy();
  auto searched = Load(a);
  EXPECT_EQ(Find(b), nullptr);
  WaitUntil([&] { return residency_->stats(0).num_evictions == 1; });
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

TEST_F(DeviceResidencyTest, WhatCanNeverFitCostsOthersTheirPlaceLessOften) {
  device_.HoldAtMost(1);
  const auto small = rows_.NewCopy(40), large = rows_.NewCopy(),
             as_large = rows_.NewCopy();
  device_.RefuseRows(TestRows::kNum);
  ASSERT_NE(Load(small), nullptr);
  EXPECT_EQ(Load(large), nullptr);
  EXPECT_EQ(residency_->stats(0).num_evictions, 1u);
  // Another of its size is not even tried.
  ASSERT_NE(Load(small), nullptr);
  int tried = device_.num_loads();
  EXPECT_EQ(Load(as_large), nullptr);
  EXPECT_EQ(device_.num_loads(), tried);
  EXPECT_NE(Find(small), nullptr);
  for (const auto& copy : {as_large, large}) {
    clock_.Advance(DeviceResidency::kRetryDelay);
    EXPECT_EQ(Load(copy), nullptr);
    ASSERT_NE(Load(small), nullptr);
  }
  EXPECT_EQ(residency_->stats(0).num_evictions, 3u);
  tried = device_.num_loads();
  // The second time it is refused for twice as long.
  clock_.Advance(DeviceResidency::kRetryDelay);
  EXPECT_EQ(Load(large), nullptr);
  EXPECT_EQ(Load(as_large), nullptr);
  EXPECT_EQ(device_.num_loads(), tried);
  clock_.Advance(DeviceResidency::kRetryDelay);
  device_.RefuseRows(TestRows::kNum + 1);
  EXPECT_NE(Load(large), nullptr);
  EXPECT_NE(Load(as_large), nullptr);
}

TEST_F(DeviceResidencyTest, ManyThatDoNotFitAreOneAttempt) {
  device_.HoldAtMost(0);
  device_.BlockLoads();
  std::vector<std::shared_ptr<DeviceCopy>> copies;
  for (int i = 0; i < 8; ++i) {
    copies.push_back(rows_.NewCopy());
    EXPECT_EQ(Find(copies.back()), nullptr);
  }
  device_.Unblock();
  for (const auto& copy : copies) EXPECT_EQ(Load(copy), nullptr);
  EXPECT_EQ(device_.num_loads(), 1);
  device_.HoldAtMost(copies.size());
  clock_.Advance(DeviceResidency::kRetryDelay);
  for (const auto& copy : copies) EXPECT_NE(Load(copy), nullptr);
}

TEST_F(DeviceResidencyTest, WhatIsTooLargeForOneDeviceGoesToAnother) {
  UseBoth();
  device_.RefuseRows(1);
  const auto a = rows_.NewCopy(), b = rows_.NewCopy();
  EXPECT_EQ(Load(a), nullptr);
  EXPECT_EQ(DeviceOf(a), 1u);
  EXPECT_EQ(DeviceOf(b), 1u);
  EXPECT_EQ(device_.num_loads(), 1);
}

TEST_F(DeviceResidencyTest, ABuildInTheWaySaysNothingOfWhatFits) {
  device_.HoldAtMost(1);
  std::shared_ptr<const LoadedSegment> of_build;
  ASSERT_EQ(shared_.Load({rows_.view, Metric::kL2}, &of_build),
            BackendStatus::kOk);
  const auto a = rows_.NewCopy(), b = rows_.NewCopy();
  EXPECT_EQ(Load(a), nullptr);
  of_build.reset();
  EXPECT_NE(Load(b), nullptr);
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
  EXPECT_EQ(residency_->stats(0).num_segments, 0u);
}

TEST_F(DeviceResidencyTest, DoesNotLoadASegmentThatIsGone) {
  auto rows = std::make_unique<TestRows>(2);
  const auto gone = rows->NewCopy(), blocked = rows_.NewCopy();
  device_.BlockLoads();
  Find(blocked);
  device_.WaitForBlocked(1);
  Find(gone);
  rows.reset();
  device_.Unblock();
  EXPECT_EQ(Load(gone), nullptr);
  EXPECT_EQ(device_.num_loads(), 1);
}

TEST_F(DeviceResidencyTest, FreesCopiesOfSegmentsThatOutliveIt) {
  const auto a = rows_.NewCopy(), b = rows_.NewCopy();
  Load(a);
  Find(b);
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

TEST_F(DeviceResidencyTest, CopiesGoWhereThereIsMostRoom) {
  UseBoth();
  std::vector<std::shared_ptr<DeviceCopy>> copies;
  std::vector<size_t> devices;
  const auto add = [&](size_t n) {
    for (size_t i = 0; i < n; ++i) {
      copies.push_back(rows_.NewCopy());
      devices.push_back(DeviceOf(copies.back()));
    }
  };
  add(4);
  EXPECT_THAT(devices, ElementsAre(0, 1, 0, 1));
  // They stay where they are when others leave.
  copies[0].reset(), copies[2].reset();
  WaitUntil([&] { return device_.num_copies() == 0; });
  EXPECT_EQ(DeviceOf(copies[1]), 1u);
  EXPECT_EQ(DeviceOf(copies[3]), 1u);
  add(3);
  EXPECT_THAT(devices, ElementsAre(0, 1, 0, 1, 0, 0, 1));
  EXPECT_EQ(residency_->stats(0).num_segments, 2u);
  EXPECT_EQ(residency_->stats(1).num_segments, 3u);
  EXPECT_EQ(residency_->stats(0).num_loads, 4u);
  EXPECT_EQ(residency_->stats(1).num_loads, 3u);
}

TEST_F(DeviceResidencyTest, DevicesLoadAtTheSameTime) {
  UseBoth();
  const auto a = rows_.NewCopy(), b = rows_.NewCopy();
  device_.BlockLoads(), other_.BlockLoads();
  EXPECT_EQ(Find(a), nullptr);
  EXPECT_EQ(Find(b), nullptr);
  // What is on its way takes room already.
  device_.WaitForBlocked(1);
  other_.WaitForBlocked(1);
  device_.Unblock(), other_.Unblock();
  EXPECT_EQ(DeviceOf(a), 0u);
  EXPECT_EQ(DeviceOf(b), 1u);
}

TEST_F(DeviceResidencyTest, AFullDeviceGivesUpItsOwn) {
  UseBoth();
  device_.HoldAtMost(1), other_.HoldAtMost(1);
  const auto a = rows_.NewCopy(), b = rows_.NewCopy(), c = rows_.NewCopy();
  EXPECT_EQ(DeviceOf(a), 0u);
  EXPECT_EQ(DeviceOf(b), 1u);
  EXPECT_NE(Find(a), nullptr);  // b was used less recently
  EXPECT_EQ(DeviceOf(c), 0u);
  EXPECT_EQ(residency_->stats(0).num_evictions, 1u);
  EXPECT_EQ(residency_->stats(1).num_evictions, 0u);
  EXPECT_NE(Find(b), nullptr);
  // Device 0 has loaded more.
  EXPECT_EQ(DeviceOf(a), 1u);
  EXPECT_EQ(residency_->stats(1).num_evictions, 1u);
  EXPECT_NE(Find(c), nullptr);
  EXPECT_EQ(Find(b), nullptr);
}

TEST_F(DeviceResidencyTest, CopiesOfALostDeviceGoToAnother) {
  UseBoth();
  const auto a = rows_.NewCopy(), b = rows_.NewCopy(), c = rows_.NewCopy();
  EXPECT_EQ(DeviceOf(a), 0u);
  EXPECT_EQ(DeviceOf(b), 1u);
  device_.FailLoads(BackendStatus::kDeviceLost, 1);
  EXPECT_EQ(Load(c), nullptr);
  ASSERT_TRUE(shared_.is_lost());
  EXPECT_EQ(DeviceOf(c), 1u);
  residency_->Clear(0);
  EXPECT_EQ(device_.num_copies(), 0u);
  EXPECT_EQ(DeviceOf(a), 1u);
  EXPECT_EQ(DeviceOf(b), 1u);
  other_.FailLoads(BackendStatus::kDeviceLost, 1);
  const auto d = rows_.NewCopy(), e = rows_.NewCopy();
  EXPECT_EQ(Load(d), nullptr);
  ASSERT_TRUE(other_shared_.is_lost());
  EXPECT_EQ(Load(e), nullptr);
  EXPECT_EQ(device_.num_loads(), 2);
  EXPECT_EQ(other_.num_loads(), 4);
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

TEST(SharedDeviceTest, TrainsInTurn) {
  const TestRows rows(1);
  TestDevice device;
  SharedDevice shared(&device, {});
  std::shared_ptr<const LoadedSegment> segment;
  ASSERT_EQ(shared.Load({rows.view, Metric::kL2}, &segment),
            BackendStatus::kOk);
  const auto* const first = reinterpret_cast<const float*>(rows.view.data);
  std::vector<float> centroids(first, first + 4 * TestRows::kDim);
  std::vector<float> expected = centroids;
  ASSERT_EQ(device.KMeans(*segment, 4, 1, expected.data(), nullptr, nullptr),
            BackendStatus::kOk);
  // It waits for the search before it.
  device.BlockSearches();
  std::vector<Neighbor> out(1);
  std::thread search([&] {
    EXPECT_EQ(shared.Search(*segment, {rows.view.data, 1}, 1, nullptr,
                            out.data(), nullptr),
              BackendStatus::kOk);
  });
  device.WaitForBlocked(1);
  std::thread training([&] {
    EXPECT_EQ(shared.KMeans(*segment, 4, 1, centroids.data(), nullptr, nullptr),
              BackendStatus::kOk);
  });
  WaitUntil([&] { return shared.num_calls() == 2; });
  EXPECT_EQ(device.num_build_calls(), 1);
  device.Unblock();
  search.join();
  training.join();
  EXPECT_EQ(device.num_build_calls(), 2);
  EXPECT_EQ(centroids, expected);
  // A lost device is not asked.
  device.FailSearches(BackendStatus::kDeviceLost);
  EXPECT_EQ(shared.Search(*segment, {rows.view.data, 1}, 1, nullptr, out.data(),
                          nullptr),
            BackendStatus::kDeviceLost);
  EXPECT_EQ(shared.KMeans(*segment, 4, 1, centroids.data(), nullptr, nullptr),
            BackendStatus::kDeviceLost);
  EXPECT_EQ(device.num_build_calls(), 2);
  EXPECT_EQ(shared.refusals().num_lost, 2u);
}

}  // namespace
}  // namespace vicinal
