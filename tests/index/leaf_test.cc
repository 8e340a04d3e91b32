// The partition into leaves and the neighbours found inside them.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <vector>

#include "index/leaf_neighbors.h"
#include "index/leaf_partition.h"
#include "src/distance/distance.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 12;

RowSource Source(const std::vector<float>& values) {
  return {.num_rows = values.size() / kDim,
          .dim = kDim,
          .load = [&values](uint32_t row, float* out) {
            std::copy_n(&values[row * kDim], kDim, out);
          }};
}

Leaves Partition(const std::vector<float>& values, const LeafParams& params,
                 size_t num_threads = 2) {
  Workers workers(num_threads);
  auto leaves = PartitionIntoLeaves(Source(values), params, &workers, nullptr);
  EXPECT_TRUE(leaves.ok()) << leaves.status();
  return *std::move(leaves);
}

NeighborLists Compare(const std::vector<float>& values, const Leaves& leaves,
                      size_t capacity, float scale = 1,
                      size_t num_threads = 2) {
  Workers workers(num_threads);
  NeighborLists lists(values.size() / kDim, capacity);
  std::atomic<size_t> told = 0;
  EXPECT_TRUE(CompareInsideLeaves(
                  Source(values), leaves, scale, &workers, nullptr,
                  [&](size_t num_rows) { told += num_rows; }, &lists)
                  .ok());
  EXPECT_EQ(told.load(), leaves.members.size());
  return lists;
}

TEST(LeafPartitionTest, EveryRowLiesInFanoutLeavesOfBoundedSize) {
  const std::vector<float> values = ClusteredValues(8000, kDim, 30, 1, 0);
  const LeafParams params{.mean_rows = 100, .max_rows = 300, .fanout = 3};
  const Leaves leaves = Partition(values, params);
  std::vector<size_t> counts(8000);
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LE(leaves.leaf(i).size(), params.max_rows);
    EXPECT_TRUE(std::is_sorted(leaves.leaf(i).begin(), leaves.leaf(i).end()));
    const std::set<uint32_t> distinct(leaves.leaf(i).begin(),
                                      leaves.leaf(i).end());
    EXPECT_EQ(distinct.size(), leaves.leaf(i).size());
    for (const uint32_t row : distinct) ++counts[row];
  }
  for (const size_t count : counts) EXPECT_EQ(count, 3u);
}

TEST(LeafPartitionTest, FewRowsAreOneLeaf) {
  for (const size_t n : {0, 1, 2, 100}) {
    const Leaves leaves =
        Partition(std::vector<float>(n * kDim), {.max_rows = 100});
    EXPECT_EQ(leaves.size(), 1u);
    EXPECT_EQ(leaves.members.size(), n);
  }
}

TEST(LeafPartitionTest, SplitsEqualRows) {
  const Leaves leaves =
      Partition(std::vector<float>(5000 * kDim, 1.0f),
                {.mean_rows = 100, .max_rows = 300, .fanout = 2});
  std::set<uint32_t> seen(leaves.members.begin(), leaves.members.end());
  EXPECT_EQ(seen.size(), 5000u);
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LE(leaves.leaf(i).size(), 300u);
  }
}

TEST(LeafPartitionTest, DoesNotDependOnThreads) {
  const std::vector<float> values = ClusteredValues(5000, kDim, 30, 2, 0);
  const LeafParams params{.mean_rows = 100, .max_rows = 300};
  const Leaves one = Partition(values, params, 1);
  const Leaves three = Partition(values, params, 3);
  EXPECT_EQ(one.members, three.members);
  EXPECT_EQ(one.starts, three.starts);
}

TEST(LeafPartitionTest, StopsWhenCancelled) {
  const std::vector<float> values = ClusteredValues(3000, kDim, 30, 2, 0);
  CancelToken cancel;
  cancel.Cancel();
  Workers workers(1);
  EXPECT_EQ(PartitionIntoLeaves(Source(values), {}, &workers, &cancel)
                .status()
                .code(),
            absl::StatusCode::kCancelled);
}

TEST(LeafNeighborsTest, OneLeafGivesTheExactNeighbours) {
  for (const size_t n : {2, 16, 17, 65, 700}) {
    const std::vector<float> values = ClusteredValues(n, kDim, 5, n, 0);
    const NeighborLists lists =
        Compare(values, Partition(values, {}), /*capacity=*/20, 0.5f);
    const OwnedVectors vectors =
        MakeVectors(values, kDim, ElementType::kFloat32);
    for (uint32_t row = 0; row < n; ++row) {
      const std::vector<Neighbor> exact =
          ExactSearch(vectors.view(), Metric::kL2, vectors.row(row), 21);
      const auto found = lists.Of(row);
      ASSERT_EQ(found.size(), std::min<size_t>(20, n - 1));
      for (size_t i = 0; i < found.size(); ++i) {
        const Neighbor neighbor = NeighborLists::FromKey(found[i]);
        EXPECT_EQ(neighbor.row, exact[i + 1].row);
        EXPECT_NEAR(neighbor.distance, 0.5 * exact[i + 1].distance,
                    1e-5 * exact[i + 1].distance);
      }
    }
  }
}

TEST(LeafNeighborsTest, DoNotDependOnThreads) {
  const std::vector<float> values = ClusteredValues(5000, kDim, 30, 3, 0);
  const Leaves leaves = Partition(values, {.mean_rows = 100, .max_rows = 300});
  const NeighborLists one = Compare(values, leaves, 16, 1, 1);
  const NeighborLists three = Compare(values, leaves, 16, 1, 3);
  for (uint32_t row = 0; row < 5000; ++row) {
    ASSERT_TRUE(std::ranges::equal(one.Of(row), three.Of(row)));
  }
}

TEST(LeafNeighborsTest, CopiesFormARing) {
  std::vector<float> values(40 * kDim, 1.0f);
  for (size_t i = 0; i < 10 * kDim; ++i) values[i] = 2.0f;
  const NeighborLists lists = Compare(values, Partition(values, {}), 20);
  std::vector<size_t> in_degree(40);
  for (uint32_t row = 10; row < 40; ++row) {
    size_t copies = 0;
    for (const uint64_t key : lists.Of(row)) {
      if (NeighborLists::FromKey(key).distance > 0) continue;
      ++copies;
      ++in_degree[NeighborLists::FromKey(key).row];
    }
    EXPECT_EQ(copies, kMaxLeafDuplicates);
    EXPECT_GT(lists.Of(row).size(), copies);  // and others
  }
  for (uint32_t row = 10; row < 40; ++row) {
    EXPECT_EQ(in_degree[row], kMaxLeafDuplicates);
  }
}

TEST(NeighborListsTest, KeepTheNearestOfAllOffersOnce) {
  NeighborLists lists(1, 3);
  const auto key = &NeighborLists::Key;
  lists.Offer(0, std::vector<uint64_t>{key(1, 5), key(4, 6)});
  EXPECT_EQ(lists.Limit(0), std::numeric_limits<float>::infinity());
  lists.Offer(0, std::vector<uint64_t>{key(1, 5), key(2, 7), key(3, 8)});
  EXPECT_TRUE(std::ranges::equal(
      lists.Of(0), std::vector<uint64_t>{key(1, 5), key(2, 7), key(3, 8)}));
  EXPECT_EQ(lists.Limit(0), 3);
}

}  // namespace
}  // namespace vicinal
