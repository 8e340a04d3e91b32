// Multi-vectors: what is written comes back, and searches find what a walk over
// all documents finds, whatever became of the segments that hold them.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/cancel.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"
#include "tests/engine/multi_testing.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class MultiTest : public MultiTestBase, public ::testing::TestWithParam<Param> {
 protected:
  MultiTest() : MultiTestBase(GetParam()) {}
};

TEST_P(MultiTest, FindsWhatAWalkOverAllDocumentsFinds) {
  EXPECT_THAT(AnswerTo(TokenQuery(Tokens(kDim, 1), 5, false)).hits, IsEmpty());
  Write(0, 200);
  Compare("growing");
  Write(100, 100);
  Delete(0, 30, 3);
  Compare("growing, with dead ones");
  Optimize();
  Compare("sealed");
  Write(50, 200);
  Delete(1, 40, 5);
  Compare("sealed and growing, with dead ones in both");
  Open();
  Compare("opened again");
  Optimize();
  Compare("merged");
  Open();
  Compare("merged, opened again");
  std::vector<PointId> all;
  for (const auto& [id, document] : documents_) all.emplace_back(id);
  ASSERT_TRUE(collection_->Delete(all).status.ok());
  EXPECT_THAT(AnswerTo(TokenQuery(Tokens(kDim, 1), 5, true)).hits, IsEmpty());
}

TEST_P(MultiTest, ApproximateSearchesFindNearlyAllOfThem) {
  for (uint64_t first = 0; first < 3'000; first += 500) Write(first, 500);
  Optimize();
  EXPECT_EQ(collection_->stats().num_indexed, 3'000u);
  EXPECT_GE(RecallOf(40, 10), 0.95);
  // Never less than there is, however deep.
  const SearchResult all = AnswerTo(TokenQuery(AnyQuery(4), 5'000, false));
  EXPECT_EQ(all.hits.size(), 3'000u);
}

TEST_P(MultiTest, TokensComeBackAsTheTypeHoldsThem) {
  Write(0, 20);
  documents_[7].other.clear();
  Write({{7, documents_[7]}});
  for (const char* when : {"growing", "sealed", "opened again"}) {
    SCOPED_TRACE(when);
    std::vector<PointId> ids = {PointId(3), PointId(7)};
    const auto points = collection_->Get(ids, {.multi = {0, 1}});
    ASSERT_TRUE(points.ok()) << points.status();
    for (size_t i = 0; i < ids.size(); ++i) {
      const StoredPoint& point = *(*points)[i];
      const Document& document = documents_.at(ids[i].number());
      ASSERT_EQ(point.multi.size(), 2u);
      EXPECT_EQ(point.multi[0].size(),
                document.tokens.size() * ElementSize(param_.type));
      EXPECT_EQ(point.multi[1], Bytes(document.other));
      if (param_.type == ElementType::kFloat32) {
        EXPECT_EQ(point.multi[0], Bytes(document.tokens));
      }
    }
    size_t num_seen = 0;
    const absl::Status scrolled = collection_->Scroll(
        std::nullopt, 6, {.multi = {1}}, {},
        [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
          for (const StoredPoint& point : page) {
            EXPECT_EQ(point.multi[0], "");
            EXPECT_EQ(point.multi[1],
                      Bytes(documents_.at(point.id.number()).other));
            ++num_seen;
          }
          return true;
        });
    EXPECT_TRUE(scrolled.ok()) << scrolled;
    EXPECT_EQ(num_seen, 20u);
    if (absl::string_view(when) == "growing") {
      Optimize();
    } else {
      Open();
    }
  }
  EXPECT_TRUE(absl::IsInvalidArgument(
      collection_->Get({PointId(3)}, {.multi = {2}}).status()));
}

INSTANTIATE_TEST_SUITE_P(
    Types, MultiTest,
    ::testing::Values(
        Param{Metric::kCosine, ElementType::kFloat16, TokenCodecKind::kInt4},
        Param{Metric::kInnerProduct, ElementType::kFloat32,
              TokenCodecKind::kInt2},
        Param{Metric::kCosine, ElementType::kBfloat16, TokenCodecKind::kInt8},
        Param{Metric::kInnerProduct, ElementType::kInt8,
              TokenCodecKind::kBinary}));

TEST_F(MultiQueryTest, FiltersLeaveTheBestOfTheOthers) {
  WriteBoth();
  const auto filter =
      std::make_shared<const FilterNode>(*ParseFilter("rank < 20"));
  for (const bool exact : {true, false}) {
    const Tokens tokens = AnyQuery(5);
    Query query = TokenQuery(tokens, 15, exact);
    std::get<MultiStage>(query.stage).filter = filter;
    query.explain = true;
    const SearchResult result = AnswerTo(std::move(query));
    auto ranking = Ranking(tokens);
    std::erase_if(ranking, [&](const auto& entry) {
      return documents_.at(entry.second).rank >= 20;
    });
    ASSERT_GT(ranking.size(), 15u);
    ASSERT_EQ(result.hits.size(), 15u);
    for (size_t i = 0; i < 15; ++i) {
      EXPECT_LT(documents_.at(result.hits[i].id.number()).rank, 20);
      if (!exact) continue;
      EXPECT_NEAR(-result.hits[i].distance, ranking[i].first,
                  Slack(ranking[i].first));
    }
    ASSERT_EQ(result.explanation.size(), 2u);
    for (const SegmentExplanation& segment : result.explanation) {
      EXPECT_EQ(segment.vector_name, "t");
      EXPECT_NE(segment.plan, SearchPlan::kNone);
      EXPECT_GT(segment.multi.num_exact, 0u);
      EXPECT_LT(segment.num_accepted, segment.num_rows);
    }
  }
}

TEST_F(MultiQueryTest, WeightsMultiplyWhatTokensFind) {
  WriteBoth();
  const Tokens tokens = AnyQuery(4);
  const std::vector<float> weights = {0.5f, 0, 3, 1};
  Query query = TokenQuery(tokens, 20, true);
  std::get<MultiStage>(query.stage).query.weights = weights;
  ExpectExact(AnswerTo(std::move(query)), tokens, 20, weights);
}

TEST_F(MultiQueryTest, FieldsAreSearchedApart) {
  WriteBoth();
  const Tokens tokens = corpus_.Gaussians(3 * kOtherDim, 1);
  const SearchResult result = AnswerTo(TokenQuery(tokens, 10, true, "other"));
  std::vector<double> scores;
  for (const auto& [id, document] : documents_) {
    scores.push_back(-MaxSim(tokens, {}, document.other, kOtherDim, false,
                             ElementType::kFloat32));
  }
  std::sort(scores.begin(), scores.end());
  ASSERT_EQ(result.hits.size(), 10u);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_NEAR(result.hits[i].distance, scores[i], Slack(scores[i]));
  }
}

TEST_F(MultiQueryTest, ScoresBelowTheCutOffAreLeftOut) {
  WriteBoth();
  const Tokens tokens = AnyQuery(4);
  const auto ranking = Ranking(tokens);
  Query query = TokenQuery(tokens, 50, true);
  std::get<MultiStage>(query.stage).max_distance =
      -(ranking[9].first + ranking[10].first) / 2;
  EXPECT_EQ(AnswerTo(std::move(query)).hits.size(), 10u);
}

TEST_F(MultiQueryTest, FusesWithADenseVector) {
  WriteBoth();
  const Tokens tokens = AnyQuery(4);
  const std::vector<float> dense = {1, 2, 3, 4};
  FuseStage fuse;
  fuse.inputs.push_back(TokenQuery(tokens, 20, true));
  fuse.inputs.push_back(Nearest("v", Bytes(dense), 20, true));
  fuse.k = 40;
  const SearchResult tokens_alone = AnswerTo(TokenQuery(tokens, 20, true));
  const SearchResult dense_alone =
      AnswerTo(Nearest("v", Bytes(dense), 20, true));
  std::map<PointId, double> wanted;
  for (const SearchResult* leg : {&tokens_alone, &dense_alone}) {
    for (size_t i = 0; i < leg->hits.size(); ++i) {
      wanted[leg->hits[i].id] += 1.0 / (60 + static_cast<double>(i) + 1);
    }
  }
  Query query{.stage = std::move(fuse)};
  query.explain = true;
  query.token_matches = true;
  const SearchResult result = AnswerTo(std::move(query));
  ASSERT_EQ(result.hits.size(), wanted.size());
  for (const Hit& hit : result.hits) {
    EXPECT_NEAR(-hit.distance, wanted.at(hit.id), 1e-6);
    EXPECT_TRUE(hit.token_matches.has_value());
    EXPECT_EQ(hit.legs.size(), 2u);
  }
}

TEST_F(MultiQueryTest, ReranksWhatAnotherVectorFound) {
  WriteBoth();
  std::map<uint64_t, Document> without;
  without[500] = {.tokens = {},
                  .other = corpus_.Gaussians(kOtherDim, 1),
                  .dense = {0, 0, 0, 0}};
  Write(std::move(without));
  const Tokens tokens = AnyQuery(6);
  RerankStage rerank;
  rerank.input =
      std::make_unique<Query>(Nearest("v", Bytes({0, 0, 0, 0}), 50, true));
  rerank.vector_name = "t";
  rerank.multi = MultiVector{tokens, {}};
  rerank.k = 100;
  const SearchResult input =
      AnswerTo(Nearest("v", Bytes({0, 0, 0, 0}), 50, true));
  ASSERT_EQ(input.hits[0].id, PointId(500));
  const SearchResult result = AnswerTo(Query{.stage = std::move(rerank)});
  // The point without tokens is not among them.
  ASSERT_EQ(result.hits.size(), 49u);
  for (size_t i = 0; i < result.hits.size(); ++i) {
    const Hit& hit = result.hits[i];
    const double score = ScoreOf(tokens, documents_.at(hit.id.number()));
    EXPECT_NEAR(-hit.distance, score, Slack(score));
    if (i > 0) {
      EXPECT_LE(result.hits[i - 1].distance, hit.distance);
    }
  }
}

TEST_F(MultiQueryTest, ShowsHowTokensMatch) {
  WriteBoth();
  Tokens tokens = AnyQuery(3);
  Query query = TokenQuery(tokens, 5, true);
  query.token_matches = true;
  query.offset = 1;
  const SearchResult result = AnswerTo(std::move(query));
  ASSERT_EQ(result.hits.size(), 4u);
  for (const Hit& hit : result.hits) {
    ASSERT_TRUE(hit.token_matches.has_value());
    const TokenMatches& matches = *hit.token_matches;
    const Document& document = documents_.at(hit.id.number());
    ASSERT_EQ(matches.num_query_tokens, 3u);
    ASSERT_EQ(matches.num_document_tokens, document.tokens.size() / kDim);
    ASSERT_EQ(matches.similarities.size(),
              matches.num_query_tokens * matches.num_document_tokens);
    double score = 0;
    for (size_t q = 0; q < 3; ++q) {
      float best = -2;
      for (size_t p = 0; p < matches.num_document_tokens; ++p) {
        const auto at = [&](const Tokens& from, size_t i) {
          const auto begin = from.begin() + static_cast<ptrdiff_t>(i * kDim);
          return Tokens(begin, begin + kDim);
        };
        const float found =
            matches.similarities[q * matches.num_document_tokens + p];
        EXPECT_NEAR(found,
                    MaxSim(at(tokens, q), {}, at(document.tokens, p), kDim,
                           true, param_.type),
                    1e-4);
        best = std::max(best, found);
      }
      score += best;
    }
    EXPECT_NEAR(score, -hit.distance, 1e-4);
  }
  Query other = Nearest("v", Bytes({1, 2, 3, 4}), 3);
  other.token_matches = true;
  EXPECT_THAT(Refusal(std::move(other)).message(),
              HasSubstr("no stage of the query compares tokens"));
}

TEST_F(MultiQueryTest, AChangedPayloadKeepsTheTokens) {
  WriteBoth();
  PayloadChange change;
  change.set = R"({"rank": 1000})";
  std::string problem;
  const auto patch = PayloadPatch::Make(std::move(change), Limits(), &problem);
  ASSERT_TRUE(patch.ok()) << patch.status();
  for (const bool sealed : {false, true}) {
    SCOPED_TRACE(sealed);
    if (sealed) Optimize();
    std::vector<PointId> ids;
    for (uint64_t id = sealed ? 0 : 140; id < (sealed ? 30 : 170); ++id) {
      ids.emplace_back(id);
      documents_.at(id).rank = 1000;
    }
    const WriteOutcome outcome =
        collection_->UpdatePayload(ids, *patch, {}, {});
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    Compare("changed");
    Open();
    Compare("opened again");
  }
}

TEST_F(MultiQueryTest, APointMayHaveNothingElse) {
  Document alone = corpus_.MakeDocument();
  alone.dense.clear();
  alone.other.clear();
  const Tokens query = alone.tokens;
  Write({{1, alone}});
  for (int i = 0; i < 2; ++i) {
    const SearchResult result = AnswerTo(TokenQuery(query, 3, true));
    ASSERT_EQ(result.hits.size(), 1u);
    EXPECT_EQ(result.hits[0].id, PointId(1));
    EXPECT_NEAR(result.hits[0].distance,
                -static_cast<double>(query.size() / kDim), 1e-3);
    EXPECT_THAT(
        AnswerTo(TokenQuery(Tokens(kOtherDim, 1), 3, true, "other")).hits,
        IsEmpty());
    Optimize();
    Open();
  }
}

TEST_F(MultiQueryTest, ACollectionMayHaveNoOtherVectors) {
  CollectionSchema schema = MultiSchema(param_);
  schema.name = "alone";
  schema.vectors.clear();
  schema.multi[0].allow_empty = true;
  schema.multi.resize(1);
  const auto collection = database_->CreateCollection(schema);
  ASSERT_TRUE(collection.ok()) << collection.status();
  PointBatch batch;
  batch.ids = {PointId(1), PointId(2)};
  const std::string data = Bytes(Tokens(2 * kDim, 0.5f));
  batch.multi = {{.name = "t",
                  .dim = kDim,
                  .offsets = {0, 2, 2},
                  .data = data,
                  .present = {0, 1}}};
  const WriteOutcome outcome = (*collection)->Upsert(batch);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_TRUE(Finished((*collection)->Optimize(1)).ok());
  EXPECT_EQ((*collection)->Count(), 2u);
  std::vector<Query> queries;
  queries.push_back(TokenQuery(Tokens(kDim, 1), 3, false));
  const auto results = (*collection)->Search(queries, {});
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ((*results)[0].hits.size(), 1u);
  EXPECT_EQ((*results)[0].hits[0].id, PointId(1));
}

// As many as have encodings.
TEST_F(MultiQueryTest, EncodingsFindNearlyAllThroughDeletesMergesAndRestarts) {
  const auto write = [&](uint64_t first, uint64_t last) {
    for (uint64_t id = first; id < last;) {
      std::map<uint64_t, Document> documents;
      for (int i = 0; i < 200 && id < last; ++i, ++id) {
        documents[id] = corpus_.MakeDocument(40);
      }
      Write(std::move(documents));
    }
  };
  const auto expect_found = [&](const std::string& when) {
    SCOPED_TRACE(when);
    Query query = TokenQuery(AnyQuery(8), 10, false);
    query.explain = true;
    const SearchResult result = AnswerTo(std::move(query));
    EXPECT_FALSE(result.exact);
    ASSERT_FALSE(result.explanation.empty());
    const SegmentExplanation& sealed = result.explanation[0];
    EXPECT_NE(sealed.encoder, "");
    const SegmentStats stats = collection_->stats().segments[0];
    ASSERT_EQ(stats.encoders.size(), 2u);
    EXPECT_EQ(stats.encoders[0], sealed.encoder);
    EXPECT_EQ(sealed.plan, SearchPlan::kCodes);
    EXPECT_LT(sealed.multi.num_candidates, sealed.num_rows);
    EXPECT_GE(RecallOf(30, 10, 32), 0.95);
    // Calibrated with queries of 32 tokens: shorter ones miss some more.
    EXPECT_GE(RecallOf(30, 10, 8), 0.85);
  };
  write(0, 3'400);
  Optimize();
  expect_found("built");
  write(3'000, 3'800);
  Delete(0, 300, 2);
  expect_found("replaced and deleted");
  Open();
  expect_found("opened again");
  Optimize();
  expect_found("merged");
}

TEST_F(MultiQueryTest, ADamagedFileIsMadeAnewFromRecords) {
  Write(0, 200);
  Optimize();
  for (const char* extension : {".seg", ".vec"}) {
    SCOPED_TRACE(extension);
    collection_.reset();
    database_.reset();
    size_t num_damaged = 0;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(folder_.path())) {
      if (entry.path().extension() != extension) continue;
      std::filesystem::resize_file(entry.path(), entry.file_size() / 2);
      ++num_damaged;
    }
    EXPECT_EQ(num_damaged, 1u);
    Open();
    EXPECT_TRUE(collection_->stats().degraded);
    Compare("damaged");
    Optimize();
    EXPECT_FALSE(collection_->stats().degraded);
    Compare("made anew");
  }
}

TEST_F(MultiQueryTest, TokensCountAsMemoryThatWaitsForItsIndex) {
  // 40 KiB of tokens each: few rows, but more than a growing segment.
  std::map<uint64_t, Document> documents;
  for (uint64_t id = 0; id < 300; ++id) {
    documents[id] = {
        .tokens = corpus_.Gaussians(40 * kDim, 1), .other = {}, .dense = {}};
  }
  for (uint64_t id = 0; id < 300; id += 50) {
    std::map<uint64_t, Document> some(documents.lower_bound(id),
                                      documents.lower_bound(id + 50));
    Write(std::move(some));
  }
  const CollectionStats stats = collection_->stats();
  EXPECT_GE(stats.segments.size(), 2u);
  uint64_t bytes = 0;
  for (const SegmentStats& segment : stats.segments) {
    bytes += segment.vector_bytes;
  }
  EXPECT_GE(bytes, 300 * 40 * kDim * 2);
  Open();
  Compare("opened again");
}

// However few documents there are.
TEST_F(MultiQueryTest, ComparingTokensStopsByTheProducts) {
  std::map<uint64_t, Document> documents;
  for (uint64_t id = 0; id < 50; ++id) {
    documents[id] = corpus_.MakeDocument(40);
  }
  Write(std::move(documents));
  const Tokens tokens = corpus_.Gaussians(4'096 * kDim, 1);
  std::atomic<size_t> num_polls = 0;
  const auto ask = [&](bool rerank, bool matches, size_t most_polls) {
    Query query = Nearest("v", Bytes({0, 0, 0, 0}), 50, true);
    if (rerank) {
      RerankStage stage;
      stage.input = std::make_unique<Query>(std::move(query));
      stage.vector_name = "t";
      stage.multi = MultiVector{tokens, {}};
      stage.k = 50;
      query = Query{.stage = std::move(stage)};
    }
    query.token_matches = matches;
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    num_polls = 0;
    StopCondition stop;
    stop.cancelled = [&] { return ++num_polls > most_polls; };
    return collection_->Search(queries, stop).status();
  };
  constexpr size_t kAny = std::numeric_limits<size_t>::max();
  ASSERT_TRUE(ask(false, false, kAny).ok());
  size_t before = num_polls;
  for (const bool matches : {false, true}) {
    ASSERT_TRUE(ask(true, matches, kAny).ok());
    const size_t all = num_polls;
    // 50 * 40 * 4,096 * 32 products.
    EXPECT_GE(all, before + 3);
    EXPECT_LE(all, before + 5);
    EXPECT_TRUE(absl::IsCancelled(ask(true, matches, before + 1)));
    EXPECT_EQ(num_polls, before + 2);
    before = all;
  }
}

TEST_F(MultiQueryTest, FewRecordsAreReadAtOnceWhereTheyMayBeLong) {
  CollectionSchema schema = MultiSchema(param_);
  schema.name = "long";
  schema.multi[0].max_tokens = kMaxTokens;
  const auto collection = database_->CreateCollection(schema);
  ASSERT_TRUE(collection.ok()) << collection.status();
  std::map<uint64_t, Document> documents;
  std::vector<PointId> ids;
  for (uint64_t id = 0; id < 20; ++id) {
    documents[id] = corpus_.MakeDocument();
    ids.emplace_back(id);
  }
  ASSERT_TRUE((*collection)->Upsert(MultiBatch(documents).batch).status.ok());
  const absl::Status status =
      (*collection)->Get(ids, {.multi = {0}, .max_bytes = 1}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the first 1 of 20 points have "));
}

TEST_F(MultiQueryTest, RefusesQueriesThatCannotBeAsked) {
  Write(0, 3);
  const auto says = [&](Query query, const std::string& what) {
    EXPECT_THAT(std::string(Refusal(std::move(query)).message()),
                HasSubstr(what));
  };
  says(TokenQuery(Tokens(kDim, 1), 3, false, "u"), "has no multi-vector \"u\"");
  says(TokenQuery(Tokens(kDim, 1), 3, false, "v"),
       "vector \"v\" is a dense vector; ask it with a single vector");
  says(Nearest("t", Bytes(Tokens(kDim, 1)), 3),
       "vector \"t\" is a multi-vector; ask it with several token vectors");
  says(TokenQuery({}, 3, false), "has no tokens");
  says(TokenQuery(Tokens(kDim + 1, 1), 3, false), "has 33 elements");
  Tokens bad(2 * kDim, 1);
  bad[kDim + 3] = std::numeric_limits<float>::quiet_NaN();
  says(TokenQuery(bad, 3, false), "an element in token 1");
  bad[kDim + 3] = -1.1e15f;
  says(TokenQuery(bad, 3, false),
       "an element in token 1 that is no number of at most 1e+15");
  bad.assign(2 * kDim, 0);
  bad[0] = 1;
  says(TokenQuery(bad, 3, false), "a zero vector as token 1");
  Query query = TokenQuery(Tokens(2 * kDim, 1), 3, false);
  auto& stage = std::get<MultiStage>(query.stage);
  stage.query.weights = {1};
  says(TokenQuery(Tokens(kDim, 1), 3, false, ""), "has no multi-vector");
  says(std::move(query), "has 1 weights for 2 tokens");
  query = TokenQuery(Tokens(2 * kDim, 1), 3, false);
  std::get<MultiStage>(query.stage).query.weights = {1, -1};
  says(std::move(query), "the weight -1 for token 1");
  query = TokenQuery(Tokens(2 * kDim, 1), 3, false);
  std::get<MultiStage>(query.stage).query.weights = {1.1e6f, 1};
  says(std::move(query), "for token 0; weights are 0 to 1e+06");
  RerankStage rerank;
  rerank.input = std::make_unique<Query>(Nearest("v", Bytes({0, 0, 0, 0}), 5));
  rerank.vector_name = "v";
  rerank.multi = MultiVector{Tokens(kDim, 1), {}};
  says(Query{.stage = std::move(rerank)}, "is a dense vector");
}

}  // namespace
}  // namespace vicinal
