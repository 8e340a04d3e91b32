// Collections with multi-vectors, and what searches of them must find, straight
// from the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {

inline constexpr size_t kDim = 32;
inline constexpr size_t kOtherDim = 8;

using Tokens = std::vector<float>;  // n x dim

struct Document {
  Tokens tokens;  // of "t", dim kDim
  Tokens other;   // of "other", dim kOtherDim
  std::vector<float> dense;
  int64_t rank = 0;
};

struct Param {
  Metric metric;
  ElementType type;
  TokenCodecKind codec;
};

inline CollectionSchema MultiSchema(const Param& param) {
  CollectionSchema schema = SchemaOf("multi", 4, Metric::kL2);
  MultiVectorField field;
  field.name = "t";
  field.dim = kDim;
  field.metric = param.metric;
  field.type = param.type;
  field.token_codec = param.codec;
  field.max_tokens = 40;
  schema.multi.push_back(field);
  field.name = "other";
  field.dim = kOtherDim;
  field.metric = Metric::kInnerProduct;
  field.type = ElementType::kFloat32;
  field.token_codec = TokenCodecKind::kInt8;
  field.allow_empty = true;
  schema.multi.push_back(field);
  return schema;
}

// As the field's type holds it.
inline float Rounded(float value, ElementType type) {
  switch (type) {
    case ElementType::kFloat16:
      return HalfToFloat(FloatToHalf(value));
    case ElementType::kBfloat16:
      return BfloatToFloat(FloatToBfloat(value));
    default:
      return value;
  }
}

// As a field of that type holds and compares them.
inline std::vector<double> Held(const Tokens& tokens, size_t dim, bool cosine,
                                ElementType type) {
  std::vector<double> out;
  for (const float value : tokens) out.push_back(Rounded(value, type));
  for (size_t at = 0; at < out.size() && cosine; at += dim) {
    double squares = 0;
    for (size_t e = at; e < at + dim; ++e) squares += out[e] * out[e];
    for (size_t e = at; e < at + dim; ++e) out[e] /= std::sqrt(squares);
  }
  return out;
}

// In doubles, straight from the definition.
inline double MaxSim(const Tokens& query_tokens,
                     const std::vector<float>& weights,
                     const Tokens& document_tokens, size_t dim, bool cosine,
                     ElementType type) {
  const auto query = Held(query_tokens, dim, cosine, ElementType::kFloat32);
  const auto document = Held(document_tokens, dim, cosine, type);
  double score = 0;
  for (size_t q = 0; q < query.size(); q += dim) {
    double best = -std::numeric_limits<double>::infinity();
    for (size_t p = 0; p < document.size(); p += dim) {
      double product = 0;
      for (size_t e = 0; e < dim; ++e)
        product += query[q + e] * document[p + e];
      best = std::max(best, product);
    }
    score += (weights.empty() ? 1 : weights[q / dim]) * best;
  }
  return score;
}

// Tokens lie around some topics, of which a document has a few.
class Corpus {
 public:
  explicit Corpus(uint64_t seed, bool whole = false)
      : whole_(whole), random_(seed) {
    for (size_t i = 0; i < kTopics; ++i) topics_.push_back(Gaussians(kDim, 1));
  }

  Document MakeDocument() { return MakeDocument(4 + random_.Uniform(12)); }
  Document MakeDocument(uint64_t num_tokens) {
    Document document;
    std::vector<size_t> mine;
    for (int i = 0; i < 3; ++i) mine.push_back(random_.Uniform(kTopics));
    for (uint64_t n = num_tokens; n > 0; --n) {
      AppendNear(topics_[mine[random_.Uniform(3)]], 0.7, &document.tokens);
    }
    document.other = Gaussians(kOtherDim * (1 + random_.Uniform(5)), 1);
    document.dense = Gaussians(4, 1);
    document.rank = static_cast<int64_t>(random_.Uniform(100));
    return document;
  }
  // Of tokens near those of the document.
  Tokens QueryFor(const Document& document, size_t num_tokens) {
    Tokens query;
    const size_t n = document.tokens.size() / kDim;
    for (size_t i = 0; i < num_tokens; ++i) {
      const auto begin = document.tokens.begin() +
                         static_cast<ptrdiff_t>(random_.Uniform(n) * kDim);
      AppendNear({begin, begin + kDim}, 0.5, &query);
    }
    return query;
  }
  Tokens Gaussians(size_t n, double scale) {
    Tokens out(n);
    for (float& value : out) {
      value = static_cast<float>(scale * random_.Gaussian());
      if (whole_) value = std::nearbyint(10 * value) + 0.0f;
    }
    return out;
  }
  Random& random() { return random_; }

 private:
  static constexpr size_t kTopics = 100;
  void AppendNear(const Tokens& centre, double noise, Tokens* out) {
    const Tokens away = Gaussians(kDim, noise);
    for (size_t e = 0; e < kDim; ++e) out->push_back(centre[e] + away[e]);
  }

  const bool whole_;  // elements that int8 holds
  Random random_;
  std::vector<Tokens> topics_;
};

// The documents as columns of f32; owns what a PointBatch borrows.
class MultiBatch {
 public:
  explicit MultiBatch(const std::map<uint64_t, Document>& documents) {
    MultiColumn tokens{.name = "t", .dim = kDim, .offsets = {0}};
    MultiColumn other{.name = "other", .dim = kOtherDim, .offsets = {0}};
    VectorColumn dense{.name = "v", .dim = 4};
    uint32_t i = 0;
    for (const auto& [id, document] : documents) {
      batch.ids.emplace_back(id);
      tokens_ += Bytes(document.tokens);
      other_ += Bytes(document.other);
      tokens.offsets.push_back(tokens_.size() / 4 / kDim);
      other.offsets.push_back(other_.size() / 4 / kOtherDim);
      if (!document.dense.empty()) {
        dense_ += Bytes(document.dense);
        dense.present.push_back(i);
      }
      payloads_.push_back(absl::StrCat("{\"rank\": ", document.rank, "}"));
      ++i;
    }
    tokens.data = tokens_;
    other.data = other_;
    dense.data = dense_;
    batch.multi = {tokens, other};
    if (!dense.present.empty()) batch.vectors = {dense};
    for (const std::string& payload : payloads_) {
      batch.payloads.emplace_back(payload);
    }
  }

  PointBatch batch;

 private:
  std::string tokens_, other_, dense_;
  std::vector<std::string> payloads_;
};

inline Query TokenQuery(Tokens tokens, size_t k, bool exact,
                        std::string name = "t") {
  MultiStage stage;
  stage.vector_name = std::move(name);
  stage.query.tokens = std::move(tokens);
  stage.k = k;
  stage.params.exact = exact;
  return Query{.stage = std::move(stage)};
}

class MultiTestBase {
 protected:
  explicit MultiTestBase(const Param& param)
      : param_(param),
        schema_(MultiSchema(param)),
        corpus_(kSeed, param.type == ElementType::kInt8) {
    Open();
  }

  void Open() {
    const absl::Status status = OpenCollection(
        folder_.path(), TestOptions(), schema_, &database_, &collection_);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Write(uint64_t first, uint64_t count) {
    std::map<uint64_t, Document> documents;
    for (uint64_t id = first; id < first + count; ++id) {
      documents[id] = corpus_.MakeDocument();
    }
    Write(std::move(documents));
  }
  void Write(std::map<uint64_t, Document> documents) {
    const WriteOutcome outcome =
        collection_->Upsert(MultiBatch(documents).batch);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    for (auto& [id, document] : documents) {
      documents_[id] = std::move(document);
    }
  }
  void Delete(uint64_t first, uint64_t count, uint64_t step) {
    std::vector<PointId> ids;
    for (uint64_t i = 0; i < count; ++i) {
      ids.emplace_back(first + i * step);
      documents_.erase(first + i * step);
    }
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
  }
  void Optimize() {
    const absl::Status status = Finished(collection_->Optimize(1));
    ASSERT_TRUE(status.ok()) << status;
  }

  absl::StatusOr<SearchResult> Ask(Query query) const {
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    auto results = collection_->Search(queries, {});
    if (!results.ok()) return results.status();
    return std::move((*results)[0]);
  }
  SearchResult AnswerTo(Query query) const {
    auto result = Ask(std::move(query));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : SearchResult();
  }
  double ScoreOf(const Tokens& query, const Document& document,
                 const std::vector<float>& weights = {}) const {
    return MaxSim(query, weights, document.tokens, kDim,
                  param_.metric == Metric::kCosine, param_.type);
  }
  // All scores, the best first.
  std::vector<std::pair<double, uint64_t>> Ranking(
      const Tokens& query, const std::vector<float>& weights = {}) const {
    std::vector<std::pair<double, uint64_t>> all;
    for (const auto& [id, document] : documents_) {
      if (document.tokens.empty()) continue;
      all.emplace_back(-ScoreOf(query, document, weights), id);
    }
    std::sort(all.begin(), all.end());
    for (auto& [score, id] : all) score = -score;
    return all;
  }
  static double Slack(double score) { return 1e-4 * (1 + std::abs(score)); }

  // Every hit has the score that it should, and nothing better is missing.
  void ExpectExact(const SearchResult& result, const Tokens& query, size_t k,
                   const std::vector<float>& weights = {}) const {
    const auto ranking = Ranking(query, weights);
    ASSERT_EQ(result.hits.size(), std::min(k, ranking.size()));
    std::set<PointId> ids;
    for (size_t i = 0; i < result.hits.size(); ++i) {
      const Hit& hit = result.hits[i];
      EXPECT_TRUE(ids.insert(hit.id).second) << hit.id.ToString();
      EXPECT_NEAR(-hit.distance, ranking[i].first, Slack(ranking[i].first))
          << i;
      const auto document = documents_.find(hit.id.number());
      ASSERT_NE(document, documents_.end()) << hit.id.ToString();
      const double score = ScoreOf(query, document->second, weights);
      EXPECT_NEAR(-hit.distance, score, Slack(score));
    }
  }
  double RecallOf(size_t num_queries, size_t k, size_t num_tokens = 8) {
    double sum = 0;
    for (size_t i = 0; i < num_queries; ++i) {
      const Tokens query = AnyQuery(num_tokens);
      const auto ranking = Ranking(query);
      const SearchResult result = AnswerTo(TokenQuery(query, k, false));
      EXPECT_EQ(result.hits.size(), std::min(k, ranking.size()));
      const double last = ranking[std::min(k, ranking.size()) - 1].first;
      size_t found = 0;
      for (const Hit& hit : result.hits) {
        const double score = ScoreOf(query, documents_.at(hit.id.number()));
        EXPECT_NEAR(-hit.distance, score, Slack(score));  // exact ones only
        found += -hit.distance >= last - Slack(last);
      }
      sum +=
          static_cast<double>(found) / static_cast<double>(result.hits.size());
    }
    return sum / static_cast<double>(num_queries);
  }
  Tokens AnyQuery(size_t num_tokens) {
    while (true) {
      auto it = documents_.begin();
      std::advance(it, corpus_.random().Uniform(documents_.size()));
      if (it->second.tokens.empty()) continue;
      return corpus_.QueryFor(it->second, num_tokens);
    }
  }
  void Compare(const std::string& when) {
    SCOPED_TRACE(when);
    EXPECT_EQ(collection_->Count(), documents_.size());
    for (int i = 0; i < 6; ++i) {
      const size_t k = 1 + corpus_.random().Uniform(30);
      const Tokens query = AnyQuery(1 + corpus_.random().Uniform(9));
      const SearchResult result = AnswerTo(TokenQuery(query, k, true));
      EXPECT_TRUE(result.exact);
      ExpectExact(result, query, k);
    }
    EXPECT_GE(RecallOf(6, 10), 0.95);
  }

  static constexpr uint64_t kSeed = 61;
  const Param param_;
  TempFolder folder_;
  const CollectionSchema schema_;
  Corpus corpus_;
  std::map<uint64_t, Document> documents_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

// One form of the field is enough for the rest.
class MultiQueryTest : public MultiTestBase, public ::testing::Test {
 protected:
  MultiQueryTest()
      : MultiTestBase(
            {Metric::kCosine, ElementType::kFloat16, TokenCodecKind::kInt4}) {}
  // Half of them sealed.
  void WriteBoth() {
    Write(0, 200);
    Optimize();
    Write(150, 150);
  }
  absl::Status Refusal(Query query) const {
    const absl::Status status = Ask(std::move(query)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return status;
  }
};

}  // namespace vicinal
