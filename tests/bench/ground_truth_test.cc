#include "bench/ground_truth.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/workspace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/distance/distance.h"

namespace vicinal::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

FloatMatrix RandomMatrix(size_t num_rows, size_t dim, uint64_t seed) {
  Random random(seed);
  FloatMatrix matrix{.num_rows = num_rows, .dim = dim};
  for (size_t i = 0; i < num_rows * dim; ++i) {
    matrix.values.push_back(static_cast<float>(random.Uniform(1'000)) / 500 -
                            1);
  }
  return matrix;
}

// One row per number, one dimension.
FloatMatrix Line(const std::vector<float>& values) {
  return {.num_rows = values.size(), .dim = 1, .values = values};
}

// Row numbers by (distance, row), one query at a time.
std::vector<uint32_t> SortAll(const FloatMatrix& base, const float* query,
                              Metric metric, size_t k) {
  const DistanceOps& ops = OpsFor(metric, ElementType::kFloat32);
  std::vector<uint32_t> rows(base.num_rows);
  std::iota(rows.begin(), rows.end(), 0);
  std::stable_sort(rows.begin(), rows.end(), [&](uint32_t a, uint32_t b) {
    return ops.one(query, base.row(a), base.dim) <
           ops.one(query, base.row(b), base.dim);
  });
  rows.resize(k);
  return rows;
}

class ComputeTruthTest : public ::testing::TestWithParam<Metric> {};

TEST_P(ComputeTruthTest, EqualsSortingEveryRow) {
  // Several blocks of rows and several groups of queries.
  const FloatMatrix base = RandomMatrix(1'500, 130, 1);
  const FloatMatrix queries = RandomMatrix(150, 130, 2);
  for (const size_t num_threads : {1, 3}) {
    const TruthTable truth =
        ComputeTruth(base, queries, GetParam(), 10, num_threads);
    ASSERT_EQ(truth.num_rows, 150);
    ASSERT_EQ(truth.k, 10);
    for (size_t q = 0; q < queries.num_rows; ++q) {
      EXPECT_THAT(
          std::vector<uint32_t>(truth.row(q), truth.row(q) + 10),
          ElementsAreArray(SortAll(base, queries.row(q), GetParam(), 10)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Metrics, ComputeTruthTest,
                         ::testing::Values(Metric::kL2, Metric::kInnerProduct,
                                           Metric::kCosine));

TEST(ComputeTruthTest, ReturnsEveryRowWhenThereAreFewerThanK) {
  const TruthTable truth =
      ComputeTruth(Line({5, 1, 3}), Line({0}), Metric::kL2, 10, 1);
  EXPECT_EQ(truth.k, 3);
  EXPECT_THAT(truth.rows, ElementsAre(1, 2, 0));
}

TEST(CachedTruthTest, ReadsWhatItWrote) {
  auto workspace = Workspace::Create();
  ASSERT_TRUE(workspace.ok());
  const FloatMatrix base = RandomMatrix(200, 8, 3);
  const FloatMatrix queries = RandomMatrix(20, 8, 4);
  const TruthTable first =
      CachedTruth(base, queries, Metric::kL2, 5, 1, workspace->path());
  // A wrong but plausible file shows that the second call reads it.
  const auto file = *std::filesystem::directory_iterator(workspace->path());
  std::vector<uint32_t> zeros(first.rows.size());
  std::ofstream(file.path(), std::ios::binary)
      .write(reinterpret_cast<const char*>(zeros.data()),
             zeros.size() * sizeof(uint32_t));
  EXPECT_EQ(
      CachedTruth(base, queries, Metric::kL2, 5, 1, workspace->path()).rows,
      zeros);
}

TEST(CachedTruthTest, ComputesAgainWhenTheFileIsDamaged) {
  auto workspace = Workspace::Create();
  ASSERT_TRUE(workspace.ok());
  const FloatMatrix base = RandomMatrix(200, 8, 3);
  const FloatMatrix queries = RandomMatrix(20, 8, 4);
  const TruthTable first =
      CachedTruth(base, queries, Metric::kL2, 5, 1, workspace->path());
  const auto path =
      (*std::filesystem::directory_iterator(workspace->path())).path();
  std::filesystem::resize_file(path, 8);
  EXPECT_EQ(
      CachedTruth(base, queries, Metric::kL2, 5, 1, workspace->path()).rows,
      first.rows);
  std::vector<uint32_t> out_of_range(first.rows.size(), 200);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(out_of_range.data()),
             out_of_range.size() * sizeof(uint32_t));
  EXPECT_EQ(
      CachedTruth(base, queries, Metric::kL2, 5, 1, workspace->path()).rows,
      first.rows);
}

TEST(CachedTruthTest, TellsDataAndMetricsApart) {
  auto workspace = Workspace::Create();
  ASSERT_TRUE(workspace.ok());
  const FloatMatrix queries = Line({1});
  const auto nearest = [&](const FloatMatrix& base, Metric metric) {
    return CachedTruth(base, queries, metric, 1, 1, workspace->path()).rows[0];
  };
  EXPECT_EQ(nearest(Line({1, 9}), Metric::kL2), 0);
  EXPECT_EQ(nearest(Line({1, 9}), Metric::kInnerProduct), 1);
  EXPECT_EQ(nearest(Line({9, 1}), Metric::kL2), 1);
}

class RecallJudgeTest : public ::testing::Test {
 protected:
  // Distances from the query 0: 1, 4, 4, 9, 16.
  const FloatMatrix base_ = Line({1, 2, -2, 3, 4});
  const FloatMatrix queries_ = Line({0});
  const TruthTable truth_ = ComputeTruth(base_, queries_, Metric::kL2, 5, 1);

  size_t CountHits(size_t k, const std::vector<uint32_t>& returned) {
    return RecallJudge(base_, queries_, Metric::kL2, truth_, k)
        .CountHits(0, returned);
  }
};

TEST_F(RecallJudgeTest, CountsTheTrueNeighbours) {
  EXPECT_EQ(CountHits(3, {0, 1, 2}), 3);
  EXPECT_EQ(CountHits(3, {0, 1, 4}), 2);
  EXPECT_EQ(CountHits(3, {3, 4}), 0);
  EXPECT_EQ(CountHits(3, {}), 0);
}

TEST_F(RecallJudgeTest, AcceptsEitherOfTiedRows) {
  EXPECT_EQ(CountHits(2, {0, 1}), 2);
  EXPECT_EQ(CountHits(2, {0, 2}), 2);
}

TEST_F(RecallJudgeTest, NeverCountsMoreThanK) {
  EXPECT_EQ(CountHits(2, {0, 1, 2}), 2);
}

TEST_F(RecallJudgeTest, CountsARepeatedRowOnce) {
  EXPECT_EQ(CountHits(3, {0, 0, 0}), 1);
}

TEST_F(RecallJudgeTest, IgnoresRowsThatDoNotExist) {
  EXPECT_EQ(CountHits(3, {0, 77}), 1);
}

TEST_F(RecallJudgeTest, TakesATruthInAnotherOrder) {
  const TruthTable shuffled{.num_rows = 1, .k = 3, .rows = {2, 0, 1}};
  const RecallJudge judge(base_, queries_, Metric::kL2, shuffled, 3);
  EXPECT_EQ(judge.threshold(0), 4);
  EXPECT_EQ(judge.CountHits(0, std::vector<uint32_t>{0, 1, 2}), 3);
}

}  // namespace
}  // namespace vicinal::bench
