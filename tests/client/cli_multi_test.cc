// Multi-vectors by the `vicinal` command.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/cli/exit_code.h"
#include "tests/client/cli_fixture.h"
#include "tests/client/fake_server.h"
#include "tests/client/test_files.h"

namespace vicinal::cli {
namespace {

using client::Npy;
using client::NpyDict;
using client::RandomFloats;
using client::RawBytes;
using client::ReadAll;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// Five documents of 0 to 4 tokens of 3 elements.
class CliMultiTest : public CliTest {
 protected:
  void WriteFiles() {
    values_ = RandomFloats(10 * 3, 12);
    tokens_ = folder_.Write("t.npy",
                            Npy(NpyDict("<f4", "(10, 3)"), RawBytes(values_)));
    lengths_ = folder_.Write(
        "l.npy", Npy(NpyDict("<i8", "(5,)"),
                     RawBytes(std::vector<int64_t>{2, 0, 4, 1, 3})));
    source_ = "c=" + tokens_ + "," + lengths_;
  }
  Outcome Import(std::vector<std::string> more = {}) {
    WriteFiles();
    more.insert(more.begin(), {"import", "a", "--multi", source_, "--create",
                               "--metric", "ip"});
    return Run(more);
  }

  std::vector<float> values_;
  std::string tokens_;
  std::string lengths_;
  std::string source_;
};

TEST_F(CliMultiTest, ImportsAndExportsTokens) {
  const Outcome outcome = Import({"--id-start", "7"});
  ASSERT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Imported 5 points into a"));
  {
    client::FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    auto& collection = store.collections["a"];
    EXPECT_EQ(collection.schema.multi_vectors(0).dim(), 3u);
    EXPECT_EQ(collection.schema.multi_vectors(0).type(),
              v1::ELEMENT_TYPE_FLOAT32);
    EXPECT_EQ(collection.points.at(PointId(10)).tokens["c"],
              RawBytes(values_).substr(size_t{6} * 12, 12));
    collection.schema.mutable_multi_vectors(0)->set_allow_empty(true);
  }
  const std::string out = folder_.File("o.npy"), lens = folder_.File("ol.npy"),
                    ids = folder_.File("ids.npy");
  ASSERT_EQ(Run({"export", "a", out, "--doclens", lens, "--ids", ids}).code,
            kOk);
  EXPECT_EQ(ReadAll(out).substr(128), RawBytes(values_));
  EXPECT_EQ(ReadAll(lens).substr(128),
            RawBytes(std::vector<int32_t>{2, 0, 4, 1, 3}));
  EXPECT_EQ(ReadAll(ids).substr(128),
            RawBytes(std::vector<uint64_t>{7, 8, 9, 10, 11}));
  // As JSON lines, and back.
  const std::string lines = folder_.File("o.jsonl");
  ASSERT_EQ(Run({"export", "a", lines}).code, kOk);
  EXPECT_THAT(ReadAll(lines), HasSubstr("{\"id\": 8}\n"));
  const Outcome again =
      Run({"import", "b", lines, "--create", "--multi", "c:3:ip:f32"});
  ASSERT_EQ(again.code, kOk) << again.err;
  client::FakeStore& store = *server_->store();
  MutexLock lock(store.mu);
  for (const auto& [id, point] : store.collections["a"].points) {
    EXPECT_EQ(store.collections["b"].points.at(id).tokens["c"],
              point.tokens.at("c"));
  }
}

TEST_F(CliMultiTest, LeavesOutPointsWithoutTokens) {
  ASSERT_EQ(Import().code, kOk);
  const std::string lens = folder_.File("ol.npy");
  const Outcome outcome =
      Run({"export", "a", folder_.File("o.npy"), "--doclens", lens});
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("Exported 4 points"),
                                 HasSubstr("1 points have no such vector")));
  EXPECT_EQ(ReadAll(lens).substr(128),
            RawBytes(std::vector<int32_t>{2, 4, 1, 3}));
  EXPECT_THAT(Run({"export", "a", folder_.File("o.npy")}).err,
              HasSubstr("give --doclens"));
  EXPECT_THAT(Run({"export", "a", folder_.File("p.npy"), "--vector-name", "x",
                   "--doclens", lens})
                  .err,
              HasSubstr("no multi-vector named \"x\"; it has c"));
  EXPECT_FALSE(std::filesystem::exists(folder_.File("p.npy.part")));
}

TEST_F(CliMultiTest, ImportsTokensBesideRows) {
  WriteFiles();
  std::string rows;
  for (int i = 0; i < 5; ++i) {
    absl::StrAppend(&rows, "{\"id\": \"d", i, "\", \"payload\": {\"n\": ", i,
                    "}}\n");
  }
  const std::string file = folder_.Write("rows.jsonl", rows);
  const Outcome outcome =
      Run({"import", "a", file, "--multi", source_, "--create", "--multi",
           "c:3:cosine:max=9", "--batch-size", "2"});
  ASSERT_EQ(outcome.code, kOk) << outcome.err;
  {
    client::FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    auto& collection = store.collections["a"];
    EXPECT_EQ(collection.schema.multi_vectors(0).max_tokens(), 9u);
    const auto& point = collection.points.at(*PointId::FromString("d3"));
    EXPECT_EQ(point.payload, "{\"n\": 3}");
    EXPECT_EQ(point.tokens.at("c").size(), 12u);
  }
  EXPECT_THAT(
      Run({"import", "a", file, "--multi", source_, "--batch-size", "2"}).out,
      HasSubstr("All 5 rows of"));
}

TEST_F(CliMultiTest, PoolsTokensAndSaysSo) {
  const Outcome outcome = Import({"--pool", "2"});
  ASSERT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Pooled 10 tokens to 6"));
  {
    client::FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    const auto& points = store.collections["a"].points;
    EXPECT_EQ(points.at(PointId(2)).tokens.at("c").size(), 2 * 12u);
    EXPECT_EQ(points.at(PointId(4)).tokens.at("c").size(), 2 * 12u);
  }
  const json again = json::parse(Import({"--pool", "3", "--json"}).out);
  EXPECT_EQ(again["tokens_read"], 10);
  EXPECT_EQ(again["tokens_sent"], 5) << "another upload than by --pool 2";
  const std::string whole = folder_.Write(
      "i.npy", Npy(NpyDict("|i1", "(10, 3)"), std::string(30, 'x')));
  EXPECT_THAT(Run({"import", "w", "--multi", "c=" + whole + "," + lengths_,
                   "--create", "--metric", "ip", "--pool", "2"})
                  .err,
              HasSubstr("which int8 cannot hold"));
}

TEST_F(CliMultiTest, RefusesToImportWhatDoesNotFit) {
  WriteFiles();
  const auto fails = [&](const std::vector<std::string>& args, int code,
                         const std::string& part) {
    std::vector<std::string> all = {"import", "a"};
    all.insert(all.end(), args.begin(), args.end());
    const Outcome outcome = Run(all);
    EXPECT_EQ(outcome.code, code) << part;
    EXPECT_THAT(outcome.err, HasSubstr(part));
  };
  fails({"--multi", "c=" + tokens_}, kUsage, "is neither NAME=TOKENS.npy");
  fails({"--multi", "c:3:l2", "--create"}, kUsage, "none of ip, cosine");
  fails({"--multi", "c:3"}, kUsage, "Say what to import");
  fails({"--multi", "c:3", "--multi", source_}, kUsage, "add --create");
  fails({"--multi", source_}, kFailed, "Add --create");
  fails({folder_.Write("m.jsonl", "{\"id\": 1, \"multi\": {\"c\": [[1]]}}"),
         "--create", "--metric", "ip"},
        kFailed, "say what the collection has with --multi NAME:DIM:METRIC");
  fails({"--multi", source_, "--create"}, kFailed,
        "needs --metric ip or cosine for multi-vector \"c\"");
  fails({"--multi", "c=" + tokens_ + "," + tokens_}, kFailed, "1-d array");
  fails({"--multi", "c=" + lengths_ + "," + lengths_}, kFailed,
        "tokens need 2 dimensions");
  EXPECT_EQ(Run({"collection", "create", "a", "--multi", "c:4"}).code, kOk);
  fails({"--multi", source_}, kFailed,
        "its tokens have dimension 3, but multi-vector \"c\" of collection a "
        "has 4");
  fails({folder_.Write("d.jsonl", "{\"id\": 1, \"multi\": {\"d\": [[1]]}}")},
        kFailed, "\"d\", which the collection does not have; it has c");
  fails({folder_.Write("v.jsonl", "{\"id\": 1, \"vector\": [1]}")}, kFailed,
        "has no dense vector. It has the multi-vector \"c\", which");
  fails({"--multi", "d" + source_.substr(1)}, kFailed,
        "no multi-vector named \"d\"; it has c");
}

TEST_F(CliMultiTest, SearchesByTokens) {
  ASSERT_EQ(Import().code, kOk);
  const json hits = json::parse(
      Run({"search", "a", "--multi", "c", "--tokens", tokens_, "--doclens",
           lengths_, "--row", "2", "--exact", "--token-matches", "--json"})
          .out);
  ASSERT_EQ(hits["hits"].size(), 4u);
  for (const auto& hit : hits["hits"]) {
    ASSERT_EQ(hit["token_matches"].size(), 4u);
    double sum = 0;
    for (const auto& match : hit["token_matches"]) {
      sum += match["similarity"].get<double>();
    }
    EXPECT_NEAR(sum, hit["score"].get<double>(), 1e-5);
  }
  // The same tokens, said in other ways.
  const auto ids_of = [](const json& result) {
    std::vector<int> ids;
    for (const auto& hit : result["hits"]) ids.push_back(hit["id"]);
    return ids;
  };
  const auto search = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"search", "a", "--multi", "c", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const Outcome outcome = Run(all);
    EXPECT_EQ(outcome.code, kOk) << outcome.err;
    return ids_of(json::parse(outcome.out, nullptr, false));
  };
  EXPECT_EQ(search({"--tokens", tokens_, "--rows", "2:6"}), ids_of(hits));
  EXPECT_EQ(search({"--id", "2"}), ids_of(hits));
  const Outcome table =
      Run({"search", "a", "--multi", "c", "--tokens", tokens_, "--query-tokens",
           "2", "--row", "4", "-k", "1", "--token-matches"});
  EXPECT_THAT(table.out, AllOf(HasSubstr("query token  met  similarity"),
                               HasSubstr("          1    ")))
      << table.out;
  const auto fails = [&](const std::vector<std::string>& more, int code,
                         const std::string& part) {
    std::vector<std::string> all = {"search", "a"};
    all.insert(all.end(), more.begin(), more.end());
    const Outcome outcome = Run(all);
    EXPECT_EQ(outcome.code, code) << part;
    EXPECT_THAT(outcome.err, HasSubstr(part));
  };
  fails({"--multi", "c"}, kUsage, "go together");
  fails({"--id", "1", "--tokens", tokens_}, kUsage, "go together");
  fails({"--tokens", tokens_}, kUsage, "go together");
  fails({"--id", "1"}, kFailed,
        "Collection a has no dense vector. It has the multi-vector \"c\", "
        "which --multi names.");
  fails({"--multi", "c", "--id", "1"}, kFailed, "no point 1 with tokens");
  fails({"--multi", "c", "--tokens", tokens_, "--row", "1"}, kFailed,
        "has 1 queries; there is no number 1");
  fails({"--multi", "c", "--tokens", tokens_, "--rows", "9:11"}, kFailed,
        "has 10 tokens");
  fails({"--multi", "c", "--tokens", tokens_, "--rows", "9"}, kFailed,
        "is not BEGIN:END");
  fails({"--multi", "c", "--tokens", tokens_, "--mmr", "0.5"}, kUsage,
        "--mmr compares hits with one vector");
  fails({"--multi", "c", "--tokens", tokens_, "--token-weights", "a"}, kUsage,
        "\"a\" is no number");
}

TEST_F(CliMultiTest, MeasuresTokenQueries) {
  ASSERT_EQ(Import().code, kOk);
  const Outcome outcome =
      Run({"bench", "a", tokens_, "--multi", "c", "--query-tokens", "2",
           "--compute-truth", "--exact", "--recall", "0.9", "--candidates", "3",
           "-k", "2", "--json"});
  ASSERT_EQ(outcome.code, kOk) << outcome.err;
  const json runs = json::parse(outcome.out)["runs"];
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0]["num_queries"], 5);
  EXPECT_EQ(runs[0]["recall"], 1);
  EXPECT_EQ(Run({"bench", "a", tokens_, "--multi", "c", "--batch", "2"}).code,
            kUsage);
  // Each document's own tokens ask for it; 1 has none, and is not judged.
  const std::string qrels =
      folder_.Write("qrels.tsv", "q\td\ts\n0\t0\t1\n2\t2\t1\n4\t4\t1\n");
  const std::string normal = [&] {
    std::string out;
    for (size_t i = 0; i < 10; ++i) {
      std::vector<float> token(
          values_.begin() + static_cast<int64_t>(i * 3),
          values_.begin() + static_cast<int64_t>(i * 3 + 3));
      float sum = 0;
      for (const float x : token) sum += x * x;
      for (float& x : token) x /= std::sqrt(sum);
      out += RawBytes(token);
    }
    return folder_.Write("n.npy", Npy(NpyDict("<f4", "(10, 3)"), out));
  }();
  ASSERT_EQ(Run({"import", "n", "--multi", "c=" + normal + "," + lengths_,
                 "--create", "--metric", "ip"})
                .code,
            kOk);
  const Outcome eval =
      Run({"eval", "n", "--qrels", qrels, "--multi", "c", "--tokens", normal,
           "--doclens", lengths_, "--json"});
  ASSERT_EQ(eval.code, kOk) << eval.err;
  const json measures = json::parse(eval.out);
  EXPECT_EQ(measures["queries"], 3);
  EXPECT_EQ(measures["queries_without_judgments"], 2);
  EXPECT_DOUBLE_EQ(measures["ndcg_10"], 1);
  EXPECT_DOUBLE_EQ(measures["success_5"], 1);
  const Outcome nameless =
      Run({"eval", "n", "--qrels", qrels, "--tokens", normal});
  EXPECT_EQ(nameless.code, kUsage);
  EXPECT_THAT(nameless.err, HasSubstr("--tokens FILE.npy needs --multi NAME"));
  EXPECT_THAT(Run({"bench", "n",
                   folder_.Write("3d.npy", Npy(NpyDict("<f4", "(1, 2, 3)"),
                                               std::string(24, '\0'))),
                   "--compute-truth"})
                  .err,
              HasSubstr("name a multi-vector if these are tokens"));
  const std::string queries = folder_.Write(
      "q.jsonl", "{\"_id\": \"2\", \"text\": \"\", \"tokens\": [[1, 0, 0]]}\n");
  EXPECT_EQ(json::parse(Run({"eval", "n", "--qrels", qrels, "--queries",
                             queries, "--multi", "c", "--json"})
                            .out)["queries"],
            1);
  EXPECT_THAT(Run({"eval", "n", "--qrels", qrels, "--queries", queries,
                   "--multi", "c", "--tokens", normal, "--doclens", lengths_})
                  .err,
              HasSubstr("has tokens of 5 queries, but --queries has 1"));
  EXPECT_EQ(Run({"eval", "n", "--qrels", qrels}).code, kUsage);
}

TEST_F(CliMultiTest, ShowsMultiVectors) {
  ASSERT_EQ(Run({"collection", "create", "a", "--multi",
                 "c:128:ip:encoder=muvera-paper", "--multi", "d:64:empty"})
                .code,
            kOk);
  EXPECT_THAT(Run({"collection", "show", "a"}).out,
              AllOf(HasSubstr("multi-vector"), HasSubstr("muvera"),
                    HasSubstr("d              64  cosine  f16")));
  const json shown =
      json::parse(Run({"collection", "show", "a", "--json"}).out);
  EXPECT_EQ(shown["multi_vectors"][1]["name"], "d");
  EXPECT_THAT(Run({"collection", "list"}).out,
              HasSubstr("c: tokens x 128 ip, d: tokens x 64 cosine"));
  EXPECT_EQ(Run({"collection", "create", "b", "--multi", "c"}).code, kUsage);
}

}  // namespace
}  // namespace vicinal::cli
