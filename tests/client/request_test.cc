// Requests that the client makes of search options.
#include <gtest/gtest.h>

#include <vector>

#include "client/client.h"
#include "src/base/point_id.h"
#include "src/base/vector_set.h"
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

}  // namespace
}  // namespace vicinal::client
