// Graphs that a device has a part in: here the CPU's backend stands for one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "index/hnsw.h"
#include "src/base/cancel.h"
#include "src/distance/gpu/backend.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};

// The CPU's backend, which fails with `status` from its `first_failing`-th
// call on and remembers how many there were.
class Device final : public DistanceBackend {
 public:
  explicit Device(int first_failing = 1'000'000,
                  BackendStatus status = BackendStatus::kDeviceLost)
      : first_failing_(first_failing),
        status_(status),
        cpu_(MakeCpuBackend(2)) {}

  const char* name() const override { return "test"; }
  size_t device_bytes() const override { return 0; }
  bool builds_graphs() const override { return builds_graphs_; }
  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override {
    return Fails() ? status_ : cpu_->Load(segment, out);
  }
  BackendStatus Search(const LoadedSegment&, const QueryBatch&, size_t,
                       const uint64_t*, Neighbor*,
                       BackendReport*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus Score(const LoadedSegment&, const QueryBatch&, const uint32_t*,
                      const RowId*, float*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus KnnGraph(const LoadedSegment&, size_t, Neighbor*,
                         BackendReport*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin, RowId end,
                          size_t k, const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport* report) const override {
    return Fails() ? status_
                   : cpu_->LinkGraph(segment, begin, end, k, rule, out,
                                     num_duplicates, report);
  }
  BackendStatus SelectLinks(const LoadedSegment& segment, size_t num_lists,
                            const uint32_t* offsets, const Neighbor* lists,
                            const LinkRule& rule,
                            Neighbor* out) const override {
    return Fails() ? status_
                   : cpu_->SelectLinks(segment, num_lists, offsets, lists, rule,
                                       out);
  }
  BackendStatus Assign(const LoadedSegment&, const float*, size_t, uint32_t*,
                       float*) const override {
    return BackendStatus::kUnsupported;
  }

  int num_calls() const { return num_calls_; }
  void StopBuildingGraphs() { builds_graphs_ = false; }

 private:
  bool Fails() const { return num_calls_++ >= first_failing_; }

  const int first_failing_;
  const BackendStatus status_;
  const std::unique_ptr<DistanceBackend> cpu_;
  mutable int num_calls_ = 0;
  bool builds_graphs_ = true;
};

std::string Build(const OwnedVectors& vectors, Metric metric,
                  DistanceBackend* device, size_t num_threads = 2) {
  const auto graph = BuildHnswGraph(vectors.view(), metric, {}, num_threads,
                                    nullptr, nullptr, device);
  EXPECT_TRUE(graph.ok()) << graph.status();
  return *graph;
}

std::string BuildFailing(const OwnedVectors& vectors, int first_failing,
                         BackendStatus status) {
  Device device(first_failing, status);
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
    Device device;
    const std::string graph = Build(vectors, metric, &device);
    EXPECT_GE(device.num_calls(), 3);
    EXPECT_GE(
        RecallOf(vectors, queries, metric, graph) + 0.01,
        RecallOf(vectors, queries, metric, Build(vectors, metric, nullptr)));
  }
}

TEST(HnswDeviceTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  Device device;
  const std::string one = Build(vectors, Metric::kCosine, &device, 1);
  EXPECT_EQ(one, Build(vectors, Metric::kCosine, &device, 2));
  EXPECT_EQ(one, Build(vectors, Metric::kCosine, &device, 3));
}

TEST(HnswDeviceTest, TheCpuGoesOnWhereADeviceFails) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  const std::string leaves = Build(vectors, Metric::kL2, nullptr);
  Device whole;
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
  Device device;
  EXPECT_EQ(Build(vectors, Metric::kL2, &device),
            Build(vectors, Metric::kL2, nullptr));
  EXPECT_GT(device.num_calls(), 0);
}

TEST(HnswDeviceTest, AFewRowsAreNotWorthIt) {
  const OwnedVectors vectors = Clustered(3000, 24, 40, /*seed=*/1);
  Device device;
  EXPECT_EQ(Build(vectors, Metric::kL2, &device),
            Build(vectors, Metric::kL2, nullptr));
  EXPECT_EQ(device.num_calls(), 0);
}

TEST(HnswDeviceTest, ASlowDeviceIsNotAsked) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  Device device;
  device.StopBuildingGraphs();
  EXPECT_EQ(Build(vectors, Metric::kL2, &device),
            Build(vectors, Metric::kL2, nullptr));
  EXPECT_EQ(device.num_calls(), 0);
}

TEST(HnswDeviceTest, StopsWhenCancelled) {
  const OwnedVectors vectors = Clustered(4200, 24, 40, /*seed=*/1);
  Device device;
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
