// The k nearest against a sort of everything.
#include "src/base/top_k.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/random.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows 0 .. n - 1 shuffled; of few distances, so that many are equal.
std::vector<Neighbor> Shuffled(size_t n, uint64_t num_distances,
                               Random& random) {
  std::vector<Neighbor> all;
  for (size_t i = 0; i < n; ++i) {
    all.push_back({static_cast<float>(random.Uniform(num_distances)) - 2.0F,
                   static_cast<RowId>(i)});
    std::swap(all[i], all[random.Uniform(i + 1)]);
  }
  return all;
}

TEST(NeighborTest, IsOrderedByDistanceThenRow) {
  EXPECT_LT((Neighbor{1, 9}), (Neighbor{2, 3}));
  EXPECT_LT((Neighbor{1, 3}), (Neighbor{1, 9}));
  EXPECT_FALSE((Neighbor{1, 3}) < (Neighbor{1, 3}));
  EXPECT_EQ((Neighbor{1, 3}), (Neighbor{1, 3}));
  EXPECT_EQ(Neighbor().row, kInvalidRow);
}

TEST(TopKTest, EqualsASortForAnyKAndManyTies) {
  Random random(7);
  for (const size_t k : {0, 1, 2, 7, 64, 299, 300, 301, 1'000}) {
    for (const uint64_t num_distances : {1, 3, 1'000'000}) {
      std::vector<Neighbor> all = Shuffled(300, num_distances, random);
      TopK top(k);
      EXPECT_EQ(top.k(), k);
      for (const Neighbor& neighbor : all) top.Push(neighbor);
      std::sort(all.begin(), all.end());
      all.resize(std::min(k, all.size()));
      EXPECT_EQ(top.size(), all.size());
      EXPECT_EQ(top.TakeSorted(), all) << k << " of " << num_distances;
    }
  }
}

TEST(TopKTest, ThresholdIsTheWorstOnceFull) {
  Random random(8);
  std::vector<Neighbor> pushed;
  TopK top(10);
  for (const Neighbor& neighbor : Shuffled(200, 50, random)) {
    top.Push(neighbor);
    pushed.push_back(neighbor);
    std::sort(pushed.begin(), pushed.end());
    ASSERT_EQ(top.threshold(),
              pushed.size() < 10 ? kInfinity : pushed[9].distance);
  }
}

TEST(TopKTest, OfZeroTakesNothing) {
  TopK top(0);
  EXPECT_EQ(top.threshold(), -kInfinity);
  top.Push({-1, 1});
  top.Push({-kInfinity, 2});
  EXPECT_EQ(top.size(), 0U);
  EXPECT_THAT(top.TakeSorted(), IsEmpty());
}

TEST(TopKTest, OfOneKeepsTheNearestAndOfEqualsTheSmallerRow) {
  TopK top(1);
  EXPECT_EQ(top.threshold(), kInfinity);
  for (const Neighbor neighbor :
       {Neighbor{3, 1}, Neighbor{2, 8}, Neighbor{2, 5}, Neighbor{2, 6}}) {
    top.Push(neighbor);
  }
  EXPECT_EQ(top.threshold(), 2);
  EXPECT_THAT(top.TakeSorted(), ElementsAre(Neighbor{2, 5}));
}

TEST(TopKTest, KeepsInfiniteDistancesWhileThereIsRoom) {
  TopK top(2);
  for (const Neighbor neighbor :
       {Neighbor{kInfinity, 4}, Neighbor{kInfinity, 3}, Neighbor{1, 9}}) {
    top.Push(neighbor);
  }
  EXPECT_THAT(top.TakeSorted(),
              ElementsAre(Neighbor{1, 9}, Neighbor{kInfinity, 3}));
}

TEST(TopKTest, IsEmptyAndUsableAfterItsResultIsTaken) {
  TopK top(2);
  top.Push({1, 1});
  EXPECT_THAT(top.TakeSorted(), ElementsAre(Neighbor{1, 1}));
  EXPECT_EQ(top.size(), 0U);
  EXPECT_EQ(top.threshold(), kInfinity);
  top.Push({5, 2});
  top.Push({4, 3});
  EXPECT_THAT(top.TakeSorted(), ElementsAre(Neighbor{4, 3}, Neighbor{5, 2}));
}

}  // namespace
}  // namespace vicinal
