// LIMIT (Weller et al., 2025; ../shared/data/ir/text/limit-small): 46 people
// and what they like, and 1,000 questions that each have two of them as their
// answer, in nearly every combination. One vector for each person cannot rank
// all of these pairs first; token vectors can, and words can.
//
// There is no model here. A word is a pseudo-random direction of its own, and a
// little different in each place: what MaxSim does with it is what it does with
// a model that tells words apart.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "src/base/crc32c.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/text/analyzer.h"
#include "tests/engine/engine_testing.h"
#include "tests/text/text_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 128;
constexpr size_t kDepth = 20;
// Of a token, beside its word's length of 1.
constexpr double kContext = 0.5;
constexpr uint64_t kSeed = 17;

using Tokens = std::vector<float>;  // n x kDim

// Directions of words, in their places.
class WordVectors {
 public:
  // English, so that "who" is left out.
  WordVectors() : analyzer_(MakeAnalyzer("english")) {}

  Tokens Of(absl::string_view text) const {
    Tokens tokens;
    analyzer_->Analyze(text, [&](const Token& token) {
      Random word(kSeed + Crc32c(token.term));
      Random place(kSeed + Crc32c(text) + (uint64_t{token.position} << 32));
      const Tokens direction = Unit(&word);
      const Tokens context = Unit(&place);
      const double length = std::sqrt(1 + kContext * kContext);
      for (size_t e = 0; e < kDim; ++e) {
        tokens.push_back(static_cast<float>(
            (direction[e] + kContext * context[e]) / length));
      }
    });
    return tokens;
  }

 private:
  static Tokens Unit(Random* random) {
    Tokens out(kDim);
    double squares = 0;
    for (float& value : out) {
      value = static_cast<float>(random->Gaussian());
      squares += double{value} * value;
    }
    const auto scale = static_cast<float>(1 / std::sqrt(squares));
    for (float& value : out) value *= scale;
    return out;
  }

  const std::unique_ptr<const Analyzer> analyzer_;
};

Tokens Mean(const Tokens& tokens) {
  Tokens mean(kDim, 0);
  const auto n = static_cast<float>(tokens.size() / kDim);
  for (size_t i = 0; i < tokens.size(); ++i) mean[i % kDim] += tokens[i] / n;
  return mean;
}

// The people who like what is asked for, by query.
using Judgments = std::map<std::string, std::set<std::string>>;

// People who like other things: words that nobody asks for.
std::vector<TextDocument> Strangers(size_t count) {
  constexpr uint64_t kWords = 5'000;
  std::vector<TextDocument> strangers;
  Random random(kSeed);
  for (size_t i = 0; i < count; ++i) {
    std::string text = absl::StrCat("stranger", i, " likes");
    for (int n = 0; n < 70; ++n) {
      absl::StrAppend(&text, " zq", random.Uniform(kWords), "x");
    }
    strangers.push_back({absl::StrCat("stranger ", i), std::move(text)});
  }
  return strangers;
}

// What one way of searching finds of the judgments.
struct Found {
  double at_2 = 0;
  double at_10 = 0;
  double at_20 = 0;
};

class LimitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = "text/limit-small/";
    const auto corpus = ReadSharedText(folder + "corpus.jsonl.gz");
    const auto queries = ReadSharedText(folder + "queries.jsonl.gz");
    const auto judged = ReadSharedText(folder + "qrels.tsv");
    if (!corpus || !queries || !judged) {
      GTEST_SKIP() << "no ../shared/data/ir/" << folder;
    }
    people_ = ParseDocuments(*corpus);
    queries_ = ParseDocuments(*queries);
    for (const absl::string_view line :
         absl::StrSplit(*judged, '\n', absl::SkipEmpty())) {
      const std::vector<std::string> fields = absl::StrSplit(line, '\t');
      ASSERT_EQ(fields.size(), 3u);
      if (fields[2] != "0") judgments_[fields[0]].insert(fields[1]);
    }
  }

  // The people and so many strangers, in one sealed segment: a vector "mean",
  // a multi-vector "words" and a text "text" of each.
  void Load(size_t num_strangers) {
    CollectionSchema schema = SchemaOf("limit", kDim, Metric::kCosine);
    schema.vectors[0].name = "mean";
    MultiVectorField words;
    words.name = "words";
    words.dim = kDim;
    words.encoder.kind = MultiEncoderParams::Kind::kMuvera;  // fast to build
    schema.multi.push_back(words);
    TextField text;
    text.path = "text";
    schema.texts.push_back(text);
    DatabaseOptions options = TestOptions();
    options.growing_segment_bytes = size_t{256} << 20;
    options.build_threads = 2;
    const absl::Status opened = OpenCollection(folder_.path(), options, schema,
                                               &database_, &collection_);
    ASSERT_TRUE(opened.ok()) << opened;
    Upsert(people_);
    const std::vector<TextDocument> strangers = Strangers(num_strangers);
    for (size_t i = 0; i < strangers.size(); i += 500) {
      const auto begin = strangers.begin() + static_cast<ptrdiff_t>(i);
      const size_t n = std::min<size_t>(500, strangers.size() - i);
      Upsert({begin, begin + static_cast<ptrdiff_t>(n)});
    }
    const auto operation = collection_->Optimize(1);
    ASSERT_TRUE(operation.ok()) << operation.status();
    ASSERT_TRUE((*operation)
                    ->Wait(std::chrono::steady_clock::now() +
                           std::chrono::minutes(10)));
    const absl::Status sealed = (*operation)->info().status;
    ASSERT_TRUE(sealed.ok()) << sealed;
    ASSERT_EQ(collection_->stats().num_indexed, people_.size() + num_strangers);
  }

  Found Judge(absl::string_view name,
              const std::vector<std::vector<std::string>>& results) const {
    Found found;
    for (size_t q = 0; q < queries_.size(); ++q) {
      const std::set<std::string>& wanted = judgments_.at(queries_[q].id);
      const double share = 1.0 / static_cast<double>(wanted.size()) /
                           static_cast<double>(queries_.size());
      for (size_t i = 0; i < results[q].size(); ++i) {
        if (!wanted.contains(results[q][i])) continue;
        if (i < 2) found.at_2 += share;
        if (i < 10) found.at_10 += share;
        if (i < 20) found.at_20 += share;
      }
    }
    std::printf("%-24s recall@2 %.4f  @10 %.4f  @20 %.4f\n",
                std::string(name).c_str(), found.at_2, found.at_10,
                found.at_20);
    return found;
  }
  std::vector<std::vector<std::string>> ByTokens(bool exact,
                                                 size_t candidates = 0) {
    return Ask([&](const std::string& text) {
      MultiStage stage;
      stage.vector_name = "words";
      stage.query.tokens = words_.Of(text);
      stage.k = kDepth;
      stage.params.exact = exact;
      stage.params.recall_target = 0.95;
      stage.params.candidates = candidates;
      return Query{.stage = std::move(stage)};
    });
  }
  std::vector<std::vector<std::string>> ByMean() {
    return Ask([&](const std::string& text) {
      return Nearest("mean", Bytes(Mean(words_.Of(text))), kDepth, true);
    });
  }
  std::vector<std::vector<std::string>> ByText() {
    return Ask([](const std::string& text) {
      TextStage stage;
      stage.demand.text = text;
      stage.k = kDepth;
      return Query{.stage = std::move(stage)};
    });
  }
  // The share of what `exact` has first that `results` have, too.
  static double Agreement(const std::vector<std::vector<std::string>>& exact,
                          const std::vector<std::vector<std::string>>& results,
                          size_t k) {
    size_t same = 0;
    for (size_t q = 0; q < exact.size(); ++q) {
      const auto end = static_cast<ptrdiff_t>(k);
      const std::set<std::string> wanted(exact[q].begin(),
                                         exact[q].begin() + end);
      for (size_t i = 0; i < k; ++i) same += wanted.contains(results[q][i]);
    }
    return static_cast<double>(same) / static_cast<double>(k * exact.size());
  }

  // What the ways of searching find, beside each other.
  void ExpectThatTokensFindWhatOneVectorDoesNot() {
    const auto exact = ByTokens(true);
    const auto fast = ByTokens(false);
    const uint64_t num_candidates = num_candidates_ / queries_.size();
    const Found by_maxsim = Judge("exact MaxSim", exact);
    const Found by_tokens = Judge("MaxSim, recall 0.95", fast);
    std::printf("  of the exact 10 best: %.4f, of %zu candidates\n",
                Agreement(exact, fast, 10), size_t{num_candidates});
    const Found by_mean = Judge("one vector of 128, exact", ByMean());
    const Found by_text = Judge("text by BM25", ByText());
    EXPECT_GE(by_maxsim.at_2, 0.965);
    EXPECT_GE(by_tokens.at_2, by_maxsim.at_2 - 0.01);
    EXPECT_GE(by_tokens.at_10, by_maxsim.at_10 - 0.01);
    EXPECT_GE(by_tokens.at_20, by_maxsim.at_20 - 0.01);
    EXPECT_LE(by_mean.at_2, 0.25);
    EXPECT_GE(by_text.at_2, 0.985);
  }

  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
  std::vector<TextDocument> queries_;

 private:
  void Upsert(const std::vector<TextDocument>& documents) {
    PointBatch batch;
    std::string tokens, means;
    std::vector<std::string> payloads;
    MultiColumn words{.name = "words", .dim = kDim, .offsets = {0}};
    for (const TextDocument& document : documents) {
      batch.ids.push_back(*PointId::FromString(document.id));
      const Tokens of_words = words_.Of(document.text);
      tokens += Bytes(of_words);
      means += Bytes(Mean(of_words));
      words.offsets.push_back(tokens.size() / sizeof(float) / kDim);
      payloads.push_back(nlohmann::json{{"text", document.text}}.dump());
    }
    words.data = tokens;
    batch.multi = {words};
    batch.vectors = {{.name = "mean", .dim = kDim, .data = means}};
    for (const std::string& payload : payloads) {
      batch.payloads.emplace_back(payload);
    }
    const WriteOutcome outcome = collection_->Upsert(batch);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  }
  // The ids that each query finds, best first.
  template <typename MakeQuery>
  std::vector<std::vector<std::string>> Ask(const MakeQuery& make_query) {
    std::vector<Query> queries;
    for (const TextDocument& query : queries_) {
      queries.push_back(make_query(query.text));
      queries.back().explain = true;
    }
    num_candidates_ = 0;
    const auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    std::vector<std::vector<std::string>> ids(queries_.size());
    for (size_t q = 0; results.ok() && q < ids.size(); ++q) {
      for (const Hit& hit : (*results)[q].hits) {
        ids[q].push_back(hit.id.ToString());
      }
      for (const SegmentExplanation& segment : (*results)[q].explanation) {
        num_candidates_ += segment.multi.num_candidates;
      }
    }
    return ids;
  }

  const WordVectors words_;
  std::vector<TextDocument> people_;
  uint64_t num_candidates_ = 0;  // of the last queries asked, all together
  Judgments judgments_;
  TempFolder folder_;
};

// As few as have no encodings: all coded tokens are compared.
TEST_F(LimitTest, TokensFindPairsThatOneVectorDoesNot) {
  Load(0);
  ExpectThatTokensFindWhatOneVectorDoesNot();
}

// An encoding is one vector, too, of 4,096 dimensions: these pairs are hardly
// among its best 200 (0.56). What calibration chooses must know that.
TEST_F(LimitTest, EncodingsDoNotLosePairsAmongOthers) {
  queries_.resize(150);  // comparing all tokens exactly takes its time
  Load(2'000);
  ASSERT_NE(collection_->stats().segments[0].encoders[0], "");
  Judge("the best 200 encodings", ByTokens(false, 200));
  ExpectThatTokensFindWhatOneVectorDoesNot();
}

}  // namespace
}  // namespace vicinal
