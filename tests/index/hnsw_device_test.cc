// Graphs that a device has a part in: here the CPU's backend stands for one.
#include "index/hnsw_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "index/hnsw.h"
#include "src/base/cancel.h"
#include "src/base/workers.h"
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

// Few links, so that stages of half of the rows are large enough for a device.
constexpr HnswParams kFewLinks{.m = 4, .ef_construction = 16};
constexpr size_t kManyRows = 8600;

std::string BuildFewLinks(const OwnedVectors& vectors, DistanceBackend* device,
                          size_t num_threads = 2) {
  const auto graph = BuildHnswGraph(vectors.view(), Metric::kCosine, kFewLinks,
                                    num_threads, nullptr, nullptr, device);
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

TEST(HnswDeviceTest, RowsOfUpperStagesAreMadeOfThoseThatAreThere) {
  const OwnedVectors vectors = Clustered(kManyRows, 8, 90, /*seed=*/1);
  const OwnedVectors queries = Clustered(200, 8, 90, /*seed=*/1, 1);
  FailingDevice device;
  const std::string graph = BuildFewLinks(vectors, &device, 1);
  EXPECT_EQ(device.num_parts(), 1);
  EXPECT_EQ(device.largest_segment(), kManyRows);
  EXPECT_EQ(device.most_segments(), 2);
  EXPECT_EQ(device.num_segments(), 0);
  EXPECT_EQ(graph, BuildFewLinks(vectors, &device, 3));
  EXPECT_GE(RecallOf(vectors, queries, Metric::kCosine, graph) + 0.01,
            RecallOf(vectors, queries, Metric::kCosine,
                     BuildFewLinks(vectors, nullptr)));
}

TEST(HnswDeviceTest, ADeviceThatHoldsUpperStagesAloneLinksThese) {
  const OwnedVectors vectors = Clustered(kManyRows, 8, 90, /*seed=*/1);
  FailingDevice device;
  device.HoldAtMost(kManyRows - 1);
  const std::string graph = BuildFewLinks(vectors, &device);
  EXPECT_EQ(device.num_parts(), 0);
  EXPECT_GE(device.largest_segment(), kManyRows / 2 - 200);
  EXPECT_NE(graph, BuildFewLinks(vectors, nullptr));
}

TEST(HnswDeviceTest, ADeviceWithRoomForOneStageLinksOneAfterTheOther) {
  const OwnedVectors vectors = Clustered(kManyRows, 8, 90, /*seed=*/1);
  FailingDevice device, roomy;
  device.HoldTogether(kManyRows + 100);
  const std::string graph = BuildFewLinks(vectors, &device);
  EXPECT_EQ(device.num_parts(), 0);
  EXPECT_EQ(device.most_segments(), 1);
  EXPECT_EQ(device.largest_segment(), kManyRows);
  EXPECT_EQ(graph, BuildFewLinks(vectors, &roomy));
  EXPECT_EQ(roomy.num_parts(), 1);
}

TEST(HnswDeviceTest, AGraphIsWholeWhereverADeviceFails) {
  const OwnedVectors vectors = Clustered(kManyRows, 8, 90, /*seed=*/1);
  const OwnedVectors queries = Clustered(100, 8, 90, /*seed=*/1, 1);
  FailingDevice whole;
  const double recall = RecallOf(vectors, queries, Metric::kCosine,
                                 BuildFewLinks(vectors, &whole));
  ASSERT_GE(whole.num_calls(), 5);
  // Both loads, links of the upper stage, and what comes later.
  for (const int call : {0, 1, 2, 4}) {
    FailingDevice device(call, BackendStatus::kNoMemory);
    device.FailOnce();
    EXPECT_GE(RecallOf(vectors, queries, Metric::kCosine,
                       BuildFewLinks(vectors, &device)),
              recall - 0.05)
        << call;
    EXPECT_EQ(device.num_segments(), 0);
  }
}

// Links row r to row r + 1 alone, without a look at them.
class ChainDevice final : public DistanceBackend {
 public:
  explicit ChainDevice(int failing = -1) : failing_(failing) {}

  int num_links() const { return num_links_; }

  const char* name() const override { return "chain"; }
  size_t device_bytes() const override { return 0; }
  bool builds_graphs() const override { return true; }
  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override {
    *out = std::make_shared<Segment>(segment.rows.num_rows);
    return BackendStatus::kOk;
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
  BackendStatus LinkGraph(const LoadedSegment&, RowId begin, RowId end, size_t,
                          const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport*) const override {
    if (num_links_++ == failing_) return BackendStatus::kDeviceLost;
    std::fill_n(out, (end - begin) * rule.max_links, Neighbor{});
    std::fill_n(num_duplicates, end - begin, 0);
    for (RowId row = begin; row < end; ++row) {
      out[(row - begin) * rule.max_links] = {1, row + 1};
    }
    return BackendStatus::kOk;
  }
  BackendStatus SelectLinks(const LoadedSegment&, size_t, const uint32_t*,
                            const Neighbor*, const LinkRule&,
                            Neighbor*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus Assign(const LoadedSegment&, const float*, size_t, uint32_t*,
                       float*) const override {
    return BackendStatus::kUnsupported;
  }

 private:
  class Segment final : public LoadedSegment {
   public:
    explicit Segment(size_t num_rows) : num_rows_(num_rows) {}
    size_t num_rows() const override { return num_rows_; }
    size_t device_bytes() const override { return 0; }

   private:
    const size_t num_rows_;
  };

  const int failing_;
  mutable std::atomic<int> num_links_ = 0;
};

// Seven ranges.
constexpr size_t kChainRows = 100'000;

// The rows whose links are taken, of a device that fails at one range, by one
// who stops after so many.
size_t TakeChain(ChainDevice* device, size_t most, bool* linked) {
  DeviceStage stage(device, 0.5f);
  Workers workers(1);
  EXPECT_TRUE(
      stage.Load({.num_rows = kChainRows, .dim = 1, .load = {}}, &workers));
  size_t num_taken = 0;
  const LinkRule rule{.max_links = 2};
  *linked = stage.Link(
      2, rule, 0, [&](size_t begin, size_t end, const Neighbor* links) {
        EXPECT_EQ(begin, num_taken);
        for (size_t row = begin; row < end; ++row) {
          const Neighbor* const own = links + (row - begin) * 2;
          if (own[0] != Neighbor{0.5f, static_cast<RowId>(row + 1)} ||
              own[1].row != kInvalidRow) {
            ADD_FAILURE() << row;
            return false;
          }
        }
        num_taken = end;
        return num_taken < most;
      });
  return num_taken;
}

TEST(DeviceStageTest, GivesLinksOfRangesInTheirOrder) {
  ChainDevice device;
  bool linked = false;
  EXPECT_EQ(TakeChain(&device, kChainRows + 1, &linked), kChainRows);
  EXPECT_TRUE(linked);
  EXPECT_EQ(device.num_links(), 7);
}

TEST(DeviceStageTest, EndsWhereTheDeviceFails) {
  for (int failing = 0; failing < 7; ++failing) {
    ChainDevice device(failing);
    bool linked = true;
    EXPECT_EQ(TakeChain(&device, kChainRows + 1, &linked), failing * 16'384u);
    EXPECT_FALSE(linked);
    EXPECT_EQ(device.num_links(), failing + 1);
  }
}

TEST(DeviceStageTest, EndsWhenNoMoreAreWanted) {
  ChainDevice device;
  bool linked = true;
  EXPECT_EQ(TakeChain(&device, 1, &linked), 16'384u);
  EXPECT_FALSE(linked);
  // It was four ranges ahead at most.
  EXPECT_LE(device.num_links(), 5);
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
  const OwnedVectors vectors = Clustered(kManyRows, 8, 90, /*seed=*/1);
  for (const int at : {-1, 0, 1, 2, 3, 4}) {
    FailingDevice device;
    CancelToken cancel;
    if (at < 0) cancel.Cancel();
    device.OnCall([&](int call) {
      if (call == at) cancel.Cancel();
    });
    EXPECT_EQ(BuildHnswGraph(vectors.view(), Metric::kCosine, kFewLinks, 2,
                             &cancel, nullptr, &device)
                  .status()
                  .code(),
              absl::StatusCode::kCancelled)
        << at;
    // A load, and links of what was loaded, may be under way.
    EXPECT_LE(device.num_calls(), std::max(at, 0) + 2) << at;
    EXPECT_EQ(device.num_segments(), 0);
  }
}

}  // namespace
}  // namespace vicinal
