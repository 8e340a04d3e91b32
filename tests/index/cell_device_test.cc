// Cells and lists that a device has a part in: here the CPU's backend stands
// for one.
#include "index/cell_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/build_distance.h"
#include "index/cell_order.h"
#include "index/ivf.h"
#include "src/base/cancel.h"
#include "src/distance/distance.h"
#include "src/distance/gpu/backend.h"
#include "tests/index/failing_device.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kRows = 8'000;
constexpr size_t kDim = 64;
// Rounds of k-means for lists, each a call.
constexpr int kRounds = 12;
// Calls of a build: load, k-means, load, search. Some of each.
constexpr int kNumCalls = kRounds + 3;
constexpr int kSomeCalls[] = {0, 1, 5, kRounds, kRounds + 1, kRounds + 2};
constexpr BackendStatus kFailures[] = {BackendStatus::kUnsupported,
                                       BackendStatus::kNoMemory,
                                       BackendStatus::kDeviceLost};

OwnedVectors Rows(ElementType type = ElementType::kFloat32) {
  return Clustered(kRows, kDim, 60, /*seed=*/1, 0, type);
}

IvfLists Build(const OwnedVectors& vectors, Metric metric,
               DistanceBackend* device, size_t num_threads = 2) {
  auto lists =
      BuildIvfLists(vectors.view(), metric, {}, num_threads, nullptr, device);
  EXPECT_TRUE(lists.ok()) << lists.status();
  return *std::move(lists);
}

bool Equal(const IvfLists& a, const IvfLists& b) {
  return a.order == b.order && a.bytes == b.bytes;
}

// That every row is in one list, the lists can be opened; how much searches of
// the nearest lists find.
double RecallOf(const OwnedVectors& vectors, Metric metric,
                const IvfLists& lists) {
  std::vector<RowId> rows = lists.order;
  std::sort(rows.begin(), rows.end());
  EXPECT_EQ(rows.size(), vectors.num_rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] != i) {
      ADD_FAILURE() << "row " << i << " is not there once";
      return 0;
    }
  }
  const OwnedVectors ordered = Permuted(vectors, lists.order);
  const auto index = IvfIndex::Open(ordered.view(), metric, lists.bytes);
  EXPECT_TRUE(index.ok()) << index.status();
  EXPECT_GT((*index)->num_lists(), 80u);
  const OwnedVectors queries =
      Clustered(100, vectors.dim, 60, /*seed=*/1, 1, vectors.type);
  return MeanRecall(**index, ordered.view(), metric, queries, 10, 2);
}

TEST(CellDeviceTest, ItsListsFindAsMuchAsTheCpus) {
  for (const ElementType type :
       {ElementType::kFloat32, ElementType::kFloat16, ElementType::kInt8}) {
    for (const Metric metric :
         {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      const OwnedVectors vectors = Rows(type);
      FailingDevice device;
      const IvfLists by_device = Build(vectors, metric, &device);
      EXPECT_EQ(device.num_kmeans(), kRounds);
      EXPECT_EQ(device.num_searches(), 1);
      EXPECT_EQ(device.num_segments(), 0);
      EXPECT_EQ(device.most_segments(), 1);
      const IvfLists by_cpu = Build(vectors, metric, nullptr);
      EXPECT_FALSE(Equal(by_device, by_cpu));
      const double recall = RecallOf(vectors, metric, by_cpu);
      EXPECT_GT(recall, 0.7);
      EXPECT_NEAR(RecallOf(vectors, metric, by_device), recall, 0.02)
          << static_cast<int>(type) << ", " << static_cast<int>(metric);
    }
  }
}

TEST(CellDeviceTest, TheRowsAreThoseOfTheNearestCentroids) {
  const OwnedVectors vectors = Rows(ElementType::kFloat16);
  FailingDevice device;
  const auto cells =
      FindCells(vectors.view(), Metric::kCosine, {}, 2, nullptr, &device);
  ASSERT_TRUE(cells.ok()) << cells.status();
  EXPECT_GT(device.num_kmeans(), 0);
  const DistanceOps& ops = OpsFor(Metric::kL2, ElementType::kFloat32);
  const size_t num_cells = cells->offsets.size() - 1;
  std::vector<float> values(kDim);
  std::vector<float> distances(num_cells);
  for (size_t cell = 0; cell < num_cells; ++cell) {
    for (size_t i = cells->offsets[cell]; i < cells->offsets[cell + 1]; ++i) {
      RowToFloats(vectors.view(), Metric::kCosine, cells->order[i],
                  values.data());
      ops.scan(values.data(), cells->centroids.data(), kDim * sizeof(float),
               num_cells, kDim, distances.data());
      ASSERT_EQ(distances[cell],
                *std::min_element(distances.begin(), distances.end()))
          << "row " << cells->order[i];
    }
  }
}

TEST(CellDeviceTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const OwnedVectors vectors = Rows();
  FailingDevice device;
  const IvfLists one = Build(vectors, Metric::kCosine, &device, 1);
  EXPECT_TRUE(Equal(one, Build(vectors, Metric::kCosine, &device, 2)));
  EXPECT_TRUE(Equal(one, Build(vectors, Metric::kCosine, &device, 3)));
  EXPECT_EQ(device.num_kmeans(), 3 * kRounds);
}

TEST(CellDeviceTest, TheCpuGoesOnWhereADeviceFails) {
  const OwnedVectors vectors = Rows();
  const IvfLists by_cpu = Build(vectors, Metric::kL2, nullptr);
  const double recall = RecallOf(vectors, Metric::kL2, by_cpu);
  FailingDevice whole;
  const IvfLists by_device = Build(vectors, Metric::kL2, &whole);
  ASSERT_EQ(whole.num_calls(), kNumCalls);
  for (const int call : kSomeCalls) {
    const BackendStatus failure = kFailures[call % 3];
    FailingDevice device(call, failure);
    const IvfLists lists = Build(vectors, Metric::kL2, &device);
    EXPECT_NEAR(RecallOf(vectors, Metric::kL2, lists), recall, 0.02) << call;
    EXPECT_EQ(device.num_segments(), 0);
    EXPECT_EQ(device.num_kmeans(), std::min(call, kRounds)) << call;
    if (call == 0) {
      EXPECT_TRUE(Equal(lists, by_cpu));
    }
    FailingDevice once(call, failure);
    once.FailOnce();
    EXPECT_NEAR(
        RecallOf(vectors, Metric::kL2, Build(vectors, Metric::kL2, &once)),
        recall, 0.02)
        << call;
    EXPECT_EQ(once.num_segments(), 0);
  }
  // The CPU has the same centroids where the load of them fails, or the search.
  for (const int call : {kRounds + 1, kRounds + 2}) {
    FailingDevice late(call);
    EXPECT_EQ(Build(vectors, Metric::kL2, &late).bytes, by_device.bytes);
  }
}

TEST(CellDeviceTest, SearchesDoTheKMeansOfASampleWithoutRoom) {
  const OwnedVectors vectors = Rows();
  FailingDevice device;
  device.HoldAtMost(1'000);
  const IvfLists lists = Build(vectors, Metric::kL2, &device);
  EXPECT_EQ(device.num_kmeans(), 0);
  EXPECT_EQ(device.num_searches(), kRounds + 1);
  EXPECT_EQ(device.num_segments(), 0);
  EXPECT_LE(device.largest_segment(), 1'000u);
  EXPECT_NEAR(
      RecallOf(vectors, Metric::kL2, lists),
      RecallOf(vectors, Metric::kL2, Build(vectors, Metric::kL2, nullptr)),
      0.02);
}

TEST(CellDeviceTest, ManyRowsAreComparedInParts) {
  // More than 64 MiB as floats.
  const OwnedVectors vectors =
      Clustered(17'000, 1'024, 50, /*seed=*/2, 0, ElementType::kFloat16);
  FailingDevice device;
  const CellOptions options{.num_cells = 64, .iterations = 2};
  const auto cells =
      FindCells(vectors.view(), Metric::kL2, options, 2, nullptr, &device);
  ASSERT_TRUE(cells.ok()) << cells.status();
  EXPECT_EQ(device.num_searches(), 2);
  EXPECT_EQ(device.most_queries(), 16'384u);
  // And the CPU compares those of the part at which a device fails.
  FailingDevice failing(device.num_calls() - 1);
  const auto others =
      FindCells(vectors.view(), Metric::kL2, options, 2, nullptr, &failing);
  ASSERT_TRUE(others.ok()) << others.status();
  EXPECT_EQ(others->centroids, cells->centroids);
  EXPECT_EQ(others->offsets, cells->offsets);
}

TEST(CellDeviceTest, ManyCellsAreChainedWithItsHelpAndAsWithout) {
  const OwnedVectors vectors = Rows();
  const CellOptions options{
      .num_cells = 1'500, .sample_per_cell = 4, .iterations = 2};
  const auto find = [&](FailingDevice* device) {
    auto cells =
        FindCells(vectors.view(), Metric::kL2, options, 2, nullptr, device);
    EXPECT_TRUE(cells.ok()) << cells.status();
    EXPECT_EQ(device->num_graphs(), 1);
    EXPECT_EQ(device->num_segments(), 0);
    return *std::move(cells);
  };
  FailingDevice whole;
  const Cells cells = find(&whole);
  FailingDevice failing(whole.num_calls() - 1);
  const Cells others = find(&failing);
  EXPECT_EQ(others.order, cells.order);
  EXPECT_EQ(others.offsets, cells.offsets);
  EXPECT_EQ(others.centroids, cells.centroids);
}

TEST(CellDeviceTest, StopsAtTheNextCallWhenCancelled) {
  const OwnedVectors vectors = Rows();
  for (const int call : kSomeCalls) {
    FailingDevice device;
    CancelToken cancel;
    device.OnCall([&](int now) {
      if (now == call) cancel.Cancel();
    });
    EXPECT_TRUE(absl::IsCancelled(
        BuildIvfLists(vectors.view(), Metric::kL2, {}, 2, &cancel, &device)
            .status()))
        << call;
    EXPECT_EQ(device.num_calls(), call + 1);
    EXPECT_EQ(device.num_segments(), 0);
  }
}

TEST(CellDeviceTest, AFewRowsAreNotWorthIt) {
  const OwnedVectors vectors = Clustered(2'000, 24, 40, /*seed=*/1);
  FailingDevice device;
  EXPECT_TRUE(Equal(Build(vectors, Metric::kL2, &device),
                    Build(vectors, Metric::kL2, nullptr)));
  EXPECT_EQ(device.num_calls(), 0);
}

TEST(CellDeviceTest, ASlowDeviceIsNotAsked) {
  const OwnedVectors vectors = Rows();
  FailingDevice device;
  device.StopBuildingGraphs();
  EXPECT_TRUE(Equal(Build(vectors, Metric::kL2, &device),
                    Build(vectors, Metric::kL2, nullptr)));
  EXPECT_EQ(device.num_calls(), 0);
}

TEST(CellDeviceTest, CellsOfGraphsAndPartitionsAreFoundByIt) {
  const OwnedVectors vectors = Rows();
  FailingDevice device;
  const auto cells =
      BuildCellLists(vectors.view(), Metric::kL2, 1, 2, nullptr, &device);
  ASSERT_TRUE(cells.ok()) << cells.status();
  EXPECT_EQ(device.num_searches(), 1);
  EXPECT_GT(device.num_kmeans(), 0);
  EXPECT_GT(RecallOf(vectors, Metric::kL2, *cells), 0.7);

  const uint32_t ends[] = {1'000, 7'000, 8'000};
  FailingDevice for_partitions;
  const auto lists = BuildPartitionedLists(vectors.view(), Metric::kL2, {},
                                           ends, 2, nullptr, &for_partitions);
  ASSERT_TRUE(lists.ok()) << lists.status();
  // One of them has lists of its own.
  EXPECT_EQ(for_partitions.num_searches(), 1);
  EXPECT_EQ(for_partitions.largest_segment(), 77u * 64);
  for (size_t i = 0; i < kRows; ++i) {
    const RowId row = lists->order[i];
    ASSERT_EQ(std::upper_bound(std::begin(ends), std::end(ends), row),
              std::upper_bound(std::begin(ends), std::end(ends), i));
  }
}

TEST(CellDeviceTest, DistancesThatAreNoFloatsLeaveRowsInACell) {
  std::vector<float> values(kRows * kDim);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = (i / kDim) % 2 == 0 ? 3e38f : -3e38f;
  }
  const OwnedVectors vectors = MakeVectors(values, kDim, ElementType::kFloat32);
  FailingDevice device;
  const auto cells =
      FindCells(vectors.view(), Metric::kL2, {}, 2, nullptr, &device);
  ASSERT_TRUE(cells.ok()) << cells.status();
  EXPECT_GT(device.num_searches(), 0);
  EXPECT_EQ(cells->offsets.back(), kRows);
  EXPECT_EQ(cells->order.size(), kRows);
}

}  // namespace
}  // namespace vicinal
