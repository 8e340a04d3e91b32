// Texts and sparse vectors from files to hits, and their relevance.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/base/coding.h"
#include "tests/client/test_files.h"
#include "tests/e2e/cli_fixture.h"

namespace vicinal::e2e {
namespace {

using testing::HasSubstr;

class CliTextTest : public CliFixture {
 protected:
  // A BEIR data set of four documents and three queries.
  std::string WriteBeir() {
    const std::string folder = folder_.File("beir");
    std::filesystem::create_directories(folder);
    folder_.Write("beir/corpus.jsonl",
                  R"({"_id": "d1", "title": "Cars", "text": "Red cars drive."}
{"_id": "d2", "title": "Houses", "text": "A red house with a blue door."}
{"_id": "d3", "title": "Doors", "text": "Blue doors and more blue doors."}
{"_id": "d4", "title": "", "text": "Something else."}
)");
    queries_ =
        folder_.Write("queries.jsonl", R"({"_id": "q1", "text": "red car"}
{"_id": "q2", "text": "blue doors"}
{"_id": "q3", "text": "not judged"}
)");
    qrels_ = folder_.Write("qrels.tsv",
                           "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td3\t2\n"
                           "q2\td2\t1\n");
    return folder;
  }
  void ImportBeir() {
    const Outcome outcome =
        Run({"import", "docs", WriteBeir(), "--create", "--text",
             "title:english", "--text", "text:english:positions", "--quiet"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  static std::vector<std::string> Ids(const nlohmann::json& hits) {
    std::vector<std::string> ids;
    for (const auto& hit : hits["hits"]) ids.push_back(hit["id"]);
    return ids;
  }

  std::string queries_;
  std::string qrels_;
};

TEST_F(CliTextTest, ImportsBeirAndMeasuresIt) {
  ImportBeir();
  const nlohmann::json eval = Json(
      {"eval", "docs", "--queries", queries_, "--qrels", qrels_, "--json"});
  EXPECT_EQ(eval["queries"], 2);
  EXPECT_EQ(eval["queries_without_judgments"], 1);
  EXPECT_DOUBLE_EQ(eval["ndcg_10"], 1);
  EXPECT_DOUBLE_EQ(eval["map"], 1);
  const std::string per_query = folder_.File("per_query.tsv");
  ASSERT_EQ(Run({"eval", "docs", "--queries", queries_, "--qrels", qrels_,
                 "--per-query", per_query, "--quiet"})
                .code,
            0);
  EXPECT_THAT(client::ReadAll(per_query), HasSubstr("q2\t1.00000"));
  // The whole query as JSON.
  const std::string query = folder_.Write(
      "query.json",
      R"({"retrieveText": {"fields": [{"path": "text"}], "text": "{text}",
          "k": 100}})");
  EXPECT_DOUBLE_EQ(Json({"eval", "docs", "--queries", queries_, "--qrels",
                         qrels_, "--query", query, "--json"})["mrr_10"],
                   1);
}

TEST_F(CliTextTest, SearchesByWordsExpressionsAndBoth) {
  ImportBeir();
  EXPECT_EQ(Ids(Json({"search", "docs", "--text", "doors", "--json"})),
            (std::vector<std::string>{"d3", "d2"}));
  EXPECT_EQ(Ids(Json({"search", "docs", "--match", "+red -car", "--json"})),
            std::vector<std::string>{"d2"});
  const nlohmann::json groups = Json(
      {"search", "docs", "--text", "doors", "--group-by", "title", "--json"});
  ASSERT_EQ(groups["groups"].size(), 2u);
  EXPECT_EQ(groups["groups"][0]["value"], "Doors");
  const nlohmann::json hits =
      Json({"search", "docs", "--match", "\"blue door\"", "--text-field",
            "text", "--highlight", "--json"});
  ASSERT_EQ(Ids(hits), (std::vector<std::string>{"d3", "d2"}));
  EXPECT_EQ(hits["hits"][1]["passages"][0]["path"], "text");
  EXPECT_THAT(Run({"search", "docs", "--text", "car", "--highlight"}).out,
              HasSubstr("Red *cars* drive."));
  const Outcome bad = Run({"search", "docs", "--match", "\"open"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.err, HasSubstr("not closed"));
}

TEST_F(CliTextTest, ImportsSparseVectorsFromJsonLinesAndCsr) {
  const std::string lines = folder_.Write(
      "points.jsonl",
      R"({"id": 1, "sparse": {"s": {"indices": [9, 2], "values": [1, 0.5]}}}
{"id": 2, "sparse": {"s": {"2": 3}}}
{"id": 3}
)");
  ASSERT_EQ(
      Run({"import", "a", lines, "--create", "--sparse", "s", "--quiet"}).code,
      3);  // point 3 has nothing, and is refused
  const std::vector<std::string> search = {"--sparse", "s",        "--indices",
                                           "2,9",      "--values", "1,4"};
  std::vector<std::string> args = {"search", "a", "--json"};
  args.insert(args.end(), search.begin(), search.end());
  nlohmann::json hits = Json(args);
  ASSERT_EQ(hits["hits"].size(), 2u);
  EXPECT_EQ(hits["hits"][0]["id"], 1);
  EXPECT_EQ(hits["hits"][0]["score"], 4.5);
  // What is exported can be imported.
  const std::string exported = folder_.File("out.jsonl");
  ASSERT_EQ(Run({"export", "a", exported}).code, 0);
  ASSERT_EQ(
      Run({"import", "c", exported, "--create", "--sparse", "s", "--quiet"})
          .code,
      0);
  args[1] = "c";
  EXPECT_EQ(Json(args)["hits"], hits["hits"]);
  std::string csr;
  for (const int64_t number : {2, 10, 3, 0, 2, 3}) PutFixed(&csr, number);
  for (const int32_t column : {9, 2, 2}) PutFixed(&csr, column);
  for (const float value : {1.0f, 0.5f, 3.0f}) PutFixed(&csr, value);
  const std::string file = folder_.Write("points.csr", csr);
  ASSERT_EQ(
      Run({"import", "b", file, "--create", "--sparse", "s:f16", "--quiet"})
          .code,
      0);
  args[1] = "b";
  hits = Json(args);
  EXPECT_EQ(hits["hits"][0]["score"], 4.5);
  for (size_t size = 0; size < csr.size(); ++size) {
    const Outcome cut =
        size % 7 == 0
            ? Run({"import", "b", folder_.Write("cut.csr", csr.substr(0, size)),
                   "--quiet"})
            : Outcome{.code = 1};
    EXPECT_EQ(cut.code, 1) << size;
  }
}

TEST_F(CliTextTest, AnEncoderMakesTextASparseQuery) {
  const std::string lines =
      folder_.Write("points.jsonl", R"({"id": 1, "sparse": {"s": {"1": 2}}})");
  ASSERT_EQ(
      Run({"import", "a", lines, "--create", "--sparse", "s", "--quiet"}).code,
      0);
  const std::string idf =
      folder_.Write("idf.json", R"({"[UNK]": 1.0, "red": 2.5})");
  ASSERT_EQ(Run({"encoder", "set", "a", "s", idf}).code, 0);
  const nlohmann::json hits =
      Json({"search", "a", "--sparse", "s", "--sparse-text", "Red!", "--json"});
  EXPECT_EQ(hits["hits"][0]["score"], 5);
  EXPECT_THAT(Run({"collection", "show", "a"}).out, HasSubstr("encoder"));
}

}  // namespace
}  // namespace vicinal::e2e
