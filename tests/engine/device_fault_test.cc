// A device that refuses, is full, is lost or missing: the CPU answers, and
// nothing is held for longer than it is used.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <optional>
#include <set>
#include <string>
#include <tuple>
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
constexpr auto kF32 = ElementType::kFloat32;

// How searches fail, and after how many.
class DeviceFailureTest
    : public DeviceSearchTest,
      public ::testing::WithParamInterface<std::tuple<BackendStatus, int>> {};

TEST_P(DeviceFailureTest, LeavesTheAnswerToTheCpu) {
  const auto [status, first] = GetParam();
  Create(SchemaOf("", kDim, Metric::kInnerProduct, kF32, IndexKind::kFlat));
  Upsert(0, 1000);
  Seal();
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kDevice);
  device_.FailSearches(status, first);
  for (int i = 0; i < 4; ++i) {
    const SegmentExplanation about = ExpectTheSame(Vector(), 10);
    EXPECT_EQ(about.plan, i < first ? SearchPlan::kDevice : SearchPlan::kScan);
    EXPECT_EQ(about.device.name, i < first ? "test:0" : "");
  }
  ExpectTheSame(Vector(), 10, "n < 7");
  std::vector<Query> queries, copies;
  for (size_t q = 0; q < 10; ++q) {
    const std::string vector = Vector();
    queries.push_back(Ask(vector, 3));
    copies.push_back(Ask(vector, 3));
  }
  const auto found = Search(gpu(), queries);
  const auto expected = Search(cpu(), copies);
  for (size_t q = 0; q < 10; ++q) {
    EXPECT_EQ(HitsOf(found[q]), HitsOf(expected[q]));
  }
  const DeviceStats after = stats();
  const bool is_lost = status == BackendStatus::kDeviceLost;
  EXPECT_EQ(after.refusals.num_no_memory > 0,
            status == BackendStatus::kNoMemory);
  EXPECT_EQ(after.refusals.num_unsupported > 0,
            status == BackendStatus::kUnsupported);
  EXPECT_EQ(after.refusals.num_lost > 0, is_lost);
  EXPECT_EQ(after.is_lost, is_lost);
  if (!is_lost) {
    EXPECT_THAT(warnings(), IsEmpty());
    return;
  }
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("test:0 is lost")));
  EXPECT_EQ(after.residency.num_segments, 0u);
  EXPECT_EQ(device_.num_searches(), 1 + first + 1);  // not asked again
  WaitForCopies(0);
  // Nobody may begin to require it.
  EXPECT_TRUE(IsGpuMissing(
      database_->UpdateIndexParams("cpu", {}, std::nullopt, GpuUse::kRequire)
          .status()));
}

INSTANTIATE_TEST_SUITE_P(
    All, DeviceFailureTest,
    ::testing::Combine(::testing::Values(BackendStatus::kUnsupported,
                                         BackendStatus::kNoMemory,
                                         BackendStatus::kDeviceLost),
                       ::testing::Values(0, 2)));

TEST_F(DeviceSearchTest, ASegmentThatDoesNotFitIsTheCpus) {
  device_.HoldAtMost(0);
  Create(SchemaOf("", kDim, Metric::kL2));
  Upsert(0, 1000);
  Seal();
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
  EXPECT_EQ(device_.num_loads(), 1);
  EXPECT_EQ(stats().refusals.num_no_memory, 1u);
}

TEST_F(DeviceSearchTest, SegmentsTakeTurnsWhereThereIsRoomForOne) {
  device_.HoldAtMost(1);
  CollectionSchema schema = SchemaOf("", kDim, Metric::kL2);
  schema.vectors.push_back(schema.vectors[0]);
  schema.vectors[1].name = "w";
  Create(schema);
  Upsert(0, 1000);
  Seal();
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(ExpectTheSame(Vector(), 10, nullptr, {}, i % 2).plan,
              SearchPlan::kDevice);
  }
  EXPECT_EQ(stats().residency.num_evictions, 5u);
  EXPECT_EQ(device_.num_copies(), 1u);
}

TEST_F(DeviceSearchTest, ASegmentIsMergedAwayWhileItIsSearched) {
  Create(SchemaOf("", kDim, Metric::kL2));
  Upsert(0, 1000);
  Seal();
  ExpectTheSame(Vector(), 10);
  EXPECT_EQ(device_.num_copies(), 1u);
  const std::string vector = Vector();
  const auto expected = HitsOf(Search(cpu(), Ask(vector, 10)));
  device_.BlockSearches();
  auto found = std::async(std::launch::async,
                          [&] { return Search(gpu(), Ask(vector, 10)); });
  device_.WaitForBlocked(1);
  Upsert(1000, 500);
  Seal();
  EXPECT_EQ(device_.num_copies(), 1u);  // it is searched yet
  device_.Unblock();
  // What came since is in it or not.
  const auto after = HitsOf(Search(cpu(), Ask(vector, 10)));
  EXPECT_THAT(HitsOf(found.get()), ::testing::AnyOf(expected, after));
  EXPECT_EQ(ExpectTheSame(Vector(), 10).num_rows, 1500u);
  WaitForCopies(1);  // of the new one
  EXPECT_EQ(device_.num_loads(), 2);
}

TEST_F(DeviceSearchTest, ADroppedCollectionLeavesTheDevice) {
  Create(SchemaOf("", kDim, Metric::kL2));
  Upsert(0, 1000);
  Seal();
  ExpectTheSame(Vector(), 10);
  EXPECT_EQ(device_.num_copies(), 1u);
  collections_.clear();
  ASSERT_TRUE(database_->DropCollection("gpu").ok());
  WaitForCopies(0);
  EXPECT_EQ(stats().residency.num_segments, 0u);
}

TEST_F(DeviceSearchTest, CollectionsThatOutliveTheDatabaseDoNotHoldTheDevice) {
  Create(SchemaOf("", kDim, Metric::kL2));
  Upsert(0, 1000);
  Seal();
  ExpectTheSame(Vector(), 10);
  database_.reset();
  EXPECT_EQ(device_.num_copies(), 0u);
  collections_.clear();
}

TEST_F(DeviceSearchTest, UpsertsAndMergesGoOnDuringSearches) {
  constexpr uint64_t kRewritten = 600, kPoints = 1000;
  Create(
      SchemaOf("", kDim, Metric::kL2, ElementType::kFloat32, IndexKind::kFlat));
  Upsert(kRewritten, kPoints - kRewritten);
  Rewriter rewriter(&gpu(), kRewritten,
                    [](uint64_t, uint64_t) { return "{}"; });
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(Finished(gpu().Optimize(1)).ok());
    for (int i = 0; i < 10; ++i) {
      const SearchResult result = Search(gpu(), Ask(Vector(), kPoints));
      // Each point once, whichever of its versions.
      ASSERT_EQ(result.hits.size(), kPoints);
      std::set<PointId> ids;
      for (const Hit& hit : result.hits) ids.insert(hit.id);
      EXPECT_EQ(ids.size(), kPoints);
      EXPECT_TRUE(std::is_sorted(
          result.hits.begin(), result.hits.end(),
          [](const Hit& a, const Hit& b) { return a.distance < b.distance; }));
    }
  }
  ASSERT_TRUE(rewriter.Stop().ok());
  EXPECT_GT(device_.num_searches(), 0);
}

TEST_F(DeviceSearchTest, WhoWaitsForTheDeviceMayGiveUp) {
  Create(SchemaOf("", kDim, Metric::kL2));
  Upsert(0, 1000);
  Seal();
  std::atomic<bool> cancelled = false;
  StopCondition stop;
  stop.cancelled = [&] { return cancelled.load(); };
  const std::string vector = Vector();
  const auto start = [&](StopCondition condition) {
    return std::async(std::launch::async, [&, condition] {
      std::vector<Query> queries;
      queries.push_back(Ask(vector, 10));
      return gpu().Search(queries, condition).status();
    });
  };
  device_.BlockLoads();
  auto loading = start(stop);
  device_.WaitForBlocked(1);
  cancelled = true;
  EXPECT_TRUE(absl::IsCancelled(loading.get()));
  cancelled = false;
  device_.Unblock();
  ExpectTheSame(Vector(), 10);
  device_.BlockSearches();
  auto first = start({});
  device_.WaitForBlocked(1);
  auto second = start(stop);
  StopCondition late;
  late.deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  auto third = start(late);
  EXPECT_TRUE(absl::IsDeadlineExceeded(third.get()));
  cancelled = true;
  EXPECT_TRUE(absl::IsCancelled(second.get()));
  device_.Unblock();
  EXPECT_TRUE(first.get().ok());
  ExpectTheSame(vector, 10);
}

TEST_F(DeviceSearchTest, BuildsAndSearchesUseItAsTheCollectionSays) {
  constexpr size_t kBuiltByDevice = 4200;
  CollectionSchema schema = SchemaOf("", 4, Metric::kL2);
  schema.vectors[0].codec.kind = CodecSpec::Kind::kNone;
  Create(schema, GpuUse::kNever);
  Upsert(0, kBuiltByDevice);
  Seal();
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
  EXPECT_EQ(device_.num_loads(), 0);
  EXPECT_EQ(device_.num_build_calls(), 0);
  ASSERT_TRUE(
      database_->UpdateIndexParams("gpu", {}, std::nullopt, GpuUse::kRequire)
          .ok());
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kDevice);
  Upsert(kBuiltByDevice, 10);
  ASSERT_TRUE(Finished(gpu().Optimize(1)).ok());
  const int num_build_calls = device_.num_build_calls();
  EXPECT_GT(num_build_calls, 0);
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kDevice);
  // A lost device builds nothing either.
  device_.FailSearches(BackendStatus::kDeviceLost);
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
  Upsert(kBuiltByDevice, 20);
  ASSERT_TRUE(Finished(gpu().Optimize(1)).ok());
  EXPECT_EQ(device_.num_build_calls(), num_build_calls);
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
}

TEST_F(DeviceSearchTest, ListsAreFoundByItAndServeEveryone) {
  constexpr size_t kPoints = 8000;
  CollectionSchema schema =
      SchemaOf("", 64, Metric::kCosine, ElementType::kFloat32, IndexKind::kIvf);
  schema.vectors[0].codec.kind = CodecSpec::Kind::kNone;
  Create(schema);
  Upsert(0, kPoints);
  Seal();
  EXPECT_GT(device_.num_build_calls(), 0);
  EXPECT_GT(device_.num_searches(), 0);
  // Nothing of a build stays there.
  WaitForCopies(0);
  size_t num_shared = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string vector = Vector();
    const auto exact = HitsOf(Search(cpu(), Ask(vector, 10)));
    for (const auto& hit : HitsOf(Search(
             gpu(), Nearest(schema_.vectors[0].name, vector, 10, false)))) {
      num_shared += std::count(exact.begin(), exact.end(), hit);
    }
  }
  EXPECT_GT(num_shared, 150u);
}

TEST_F(DeviceSearchTest, RequireIsRefusedWithoutADevice) {
  options_.devices.clear();
  Open();
  CollectionSchema schema = SchemaOf("gpu", kDim, Metric::kL2);
  schema.gpu = GpuUse::kRequire;
  const absl::Status refused = database_->CreateCollection(schema).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_TRUE(IsGpuMissing(refused));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("start vicinald with --gpu require"));
  EXPECT_TRUE(database_->ListCollections().empty());
  schema.gpu = GpuUse::kAuto;
  ASSERT_TRUE(database_->CreateCollection(schema).ok());
  EXPECT_TRUE(IsGpuMissing(
      database_
          ->UpdateIndexParams("gpu", {}, MemorySpec{MemoryTier::kMapped},
                              GpuUse::kRequire)
          .status()));
  const auto same = database_->GetCollection("gpu");
  ASSERT_TRUE(same.ok());
  EXPECT_EQ((*same)->schema().gpu, GpuUse::kAuto);
  EXPECT_EQ((*same)->schema().memory, MemorySpec{});
  EXPECT_FALSE(IsGpuMissing(absl::FailedPreconditionError("another")));
}

TEST_F(DeviceSearchTest, AFolderThatRequiresADeviceOpensWithoutOne) {
  Create(SchemaOf("", kDim, Metric::kL2));
  Upsert(0, 1000);
  Seal();
  ExpectTheSame(Vector(), 10);
  options_.devices.clear();
  Open();
  EXPECT_THAT(warnings(),
              ElementsAre(HasSubstr("Collection \"gpu\" requires a GPU")));
  EXPECT_EQ(gpu().schema().gpu, GpuUse::kRequire);
  EXPECT_EQ(cpu().schema().gpu, GpuUse::kNever);
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
  EXPECT_THAT(database_->stats().devices, IsEmpty());
  Upsert(1000, 10);
  // Other changes are taken as ever.
  EXPECT_TRUE(
      database_->UpdateIndexParams("gpu", {}, MemorySpec{MemoryTier::kRam})
          .ok());
  options_.devices = {&device_};
  Open();
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kDevice);
  EXPECT_EQ(warnings().size(), 1u);
}

}  // namespace
}  // namespace vicinal
