// Lists of rows in partitions, and the effort that searches within these take.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "index/calibration.h"
#include "index/ivf.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/coding.h"
#include "src/base/random.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 8;

std::vector<uint32_t> EndsOf(const std::vector<uint32_t>& sizes) {
  std::vector<uint32_t> ends(sizes.size());
  std::partial_sum(sizes.begin(), sizes.end(), ends.begin());
  return ends;
}

// Where each list of the bytes begins, and the number of rows.
std::vector<uint32_t> OffsetsOf(const std::string& bytes) {
  std::vector<uint32_t> offsets(GetFixed<uint32_t>(bytes.data()) + 1);
  std::memcpy(offsets.data(), bytes.data() + 8,
              offsets.size() * sizeof(uint32_t));
  return offsets;
}

// Checks what BuildPartitionedLists promises; gives the number of lists.
size_t CheckLists(const OwnedVectors& rows,
                  const std::vector<uint32_t>& sizes) {
  const std::vector<uint32_t> ends = EndsOf(sizes);
  const IvfLists lists =
      *BuildPartitionedLists(rows.view(), Metric::kL2, {}, ends, 2, nullptr);
  const std::vector<uint32_t> offsets = OffsetsOf(lists.bytes);
  EXPECT_EQ(lists.order.size(), rows.num_rows);
  EXPECT_EQ(offsets.front(), 0u);
  EXPECT_EQ(offsets.back(), rows.num_rows);
  for (size_t list = 0; list + 1 < offsets.size(); ++list) {
    EXPECT_LT(offsets[list], offsets[list + 1]) << "an empty list";
  }
  const std::set<uint32_t> borders(offsets.begin(), offsets.end());
  uint32_t begin = 0;
  for (const uint32_t end : ends) {
    // The same rows, in another order at most.
    std::vector<RowId> order(lists.order.begin() + begin,
                             lists.order.begin() + end);
    if (end - begin > kOneListRows) {
      EXPECT_TRUE(borders.contains(begin) && borders.contains(end)) << begin;
      EXPECT_GT(std::distance(borders.find(begin), borders.find(end)), 1);
    } else {
      EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
      const auto next = borders.upper_bound(begin);
      EXPECT_TRUE(begin == end || end <= *next) << begin << " is cut";
    }
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < order.size(); ++i) {
      EXPECT_EQ(order[i], begin + i);
      if (order[i] != begin + i) return 0;
    }
    begin = end;
  }
  const OwnedVectors permuted = Permuted(rows, lists.order);
  EXPECT_TRUE(IvfIndex::Open(permuted.view(), Metric::kL2, lists.bytes).ok());
  const IvfLists again =
      *BuildPartitionedLists(rows.view(), Metric::kL2, {}, ends, 1, nullptr);
  EXPECT_EQ(again.order, lists.order);
  EXPECT_EQ(again.bytes, lists.bytes);
  return offsets.size() - 1;
}

TEST(PartitionedListsTest, SmallPartitionsShareListsAndLargeOnesHaveTheirOwn) {
  const auto total = [](const std::vector<uint32_t>& sizes) {
    return std::accumulate(sizes.begin(), sizes.end(), 0u);
  };
  const auto check = [&](const std::vector<uint32_t>& sizes) {
    return CheckLists(Clustered(total(sizes), kDim, 20, 3), sizes);
  };
  EXPECT_EQ(check({1}), 1u);
  EXPECT_EQ(check({10, 20, 30}), 1u);
  EXPECT_EQ(check({255, 1, 1}), 2u);
  EXPECT_EQ(check({kOneListRows}), 1u);
  EXPECT_GT(check({kOneListRows + 1}), 16u);
  EXPECT_GT(check({3, 5'000, 4'000, 1, 6'000, 0, 7}), 3 * 16u);
  EXPECT_EQ(check(std::vector<uint32_t>(1'024, 1)), 4u);
  Random random(6);
  for (int round = 0; round < 5; ++round) {
    std::vector<uint32_t> sizes(40);
    for (uint32_t& size : sizes) {
      size = static_cast<uint32_t>(
          random.Uniform(random.Uniform(8) == 0 ? 6'000 : 400));
    }
    sizes.push_back(1);
    check(sizes);
  }
}

TEST(PartitionedListsTest, ManyPartitionsTakeNoMoreListsThanThereMayBe) {
  const size_t num_rows = 200'000;
  const OwnedVectors rows =
      MakeVectors(std::vector<float>(num_rows, 1), 1, ElementType::kUint8);
  EXPECT_LE(CheckLists(rows, std::vector<uint32_t>(num_rows, 1)),
            num_rows / 256 + 1);
}

TEST(PartitionedListsTest, ADuplicatedRowFillsALargePartition) {
  const OwnedVectors rows = MakeVectors(std::vector<float>(5'000 * kDim, 3),
                                        kDim, ElementType::kFloat32);
  const std::vector<uint32_t> ends = {5'000};
  const IvfLists lists =
      *BuildPartitionedLists(rows.view(), Metric::kL2, {}, ends, 1, nullptr);
  const auto index = *IvfIndex::Open(rows.view(), Metric::kL2, lists.bytes);
  EXPECT_EQ(SearchIndex(*index, rows.row(0), 10, 1, {.begin = 0, .end = 5'000})
                .size(),
            10u);
}

TEST(PartitionedListsTest, OneListOfAllWhenAskedFor) {
  const OwnedVectors rows = Clustered(6'000, kDim, 20, 3);
  const std::vector<uint32_t> ends = {5'000, 6'000};
  const IvfLists lists = *BuildPartitionedLists(
      rows.view(), Metric::kCosine, {.num_lists = 1}, ends, 1, nullptr);
  EXPECT_EQ(OffsetsOf(lists.bytes), (std::vector<uint32_t>{0, 6'000}));
  EXPECT_TRUE(std::is_sorted(lists.order.begin(), lists.order.end()));
}

TEST(PartitionedListsTest, CanBeCancelled) {
  const OwnedVectors rows = Clustered(6'000, kDim, 20, 3);
  const std::vector<uint32_t> ends = {5'000, 6'000};
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      BuildPartitionedLists(rows.view(), Metric::kL2, {}, ends, 1, &cancel)
          .status()));
}

class CalibratePartitionsTest : public ::testing::Test {
 protected:
  // Partitions of 60 rows, of 300, of 4,000 and of 8,000 rows.
  CalibratePartitionsTest() {
    IvfLists lists = *BuildPartitionedLists(base_.view(), Metric::kL2, {},
                                            ends_, 2, nullptr);
    rows_ = Permuted(base_, lists.order);
    lists_ = lists.bytes;
    index_ = *IvfIndex::Open(rows_.view(), Metric::kL2, lists_);
  }

  const std::vector<uint32_t> ends_ =
      EndsOf({60, 60, 60, 300, 300, 4'000, 8'000, 8'000});
  const OwnedVectors base_ = Clustered(ends_.back(), 24, 200, 8);
  OwnedVectors rows_;
  std::string lists_;
  std::unique_ptr<IvfIndex> index_;
};

TEST_F(CalibratePartitionsTest, TargetsAreMetWithinPartitions) {
  const auto efforts = *index_->CalibratePartitions(ends_, 2, nullptr);
  ASSERT_GE(efforts.size(), 2u);
  EXPECT_EQ(efforts[0].max_lists, 1u);
  for (size_t i = 1; i < efforts.size(); ++i) {
    EXPECT_LT(efforts[i - 1].max_lists, efforts[i].max_lists);
    EXPECT_TRUE(std::has_single_bit(efforts[i].max_lists));
    EXPECT_FALSE(efforts[i].table.empty());
  }
  const Filter large{.begin = ends_[5], .end = ends_[6]};
  const size_t num_lists = index_->NumListsOf(large);
  EXPECT_GT(num_lists, 16u);
  const auto& table = std::find_if(efforts.begin(), efforts.end(),
                                   [&](const PartitionEfforts& efforts_of) {
                                     return efforts_of.max_lists >= num_lists;
                                   })
                          ->table;
  for (const double target : {0.8, 0.95, 0.99}) {
    const SearchParams params = ParamsForRecall(table, 10, target);
    double hits = 0;
    for (size_t q = 0; q < 100; ++q) {
      const std::byte* query = rows_.row(large.begin + 77 * q);
      TopK nearest(10);
      ASSERT_TRUE(
          index_->Search(query, params, large, {}, &nearest, nullptr).ok());
      const auto truth =
          ExactSearch(rows_.view(), Metric::kL2, query, 10, large);
      for (const Neighbor& found : nearest.TakeSorted()) {
        hits += found.distance <= truth.back().distance;
      }
    }
    EXPECT_GE(hits / 1'000, target - 0.03) << target;
    EXPECT_LE(params.ef, num_lists);
  }
}

TEST_F(CalibratePartitionsTest, IsTheSameForAnyThreadsAndCanBeCancelled) {
  const auto one = *index_->CalibratePartitions(ends_, 1, nullptr);
  const auto two = *index_->CalibratePartitions(ends_, 3, nullptr);
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].max_lists, two[i].max_lists);
    ASSERT_EQ(one[i].table.size(), two[i].table.size());
    for (size_t j = 0; j < one[i].table.size(); ++j) {
      EXPECT_EQ(one[i].table[j].recall, two[i].table[j].recall);
      EXPECT_EQ(one[i].table[j].ef, two[i].table[j].ef);
    }
  }
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      index_->CalibratePartitions(ends_, 2, &cancel).status()));
}

TEST_F(CalibratePartitionsTest, SaysNothingOfPartitionsTooSmallToMeasure) {
  std::vector<uint32_t> ends(ends_.back() / 20);
  for (size_t i = 0; i < ends.size(); ++i) {
    ends[i] = static_cast<uint32_t>(20 * (i + 1));
  }
  EXPECT_TRUE(index_->CalibratePartitions(ends, 2, nullptr)->empty());
}

}  // namespace
}  // namespace vicinal
