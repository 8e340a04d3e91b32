// How queries share calls of a device.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "src/engine/device_batcher.h"
#include "src/engine/live_bits.h"
#include "tests/engine/device_testing.h"

namespace vicinal {
namespace {

constexpr size_t kRows = TestRows::kNum, kDim = TestRows::kDim;

class DeviceBatcherTest : public ::testing::Test {
 protected:
  DeviceBatcherTest() {
    EXPECT_EQ(device_.Load({rows_.view, Metric::kL2}, &segment_),
              BackendStatus::kOk);
  }

  // Query i is row i.
  DeviceQueries Ask(size_t i, size_t k) const {
    DeviceQueries out;
    out.segment = segment_;
    out.data = rows_.view.row(i);
    out.row_bytes = kDim * sizeof(float);
    out.k = k;
    return out;
  }
  std::vector<Neighbor> Expected(const DeviceQueries& queries) const {
    std::vector<Neighbor> out(queries.num * queries.k);
    const auto cpu = MakeCpuBackend(1);
    std::shared_ptr<const LoadedSegment> loaded;
    EXPECT_EQ(cpu->Load({rows_.view, Metric::kL2}, &loaded),
              BackendStatus::kOk);
    const uint32_t offsets[] = {0, 1};
    const RowRange range = {queries.range.begin,
                            std::min<RowId>(queries.range.end, kRows)};
    EXPECT_EQ(queries.num, 1u);
    EXPECT_EQ(
        cpu->SearchRanges(
            *loaded, {queries.data, 1}, {offsets, &range}, queries.k,
            queries.accepted == nullptr ? nullptr : queries.accepted->words(),
            out.data(), nullptr),
        BackendStatus::kOk);
    return out;
  }
  struct Outcome {
    absl::StatusOr<BackendStatus> status = BackendStatus::kOk;
    DeviceAnswer answer;
  };
  std::future<Outcome> Start(DeviceQueries queries, StopCondition stop = {}) {
    return std::async(std::launch::async, [this, queries, stop] {
      Outcome outcome;
      outcome.status = batcher_.Search(queries, stop, &outcome.answer);
      return outcome;
    });
  }
  void ExpectAnswer(Outcome outcome, const DeviceQueries& queries,
                    size_t batch_queries) {
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.status();
    EXPECT_EQ(*outcome.status, BackendStatus::kOk);
    EXPECT_EQ(outcome.answer.neighbors, Expected(queries));
    EXPECT_EQ(outcome.answer.batch_queries, batch_queries);
  }
  void WaitForWaiting(size_t n) {
    WaitUntil([&] { return batcher_.stats().num_waiting == n; });
  }
  // One call that runs until Unblock.
  std::future<Outcome> Occupy() {
    device_.BlockSearches();
    auto first = Start(Ask(0, 10));
    device_.WaitForBlocked(1);
    return first;
  }

  const TestRows rows_{1};
  TestDevice device_;
  DeviceBatcher batcher_{&device_};
  std::shared_ptr<const LoadedSegment> segment_;
};

TEST_F(DeviceBatcherTest, ALoneQueryGoesAtOnce) {
  for (size_t i = 0; i < 3; ++i) {
    ExpectAnswer(Start(Ask(i, 7)).get(), Ask(i, 7), 1);
  }
  EXPECT_EQ(device_.num_searches(), 3);
}

TEST_F(DeviceBatcherTest, QueriesOfManyThreadsShareACall) {
  auto first = Occupy();
  std::vector<std::future<Outcome>> others;
  for (size_t i = 1; i < 64; ++i) others.push_back(Start(Ask(i, 1 + i % 16)));
  WaitForWaiting(64);
  device_.Unblock();
  ExpectAnswer(first.get(), Ask(0, 10), 1);
  for (size_t i = 1; i < 64; ++i) {
    ExpectAnswer(others[i - 1].get(), Ask(i, 1 + i % 16), 63);
  }
  EXPECT_EQ(device_.num_searches(), 2);
  EXPECT_EQ(batcher_.stats().num_batches, 2u);
  EXPECT_EQ(batcher_.stats().num_queries, 64u);
  EXPECT_EQ(batcher_.stats().num_waiting, 0u);
}

TEST_F(DeviceBatcherTest, OthersBitsAndMuchLargerKDoNotShareACall) {
  auto first = Occupy();
  auto bits = std::make_shared<Bitmap>(kRows);
  for (RowId row = 0; row < kRows; row += 3) bits->Set(row);
  std::vector<DeviceQueries> asked = {Ask(1, 10), Ask(2, 10), Ask(3, 10),
                                      Ask(4, 200), Ask(5, 9)};
  asked[1].accepted = bits;
  asked[2].accepted = bits;
  std::vector<std::future<Outcome>> others;
  for (const DeviceQueries& queries : asked) others.push_back(Start(queries));
  WaitForWaiting(6);
  device_.Unblock();
  first.get();
  const std::vector<size_t> batches = {2, 2, 2, 1, 2};
  for (size_t i = 0; i < asked.size(); ++i) {
    ExpectAnswer(others[i].get(), asked[i], batches[i]);
  }
  EXPECT_EQ(device_.num_searches(), 4);
}

TEST_F(DeviceBatcherTest, QueriesOfOtherRangesShareACall) {
  auto first = Occupy();
  auto bits = std::make_shared<Bitmap>(kRows);
  for (RowId row = 0; row < kRows; row += 3) bits->Set(row);
  std::vector<DeviceQueries> asked;
  for (RowId i = 0; i < 8; ++i) {
    asked.push_back(Ask(i, 10));
    if (i < 6) asked[i].range = {20 * i, 20 * i + 7 * i};
    if (i == 5) asked[i].range.end = kInvalidRow;
    if (i % 2 == 0) asked[i].accepted = bits;
  }
  std::vector<std::future<Outcome>> others;
  for (const DeviceQueries& queries : asked) others.push_back(Start(queries));
  WaitForWaiting(9);
  device_.Unblock();
  first.get();
  for (size_t i = 0; i < asked.size(); ++i) {
    ExpectAnswer(others[i].get(), asked[i], 4);
  }
  EXPECT_EQ(device_.num_searches(), 3);
  EXPECT_EQ(device_.num_range_searches(), 2);
}

TEST_F(DeviceBatcherTest, NothingWaitsWhileTheDeviceIsFree) {
  auto first = Occupy();
  auto second = Start(Ask(1, 10)), third = Start(Ask(2, 10));
  WaitForWaiting(3);
  device_.Unblock();
  first.get(), second.get(), third.get();
  ASSERT_EQ(device_.num_searches(), 2);
  // Though two came together before.
  ExpectAnswer(Start(Ask(3, 10)).get(), Ask(3, 10), 1);
  EXPECT_EQ(device_.num_searches(), 3);
}

// The one who was to make the call for the others leaves before it does.
TEST_F(DeviceBatcherTest, OthersCallInPlaceOfThoseWhoLeave) {
  for (size_t round = 0; round < 50; ++round) {
    auto first = Occupy();
    std::atomic<bool> cancelled = false;
    StopCondition stop;
    stop.cancelled = [&] { return cancelled.load(); };
    std::vector<std::future<Outcome>> leaving;
    for (size_t i = 1; i < 5; ++i) leaving.push_back(Start(Ask(i, 10), stop));
    WaitForWaiting(5);
    auto staying = Start(Ask(5, 10));
    WaitForWaiting(6);
    cancelled = true;
    device_.Unblock();
    first.get();
    const Outcome stayed = staying.get();
    ASSERT_TRUE(stayed.status.ok()) << stayed.status.status();
    EXPECT_EQ(stayed.answer.neighbors, Expected(Ask(5, 10)));
    for (auto& outcome : leaving) outcome.get();
    EXPECT_EQ(batcher_.stats().num_waiting, 0u);
  }
}

TEST_F(DeviceBatcherTest, WhoGivesUpDoesNotWaitForTheDevice) {
  auto first = Occupy();
  std::atomic<bool> cancelled = false;
  StopCondition stop;
  stop.cancelled = [&] { return cancelled.load(); };
  auto second = Start(Ask(1, 10), stop);
  StopCondition late;
  late.deadline = std::chrono::steady_clock::now();
  auto third = Start(Ask(2, 10), late);
  EXPECT_TRUE(absl::IsDeadlineExceeded(third.get().status.status()));
  WaitForWaiting(2);
  cancelled = true;
  EXPECT_TRUE(absl::IsCancelled(second.get().status.status()));
  device_.Unblock();
  ExpectAnswer(first.get(), Ask(0, 10), 1);
  // Nobody was left to be asked for.
  EXPECT_EQ(device_.num_searches(), 1);
  ExpectAnswer(Start(Ask(3, 10)).get(), Ask(3, 10), 1);
}

TEST_F(DeviceBatcherTest, ACallThatFailsFailsForAllInIt) {
  auto first = Occupy();
  device_.FailSearches(BackendStatus::kNoMemory);
  auto second = Start(Ask(1, 10)), third = Start(Ask(2, 10));
  WaitForWaiting(3);
  device_.Unblock();
  ExpectAnswer(first.get(), Ask(0, 10), 1);
  EXPECT_EQ(*second.get().status, BackendStatus::kNoMemory);
  EXPECT_EQ(*third.get().status, BackendStatus::kNoMemory);
}

TEST_F(DeviceBatcherTest, AnswersAllThatStayWhileOthersLeave) {
  DeviceBatcher batcher(&device_);
  std::vector<std::thread> threads;
  std::atomic<int> num_wrong = 0;
  for (size_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      Random random(t);
      for (size_t i = 0; i < 200; ++i) {
        const DeviceQueries asked = Ask(random.Uniform(kRows), 10);
        StopCondition stop;
        const bool leaves = random.Uniform(3) == 0;
        if (leaves) stop.deadline = std::chrono::steady_clock::now();
        DeviceAnswer answer;
        const auto status = batcher.Search(asked, stop, &answer);
        if (!status.ok()) {
          num_wrong += leaves ? 0 : 1;
        } else {
          num_wrong += answer.neighbors == Expected(asked) ? 0 : 1;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, 0);
  EXPECT_EQ(device_.most_at_once(), 1);
  EXPECT_EQ(batcher.stats().num_waiting, 0u);
}

TEST(LiveBitsTest, AreSharedUntilARowDies) {
  AtomicBitmap dead(100);
  LiveBits live;
  dead.Set(7);
  const auto before = live.Of(dead);
  EXPECT_EQ(before->Count(), 99u);
  EXPECT_FALSE(before->Test(7));
  EXPECT_EQ(live.Of(dead), before);
  dead.Set(70);
  const auto after = live.Of(dead);
  EXPECT_NE(after, before);
  EXPECT_EQ(after->Count(), 98u);
  EXPECT_FALSE(after->Test(70));
  EXPECT_TRUE(before->Test(70));
}

}  // namespace
}  // namespace vicinal
