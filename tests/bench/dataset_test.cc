#include "bench/dataset.h"

#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "bench/workspace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vicinal::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;

// TEXMEX: each row behind its length.
template <typename T>
void WriteVecs(const std::string& path,
               const std::vector<std::vector<T>>& rows) {
  std::ofstream out(path, std::ios::binary);
  for (const std::vector<T>& row : rows) {
    const auto dim = static_cast<int32_t>(row.size());
    out.write(reinterpret_cast<const char*>(&dim), sizeof(dim));
    out.write(reinterpret_cast<const char*>(row.data()),
              row.size() * sizeof(T));
  }
}

class LoadDatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto workspace = Workspace::Create();
    ASSERT_TRUE(workspace.ok());
    workspace_ = std::make_unique<Workspace>(*std::move(workspace));
    spec_ = {.name = "set",
             .base = workspace_->path() + "/base.fvecs",
             .queries = workspace_->path() + "/queries.fvecs",
             .truth = workspace_->path() + "/truth.ivecs"};
    WriteVecs<float>(spec_.base, {{3, 4}, {0, 2}, {1, 0}});
    WriteVecs<float>(spec_.queries, {{1, 1}, {5, 0}});
    WriteVecs<int32_t>(spec_.truth, {{2, 1}, {0, 2}});
  }

  std::unique_ptr<Workspace> workspace_;
  DatasetSpec spec_;
};

TEST_F(LoadDatasetTest, ReadsRowsQueriesAndTruth) {
  const auto dataset = LoadDataset(spec_);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_THAT(dataset->base.values, ElementsAre(3, 4, 0, 2, 1, 0));
  EXPECT_EQ(dataset->queries.num_rows, 2);
  ASSERT_TRUE(dataset->truth.has_value());
  EXPECT_THAT(dataset->truth->rows, ElementsAre(2, 1, 0, 2));
}

TEST_F(LoadDatasetTest, DropsTheTruthWhenRowsAreLeftOut) {
  spec_.max_rows = 2;
  const auto dataset = LoadDataset(spec_);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->base.num_rows, 2);
  EXPECT_FALSE(dataset->truth.has_value());
}

TEST_F(LoadDatasetTest, RefusesPartsThatDoNotFit) {
  WriteVecs<float>(spec_.queries, {{1, 1, 1}});
  EXPECT_THAT(std::string(LoadDataset(spec_).status().message()),
              HasSubstr("rows have 2 elements, queries 3"));
}

TEST_F(LoadDatasetTest, RefusesATruthOfOtherRows) {
  WriteVecs<int32_t>(spec_.truth, {{2, 1}, {0, 3}});
  EXPECT_THAT(std::string(LoadDataset(spec_).status().message()),
              HasSubstr("names row 3 of 3"));
}

TEST_F(LoadDatasetTest, RefusesTooShortATruth) {
  WriteVecs<int32_t>(spec_.truth, {{2, 1}});
  EXPECT_THAT(std::string(LoadDataset(spec_).status().message()),
              HasSubstr("2 queries but only 1"));
}

TEST_F(LoadDatasetTest, SaysWhichFileIsMissing) {
  spec_.queries = workspace_->path() + "/none.fvecs";
  const auto dataset = LoadDataset(spec_);
  EXPECT_EQ(dataset.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(dataset.status().message()), HasSubstr("none.fvecs"));
}

TEST_F(LoadDatasetTest, PrepareDividesByTheLengthUnderCosine) {
  spec_.metric = Metric::kCosine;
  auto dataset = LoadDataset(spec_);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  dataset->Prepare();
  EXPECT_THAT(
      dataset->base.values,
      ElementsAre(FloatNear(0.6, 1e-6), FloatNear(0.8, 1e-6), 0, 1, 1, 0));
  EXPECT_EQ(dataset->search_metric(), Metric::kInnerProduct);
}

TEST_F(LoadDatasetTest, PrepareLeavesOtherMetricsAlone) {
  auto dataset = LoadDataset(spec_);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  dataset->Prepare();
  EXPECT_THAT(dataset->base.values, ElementsAre(3, 4, 0, 2, 1, 0));
  EXPECT_EQ(dataset->search_metric(), Metric::kL2);
}

TEST(ParseMetricTest, KnowsThreeNames) {
  EXPECT_EQ(*ParseMetric("l2"), Metric::kL2);
  EXPECT_EQ(*ParseMetric("ip"), Metric::kInnerProduct);
  EXPECT_EQ(*ParseMetric("cosine"), Metric::kCosine);
  EXPECT_FALSE(ParseMetric("euclid").ok());
}

TEST(HashMatrixTest, SeesEveryValueAndTheShape) {
  const FloatMatrix matrix{.num_rows = 1, .dim = 3, .values = {1, 2, 3}};
  FloatMatrix other = matrix;
  EXPECT_EQ(HashMatrix(matrix), HashMatrix(other));
  for (size_t i = 0; i < 3; ++i) {
    other = matrix;
    other.values[i] += 1;
    EXPECT_NE(HashMatrix(matrix), HashMatrix(other)) << i;
  }
  other = matrix;
  other.num_rows = 3;
  other.dim = 1;
  EXPECT_NE(HashMatrix(matrix), HashMatrix(other));
}

}  // namespace
}  // namespace vicinal::bench
