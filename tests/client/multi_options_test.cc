// Multi-vectors as options say them and as replies are shown.
#include "client/cli/multi_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "client/cli/multi_query.h"
#include "tests/client/matchers.h"

namespace vicinal::cli {
namespace {

using absl::StatusCode;
using client::Fails;
using client::IsOk;
using testing::AllOf;
using testing::HasSubstr;

TEST(MultiOptionsTest, TakesANameADimensionAndDefaults) {
  const auto config = ParseMultiSpec("colbert:128");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->name(), "colbert");
  EXPECT_EQ(config->dim(), 128u);
  EXPECT_EQ(config->metric(), v1::METRIC_COSINE);
  EXPECT_EQ(config->type(), v1::ELEMENT_TYPE_UNSPECIFIED);
  EXPECT_FALSE(config->allow_empty());
  EXPECT_FALSE(config->has_encoder());
}

TEST(MultiOptionsTest, TakesOptionsInAnyOrder) {
  const auto config = ParseMultiSpec(
      "c:64:max=512:empty:bf16:codec=int8:ip:encoder=ols:bits=2.5");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->metric(), v1::METRIC_INNER_PRODUCT);
  EXPECT_EQ(config->type(), v1::ELEMENT_TYPE_BFLOAT16);
  EXPECT_EQ(config->max_tokens(), 512u);
  EXPECT_TRUE(config->allow_empty());
  EXPECT_EQ(config->encoder().kind(), v1::MULTI_ENCODER_KIND_OLS);
  EXPECT_EQ(config->token_codec(), v1::TOKEN_CODEC_INT8);
  EXPECT_EQ(config->avg_bits(), 2.5F);
}

TEST(MultiOptionsTest, KnowsAllEncoders) {
  const auto encoder = [](const std::string& name) {
    return ParseMultiSpec("c:8:encoder=" + name)->encoder();
  };
  EXPECT_EQ(encoder("auto").kind(), v1::MULTI_ENCODER_KIND_UNSPECIFIED);
  EXPECT_EQ(encoder("none").kind(), v1::MULTI_ENCODER_KIND_NONE);
  EXPECT_EQ(encoder("muvera").kind(), v1::MULTI_ENCODER_KIND_MUVERA);
  EXPECT_EQ(encoder("muvera").muvera().preset(), v1::MUVERA_PRESET_UNSPECIFIED);
  EXPECT_EQ(encoder("muvera-paper").kind(), v1::MULTI_ENCODER_KIND_MUVERA);
  EXPECT_EQ(encoder("muvera-paper").muvera().preset(), v1::MUVERA_PRESET_PAPER);
}

TEST(MultiOptionsTest, RefusesWhatIsNoSpec) {
  const auto bad = [](const std::string& spec, const std::string& part) {
    EXPECT_THAT(ParseMultiSpec(spec),
                Fails(StatusCode::kInvalidArgument, part));
  };
  bad("c", "is not NAME:DIM");
  bad(":8", "is not NAME:DIM");
  bad("c:x", "is not NAME:DIM");
  bad("c:-8", "is not NAME:DIM");
  bad("c:8:l2", "\"l2\" is none of ip, cosine");
  bad("c:8:u8", "\"u8\" is none of");
  bad("c:8:", "\"\" is none of");
  bad("c:8:encoder=lemur", "use auto, muvera, muvera-paper, ols or none");
  bad("c:8:codec=pq", "use int8, int4, int2 or binary");
  bad("c:8:max=many", "use max=N");
  bad("c:8:max=0", "max=0 leaves no tokens");
  bad("c:8:bits=", "use max=N");
  bad("c:8:size=3", "use max=N");
}

TEST(MultiOptionsTest, ShowsMultiVectors) {
  v1::Collection collection;
  EXPECT_EQ(FormatMultiVectors(collection), "");
  *collection.add_multi_vectors() =
      *ParseMultiSpec("c:128:max=4096:encoder=ols:codec=int2");
  v1::MultiVectorConfig& other = *collection.add_multi_vectors();
  other = *ParseMultiSpec("d:64:ip:f32:empty:encoder=muvera");
  other.mutable_encoder()->mutable_muvera()->set_repetitions(40);
  other.mutable_encoder()->mutable_muvera()->set_k_sim(4);
  const std::string table = FormatMultiVectors(collection);
  EXPECT_THAT(table, AllOf(HasSubstr("c             128  cosine  f16"),
                           HasSubstr("4,096"), HasSubstr("int2"),
                           HasSubstr("muvera repetitions=40 k_sim=4"),
                           HasSubstr("default"), HasSubstr("yes")))
      << table;
  const auto json = MultiVectorsToJson(collection);
  EXPECT_EQ(json[0]["encoder"]["kind"], "ols");
  EXPECT_EQ(json[0]["token_codec"], "int2");
  EXPECT_EQ(json[1]["encoder"]["muvera"]["k_sim"], 4);
  EXPECT_EQ(json[1]["type"], "f32");
  EXPECT_EQ(json[1]["allow_empty"], true);
  EXPECT_EQ(json[1]["avg_bits"], 0);
}

TEST(MultiOptionsTest, FindsAMultiVectorByNameOrAsTheOnlyOne) {
  v1::Collection collection;
  collection.set_name("a");
  EXPECT_THAT(FindMulti(collection, ""),
              Fails(StatusCode::kInvalidArgument, "it has none"));
  collection.add_multi_vectors()->set_name("x");
  EXPECT_EQ(FindMulti(collection, "")->name(), "x");
  collection.add_multi_vectors()->set_name("y");
  EXPECT_EQ(FindMulti(collection, "y")->name(), "y");
  EXPECT_THAT(FindMulti(collection, ""),
              Fails(StatusCode::kInvalidArgument, "it has x, y"));
}

TEST(MultiQueryTest, LeavesEfAndListsToADenseLeg) {
  MultiQueryOptions options;
  options.name = "c";
  client::SearchOptions search;
  search.ef = 64;
  EXPECT_FALSE(
      MakeMultiLeg(options, search, {}).retrieve_multi().has_quality());
  search.ef.reset();
  search.nprobe = 8;
  EXPECT_FALSE(
      MakeMultiLeg(options, search, {}).retrieve_multi().has_quality());
  search.nprobe.reset();
  search.recall_target = 0.5;
  const v1::Query leg = MakeMultiLeg(options, search, {});
  EXPECT_EQ(leg.retrieve_multi().vector(), "c");
  EXPECT_EQ(leg.retrieve_multi().quality().recall_target(), 0.5);
}

TEST(MultiQueryTest, TakesWeights) {
  v1::MultiVectorQuery query;
  ASSERT_THAT(AddTokenWeights("1, 0.5,2", &query), IsOk());
  EXPECT_THAT(query.weights(), testing::ElementsAre(1, 0.5F, 2));
  EXPECT_THAT(AddTokenWeights("1,x", &query),
              Fails(StatusCode::kInvalidArgument, "\"x\" is no number"));
}

TEST(MultiQueryTest, FindsTheBestTokenOfAHit) {
  v1::TokenMatches matches;
  matches.set_num_query_tokens(2);
  matches.set_num_document_tokens(3);
  for (const float x : {0.1F, 0.9F, 0.2F, -0.5F, -0.7F, -0.6F}) {
    matches.add_similarities(x);
  }
  const auto best = BestTokens(matches);
  ASSERT_TRUE(best.has_value());
  EXPECT_EQ((*best)[0].document_token, 1u);
  EXPECT_EQ((*best)[1].document_token, 0u);
  EXPECT_EQ((*best)[1].similarity, -0.5F);
  matches.add_similarities(1);
  EXPECT_FALSE(BestTokens(matches).has_value());
  EXPECT_FALSE(BestTokens(v1::TokenMatches()).has_value());
}

}  // namespace
}  // namespace vicinal::cli
