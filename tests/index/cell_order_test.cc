#include "index/cell_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "src/base/random.h"
#include "src/distance/distance.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

std::vector<RowId> Order(const OwnedVectors& vectors,
                         Metric metric = Metric::kL2, size_t num_threads = 2) {
  const auto order =
      CellOrder(vectors.view(), metric, /*seed=*/1, num_threads, nullptr);
  EXPECT_TRUE(order.ok()) << order.status();
  return *order;
}

TEST(CellOrderTest, IsAPermutationForEveryTypeAndMetric) {
  for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat16,
                                 ElementType::kInt8, ElementType::kUint8}) {
    for (const Metric metric :
         {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      for (const size_t n : {0, 1, 2, 3, 100, 1500}) {
        std::vector<RowId> order =
            Order(Clustered(n, 7, 5, /*seed=*/n, 0, type), metric);
        ASSERT_EQ(order.size(), n);
        std::sort(order.begin(), order.end());
        for (size_t i = 0; i < n; ++i) ASSERT_EQ(order[i], i);
      }
    }
  }
}

TEST(CellOrderTest, DoesNotDependOnThreads) {
  const OwnedVectors vectors = Clustered(5000, 20, 30, /*seed=*/1);
  EXPECT_EQ(Order(vectors, Metric::kL2, 1), Order(vectors, Metric::kL2, 3));
}

TEST(CellOrderTest, DoesNotDependOnTheOrderOfTheRows) {
  const OwnedVectors vectors = Clustered(5000, 20, 30, /*seed=*/2);
  std::vector<RowId> shuffle(vectors.num_rows);
  std::iota(shuffle.begin(), shuffle.end(), 0);
  Random random(2);
  for (size_t i = shuffle.size(); i > 1; --i) {
    std::swap(shuffle[i - 1], shuffle[random.Uniform(i)]);
  }
  const OwnedVectors shuffled = Permuted(vectors, shuffle);
  EXPECT_EQ(Permuted(vectors, Order(vectors)).bytes,
            Permuted(shuffled, Order(shuffled)).bytes);
}

TEST(CellOrderTest, PutsNeighboursTogether) {
  const OwnedVectors vectors = Clustered(4000, 16, 40, /*seed=*/3);
  const auto mean_step = [](const OwnedVectors& rows) {
    const DistanceOps& ops = OpsFor(Metric::kL2, rows.type);
    double sum = 0;
    for (size_t i = 1; i < rows.num_rows; ++i) {
      sum += ops.one(rows.row(i - 1), rows.row(i), rows.dim);
    }
    return sum / static_cast<double>(rows.num_rows - 1);
  };
  EXPECT_LT(mean_step(Permuted(vectors, Order(vectors))),
            0.5 * mean_step(vectors));
}

TEST(CellOrderTest, AcceptsEqualRowsAndZeroRows) {
  for (const float value : {0.0f, 2.5f}) {
    const OwnedVectors vectors = MakeVectors(
        std::vector<float>(3000 * 4, value), 4, ElementType::kFloat32);
    EXPECT_EQ(Order(vectors, Metric::kCosine).size(), 3000u);
  }
}

TEST(CellOrderTest, StopsWhenCancelled) {
  const OwnedVectors vectors = Clustered(2000, 8, 10, /*seed=*/4);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(
      CellOrder(vectors.view(), Metric::kL2, 1, 2, &cancel).status().code(),
      absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace vicinal
