// Token vectors from .npy files to hits and back, against the real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "tests/client/test_files.h"
#include "tests/e2e/cli_fixture.h"

namespace vicinal::e2e {
namespace {

using client::Npy;
using client::NpyDict;
using client::RandomFloats;
using client::RawBytes;
using client::ReadAll;
using client::Vecs;
using testing::AllOf;
using testing::HasSubstr;

constexpr size_t kDocuments = 300, kDim = 16, kQueries = 20, kQueryTokens = 4;

// Documents and queries of tokens of length about 1, in half precision.
class CliMultiTest : public CliFixture {
 protected:
  CliMultiTest() {
    Random random(20'261'128);
    size_t num_tokens = 0;
    for (size_t d = 0; d < kDocuments; ++d) {
      lengths_.push_back(static_cast<int32_t>(1 + random.Uniform(12)));
      num_tokens += static_cast<size_t>(lengths_.back());
    }
    documents_ = Tokens(num_tokens, 1);
    queries_ = Tokens(kQueries * kQueryTokens, 2);
    tokens_file_ = WriteNpy("documents.npy", documents_);
    queries_file_ = WriteNpy("queries.npy", queries_);
    lengths_file_ = folder_.Write(
        "doclens.npy", Npy(NpyDict("<i4", absl::StrCat("(", kDocuments, ",)")),
                           RawBytes(lengths_)));
    source_ = "c=" + tokens_file_ + "," + lengths_file_;
  }

  static std::vector<uint16_t> Tokens(size_t n, uint64_t seed) {
    std::vector<float> values = RandomFloats(n * kDim, seed);
    for (size_t t = 0; t < n; ++t) {
      float sum = 0;
      for (size_t i = 0; i < kDim; ++i) {
        sum += values[t * kDim + i] * values[t * kDim + i];
      }
      for (size_t i = 0; i < kDim; ++i) values[t * kDim + i] /= std::sqrt(sum);
    }
    std::vector<uint16_t> halves(values.size());
    FloatToHalf(values, halves);
    return halves;
  }
  std::string WriteNpy(const std::string& name,
                       const std::vector<uint16_t>& halves) {
    return folder_.Write(
        name, Npy(NpyDict("<f2", absl::StrCat("(", halves.size() / kDim, ", ",
                                              kDim, ")")),
                  RawBytes(halves)));
  }
  void Import(const std::string& name, std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"import", name,       "--multi",
                                     source_,  "--create", "--metric",
                                     "ip",     "--quiet"};
    args.insert(args.end(), more.begin(), more.end());
    const Outcome outcome = Run(args);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  double Dot(size_t query_token, size_t document_token) const {
    double dot = 0;
    for (size_t i = 0; i < kDim; ++i) {
      dot += double{HalfToFloat(queries_[query_token * kDim + i])} *
             HalfToFloat(documents_[document_token * kDim + i]);
    }
    return dot;
  }
  // (score, document), the largest first.
  std::vector<std::pair<double, size_t>> MaxSim(size_t query) const {
    std::vector<std::pair<double, size_t>> scores;
    size_t begin = 0;
    for (size_t d = 0; d < kDocuments; ++d) {
      const size_t end = begin + static_cast<size_t>(lengths_[d]);
      double score = 0;
      for (size_t q = 0; q < kQueryTokens; ++q) {
        double best = -1e9;
        for (size_t t = begin; t < end; ++t) {
          best = std::max(best, Dot(query * kQueryTokens + q, t));
        }
        score += best;
      }
      scores.emplace_back(score, d);
      begin = end;
    }
    std::sort(scores.rbegin(), scores.rend());
    return scores;
  }
  // Of query `row` of the file.
  std::vector<std::string> Search(const std::string& collection, size_t row) {
    return {"search",         collection,
            "--multi",        "c",
            "--tokens",       queries_file_,
            "--query-tokens", absl::StrCat(kQueryTokens),
            "--row",          absl::StrCat(row),
            "--json"};
  }

  std::vector<int32_t> lengths_;
  std::vector<uint16_t> documents_;
  std::vector<uint16_t> queries_;
  std::string tokens_file_;
  std::string queries_file_;
  std::string lengths_file_;
  std::string source_;
};

TEST_F(CliMultiTest, ExactSearchesAreBruteForce) {
  Import("a", {"--wait-index"});
  for (const size_t query : {size_t{0}, size_t{7}, kQueries - 1}) {
    auto args = Search("a", query);
    args.insert(args.end(), {"--exact", "-k", "20", "--token-matches"});
    const auto hits = Json(args)["hits"];
    const auto expected = MaxSim(query);
    ASSERT_EQ(hits.size(), 20u);
    for (size_t i = 0; i < hits.size(); ++i) {
      EXPECT_NEAR(hits[i]["score"].get<double>(), expected[i].first, 1e-4);
      EXPECT_EQ(hits[i]["id"], expected[i].second) << query << " " << i;
      double sum = 0;
      for (const auto& match : hits[i]["token_matches"]) {
        sum += match["similarity"].get<double>();
      }
      EXPECT_NEAR(sum, expected[i].first, 1e-4);
    }
  }
}

TEST_F(CliMultiTest, WeightsAndEffortAreAsked) {
  Import("a", {"--wait-index"});
  auto args = Search("a", 3);
  args.insert(args.end(), {"--candidates", "300", "--exact-candidates", "300",
                           "--rescore", "300", "-k", "5", "--explain"});
  const auto all = Json(args);
  const auto expected = MaxSim(3);
  EXPECT_EQ(all["hits"][0]["id"], expected[0].second);
  EXPECT_FALSE(all["segments"].empty());
  // Twice the weights, twice the score.
  auto weighted = Search("a", 3);
  weighted.insert(weighted.end(),
                  {"--token-weights", "2,2,2,2", "--exact", "-k", "1"});
  EXPECT_NEAR(Json(weighted)["hits"][0]["score"].get<double>(),
              2 * expected[0].first, 1e-3);
  auto bad = Search("a", 3);
  bad.insert(bad.end(), {"--token-weights", "1,1,1"});
  EXPECT_EQ(Run(bad).code, 1);
  bad.back() = "1,1,1,-1";
  EXPECT_EQ(Run(bad).code, 1);
  bad.back() = "1,1,1,2e6";
  EXPECT_EQ(Run(bad).code, 1);
  // There is neither a graph nor lists.
  for (const std::string option : {"--ef", "--nprobe"}) {
    auto no_such = Search("a", 3);
    no_such.insert(no_such.end(), {option, "64"});
    const Outcome outcome = Run(no_such);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("use --recall or --candidates"));
    EXPECT_EQ(Run({"bench", "a", queries_file_, "--multi", "c",
                   "--query-tokens", absl::StrCat(kQueryTokens), option, "64"})
                  .code,
              2);
  }
}

TEST_F(CliMultiTest, ExportsWhatWasImportedBitForBit) {
  Import("a");
  const std::string tokens = folder_.File("out.npy");
  const std::string lengths = folder_.File("outlens.npy");
  Outcome outcome = Run({"export", "a", tokens, "--doclens", lengths});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(ReadAll(tokens).substr(128), RawBytes(documents_));
  EXPECT_THAT(ReadAll(tokens), HasSubstr("'descr': '<f2'"));
  EXPECT_EQ(ReadAll(lengths).substr(128), RawBytes(lengths_));
  // By JSON lines and back, too.
  const std::string lines = folder_.File("out.jsonl");
  ASSERT_EQ(Run({"export", "a", lines}).code, 0);
  outcome = Run({"import", "b", lines, "--create", "--multi",
                 absl::StrCat("c:", kDim, ":ip:f16"), "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(Run({"export", "b", tokens, "--doclens", lengths}).code, 0);
  EXPECT_EQ(ReadAll(tokens).substr(128), RawBytes(documents_));
  EXPECT_EQ(ReadAll(lengths).substr(128), RawBytes(lengths_));
}

TEST_F(CliMultiTest, KeepsEachStoredTypeThroughJsonLines) {
  Import("a");
  const std::string lines = folder_.File("a.jsonl");
  ASSERT_EQ(Run({"export", "a", lines}).code, 0);
  for (const std::string type : {"f32", "bf16"}) {
    const auto import = [&](const std::string& name, const std::string& file) {
      const Outcome outcome =
          Run({"import", name, file, "--create", "--multi",
               absl::StrCat("c:", kDim, ":ip:", type), "--quiet"});
      EXPECT_EQ(outcome.code, 0) << outcome.err;
    };
    import("one" + type, lines);
    const std::string first = folder_.File("1.jsonl");
    const std::string second = folder_.File("2.jsonl");
    ASSERT_EQ(Run({"export", "one" + type, first}).code, 0);
    import("two" + type, first);
    ASSERT_EQ(Run({"export", "two" + type, second}).code, 0);
    EXPECT_EQ(ReadAll(first), ReadAll(second)) << type;
    EXPECT_EQ(ReadAll(first) == ReadAll(lines), type == "f32");
  }
}

TEST_F(CliMultiTest, MeasuresRecallAndRelevance) {
  Import("a", {"--wait-index"});
  std::vector<int32_t> truth;
  std::string qrels = "query-id\tcorpus-id\tscore\n";
  for (size_t q = 0; q < kQueries; ++q) {
    const auto expected = MaxSim(q);
    for (size_t i = 0; i < 10; ++i) {
      truth.push_back(static_cast<int32_t>(expected[i].second));
    }
    absl::StrAppend(&qrels, q, "\t", expected[0].second, "\t1\n");
  }
  const std::string truth_file = folder_.Write("t.ivecs", Vecs(truth, 10));
  const std::string each = absl::StrCat(kQueryTokens);
  const auto bench =
      Json({"bench", "a", queries_file_, "--multi", "c", "--query-tokens", each,
            "--truth", truth_file, "--exact", "--recall", "0.95", "--json"});
  ASSERT_EQ(bench["runs"].size(), 2u);
  EXPECT_EQ(bench["runs"][0]["quality"], "recall=0.95");
  EXPECT_GE(bench["runs"][0]["recall"], 0.9);
  EXPECT_DOUBLE_EQ(bench["runs"][1]["recall"], 1);
  const auto eval = Json({"eval", "a", "--qrels", folder_.Write("q.tsv", qrels),
                          "--multi", "c", "--tokens", queries_file_,
                          "--query-tokens", each, "--exact", "--json"});
  EXPECT_EQ(eval["queries"], kQueries);
  EXPECT_DOUBLE_EQ(eval["ndcg_10"], 1);
  EXPECT_DOUBLE_EQ(eval["success_5"], 1);
}

TEST_F(CliMultiTest, GoesWithRowsAndOtherLegs) {
  std::string rows;
  for (size_t d = 0; d < kDocuments; ++d) {
    absl::StrAppend(&rows, "{\"id\": \"d", d, "\", \"payload\": {\"t\": \"",
                    d % 2 == 0 ? "even" : "odd", " number\"}}\n");
  }
  const Outcome outcome =
      Run({"import", "a", folder_.Write("rows.jsonl", rows), "--multi", source_,
           "--create", "--metric", "ip", "--text", "t:english", "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto expected = MaxSim(5);
  auto args = Search("a", 5);
  args.insert(args.end(), {"--exact", "-k", "1", "--with-payload"});
  EXPECT_EQ(Json(args)["hits"][0]["id"], absl::StrCat("d", expected[0].second));
  args = Search("a", 5);
  args.insert(args.end(), {"--text", "odd", "--fusion", "rrf", "--explain"});
  const auto fused = Json(args);
  EXPECT_EQ(fused["hits"].size(), 10u);
  EXPECT_TRUE(fused["hits"][0].contains("legs"));
}

TEST_F(CliMultiTest, PoolsTokens) {
  Import("a");
  const Outcome outcome = Run({"import", "p", "--multi", source_, "--create",
                               "--metric", "cosine", "--pool", "2", "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Pooled "));
  const std::string lengths = folder_.File("outlens.npy");
  ASSERT_EQ(
      Run({"export", "p", folder_.File("out.npy"), "--doclens", lengths}).code,
      0);
  std::vector<int32_t> halved;
  for (const int32_t length : lengths_) halved.push_back((length + 1) / 2);
  EXPECT_EQ(ReadAll(lengths).substr(128), RawBytes(halved));
}

TEST_F(CliMultiTest, SaysWhatTheServerRefuses) {
  // Two documents have no tokens, one more than are allowed.
  const std::string lengths = folder_.Write(
      "l.npy", Npy(NpyDict("<i8", "(5,)"),
                   RawBytes(std::vector<int64_t>{0, 3, 5, 0, 2})));
  const std::string tokens = folder_.Write(
      "t.npy", Npy(NpyDict("<f4", "(10, 4)"), RawBytes(RandomFloats(40, 3))));
  const std::string source = "c=" + tokens + "," + lengths;
  const auto import = [&](const std::string& name, const std::string& spec) {
    return Run({"import", name, "--multi", source, "--multi", spec, "--create",
                "--quiet"});
  };
  const Outcome refused = import("a", "c:4:max=4");
  EXPECT_EQ(refused.code, 3) << refused.err;
  EXPECT_THAT(refused.err,
              AllOf(HasSubstr("3 rows were refused"), HasSubstr("row 0: "),
                    HasSubstr("row 2: "), HasSubstr("row 3: ")));
  EXPECT_EQ(Run({"count", "a"}).out, "2\n");
  EXPECT_EQ(import("b", "c:4:l2").code, 2);
  EXPECT_EQ(Run({"collection", "create", "d", "--multi", "c:0"}).code, 1);
  const Outcome wrong = Run({"search", "a", "--multi", "c", "--tokens",
                             queries_file_, "--rows", "0:4"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("16"));
  EXPECT_EQ(Run({"search", "a", "--multi", "x", "--tokens", tokens}).code, 1);
  const auto shown = Json({"collection", "show", "a", "--json"});
  EXPECT_EQ(shown["multi_vectors"][0]["max_tokens"], 4);
  EXPECT_EQ(shown["multi_vectors"][0]["metric"], "cosine");
}

}  // namespace
}  // namespace vicinal::e2e
