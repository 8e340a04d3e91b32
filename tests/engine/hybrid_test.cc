// Stages that fuse, rescore and explain what others found.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"
#include "tests/engine/lexical_testing.h"

namespace vicinal {
namespace {

class HybridTest : public ::testing::Test {
 protected:
  HybridTest() : schema_(LexicalSchema(SparseWeight::kFloat32, false)) {
    database_ = *Database::Open(folder_.path(), TestOptions());
    collection_ = *database_->CreateCollection(schema_);
    Random random(kSeed);
    for (uint64_t id = 0; id < 500; ++id) {
      documents_[id] = RandomDocument(random);
    }
    EXPECT_TRUE(Upsert(collection_.get(), documents_).status.ok());
    EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
  }

  Query Sparse(size_t k) const {
    return SparseQueryOf({{1, 2, 3, 4, 5}, {1, 2, 3, 1, 2}}, k);
  }
  Query Text(size_t k) const { return TextQueryOf("body", "a b c", k); }
  Query Fused(FusionKind kind, std::vector<double> weights, size_t k) const {
    FuseStage stage;
    stage.inputs.push_back(Sparse(50));
    stage.inputs.push_back(Text(50));
    stage.kind = kind;
    stage.weights = std::move(weights);
    stage.k = k;
    return Query{.stage = std::move(stage)};
  }
  absl::StatusOr<SearchResult> Run(Query query) const {
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    auto results = collection_->Search(queries, {});
    if (!results.ok()) return results.status();
    return std::move((*results)[0]);
  }

  static constexpr uint64_t kSeed = 97;
  TempFolder folder_;
  const CollectionSchema schema_;
  std::map<uint64_t, Document> documents_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

constexpr FusionKind kAll[] = {FusionKind::kRrf, FusionKind::kRelativeScore,
                               FusionKind::kZScore, FusionKind::kDistribution,
                               FusionKind::kConvex};

TEST_F(HybridTest, AFusedScoreIsTheSumOfItsLegs) {
  for (const FusionKind kind : kAll) {
    Query query = Fused(kind, {0.7, 0.3}, 100);
    query.explain = true;
    const auto result = Run(std::move(query));
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->legs.size(), 2u);
    EXPECT_EQ(result->legs[0].path, "inputs[0]");
    EXPECT_EQ(result->legs[1].path, "inputs[1]");
    const auto sparse = *Run(Sparse(50)), text = *Run(Text(50));
    size_t num_found = 0;
    for (const Hit& hit : result->hits) {
      EXPECT_NEAR(-hit.distance,
                  0.7 * hit.legs[0].normalized + 0.3 * hit.legs[1].normalized,
                  1e-6);
      for (const auto& [leg, alone] : {std::make_pair(hit.legs[0], &sparse),
                                       std::make_pair(hit.legs[1], &text)}) {
        if (leg.rank == 0) continue;
        ++num_found;
        EXPECT_EQ(alone->hits[leg.rank - 1].id, hit.id);
        EXPECT_EQ(alone->hits[leg.rank - 1].distance, leg.distance);
      }
    }
    EXPECT_EQ(num_found, sparse.hits.size() + text.hits.size());
  }
}

TEST_F(HybridTest, EnormousWeightsGiveFiniteScores) {
  for (const FusionKind kind : kAll) {
    const auto result = *Run(Fused(kind, {1e308, 1e308}, 100));
    EXPECT_GE(result.hits.size(), 50u);
    for (const Hit& hit : result.hits) {
      EXPECT_TRUE(std::isfinite(hit.distance));
    }
  }
}

TEST_F(HybridTest, WeightsOfOneAndNothingAreOneList) {
  for (const FusionKind kind : kAll) {
    const auto fused = *Run(Fused(kind, {0, 1}, 20));
    const auto text = *Run(Text(50));
    for (size_t i = 0; i < 20; ++i) {
      if (kind == FusionKind::kZScore) break;  // some of it is below nothing
      EXPECT_EQ(fused.hits[i].id, text.hits[i].id) << i;
    }
  }
}

TEST_F(HybridTest, TheOrderOfInputsOfEqualWeightDoesNotCount) {
  for (const FusionKind kind : kAll) {
    Query turned = Fused(kind, {}, 60);
    auto& inputs = std::get<FuseStage>(turned.stage).inputs;
    std::swap(inputs[0], inputs[1]);
    EXPECT_EQ(ScoredOf(*Run(std::move(turned))),
              ScoredOf(*Run(Fused(kind, {}, 60))));
  }
}

TEST_F(HybridTest, ExpressionsReadScoresLegsAndPayloads) {
  using Kind = ScoreExpression::Kind;
  RescoreStage stage;
  stage.input = std::make_unique<Query>(Fused(FusionKind::kRrf, {}, 60));
  stage.k = 60;
  stage.score = {.kind = Kind::kSum,
                 .children = {{.kind = Kind::kScore, .name = "inputs[1]"},
                              {.kind = Kind::kField, .name = "rank"}}};
  Query query{.stage = std::move(stage)};
  query.explain = true;
  const auto result = *Run(std::move(query));
  ASSERT_EQ(result.legs.size(), 3u);
  EXPECT_EQ(result.legs[2].path, "input.inputs[1]");
  ASSERT_EQ(result.hits.size(), 60u);
  for (const Hit& hit : result.hits) {
    const double text = hit.legs[2].rank == 0 ? 0 : -hit.legs[2].distance;
    EXPECT_NEAR(-hit.distance,
                text + static_cast<double>(documents_[hit.id.number()].rank),
                1e-4);
  }
}

TEST_F(HybridTest, ConditionsOfExpressionsMayAskTexts) {
  RescoreStage stage;
  stage.input = std::make_unique<Query>(Text(50));
  stage.k = 50;
  stage.score = {.kind = ScoreExpression::Kind::kCondition,
                 .condition = std::make_shared<const FilterNode>(
                     *ParseFilter("MATCH(body, 'b')"))};
  const auto result = *Run(Query{.stage = std::move(stage)});
  ASSERT_EQ(result.hits.size(), 50u);
  size_t num_with = 0;
  for (const Hit& hit : result.hits) {
    const std::string body =
        absl::StrCat(" ", documents_[hit.id.number()].body, " ");
    const bool has = body.find(" b ") != std::string::npos;
    EXPECT_EQ(-hit.distance, has ? 1 : 0) << body;
    num_with += has;
  }
  EXPECT_GT(num_with, 0u);
}

TEST_F(HybridTest, PointsWithoutAValueAreDropped) {
  RescoreStage stage;
  stage.input = std::make_unique<Query>(Text(50));
  stage.score = {.kind = ScoreExpression::Kind::kField, .name = "none"};
  EXPECT_TRUE(Run(Query{.stage = std::move(stage)})->hits.empty());
}

TEST_F(HybridTest, ScoresThatAreNoNumberOf32BitsAreDropped) {
  using Kind = ScoreExpression::Kind;
  RescoreStage stage;
  stage.input = std::make_unique<Query>(Text(50));
  stage.k = 50;
  stage.score = {.kind = Kind::kConstant, .number = 1e39};
  EXPECT_TRUE(Run(Query{.stage = std::move(stage)})->hits.empty());
}

TEST_F(HybridTest, ConditionsOfExpressionsAskTexts) {
  using Kind = ScoreExpression::Kind;
  RescoreStage stage;
  stage.input = std::make_unique<Query>(Text(50));
  stage.k = 50;
  stage.score = {.kind = Kind::kCondition,
                 .condition = std::make_shared<const FilterNode>(
                     *ParseFilter("MATCH(body, 'd')"))};
  const auto result = *Run(Query{.stage = std::move(stage)});
  ASSERT_EQ(result.hits.size(), 50u);
  size_t num_with = 0;
  for (const Hit& hit : result.hits) {
    const std::string body =
        absl::StrCat(" ", documents_[hit.id.number()].body, " ");
    const bool has = absl::StrContains(body, " d ");
    EXPECT_EQ(-hit.distance, has ? 1 : 0) << body;
    num_with += has ? 1 : 0;
  }
  EXPECT_GT(num_with, 0u);
  EXPECT_LT(num_with, 50u);
}

TEST_F(HybridTest, ConditionsOfExpressionsThatCannotBeAskedAreRefused) {
  using Kind = ScoreExpression::Kind;
  for (const char* filter : {"MATCH(none, 'a')", "MATCH(body, '\"open')"}) {
    RescoreStage stage;
    stage.input = std::make_unique<Query>(Text(50));
    stage.k = 50;
    stage.score = {
        .kind = Kind::kCondition,
        .condition = std::make_shared<const FilterNode>(*ParseFilter(filter))};
    EXPECT_TRUE(
        absl::IsInvalidArgument(Run(Query{.stage = std::move(stage)}).status()))
        << filter;
  }
}

TEST_F(HybridTest, LegsThatDoNotExistAreRefused) {
  RescoreStage stage;
  stage.input = std::make_unique<Query>(Text(50));
  stage.score = {.kind = ScoreExpression::Kind::kScore, .name = "inputs[3]"};
  EXPECT_TRUE(
      absl::IsInvalidArgument(Run(Query{.stage = std::move(stage)}).status()));
  Query weights = Fused(FusionKind::kRrf, {1, 2, 3}, 5);
  EXPECT_TRUE(absl::IsInvalidArgument(Run(std::move(weights)).status()));
}

TEST_F(HybridTest, ASparseVectorScoresWhatAnotherStageFound) {
  RerankStage stage;
  stage.input = std::make_unique<Query>(Text(40));
  stage.vector_name = "s";
  stage.sparse = SparseEntries{{1, 2, 3, 4, 5}, {1, 2, 3, 1, 2}};
  stage.k = 40;
  const auto all = ScoredOf(*Run(Sparse(500)));
  for (const Scored& hit : ScoredOf(*Run(Query{.stage = std::move(stage)}))) {
    const auto found =
        std::find_if(all.begin(), all.end(),
                     [&](const Scored& other) { return other.id == hit.id; });
    EXPECT_EQ(hit.score, found == all.end() ? 0 : found->score);
  }
}

TEST_F(HybridTest, ThresholdsCutScoresOff) {
  const auto all = ScoredOf(*Run(Text(50)));
  Query query = Text(50);
  std::get<TextStage>(query.stage).max_distance = -all[9].score;
  const auto some = ScoredOf(*Run(std::move(query)));
  ASSERT_GE(some.size(), 10u);
  EXPECT_EQ(some.back().score, all[9].score);
}

TEST_F(HybridTest, FeedbackAsksForWhatTheBestHaveInCommon) {
  for (const bool by_text : {false, true}) {
    const auto plain = ScoredOf(*Run(by_text ? Text(50) : Sparse(50)));
    Query query = by_text ? Text(50) : Sparse(50);
    std::visit(
        [](auto& stage) {
          if constexpr (requires { stage.feedback; }) {
            stage.feedback = Feedback{.documents = 5, .terms = 5};
          }
        },
        query.stage);
    const auto again = ScoredOf(*Run(std::move(query)));
    EXPECT_EQ(again.size(), 50u);
    EXPECT_NE(again, plain);
  }
}

TEST_F(HybridTest, FeedbackOfWeightNothingFindsNothingOfItsOwn) {
  for (const auto& [alpha, beta] :
       {std::pair(0.0, 0.75), std::pair(1.0, 0.0), std::pair(0.0, 0.0)}) {
    for (const bool one_field : {true, false}) {
      SCOPED_TRACE(absl::StrCat(alpha, ", ", beta, ", ", one_field));
      Query query = Text(1'000);
      auto& stage = std::get<TextStage>(query.stage);
      if (!one_field) stage.fields = {{"title", 3}, {"body", 1}};
      stage.feedback =
          Feedback{.documents = 5, .terms = 5, .alpha = alpha, .beta = beta};
      const std::vector<Scored> found = ScoredOf(*Run(std::move(query)));
      EXPECT_EQ(found.empty(), alpha + beta == 0);
      std::set<PointId> ids;
      for (const Scored& hit : found) {
        EXPECT_GT(hit.score, 0) << hit;
        EXPECT_TRUE(ids.insert(hit.id).second) << hit;
      }
    }
  }
}

TEST(RescoreTest, APayloadThatIsGoneIsNotScored) {
  const TempFolder folder;
  DatabaseOptions options = TestOptions();
  std::function<void()> before_apply;  // of the next commit
  options.test_hook = [&](absl::string_view point) {
    if (point != "commit:before_apply" || !before_apply) return;
    std::exchange(before_apply, nullptr)();
  };
  const auto database = *Database::Open(folder.path(), options);
  const auto collection =
      *database->CreateCollection(LexicalSchema(SparseWeight::kFloat32, false));
  std::map<uint64_t, Document> documents;
  for (uint64_t id = 0; id < 10; ++id) documents[id].body = "a";
  ASSERT_TRUE(Upsert(collection.get(), documents).status.ok());
  const auto num_of_score = [&](float score) {
    RescoreStage stage;
    stage.input = std::make_unique<Query>(TextQueryOf("body", "a", 10));
    stage.score = {.kind = ScoreExpression::Kind::kCondition,
                   .condition = std::make_shared<const FilterNode>(
                       *ParseFilter("rank >= 0"))};
    size_t count = 0;
    for (const Scored& hit :
         Search(*collection, Query{.stage = std::move(stage)})) {
      count += hit.score == score;
    }
    return count;
  };
  EXPECT_EQ(num_of_score(1), 10u);
  // Storage has the new version, memory still the old one.
  before_apply = [&] {
    EXPECT_EQ(num_of_score(1), 9u);
    EXPECT_EQ(num_of_score(0), 0u);
  };
  ASSERT_TRUE(Upsert(collection.get(), {{3, documents[3]}}).status.ok());
  EXPECT_FALSE(before_apply);
  EXPECT_EQ(num_of_score(1), 10u);
}

TEST_F(HybridTest, PassagesShowWhereTheWordsStand) {
  const Query query = TextQueryOf("body", "a b", 10);
  std::vector<Query> queries;
  queries.push_back(TextQueryOf("body", "a b", 10));
  const auto result = *collection_->Search(queries, {});
  const auto passages = collection_->Highlight(query, result[0].hits, {}, {});
  ASSERT_TRUE(passages.ok()) << passages.status();
  ASSERT_EQ(passages->size(), result[0].hits.size());
  for (size_t i = 0; i < passages->size(); ++i) {
    ASSERT_EQ((*passages)[i].size(), 1u);
    const HitPassage& passage = (*passages)[i][0];
    EXPECT_EQ(passage.path, "body");
    EXPECT_FALSE(passage.matches.empty());
    for (const auto& [begin, end] : passage.matches) {
      const std::string word = passage.text.substr(begin, end - begin);
      EXPECT_TRUE(word == "a" || word == "b") << word;
    }
    const Document& document = documents_[result[0].hits[i].id.number()];
    EXPECT_EQ(document.body.substr(passage.begin, passage.text.size()),
              passage.text);
  }
}

TEST_F(HybridTest, TextAsksASparseVectorThroughItsEncoder) {
  SparseStage stage;
  stage.vector_name = "s";
  stage.text = "two three";
  const Query asked{.stage = stage};
  EXPECT_TRUE(absl::IsFailedPrecondition(Run(Query{.stage = stage}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      database_->SetSparseEncoder("lexical", "s", "{\"broken\"").status()));
  EXPECT_TRUE(absl::IsNotFound(
      database_->SetSparseEncoder("lexical", "t", "[UNK]\na\n").status()));
  ASSERT_EQ(
      *database_->SetSparseEncoder(
          "lexical", "s", R"({"[UNK]": 1, "one": 5, "two": 2, "three": 3})"),
      4u);
  const auto wanted = ScoredOf(*Run(SparseQueryOf({{2, 3}, {2, 3}}, stage.k)));
  EXPECT_EQ(ScoredOf(*Run(Query{.stage = stage})), wanted);
  collection_.reset();
  database_.reset();
  database_ = *Database::Open(folder_.path(), TestOptions());
  collection_ = *database_->GetCollection("lexical");
  EXPECT_EQ(ScoredOf(*Run(Query{.stage = stage})), wanted);
}

}  // namespace
}  // namespace vicinal
