// Requests that the client makes of search options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "client/client.h"
#include "src/base/point_id.h"
#include "src/base/vector_set.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"
#include "vicinal/v1/filter.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::client {
namespace {

TEST(RequestTest, CarriesFiltersOfEitherFormAndNoBlankOnes) {
  const std::vector<float> query(4);
  const VectorSetView queries;
  SearchOptions options;
  EXPECT_TRUE(IsBlank(options.filter));
  EXPECT_FALSE(
      MakeSearchRequest("a", query, options).query().retrieve().has_filter());
  EXPECT_FALSE(MakeSearchBatchRequest("a", queries, options).has_filter());
  v1::Filter text, tree;
  text.set_text("EXISTS(x)");
  tree.mutable_expression()->mutable_exists()->set_path("x");
  for (const v1::Filter& filter : {text, tree}) {
    options.filter = filter;
    EXPECT_FALSE(IsBlank(filter));
    EXPECT_EQ(MakeSearchRequest("a", query, options)
                  .query()
                  .retrieve()
                  .filter()
                  .SerializeAsString(),
              filter.SerializeAsString());
    EXPECT_EQ(MakeSearchBatchRequest("a", queries, options)
                  .filter()
                  .SerializeAsString(),
              filter.SerializeAsString());
  }
}

TEST(RequestTest, GroupsInPlaceOfK) {
  const std::vector<PointId> examples = {PointId(1)};
  const SearchOptions options{.k = 4, .group_by = "a.b", .group_size = 2};
  for (const v1::SearchRequest& request :
       {MakeSearchRequest("a", std::vector<float>(4), options),
        MakeRecommendRequest("a", examples, {}, options)}) {
    EXPECT_EQ(request.group_by().path(), "a.b");
    EXPECT_EQ(request.group_by().num_groups(), 4u);
    EXPECT_EQ(request.group_by().group_size(), 2u);
    EXPECT_EQ(request.query().retrieve().k(), 0u);
  }
}

TEST(RequestTest, ChoosesHitsThatDifferFromEnoughCandidates) {
  const std::vector<float> query = {1, 2};
  SearchOptions options{.k = 90, .offset = 20, .vector = "v"};
  options.score_threshold = 3;
  options.mmr.emplace().set_lambda(0.25);
  const v1::SearchRequest request = MakeSearchRequest("a", query, options);
  const v1::Rerank& rerank = request.query().rerank();
  EXPECT_EQ(rerank.k(), 90u);
  EXPECT_EQ(rerank.vector(), "v");
  EXPECT_EQ(rerank.mmr().lambda(), 0.25);
  EXPECT_EQ(rerank.mmr().candidates(), 110u);
  const v1::Retrieve& input = rerank.input().retrieve();
  EXPECT_EQ(input.k(), 110u);
  EXPECT_EQ(input.score_threshold(), 3);
  EXPECT_EQ(input.query().data(), rerank.query().data());
  options.mmr->set_candidates(500);
  EXPECT_EQ(MakeSearchRequest("a", query, options)
                .query()
                .rerank()
                .input()
                .retrieve()
                .k(),
            500u);
}

TEST(RequestTest, NamesExamplesByTheirIds) {
  const std::vector<PointId> positive = {PointId(7), *PointId::FromString("x")};
  const std::vector<PointId> negative = {PointId(8)};
  const v1::Recommend recommend =
      MakeRecommendRequest("a", positive, negative, {})
          .query()
          .retrieve()
          .recommend();
  ASSERT_EQ(recommend.positive_size(), 2);
  EXPECT_EQ(recommend.positive(0).id().number(), 7u);
  EXPECT_EQ(recommend.positive(1).id().string(), "x");
  ASSERT_EQ(recommend.negative_size(), 1);
  EXPECT_EQ(recommend.negative(0).id().number(), 8u);
}

TEST(RequestTest, CarriesTokensWeightsAndEffort) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const VectorSetView tokens{
      .data = reinterpret_cast<const std::byte*>(values.data()),
      .num_rows = 2,
      .dim = 2,
      .stride_bytes = 3 * sizeof(float)};
  SearchOptions options{.k = 7, .vector = "c"};
  options.recall_target = 0.9;
  options.score_threshold = 0.5F;
  options.filter.set_text("x = 1");
  const v1::SearchRequest request = MakeMultiSearchRequest(
      "a", MakeMultiQuery(tokens, std::vector<float>{1, 0.5F}), options,
      {.rescore = 1'000,
       .candidates = 300,
       .exact_candidates = 40,
       .token_matches = true});
  EXPECT_TRUE(request.token_matches());
  const v1::RetrieveMulti& leaf = request.query().retrieve_multi();
  EXPECT_EQ(leaf.vector(), "c");
  EXPECT_EQ(leaf.k(), 7u);
  EXPECT_EQ(leaf.quality().recall_target(), 0.9);
  EXPECT_EQ(leaf.score_threshold(), 0.5F);
  EXPECT_EQ(leaf.filter().text(), "x = 1");
  EXPECT_EQ(leaf.rescore(), 1'000u);
  EXPECT_EQ(leaf.candidates(), 300u);
  EXPECT_EQ(leaf.exact_candidates(), 40u);
  EXPECT_EQ(leaf.query().dim(), 2u);
  EXPECT_EQ(leaf.query().type(), v1::ELEMENT_TYPE_FLOAT32);
  EXPECT_EQ(leaf.query().weights_size(), 2);
  // Without what lies between the rows.
  EXPECT_EQ(leaf.query().data(), RawBytes(std::vector<float>{1, 2, 4, 5}));
  options.group_by = "brand";
  EXPECT_EQ(
      MakeMultiSearchRequest("a", {}, options).query().retrieve_multi().k(),
      0u);
}

TEST(RequestTest, MakesColumnsOfTokensAndReadsThem) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  v1::MultiVectorColumn column = MakeMultiColumn(
      "c",
      {.data = reinterpret_cast<const std::byte*>(values.data()),
       .num_rows = 3,
       .dim = 2,
       .stride_bytes = 2 * sizeof(float)},
      std::vector<uint64_t>{1, 0, 2});
  EXPECT_THAT(column.offsets(), testing::ElementsAre(0, 1, 1, 3));
  ASSERT_THAT(CheckMultiColumn(column, 3), IsOk());
  EXPECT_EQ(TokensOf(column, 1).num_rows, 0u);
  const VectorSetView last = TokensOf(column, 2);
  EXPECT_EQ(last.num_rows, 2u);
  EXPECT_EQ(std::memcmp(last.row(1), values.data() + 4, 8), 0);
  const auto expect_bad = [&] {
    EXPECT_THAT(CheckMultiColumn(column, 3),
                Fails(absl::StatusCode::kInternal, "The server sent"));
  };
  EXPECT_FALSE(CheckMultiColumn(column, 2).ok());
  column.set_offsets(2, 4);
  expect_bad();
  column.set_offsets(2, 1);
  column.mutable_data()->pop_back();
  expect_bad();
  column.clear_data();
  expect_bad();
  column.set_dim(0);
  expect_bad();
  column.clear_offsets();
  expect_bad();
}

}  // namespace
}  // namespace vicinal::client
