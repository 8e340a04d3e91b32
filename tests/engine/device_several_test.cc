// Searches and builds of a database with two devices.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/device_fixture.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kDim = 16;

class SeveralDevicesTest : public DeviceSearchTest {
 protected:
  SeveralDevicesTest() {
    options_.devices = {&device_, &other_};
    options_.query_threads = 4;
  }

  // The first has its copy on device 0, the second on device 1.
  void CreateTwoSegments() {
    Create(SchemaOf("", kDim, Metric::kL2, ElementType::kFloat32,
                    IndexKind::kFlat));
    Upsert(0, 2000);
    Seal();
    EXPECT_THAT(DevicesAsked(), ElementsAre("test:0"));
    Upsert(2000, 1500);
    Seal(2);
    EXPECT_THAT(DevicesAsked(), ElementsAre("test:0", "test:1"));
  }
  // By a search, whose answer is the CPU's; "": the CPU.
  std::vector<std::string> DevicesAsked(const char* filter = nullptr) {
    std::vector<std::string> names;
    for (const auto& about : ExpectAllTheSame(Vector(), 10, filter)) {
      EXPECT_EQ(about.plan, about.device.name.empty() ? SearchPlan::kScan
                                                      : SearchPlan::kDevice);
      names.push_back(about.device.name);
    }
    return names;
  }
  void WaitForBlockedInBoth() const {
    device_.WaitForBlocked(1);
    other_.WaitForBlocked(1);
  }
  void UnblockBoth() { device_.Unblock(), other_.Unblock(); }
  // Rounds of searches of many threads; returns how many were wrong.
  int AskFromManyThreads(int rounds) {
    constexpr size_t kThreads = 64;
    std::vector<std::string> vectors;
    std::vector<std::vector<std::pair<PointId, float>>> expected;
    for (size_t i = 0; i < kThreads; ++i) {
      vectors.push_back(Vector());
      expected.push_back(HitsOf(Search(cpu(), Ask(vectors.back(), 10))));
    }
    std::atomic<int> num_wrong = 0;
    std::vector<std::thread> threads;
    for (size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int round = 0; round < rounds; ++round) {
          const size_t i = (t + static_cast<size_t>(round)) % kThreads;
          const auto hits = HitsOf(Search(gpu(), Ask(vectors[i], 10)));
          num_wrong += hits == expected[i] ? 0 : 1;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return num_wrong;
  }
};

TEST_F(SeveralDevicesTest, SegmentsArePlacedOnBoth) {
  CreateTwoSegments();
  EXPECT_THAT(DevicesAsked("n < 7"), ElementsAre("test:0", "test:1"));
  for (size_t d = 0; d < 2; ++d) {
    EXPECT_EQ(stats(d).name, d == 0 ? "test:0" : "test:1");
    EXPECT_EQ(stats(d).residency.num_segments, 1u);
    EXPECT_EQ(stats(d).residency.num_loads, 1u);
    EXPECT_EQ(stats(d).device_bytes, 1000u);
  }
  EXPECT_EQ(stats(0).batches.num_queries, 3u);
  EXPECT_EQ(stats(1).batches.num_queries, 2u);
  // A merge takes both copies with it.
  Seal();
  EXPECT_EQ(DevicesAsked().size(), 1u);
  EXPECT_EQ(stats(0).residency.num_segments + stats(1).residency.num_segments,
            1u);
}

TEST_F(SeveralDevicesTest, OneQueryAsksBothAtOnce) {
  CreateTwoSegments();
  const std::string vector = Vector();
  device_.BlockSearches(), other_.BlockSearches();
  auto found = std::async(std::launch::async,
                          [&] { return Search(gpu(), Ask(vector, 10)); });
  WaitForBlockedInBoth();
  UnblockBoth();
  EXPECT_EQ(HitsOf(found.get()), HitsOf(Search(cpu(), Ask(vector, 10))));
}

TEST_F(SeveralDevicesTest, ABatchAsksBothAtOnce) {
  constexpr size_t kQueries = 50;
  CreateTwoSegments();
  std::vector<Query> queries, copies;
  for (size_t i = 0; i < kQueries; ++i) {
    const std::string vector = Vector();
    queries.push_back(Ask(vector, 1 + i % 2));
    copies.push_back(Ask(vector, 1 + i % 2));
  }
  device_.BlockSearches(), other_.BlockSearches();
  auto found =
      std::async(std::launch::async, [&] { return Search(gpu(), queries); });
  WaitForBlockedInBoth();
  UnblockBoth();
  const std::vector<SearchResult> results = found.get();
  const std::vector<SearchResult> expected = Search(cpu(), copies);
  for (size_t i = 0; i < kQueries; ++i) {
    EXPECT_EQ(HitsOf(results[i]), HitsOf(expected[i])) << i;
    ASSERT_EQ(results[i].explanation.size(), 2u);
    for (size_t s = 0; s < 2; ++s) {
      const DeviceUse& use = results[i].explanation[s].device;
      EXPECT_EQ(use.name, s == 0 ? "test:0" : "test:1");
      EXPECT_EQ(use.batch_queries, kQueries / 2);
    }
  }
}

TEST_F(SeveralDevicesTest, ACancelledBatchAsksNoMoreDevices) {
  CreateTwoSegments();
  const int before = device_.num_searches() + other_.num_searches();
  StopCondition stop;
  stop.cancelled = [] { return true; };
  std::vector<Query> queries;
  for (int i = 0; i < 4; ++i) queries.push_back(Ask(Vector(), 5));
  EXPECT_TRUE(absl::IsCancelled(gpu().Search(queries, stop).status()));
  EXPECT_EQ(device_.num_searches() + other_.num_searches(), before);
}

TEST_F(SeveralDevicesTest, WhatALostDeviceHadGoesToTheOther) {
  CreateTwoSegments();
  const std::string vector = Vector();
  const auto expected = HitsOf(Search(cpu(), Ask(vector, 10)));
  // It is lost while it is asked.
  other_.BlockSearches();
  auto found = std::async(std::launch::async,
                          [&] { return Search(gpu(), Ask(vector, 10)); });
  other_.WaitForBlocked(1);
  other_.FailSearches(BackendStatus::kDeviceLost, -1);
  other_.Unblock();
  const SearchResult result = found.get();
  EXPECT_EQ(HitsOf(result), expected);
  ASSERT_EQ(result.explanation.size(), 2u);
  EXPECT_EQ(result.explanation[0].device.name, "test:0");
  EXPECT_EQ(result.explanation[1].plan, SearchPlan::kScan);
  EXPECT_THAT(DevicesAsked(), ElementsAre("test:0", "test:0"));
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("test:1 is lost")));
  EXPECT_FALSE(stats(0).is_lost);
  EXPECT_TRUE(stats(1).is_lost);
  EXPECT_EQ(stats(0).residency.num_segments, 2u);
  EXPECT_EQ(stats(1).residency.num_segments, 0u);
  EXPECT_EQ(stats(0).refusals.num_lost, 0u);
  EXPECT_EQ(stats(1).refusals.num_lost, 1u);
  while (other_.num_copies() > 0) std::this_thread::yield();
  CollectionSchema schema = schema_;
  schema.gpu = GpuUse::kRequire;
  EXPECT_TRUE(database_->CheckGpu(schema).ok());

  device_.FailSearches(BackendStatus::kDeviceLost);
  const int num_searches = other_.num_searches();
  for (int i = 0; i < 2; ++i) EXPECT_THAT(DevicesAsked(), ElementsAre("", ""));
  EXPECT_EQ(other_.num_searches(), num_searches);
  EXPECT_EQ(warnings().size(), 2u);
  EXPECT_THAT(warnings().back(), HasSubstr("test:0 is lost"));
  EXPECT_TRUE(IsGpuMissing(database_->CheckGpu(schema)));
}

TEST_F(SeveralDevicesTest, ManyThreadsShareTheCallsOfBoth) {
  CreateTwoSegments();
  const uint64_t before[] = {stats(0).batches.num_queries,
                             stats(1).batches.num_queries};
  EXPECT_EQ(AskFromManyThreads(10), 0);
  for (size_t d = 0; d < 2; ++d) {
    EXPECT_EQ(stats(d).batches.num_queries - before[d], 640u);
    EXPECT_EQ(stats(d).batches.num_waiting, 0u);
  }
  EXPECT_EQ(device_.most_at_once(), 1);
  EXPECT_EQ(other_.most_at_once(), 1);
  EXPECT_THAT(warnings(), IsEmpty());
}

TEST_F(SeveralDevicesTest, ManyThreadsDoNotNoticeThatOneIsLost) {
  CreateTwoSegments();
  device_.FailSearches(BackendStatus::kDeviceLost, 5);
  EXPECT_EQ(AskFromManyThreads(10), 0);
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("test:0 is lost")));
  EXPECT_THAT(DevicesAsked(), ElementsAre("test:1", "test:1"));
}

TEST_F(SeveralDevicesTest, BuildsGoToTheOneThatHasLeastToDo) {
  constexpr size_t kBuiltByDevice = 4200;
  CollectionSchema schema = SchemaOf("", 4, Metric::kL2);
  schema.vectors[0].codec.kind = CodecSpec::Kind::kNone;
  for (const char* name : {"w", "x"}) {
    VectorField other = schema.vectors[0];
    other.name = name;
    other.index = IndexKind::kFlat;
    schema.vectors.push_back(other);
  }
  Create(schema);
  Upsert(0, 1000);
  Seal();
  for (const bool first_is_busy : {false, true}) {
    TestDevice& busy = first_is_busy ? device_ : other_;
    TestDevice& idle = first_is_busy ? other_ : device_;
    // The idle one has more copies: fields 0 and 2.
    for (size_t f = 0; f < 3; ++f) {
      EXPECT_EQ(ExpectTheSame(Vector(), 10, nullptr, {}, f).device.name,
                f == 1 ? busy.name() : idle.name());
    }
    const int of_busy = busy.num_build_calls();
    const int of_idle = idle.num_build_calls();
    const std::string vector = Vector();
    busy.BlockSearches();
    auto found = std::async(std::launch::async,
                            [&] { return Search(gpu(), Ask(vector, 10, 1)); });
    busy.WaitForBlocked(1);
    Upsert(0, kBuiltByDevice);
    EXPECT_TRUE(Finished(gpu().Optimize(1)).ok());
    busy.Unblock();
    EXPECT_FALSE(found.get().hits.empty());
    EXPECT_EQ(busy.num_build_calls(), of_busy);
    EXPECT_GT(idle.num_build_calls(), of_idle);
    // Those of the segment that is gone.
    while (device_.num_copies() + other_.num_copies() > 0) {
      std::this_thread::yield();
    }
  }
}

}  // namespace
}  // namespace vicinal
