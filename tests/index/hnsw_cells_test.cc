// Graphs with lists beside them, which filtered searches may read.
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "index/calibration.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "quant/codec.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "src/distance/distance.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 40;
constexpr size_t kRows = 8'000;
constexpr size_t kQueries = 40;

class HnswCellsTest
    : public ::testing::TestWithParam<std::tuple<Metric, bool>> {
 protected:
  HnswCellsTest() {
    IvfLists cells = *BuildCellLists(base_.view(), metric(), 1, 2, nullptr);
    rows_ = Permuted(base_, cells.order);
    lists_ = std::move(cells.bytes);
    graph_ = *BuildHnswGraph(rows_.view(), metric(), {}, 2, nullptr, nullptr);
    auto ivf = *IvfIndex::Open(rows_.view(), metric(), lists_);
    if (std::get<1>(GetParam())) {
      codec_ = *TrainCodec(rows_.view(), metric(), {.avg_bits = 4}, 2, nullptr,
                           nullptr);
      records_.resize(kRows * codec_->layout().record_bytes);
      EXPECT_TRUE(
          codec_->Encode(rows_.view(), records_, 2, nullptr, nullptr).ok());
      ivf->UseRecords(codec_.get(), records_.data());
    }
    cells_table_ = *ivf->CalibrateLists(2, nullptr);
    index_ = *HnswIndex::Open(rows_.view(), metric(), graph_,
                              {codec_.get(), records_.data()});
    table_ = *index_->Calibrate(2, nullptr);
    index_->UseCells(std::move(ivf));
  }
  Metric metric() const { return std::get<0>(GetParam()); }

  // As a segment asks.
  SearchParams ParamsFor(double share) const {
    SearchParams params = ParamsForRecall(table_, 10, 0.95);
    params.cells = ParamsForRecall(cells_table_, 10, 0.96).ef;
    params.filtered_ef =
        ParamsForRecall(cells_table_, static_cast<size_t>(10 / share), 0.96).ef;
    return params;
  }
  // Mean recall@10 of queries for rows that a filter of their own accepts;
  // *plans: how they were searched.
  template <typename FilterOf>
  double Recall(double share, const FilterOf& filter_of,
                std::set<SearchPlan>* plans) {
    size_t found = 0;
    size_t wanted = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      const Bitmap allowed = filter_of(q);
      const Filter filter{.allowed = &allowed,
                          .num_allowed = allowed.Count(),
                          .deleted = &deleted_};
      const auto truth =
          ExactSearch(rows_.view(), metric(), queries_.row(q), 10, filter);
      TopK top(10);
      SearchStats stats;
      EXPECT_TRUE(index_
                      ->Search(queries_.row(q), ParamsFor(share), filter, {},
                               &top, &stats)
                      .ok());
      plans->insert(stats.plan);
      const auto nearest = top.TakeSorted();
      EXPECT_EQ(nearest.size(), truth.size());
      wanted += truth.size();
      for (const Neighbor& neighbor : nearest) {
        EXPECT_TRUE(filter.Accepts(neighbor.row));
        found += neighbor.distance <= truth.back().distance;
      }
    }
    return static_cast<double>(found) / static_cast<double>(wanted);
  }

  const OwnedVectors base_ = Clustered(kRows, kDim, 50, 1);
  const OwnedVectors queries_ = Clustered(kQueries, kDim, 50, 1, 1);
  OwnedVectors rows_;
  std::string lists_;
  std::string graph_;
  std::unique_ptr<const Codec> codec_;
  std::vector<uint8_t> records_;
  std::vector<RecallPoint> table_;
  std::vector<RecallPoint> cells_table_;
  std::unique_ptr<HnswIndex> index_;
  AtomicBitmap deleted_{kRows};
};

TEST_P(HnswCellsTest, FiltersAlikeAnywhereKeepTheirRecall) {
  Random random(5);
  for (RowId row = 0; row < kRows; row += 40) deleted_.Set(row);
  std::set<SearchPlan> plans;
  for (const double share : {0.95, 0.5, 0.2, 0.1, 0.05, 0.01, 0.001}) {
    Bitmap allowed(kRows);
    for (RowId row = 0; row < kRows; ++row) {
      if (random.UniformDouble() < share) allowed.Set(row);
    }
    EXPECT_GE(Recall(
                  share, [&](size_t) { return allowed; }, &plans),
              0.93)
        << share;
  }
  EXPECT_TRUE(plans.contains(SearchPlan::kGraph));
  EXPECT_TRUE(plans.contains(SearchPlan::kLists));
  EXPECT_TRUE(plans.contains(SearchPlan::kScan) ||
              plans.contains(SearchPlan::kCodes));
}

TEST_P(HnswCellsTest, FiltersNearAndFarFromTheQueryKeepTheirRecall) {
  std::set<SearchPlan> plans;
  for (const bool far : {false, true}) {
    for (const double share : {0.5, 0.2, 0.05}) {
      const auto around = [&](size_t q) {
        const auto near =
            ExactSearch(rows_.view(), metric(), queries_.row(q), kRows);
        const auto ranked = far ? ExactSearch(rows_.view(), metric(),
                                              rows_.row(near.back().row), kRows)
                                : near;
        Bitmap allowed(kRows);
        for (size_t i = 0; i < share * kRows; ++i) allowed.Set(ranked[i].row);
        return allowed;
      };
      EXPECT_GE(Recall(share, around, &plans), far ? 0.85 : 0.93)
          << (far ? "far " : "near ") << share;
    }
  }
}

TEST_P(HnswCellsTest, CalibrationGrowsWithTheLists) {
  float last[2] = {0, 0};
  for (const RecallPoint& point : cells_table_) {
    if (point.k != 10) continue;
    EXPECT_GT(static_cast<float>(point.ef), last[0]);
    EXPECT_GT(point.recall, last[1]);
    last[0] = static_cast<float>(point.ef);
    last[1] = point.recall;
  }
  EXPECT_GE(last[1], 0.99);
}

INSTANTIATE_TEST_SUITE_P(
    All, HnswCellsTest,
    ::testing::Combine(::testing::Values(Metric::kL2, Metric::kInnerProduct,
                                         Metric::kCosine),
                       ::testing::Bool()));

}  // namespace
}  // namespace vicinal
