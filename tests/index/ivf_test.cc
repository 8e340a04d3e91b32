#include "index/ivf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/calibration.h"
#include "index/flat.h"
#include "quant/codec.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/random.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 40;
constexpr size_t kRows = 4'000;

// An index over its own copy of the rows in the lists' order.
struct Built {
  OwnedVectors rows;
  std::string lists;
  std::unique_ptr<const Codec> codec;
  std::vector<uint8_t> records;
  std::vector<uint8_t> blocks;
  std::unique_ptr<IvfIndex> index;
};

// avg_bits 0: no codes.
Built Build(const OwnedVectors& vectors, Metric metric, float avg_bits,
            uint32_t num_lists = 0) {
  Built out;
  IvfLists lists = *BuildIvfLists(vectors.view(), metric,
                                  {.num_lists = num_lists}, 2, nullptr);
  out.rows = Permuted(vectors, lists.order);
  out.lists = std::move(lists.bytes);
  out.index = *IvfIndex::Open(out.rows.view(), metric, out.lists);
  if (avg_bits > 0) {
    const RowCentres centres = out.index->centres();
    out.codec = *TrainCodec(out.rows.view(), metric, {.avg_bits = avg_bits}, 2,
                            nullptr, &centres);
    out.records.resize(vectors.num_rows * out.codec->layout().record_bytes);
    EXPECT_TRUE(
        out.codec->Encode(out.rows.view(), out.records, 2, nullptr, &centres)
            .ok());
    const CodeLayout& layout = out.codec->layout();
    out.blocks.resize(CodeBlocksBytes(layout, vectors.num_rows));
    PackCodeBlocks(layout, out.records.data(), vectors.num_rows,
                   out.blocks.data());
    out.index->UseCodes(out.codec.get(), out.blocks.data());
  }
  return out;
}

class IvfTest : public ::testing::TestWithParam<Metric> {
 protected:
  const OwnedVectors base_ = Clustered(kRows, kDim, 50, 1);
  const OwnedVectors queries_ = Clustered(50, kDim, 50, 1, 1);
};

TEST_P(IvfTest, ReadingEveryListFindsWhatAScanFinds) {
  const Built built = Build(base_, GetParam(), 0);
  for (size_t q = 0; q < queries_.num_rows; ++q) {
    EXPECT_EQ(SearchIndex(*built.index, queries_.row(q), 10, kRows),
              ExactSearch(built.rows.view(), GetParam(), queries_.row(q), 10));
  }
}

TEST_P(IvfTest, RecallGrowsWithTheListsRead) {
  const Built built = Build(base_, GetParam(), 0);
  double last = 0;
  for (const size_t lists : {1, 2, 4, 8, 16}) {
    const double recall = MeanRecall(*built.index, built.rows.view(),
                                     GetParam(), queries_, 10, lists);
    EXPECT_GE(recall, last);
    last = recall;
  }
  EXPECT_GT(last, 0.95);
}

TEST_P(IvfTest, CodesFindTheSameAfterReranking) {
  const Built built = Build(base_, GetParam(), 4);
  EXPECT_GT(
      MeanRecall(*built.index, built.rows.view(), GetParam(), queries_, 10, 64),
      0.99);
}

// The estimate around a centre is the exact distance but for the code's error.
TEST_P(IvfTest, EstimatesAroundCentresAreUnbiasedAndNearer) {
  const Metric metric = GetParam();
  const Built built = Build(base_, metric, 4);
  const RowCentres centres = built.index->centres();
  const auto plain =
      *TrainCodec(built.rows.view(), metric, {.avg_bits = 4}, 2, nullptr);
  std::vector<uint8_t> plain_records(kRows * plain->layout().record_bytes);
  ASSERT_TRUE(plain->Encode(built.rows.view(), plain_records, 2, nullptr).ok());
  const DistanceOps& ops = OpsFor(metric, ElementType::kFloat32);
  const DistanceOps& centre_ops =
      OpsFor(metric == Metric::kL2 ? Metric::kL2 : Metric::kInnerProduct,
             ElementType::kFloat32);
  double bias = 0, error = 0, plain_error = 0, size = 0;
  PreparedQuery query, plain_query;
  for (size_t q = 0; q < queries_.num_rows; ++q) {
    std::vector<float> unit(kDim);
    std::memcpy(unit.data(), queries_.row(q), kDim * sizeof(float));
    if (metric == Metric::kCosine) {
      NormalizeInto(unit.data(), kDim, unit.data());
    }
    ASSERT_TRUE(
        built.codec->Prepare(queries_.row(q), ElementType::kFloat32, &query)
            .ok());
    ASSERT_TRUE(
        plain->Prepare(queries_.row(q), ElementType::kFloat32, &plain_query)
            .ok());
    for (size_t list = 0; list + 1 < centres.offsets.size(); ++list) {
      const float* centre = centres.centres.row(list).data();
      float distance = centre_ops.one(unit.data(), centre, kDim);
      if (metric == Metric::kCosine) distance += 1;
      const float norm2 = built.codec->CentreNorm2(centre);
      const CodeQuery around = built.codec->QueryAround(query, distance, norm2);
      for (size_t row = centres.offsets[list]; row < centres.offsets[list + 1];
           ++row) {
        float estimate, plain_estimate;
        ActiveCodeKernels().scan(
            built.codec->layout(), around,
            &built.records[row * built.codec->layout().record_bytes],
            built.codec->layout().record_bytes, 1, &estimate);
        ActiveCodeKernels().scan(
            plain->layout(), plain_query.code_query(),
            &plain_records[row * plain->layout().record_bytes],
            plain->layout().record_bytes, 1, &plain_estimate);
        const float exact = ops.one(queries_.row(q), built.rows.row(row), kDim);
        bias += estimate - exact;
        error += std::abs(estimate - exact);
        plain_error += std::abs(plain_estimate - exact);
        size += std::abs(exact);
      }
    }
  }
  EXPECT_LT(std::abs(bias), 0.05 * error);
  EXPECT_LT(error, 0.01 * size);
  EXPECT_LT(error, 0.9 * plain_error);
}

TEST_P(IvfTest, CalibratedTargetsAreMet) {
  for (const float bits : {0.0f, 2.0f}) {
    const Built built = Build(base_, GetParam(), bits);
    const auto table = *built.index->Calibrate(2, nullptr);
    ASSERT_FALSE(table.empty());
    for (const double target : {0.8, 0.95, 0.99}) {
      double hits = 0;
      for (size_t q = 0; q < queries_.num_rows; ++q) {
        TopK top(10);
        ASSERT_TRUE(built.index
                        ->Search(queries_.row(q),
                                 ParamsForRecall(table, 10, target), {}, {},
                                 &top, nullptr)
                        .ok());
        const auto truth =
            ExactSearch(built.rows.view(), GetParam(), queries_.row(q), 10);
        for (const Neighbor& found : top.TakeSorted()) {
          hits += found.distance <= truth.back().distance;
        }
      }
      EXPECT_GE(hits / (10.0 * queries_.num_rows), target - 0.03)
          << "bits " << bits;
    }
    EXPECT_EQ(table.size(), built.index->Calibrate(1, nullptr)->size());
  }
}

// Half of the rows and queries lie in narrow clusters, each within one list;
// the others are spread where many lists are about as near.
OwnedVectors NarrowAndSpread(size_t num_rows, uint64_t stream) {
  constexpr size_t kClusters = 20;
  constexpr size_t kInnerDims = 8;
  Random centres(11);
  std::vector<float> centre_values(kClusters * kDim);
  for (float& value : centre_values) {
    value = 20 * static_cast<float>(centres.Gaussian());
  }
  Random random(100 + stream);
  std::vector<float> values(num_rows * kDim);
  for (size_t i = 0; i < num_rows; ++i) {
    float* row = &values[i * kDim];
    if (i % 2 == 0) {
      const float* centre = &centre_values[random.Uniform(kClusters) * kDim];
      for (size_t j = 0; j < kDim; ++j) {
        row[j] = centre[j] + static_cast<float>(random.Gaussian());
      }
    } else {
      for (size_t j = 0; j < kInnerDims; ++j) {
        row[j] = 20 * static_cast<float>(random.Gaussian());
      }
    }
  }
  return MakeVectors(values, kDim, ElementType::kFloat32);
}

struct Measured {
  double recall = 0;
  double lists = 0;
  size_t fewest = SIZE_MAX;
  size_t most = 0;
};
Measured Measure(const Built& built, const OwnedVectors& queries,
                 const SearchParams& params) {
  Measured out;
  for (size_t q = 0; q < queries.num_rows; ++q) {
    TopK top(params.k);
    SearchStats stats;
    EXPECT_TRUE(
        built.index->Search(queries.row(q), params, {}, {}, &top, &stats).ok());
    const auto truth =
        ExactSearch(built.rows.view(), Metric::kL2, queries.row(q), params.k);
    for (const Neighbor& found : top.TakeSorted()) {
      out.recall += found.distance <= truth.back().distance;
    }
    const size_t read = stats.expanded_nodes;
    out.lists += static_cast<double>(read);
    out.fewest = std::min(out.fewest, read);
    out.most = std::max(out.most, read);
  }
  out.recall /= static_cast<double>(params.k * queries.num_rows);
  out.lists /= static_cast<double>(queries.num_rows);
  return out;
}

TEST(IvfReachTest, QueriesThatDifferReadDifferentNumbersOfLists) {
  const Built built = Build(NarrowAndSpread(kRows, 0), Metric::kL2, 2);
  const OwnedVectors sample = NarrowAndSpread(200, 1);
  const OwnedVectors queries = NarrowAndSpread(200, 2);
  const auto table = *built.index->Calibrate(2, nullptr, sample.view());
  const SearchParams params = ParamsForRecall(table, 10, 0.95);
  ASSERT_GT(params.reach, 0);
  const Measured by_reach = Measure(built, queries, params);
  EXPECT_GE(by_reach.recall, 0.92);
  EXPECT_EQ(by_reach.fewest, 1u);
  EXPECT_LE(by_reach.most, 4 * params.ef);
  EXPECT_NEAR(by_reach.lists, params.ef, 0.25 * params.ef + 0.5);
  SearchParams by_count = params;
  by_count.reach = 0;
  EXPECT_LT(Measure(built, queries, by_count).recall, by_reach.recall);

  const auto alone = *built.index->Calibrate(1, nullptr, sample.view());
  ASSERT_EQ(alone.size(), table.size());
  for (size_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(alone[i].reach, table[i].reach);
    EXPECT_EQ(alone[i].recall, table[i].recall);
  }
}

TEST(IvfReachTest, IsNotLearnedFromRows) {
  const Built built = Build(NarrowAndSpread(kRows, 0), Metric::kL2, 2);
  const auto table = *built.index->Calibrate(2, nullptr);
  ASSERT_FALSE(table.empty());
  for (const RecallPoint& point : table) {
    EXPECT_EQ(point.reach, 0);
  }
}

TEST(IvfReachTest, AnyReachStillGivesKResults) {
  const Built built = Build(NarrowAndSpread(500, 0), Metric::kL2, 2, 20);
  const OwnedVectors query = NarrowAndSpread(2, 1);
  for (const float reach :
       {1e-30f, 0.5f, 1e30f, std::numeric_limits<float>::infinity()}) {
    for (size_t q = 0; q < 2; ++q) {
      TopK top(100);
      ASSERT_TRUE(built.index
                      ->Search(query.row(q),
                               {.k = 100, .ef = 1, .reach = reach}, {}, {},
                               &top, nullptr)
                      .ok());
      EXPECT_EQ(top.TakeSorted().size(), 100u);
    }
  }
  // All centroids alike: no way from the nearest to the mean.
  const OwnedVectors same = MakeVectors(std::vector<float>(100 * kDim, 3), kDim,
                                        ElementType::kFloat32);
  const Built flat = Build(same, Metric::kL2, 0, 4);
  EXPECT_TRUE(flat.index->Calibrate(1, nullptr, same.view()).ok());
}

TEST_P(IvfTest, FiltersAndDeletesStillGiveKResults) {
  const Built built = Build(base_, GetParam(), 4);
  AtomicBitmap deleted(kRows);
  Bitmap allowed(kRows);
  size_t num_allowed = 0;
  Random random(3);
  for (size_t row = 0; row < kRows; ++row) {
    if (random.Uniform(2) == 0) deleted.Set(row);
    if (random.Uniform(10) != 0) continue;
    allowed.Set(row);
    ++num_allowed;
  }
  const Filter half{nullptr, 0, &deleted};
  const Filter few{&allowed, num_allowed, &deleted};
  for (size_t q = 0; q < 20; ++q) {
    for (const Filter& filter : {half, few}) {
      const auto found =
          SearchIndex(*built.index, queries_.row(q), 100, 1, filter);
      EXPECT_EQ(found.size(), 100u);
      for (const Neighbor& neighbor : found) {
        EXPECT_TRUE(filter.Accepts(neighbor.row));
      }
    }
  }
}

// Rows that pass lie far from the query, or just near it: neither is what
// filtered_ef was made for.
TEST_P(IvfTest, FiltersThatGoWithTheQueryKeepTheirRecall) {
  const Built built = Build(base_, GetParam(), 4);
  const auto table = *built.index->Calibrate(2, nullptr);
  for (const bool far : {true, false}) {
    for (const double share : {0.5, 0.2, 0.05}) {
      const auto num_allowed = static_cast<size_t>(share * kRows);
      SearchParams params = ParamsForRecall(table, 10, 0.95);
      params.filtered_ef =
          ParamsForRecall(table, static_cast<size_t>(10 / share), 0.95).ef;
      double hits = 0;
      constexpr size_t kQueries = 30;
      for (size_t q = 0; q < kQueries; ++q) {
        const auto near =
            ExactSearch(built.rows.view(), GetParam(), queries_.row(q), kRows);
        // Those around the farthest row, or around the query.
        const auto ranked =
            far ? ExactSearch(built.rows.view(), GetParam(),
                              built.rows.row(near.back().row), kRows)
                : near;
        Bitmap allowed(kRows);
        for (size_t i = 0; i < num_allowed; ++i) allowed.Set(ranked[i].row);
        const Filter filter{&allowed, num_allowed, nullptr};
        TopK top(10);
        ASSERT_TRUE(
            built.index
                ->Search(queries_.row(q), params, filter, {}, &top, nullptr)
                .ok());
        const auto truth = ExactSearch(built.rows.view(), GetParam(),
                                       queries_.row(q), 10, filter);
        for (const Neighbor& found : top.TakeSorted()) {
          EXPECT_TRUE(allowed.Test(found.row));
          hits += found.distance <= truth.back().distance;
        }
      }
      // Rows far from the query are about as far as each other. (Lists chosen
      // as for a filter that is independent of it found 0.2 to 0.5 of them.)
      EXPECT_GE(hits / (10.0 * kQueries), far ? 0.78 : 0.9)
          << (far ? "far " : "near ") << share;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Metrics, IvfTest,
                         ::testing::Values(Metric::kL2, Metric::kInnerProduct,
                                           Metric::kCosine));

TEST(IvfBuildTest, IsTheSameForAnyThreadsAndRowOrder) {
  const OwnedVectors base = Clustered(1'000, 16, 10, 2);
  const IvfLists one = *BuildIvfLists(base.view(), Metric::kL2, {}, 1, nullptr);
  const IvfLists two = *BuildIvfLists(base.view(), Metric::kL2, {}, 3, nullptr);
  EXPECT_EQ(one.order, two.order);
  EXPECT_EQ(one.bytes, two.bytes);
  std::vector<RowId> reversed(base.num_rows);
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  EXPECT_EQ(BuildIvfLists(Permuted(base, reversed).view(), Metric::kL2, {}, 2,
                          nullptr)
                ->bytes,
            one.bytes);
}

TEST(IvfBuildTest, DegenerateRowsStillGiveAnIndex) {
  for (const size_t num_rows : {size_t{1}, size_t{2}, size_t{50}}) {
    const OwnedVectors same = MakeVectors(
        std::vector<float>(num_rows * 8, 3.0f), 8, ElementType::kFloat32);
    const Built built = Build(same, Metric::kL2, 0, 10);
    const auto found = SearchIndex(*built.index, same.row(0), 5, 1);
    EXPECT_EQ(found.size(), std::min<size_t>(5, num_rows));
    EXPECT_EQ(found[0].distance, 0);
    EXPECT_TRUE(built.index->Calibrate(2, nullptr).ok());
  }
  const OwnedVectors zeros =
      MakeVectors(std::vector<float>(20'000, 0.0f), 8, ElementType::kFloat32);
  const Built coded = Build(zeros, Metric::kInnerProduct, 4);
  EXPECT_EQ(SearchIndex(*coded.index, zeros.row(0), 5, 1).size(), 5u);
}

TEST(IvfBuildTest, BlocksOfCodesDoNotDependOnThreads) {
  // Many parts, and a last block that is not full.
  const Built built = Build(Clustered(13'001, 16, 10, 2), Metric::kL2, 4);
  std::vector<uint8_t> blocks(built.blocks.size(), 1);
  PackCodeBlocks(built.codec->layout(), built.records.data(), 13'001,
                 blocks.data(), 3);
  EXPECT_EQ(blocks, built.blocks);
}

TEST(IvfBuildTest, RefusesTooManyListsAndCanBeCancelled) {
  const OwnedVectors base = Clustered(1'000, 16, 10, 2);
  EXPECT_TRUE(absl::IsInvalidArgument(
      BuildIvfLists(base.view(), Metric::kL2, {.num_lists = kMaxIvfLists + 1},
                    1, nullptr)
          .status()));
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      BuildIvfLists(base.view(), Metric::kL2, {}, 2, &cancel).status()));
  const Built built = Build(base, Metric::kL2, 0);
  EXPECT_TRUE(absl::IsCancelled(built.index->Calibrate(2, &cancel).status()));
}

TEST(IvfFileTest, DamagedBytesAreRefused) {
  const OwnedVectors base = Clustered(500, 16, 10, 2);
  const Built built = Build(base, Metric::kL2, 0, 8);
  const auto open = [&](std::string bytes) {
    return IvfIndex::Open(built.rows.view(), Metric::kL2, bytes).status();
  };
  EXPECT_TRUE(open(built.lists).ok());
  for (const size_t size :
       {size_t{0}, size_t{7}, size_t{40}, built.lists.size() - 1}) {
    EXPECT_TRUE(absl::IsDataLoss(open(built.lists.substr(0, size))));
  }
  EXPECT_TRUE(absl::IsDataLoss(open(built.lists + "x")));
  const auto with = [&](size_t at, uint32_t value) {
    std::string bytes = built.lists;
    std::memcpy(&bytes[at], &value, 4);
    return bytes;
  };
  EXPECT_TRUE(absl::IsDataLoss(open(with(0, 9))));  // other number
  EXPECT_TRUE(absl::IsDataLoss(open(with(0, 0xFFFFFFFF))));
  EXPECT_TRUE(absl::IsDataLoss(open(with(4, 17))));    // other dimension
  EXPECT_TRUE(absl::IsDataLoss(open(with(8, 1))));     // not from 0
  EXPECT_TRUE(absl::IsDataLoss(open(with(12, 501))));  // not ascending
  EXPECT_TRUE(absl::IsDataLoss(open(with(40, 499))));  // not to the end
  EXPECT_TRUE(
      absl::IsDataLoss(open(with(built.lists.size() - 4, 0x7FC00000))));  // NaN
}

}  // namespace
}  // namespace vicinal
