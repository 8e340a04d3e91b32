// Graphs that a device has a part in: here the CPU's backend stands for one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "index/hnsw.h"
#include "src/base/cancel.h"
#include "src/distance/gpu/backend.h"
#include "tests/index/failing_device.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};

std::string Build(const OwnedVectors& vectors, Metric metric,
                  DistanceBackend* device, size_t num_threads = 2) {
  const auto graph = BuildHnswGraph(vectors.view(), metric, {}, num_threads,
                                    nullptr, nullptr, device);
  EXPECT_TRUE(graph.ok()) << graph.status();
  return *graph;
}

std::string BuildFailing(const OwnedVectors& vectors, int first_failing,
                         BackendStatus status) {
  FailingDevice device(first_failing, status);
  return Build(vectors, Metric::kL2, &device);
}

double RecallOf(const OwnedVectors& vectors, const OwnedVectors& queries,
                Metric metric, const std::string& graph) {
  const auto index = HnswIndex::Open(vectors.view(), metric, graph);
  EXPECT_TRUE(index.ok()) << index.status();
  EXPECT_EQ((*index)->CountReachable(), vectors.view().num_rows);
  return MeanRecall(**index, vectors.view(), metric, queries, 10, 20);
}

TEST(HnswDeviceTest, FindsAsMuchAsAGraphOfLeaves) {
  for (const Metric metric : kMetrics) {
    const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
    const OwnedVectors queries = Clustered(200, 24, 40, /*seed=*/1, 1);
    FailingDevice device;
    const std::string graph = Build(vectors, metric, &device);
    EXPECT_GE(device.num_calls(), 3);
    EXPECT_GE(
        RecallOf(vectors, queries, metric, graph) + 0.01,
        RecallOf(vectors, queries, metric, Build(vectors, metric, nullptr)));
  }
}

TEST(HnswDeviceTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  FailingDevice device;
  const std::string one = Build(vectors, Metric::kCosine, &device, 1);
  EXPECT_EQ(one, Build(vectors, Metric::kCosine, &device, 2));
  EXPECT_EQ(one, Build(vectors, Metric::kCosine, &device, 3));
}

TEST(HnswDeviceTest, TheCpuGoesOnWhereADeviceFails) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  const std::string leaves = Build(vectors, Metric::kL2, nullptr);
  FailingDevice whole;
  const std::string linked = Build(vectors, Metric::kL2, &whole);
  EXPECT_NE(linked, leaves);
  // Loading and linking: as if there were none.
  EXPECT_EQ(BuildFailing(vectors, 0, BackendStatus::kNoMemory), leaves);
  EXPECT_EQ(BuildFailing(vectors, 1, BackendStatus::kUnsupported), leaves);
  EXPECT_EQ(BuildFailing(vectors, 1, BackendStatus::kDeviceLost), leaves);
  // Later the same links are selected by the CPU.
  for (int call = 2; call < whole.num_calls(); ++call) {
    EXPECT_EQ(BuildFailing(vectors, call, BackendStatus::kDeviceLost), linked)
        << call;
  }
}

TEST(HnswDeviceTest, LeavesServeRowsOfManyCopies) {
  const OwnedVectors few = Clustered(100, 24, 4, /*seed=*/1);
  OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  for (size_t row = 0; row < 4200; ++row) {
    std::copy_n(few.row(row % 100), few.row_bytes(),
                vectors.bytes.begin() + row * vectors.row_bytes());
  }
  FailingDevice device;
  EXPECT_EQ(Build(vectors, Metric::kL2, &device),
            Build(vectors, Metric::kL2, nullptr));
  EXPECT_GT(device.num_calls(), 0);
}

TEST(HnswDeviceTest, AFewRowsAreNotWorthIt) {
  const OwnedVectors vectors = Clustered(3000, 24, 40, /*seed=*/1);
  FailingDevice device;
  EXPECT_EQ(Build(vectors, Metric::kL2, &device),
            Build(vectors, Metric::kL2, nullptr));
  EXPECT_EQ(device.num_calls(), 0);
}

TEST(HnswDeviceTest, ASlowDeviceIsNotAsked) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  FailingDevice device;
  device.StopBuildingGraphs();
  EXPECT_EQ(Build(vectors, Metric::kL2, &device),
            Build(vectors, Metric::kL2, nullptr));
  EXPECT_EQ(device.num_calls(), 0);
}

TEST(HnswDeviceTest, StopsWhenCancelled) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  FailingDevice device;
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(BuildHnswGraph(vectors.view(), Metric::kL2, {}, 2, &cancel, nullptr,
                           &device)
                .status()
                .code(),
            absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace vicinal
