// Searches of collections with a device: the answers of the CPU, and calls for
// what pays.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <future>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/memory_plan.h"
#include "tests/engine/device_fixture.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 16;
constexpr auto kF32 = ElementType::kFloat32;
constexpr auto kF16 = ElementType::kFloat16;

struct Answers {
  Metric metric;
  ElementType type;
  IndexKind index = IndexKind::kFlat;
};

class DeviceAnswersTest : public DeviceSearchTest,
                          public ::testing::WithParamInterface<Answers> {};

TEST_P(DeviceAnswersTest, AreThoseOfTheCpu) {
  const auto [metric, type, index] = GetParam();
  CollectionSchema schema = SchemaOf("", kDim, metric, type, index);
  VectorField other = schema.vectors[0];
  other.name = "w";
  other.dim = 5;
  other.index = IndexKind::kFlat;
  schema.vectors.push_back(other);
  Create(schema);
  Upsert(0, index == IndexKind::kFlat ? 1500 : kMinIndexRows);
  Seal();
  const auto expect_the_same = [&] {
    const SegmentExplanation all = ExpectTheSame(Vector(), 10);
    EXPECT_EQ(all.plan, SearchPlan::kDevice);
    EXPECT_EQ(all.device.name, "test:0");
    EXPECT_EQ(all.device.batch_queries, 1u);
    ExpectTheSame(Vector(), 1);
    ExpectTheSame(Vector(), 1024);
    ExpectTheSame(Vector(), 20, "n >= 4");
    ExpectTheSame(Vector(), 20, "n = 3");
    ExpectTheSame(Vector(), 5, nullptr, {PointId(3), PointId(4)});
    ExpectTheSame(RandomVector(schema_.vectors[1], random_), 10, nullptr, {},
                  1);
    ExpectTheSame(RandomVector(schema_.vectors[1], random_), 10, "n != 3", {},
                  1);
  };
  expect_the_same();
  Delete(100, 300);
  Upsert(300, 200);
  Upsert(5000, 100);
  expect_the_same();
  Open();
  expect_the_same();
  if (index != IndexKind::kFlat) return;
  Seal();
  expect_the_same();
  EXPECT_GT(device_.num_searches(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, DeviceAnswersTest,
    ::testing::Values(
        Answers{Metric::kL2, kF32}, Answers{Metric::kInnerProduct, kF32},
        Answers{Metric::kCosine, kF32}, Answers{Metric::kL2, kF16},
        Answers{Metric::kInnerProduct, kF16}, Answers{Metric::kCosine, kF16},
        Answers{Metric::kL2, ElementType::kInt8},
        Answers{Metric::kCosine, ElementType::kUint8},
        Answers{Metric::kCosine, kF32, IndexKind::kHnsw},
        Answers{Metric::kL2, kF16, IndexKind::kIvf}));

TEST_F(DeviceSearchTest, OfAPartitionReadsItsRowsAlone) {
  CollectionSchema schema =
      SchemaOf("", kDim, Metric::kL2, kF32, IndexKind::kFlat);
  schema.payload_fields = {{"n", PayloadType::kInt64}};
  schema.partition_key = "n";
  Create(schema);
  Upsert(0, 1500);
  Seal();
  ExpectTheSame(Vector(), 10);
  EXPECT_EQ(device_.num_range_searches(), 0);
  ExpectTheSame(Vector(), 10, "n = 3");
  EXPECT_EQ(device_.num_range_searches(), 1);
  Delete(100, 300);
  ExpectTheSame(Vector(), 200, "n = 3");
  ExpectTheSame(Vector(), 10, "n = 9");
  EXPECT_EQ(device_.num_range_searches(), 3);
}

TEST_F(DeviceSearchTest, AForcedScanIsDoneByTheDevice) {
  Create(SchemaOf("", kDim, Metric::kL2));
  Upsert(0, kMinIndexRows);
  Seal();
  Query query = Ask(Vector(), 10);
  auto& stage = std::get<RetrieveStage>(query.stage);
  stage.exact = false;
  stage.force = ForcedPlan::kScan;
  const SearchResult result = Search(gpu(), std::move(query));
  ASSERT_EQ(result.explanation.size(), 1u);
  EXPECT_EQ(result.explanation[0].plan, SearchPlan::kDevice);
  // A walk is not, as long as one query alone asks for it.
  query = Ask(Vector(), 10);
  std::get<RetrieveStage>(query.stage).exact = false;
  EXPECT_EQ(Search(gpu(), std::move(query)).explanation[0].plan,
            SearchPlan::kGraph);
  EXPECT_EQ(device_.num_searches(), 1);
}

TEST_F(DeviceSearchTest, KAboveTheDevicesLimitIsTheCpus) {
  Create(
      SchemaOf("", kDim, Metric::kL2, ElementType::kFloat32, IndexKind::kFlat));
  Upsert(0, 1500);
  Seal();
  EXPECT_EQ(ExpectTheSame(Vector(), kMaxBackendK).plan, SearchPlan::kDevice);
  EXPECT_EQ(ExpectTheSame(Vector(), kMaxBackendK + 1).plan, SearchPlan::kScan);
  EXPECT_EQ(ExpectTheSame(
                Vector(), 1020, nullptr,
                {PointId(1), PointId(2), PointId(3), PointId(4), PointId(5)})
                .plan,
            SearchPlan::kScan);
  EXPECT_EQ(device_.num_searches(), 1);
}

TEST_F(DeviceSearchTest, BadQueriesGetTheCpusError) {
  Create(SchemaOf("", 2, Metric::kCosine));
  Upsert(0, 100);
  Seal();
  const auto error = [](Collection& collection, const std::string& vector) {
    std::vector<Query> queries;
    queries.push_back(Nearest("v", vector, 5, true));
    queries.push_back(Nearest("v", vector, 5, true));
    return collection.Search(queries, {}).status();
  };
  for (const std::vector<float>& vector :
       {std::vector<float>{NAN, 1}, {INFINITY, 1}, {0, 0}, {1, 2, 3}}) {
    const absl::Status status = error(gpu(), Bytes(vector));
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(status, error(cpu(), Bytes(vector)));
  }
  EXPECT_EQ(device_.num_searches(), 0);
}

// A scan of it takes the CPU longer than a call.
constexpr size_t kManyRows = 8000, kManyDim = 64;

TEST_F(DeviceSearchTest, AutoLoadsWhatPaysAndAsksTheCpuMeanwhile) {
  Create(SchemaOf("", kManyDim, Metric::kL2, kF32, IndexKind::kFlat),
         GpuUse::kAuto);
  Upsert(0, kManyRows);
  Seal();
  device_.BlockLoads();
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
  device_.Unblock();
  WaitForResident(1);
  const SegmentExplanation about = ExpectTheSame(Vector(), 10);
  EXPECT_EQ(about.plan, SearchPlan::kDevice);
  EXPECT_EQ(about.device.name, "test:0");
  // Few rows are scanned faster than the device is called.
  EXPECT_EQ(ExpectTheSame(Vector(), 10, "n = 3").plan, SearchPlan::kScan);
  EXPECT_EQ(ExpectTheSame(Vector(), 10, "n != 3").plan, SearchPlan::kDevice);
  EXPECT_EQ(device_.num_loads(), 1);
}

TEST_F(DeviceSearchTest, AutoLeavesSmallSegmentsToTheCpu) {
  Create(SchemaOf("", kDim, Metric::kL2), GpuUse::kAuto);
  Upsert(0, 1000);
  Seal();
  EXPECT_EQ(ExpectTheSame(Vector(), 10).plan, SearchPlan::kScan);
  EXPECT_EQ(device_.num_loads(), 0);
}

TEST_F(DeviceSearchTest, ManyQueriesOfACallGoTogetherThoughThereIsAGraph) {
  Create(SchemaOf("", kDim, Metric::kCosine), GpuUse::kAuto);
  Upsert(0, kMinIndexRows);
  Seal();
  Delete(10, 50);
  const auto queries = [&](size_t n, bool exact) {
    Random random(3);
    std::vector<Query> out;
    for (size_t i = 0; i < n; ++i) {
      out.push_back(
          Nearest("v", RandomVector(schema_.vectors[0], random), 10, exact));
      out.back().explain = true;
    }
    return out;
  };
  Search(gpu(), queries(500, false));
  WaitForResident(1);
  const std::vector<SearchResult> found = Search(gpu(), queries(500, false));
  const std::vector<SearchResult> expected = Search(cpu(), queries(500, true));
  ASSERT_EQ(found.size(), 500u);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(HitsOf(found[i]), HitsOf(expected[i]));
    EXPECT_TRUE(found[i].exact);
    ASSERT_EQ(found[i].explanation.size(), 1u);
    EXPECT_EQ(found[i].explanation[0].plan, SearchPlan::kDevice);
    EXPECT_EQ(found[i].explanation[0].device.batch_queries, 500u);
  }
  EXPECT_EQ(device_.num_searches(), 1);
  EXPECT_EQ(stats().batches.num_queries, 500u);
  // Two are walked sooner than asked.
  EXPECT_EQ(Search(gpu(), queries(2, false))[1].explanation[0].plan,
            SearchPlan::kGraph);
  // The walk can be forced.
  std::vector<Query> forced = queries(500, false);
  for (Query& query : forced) {
    std::get<RetrieveStage>(query.stage).force = ForcedPlan::kIndex;
  }
  EXPECT_EQ(Search(gpu(), forced)[0].explanation[0].plan, SearchPlan::kGraph);
}

TEST_F(DeviceSearchTest, QueriesOfACallThatDifferAreGroupedByWhatTheyAsk) {
  Create(
      SchemaOf("", kDim, Metric::kL2, ElementType::kFloat32, IndexKind::kFlat));
  Upsert(0, 2000);
  Seal();
  const auto queries = [&] {
    Random random(3);
    std::vector<Query> out;
    const auto filter = Parsed("n < 5");
    for (size_t i = 0; i < 40; ++i) {
      out.push_back(Nearest("v", RandomVector(schema_.vectors[0], random),
                            1 + i % 4, true));
      if (i % 3 == 0) {
        std::get<RetrieveStage>(out.back().stage).filter = filter;
      }
    }
    return out;
  };
  const auto found = Search(gpu(), queries());
  const auto expected = Search(cpu(), queries());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(HitsOf(found[i]), HitsOf(expected[i])) << i;
  }
  EXPECT_EQ(device_.num_searches(), 8);
}

TEST_F(DeviceSearchTest, QueriesOfManyThreadsShareCalls) {
  constexpr size_t kThreads = 64;
  Create(
      SchemaOf("", kDim, Metric::kL2, ElementType::kFloat32, IndexKind::kFlat));
  Upsert(0, 2000);
  Seal();
  Delete(0, 5);
  Search(gpu(), Ask(Vector(), 10));  // loads it
  const int before = device_.num_searches();
  device_.BlockSearches();
  std::vector<std::string> vectors;
  for (size_t i = 0; i < kThreads; ++i) vectors.push_back(Vector());
  std::vector<std::future<SearchResult>> found;
  for (size_t i = 0; i < kThreads; ++i) {
    found.push_back(std::async(std::launch::async, [&, i] {
      return Search(gpu(), Ask(vectors[i], 10));
    }));
  }
  while (stats().batches.num_waiting < kThreads) std::this_thread::yield();
  device_.Unblock();
  size_t most = 0;
  for (size_t i = 0; i < kThreads; ++i) {
    const SearchResult result = found[i].get();
    EXPECT_EQ(HitsOf(result), HitsOf(Search(cpu(), Ask(vectors[i], 10))));
    ASSERT_EQ(result.explanation.size(), 1u);
    most = std::max(most, result.explanation[0].device.batch_queries);
  }
  EXPECT_EQ(most, kThreads - 1);
  EXPECT_EQ(device_.num_searches() - before, 2);
}

}  // namespace
}  // namespace vicinal
