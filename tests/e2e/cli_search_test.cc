// `vicinal search`, `bench`, `count`, `update`, `delete`, `index`, `collection`
// and `server` against the real server, and the exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "tests/client/test_files.h"
#include "tests/e2e/cli_fixture.h"

namespace vicinal::e2e {
namespace {

using client::RandomFloats;
using client::ReadAll;
using client::Vecs;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class CliSearchTest : public CliFixture {
 protected:
  // 500 points of 16 elements in collection "a".
  void Import() {
    file_ = folder_.Write("a.fvecs", Vecs(RandomFloats(500 * 16, 1), 16));
    const Outcome outcome = Run({"import", "a", file_, "--create", "--metric",
                                 "l2", "--wait-index", "--quiet"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  // Points 0 to 11 of collection "shop" on a line, i at (i, 0), of brands a, b
  // and c in turn.
  void ImportShop() {
    const std::vector<std::string> brands = {"a", "b", "c"};
    std::string lines;
    for (size_t i = 0; i < 12; ++i) {
      absl::StrAppend(&lines, "{\"id\": ", i, ", \"vector\": [", i,
                      ", 0], \"payload\": {\"brand\": \"", brands[i % 3],
                      "\"}}\n");
    }
    const Outcome outcome =
        Run({"import", "shop", folder_.Write("shop.jsonl", lines), "--create",
             "--metric", "l2", "--quiet"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  // Ids of hits in their order.
  static std::vector<int> Ids(const nlohmann::json& hits) {
    std::vector<int> ids;
    for (const auto& hit : hits) ids.push_back(hit["id"]);
    return ids;
  }
  std::string file_;
};

TEST_F(CliSearchTest, FindsAPointByItsIdItsVectorAndItsRow) {
  Import();
  const auto by_id = Json({"search", "a", "--id", "42", "-k", "5", "--json"});
  ASSERT_EQ(by_id["hits"].size(), 5u);
  EXPECT_EQ(by_id["hits"][0]["id"], 42);
  EXPECT_EQ(by_id["hits"][0]["score"], 0.0);
  const auto by_row = Json({"search", "a", "--file", file_, "--row", "42", "-k",
                            "5", "--exact", "--with-vectors", "--json"});
  EXPECT_EQ(by_row["exact"], true);
  EXPECT_EQ(by_row["hits"][0]["id"], 42);
  std::string literal;
  for (const auto& x : by_row["hits"][0]["vectors"][""]) {
    absl::StrAppend(&literal, literal.empty() ? "" : ",", x.dump());
  }
  const auto by_vector =
      Json({"search", "a", "--vector", literal, "--ef", "200", "--json"});
  EXPECT_EQ(by_vector["hits"][0]["id"], 42);
  const Outcome table = Run({"search", "a", "--id", "42", "-k", "2"});
  EXPECT_EQ(table.code, 0);
  EXPECT_THAT(table.out, AllOf(HasSubstr("rank  id"), HasSubstr("2 hits, ")));
}

TEST_F(CliSearchTest, CutsResultsByScoresAndPages) {
  Import();
  const auto search = [&](std::vector<std::string> options) {
    std::vector<std::string> words = {"search",  "a",      "--id", "42",
                                      "--exact", "--json", "-k"};
    words.insert(words.end(), options.begin(), options.end());
    return Json(words)["hits"];
  };
  const auto all = search({"5"});
  ASSERT_EQ(all.size(), 5u);
  const auto page = search({"2", "--offset", "3"});
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0], all[3]);
  EXPECT_EQ(page[1], all[4]);
  EXPECT_EQ(search({"5", "--score-threshold", all[2]["score"].dump()}).size(),
            3u);
  EXPECT_EQ(search({"5", "--score-threshold", "-1"}).size(), 0u);
}

TEST_F(CliSearchTest, GroupsHitsByAFieldOfTheirPayloads) {
  ImportShop();
  const std::vector<std::string> search = {
      "search",     "shop",  "--id",         "4", "-k", "2",
      "--group-by", "brand", "--group-size", "2"};
  const Outcome table = Run(search);
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, testing::StartsWith("brand  rank  id  score\n"
                                             "b         1  4       0\n"
                                             "          2  1       9\n"
                                             "a         1  3       1\n"
                                             "          2  6       4\n"
                                             "2 groups, 4 hits, exact, "));
  std::vector<std::string> as_json = search;
  as_json.insert(as_json.end(), {"--json", "--with-payload"});
  const auto json = Json(as_json);
  EXPECT_FALSE(json.contains("hits"));
  ASSERT_EQ(json["groups"].size(), 2u);
  EXPECT_EQ(json["groups"][0]["value"], "b");
  EXPECT_THAT(Ids(json["groups"][0]["hits"]), ElementsAre(4, 1));
  EXPECT_EQ(json["groups"][1]["value"], "a");
  EXPECT_THAT(Ids(json["groups"][1]["hits"]), ElementsAre(3, 6));
  EXPECT_EQ(json["groups"][1]["hits"][1]["payload"]["brand"], "a");
  const Outcome none =
      Run({"search", "shop", "--id", "4", "--group-by", "nothing"});
  EXPECT_EQ(none.code, 0) << none.err;
  EXPECT_THAT(none.out, HasSubstr("0 groups, 0 hits"));
}

TEST_F(CliSearchTest, RecommendsByExamples) {
  ImportShop();
  const auto search = [&](std::vector<std::string> options) {
    std::vector<std::string> words = {"search", "shop", "--json", "-k", "3"};
    words.insert(words.end(), options.begin(), options.end());
    return Json(words);
  };
  // The mean of 4 and 6 is at 5; examples are no hits.
  EXPECT_THAT(Ids(search({"--positive", "4", "--positive", "6"})["hits"]),
              ElementsAre(5, 3, 7));
  // 6 + (6 - 4) is at 8.
  EXPECT_THAT(Ids(search({"--positive", "6", "--negative", "4"})["hits"]),
              ElementsAre(8, 7, 9));
  const auto grouped =
      search({"--positive", "6", "--group-by", "brand", "--group-size", "1"});
  ASSERT_EQ(grouped["groups"].size(), 3u);
  EXPECT_EQ(grouped["groups"][0]["value"], "c");
  EXPECT_THAT(Ids(grouped["groups"][0]["hits"]), ElementsAre(5));
  const Outcome missing = Run({"search", "shop", "--positive", "99"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err,
              HasSubstr("is 99; the collection has no such point"));
}

TEST_F(CliSearchTest, ChoosesHitsThatDiffer) {
  ImportShop();
  const auto search = [&](std::vector<std::string> options) {
    std::vector<std::string> words = {"search", "shop", "--id", "5",
                                      "--json", "-k",   "3"};
    words.insert(words.end(), options.begin(), options.end());
    return Ids(Json(words)["hits"]);
  };
  EXPECT_THAT(search({"--mmr", "1"}), ElementsAre(5, 4, 6));
  // Far from 5, then far from both: 11 is 36 from 5, 0 is 25 from it.
  EXPECT_THAT(search({"--mmr", "0"}), ElementsAre(5, 11, 0));
  EXPECT_THAT(search({"--mmr", "0", "--mmr-candidates", "5"}),
              ElementsAre(5, 3, 7));
  EXPECT_THAT(search({"--mmr", "0", "--offset", "1"}),
              ElementsAre(11, 0, testing::_));
}

TEST_F(CliSearchTest, RefusesOptionsThatContradictEachOther) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--id", "1", "--positive", "2"}, "one of --id, --vector, --file"},
      {{"--negative", "2"}, "--negative needs --positive"},
      {{"--id", "1", "--negative", "2"}, "--negative needs --positive"},
      {{"--positive", "x", "--id-type", "number"}, "is not a number"},
      {{"--positive", "1", "2"}, "not expected: 2"},
      {{"--positive", "1", "--mmr", "0.5"}, "which --positive has not"},
      {{"--id", "1", "--mmr", "1.5"}, "not in range"},
      {{"--id", "1", "--mmr-candidates", "9"}, "requires --mmr"},
      {{"--id", "1", "--mmr", "1", "--mmr-candidates", "10", "--offset", "1"},
       "fewer than the 11 hits"},
      {{"--id", "1", "--group-size", "2"}, "requires --group-by"},
      {{"--id", "1", "--group-by", ""}, "is empty"},
      {{"--id", "1", "--group-by", "a", "--group-size", "0"}, "--group-size"},
      {{"--id", "1", "--group-by", "a", "--offset", "2"}, "excludes"},
      {{"--id", "1", "--group-by", "a", "--mmr", "1"}, "excludes"}};
  for (const auto& [options, message] : cases) {
    std::vector<std::string> words = {"search", "a"};
    words.insert(words.end(), options.begin(), options.end());
    const Outcome outcome = Run(words);
    EXPECT_EQ(outcome.code, 2) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }
}

TEST_F(CliSearchTest, MeasuresRecallAndLatency) {
  Import();
  const std::string queries =
      folder_.Write("q.fvecs", Vecs(RandomFloats(100 * 16, 2), 16));
  for (const char* batch : {"1", "32"}) {
    const auto bench =
        Json({"bench", "a", queries, "--compute-truth", "--ef", "10,200",
              "--exact", "--concurrency", "4", "--batch", batch, "--json"});
    const auto& runs = bench["runs"];
    ASSERT_EQ(runs.size(), 3u);
    EXPECT_EQ(runs[2]["recall"], 1.0);
    EXPECT_GE(runs[1]["recall"], 0.95);
    EXPECT_LE(runs[0]["recall"], runs[1]["recall"]);
    EXPECT_GT(runs[0]["qps"], 0);
    EXPECT_LE(runs[0]["p50_ms"], runs[0]["p95_ms"]);
  }
  const Outcome table = Run({"bench", "a", queries, "--recall", "0.9,0.99",
                             "--compute-truth", "-k", "3"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("recall@3"), HasSubstr("p99 ms"),
                               HasSubstr("recall=0.99")));
}

TEST_F(CliSearchTest, LooksAfterCollectionsAndTheServer) {
  EXPECT_EQ(
      Run({"collection", "create", "a", "--dim", "3", "--metric", "ip"}).code,
      0);
  EXPECT_EQ(
      Run({"collection", "create", "a", "--dim", "3", "--metric", "ip"}).code,
      1);
  const auto list = Json({"collection", "list", "--json"});
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["vectors"][0]["metric"], "ip");
  EXPECT_EQ(Run({"collection", "optimize", "a"}).code, 0);
  EXPECT_EQ(Run({"collection", "drop", "a"}).code, 0);
  EXPECT_EQ(Json({"collection", "list", "--json"}).size(), 0u);
  const auto info = Json({"server", "info", "--json"});
  EXPECT_EQ(info["limits"]["max_k"], 16'384);
  EXPECT_EQ(info["read_only"], false);
  EXPECT_THAT(Run({"server", "info"}).out, HasSubstr("limit max_dim"));
}

TEST_F(CliSearchTest, CountsChangesAndDeletesPoints) {
  Import();
  const auto count = [&](const std::string& filter) {
    return Run({"count", "a", "--filter", filter}).out;
  };
  const Outcome merged =
      Run({"update", "a", "--id", "42", "--id", "43", "--id", "9999", "--merge",
           R"({"a": {"b": 1, "c": "x"}, "d": 2})"});
  EXPECT_EQ(merged.code, 0) << merged.err;
  EXPECT_EQ(merged.out, "Updated 2 points.\n");
  EXPECT_EQ(count("a.b = 1 AND d = 2"), "2\n");
  const Outcome removed =
      Run({"update", "a", "--filter", "a.c = $c AND ID = 43", "--param",
           "c=\"x\"", "--merge", R"({"d": null})", "--delete-key", "a.b"});
  EXPECT_EQ(removed.out, "Updated 1 points.\n") << removed.err;
  EXPECT_EQ(count("EXISTS(a.b)"), "1\n");
  EXPECT_EQ(
      Run({"update", "a", "--filter", "TRUE", "--set", R"({"seen": 1})"}).out,
      "Updated 500 points.\n");
  EXPECT_EQ(count("seen = 1 AND NOT EXISTS(a)"), "500\n");
  const auto hit =
      Json({"search", "a", "--id", "42", "-k", "1", "--exact", "--json"});
  EXPECT_EQ(hit["hits"][0]["score"], 0.0);
  EXPECT_EQ(Run({"delete", "a", "--filter", "ID IN (1, 2)"}).out,
            "Deleted 2 points.\n");
  EXPECT_EQ(count("seen = 1"), "498\n");
}

TEST_F(CliSearchTest, ExportsInTheOrderOfAField) {
  Import();
  for (const int id : {5, 6, 7, 8}) {
    ASSERT_EQ(Run({"update", "a", "--id", absl::StrCat(id), "--set",
                   absl::StrCat(R"({"price": )", id % 3, "}")})
                  .code,
              0);
  }
  const std::string out = folder_.File("out.jsonl");
  const auto ids = [&](std::vector<std::string> options) {
    std::vector<std::string> command = {
        "export", "a", out, "--no-vectors", "--quiet", "--order-by", "price"};
    command.insert(command.end(), options.begin(), options.end());
    const Outcome outcome = Run(command);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::vector<int> found;
    for (absl::string_view line :
         absl::StrSplit(ReadAll(out), '\n', absl::SkipEmpty())) {
      found.push_back(nlohmann::json::parse(std::string(line))["id"]);
    }
    return found;
  };
  const Outcome missing = Run({"export", "a", out, "--order-by", "price"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("has no index"));
  ASSERT_EQ(Run({"index", "create", "a", "price", "i64"}).code, 0);
  EXPECT_THAT(ids({}), ElementsAre(6, 7, 5, 8));
  EXPECT_THAT(ids({"--descending"}), ElementsAre(5, 8, 7, 6));
  EXPECT_THAT(ids({"--limit", "1", "--filter", "price > 0"}), ElementsAre(7));
  EXPECT_EQ(Run({"export", "a", out, "--descending"}).code, 2);
}

TEST_F(CliSearchTest, IndexesPayloadFields) {
  Import();
  ASSERT_EQ(Run({"update", "a", "--filter", "ID IN (1, 2, 3)", "--set",
                 R"({"price": 7, "tag": "x"})"})
                .code,
            0);
  const Outcome created = Run({"index", "create", "a", "price", "f64"});
  EXPECT_EQ(created.code, 0) << created.err;
  EXPECT_EQ(created.out, "Indexed price of collection a.\n");
  EXPECT_EQ(Run({"count", "a", "--filter", "price >= 7"}).out, "3\n");
  const auto list = Json({"index", "list", "a", "--json"});
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["path"], "price");
  EXPECT_EQ(list[0]["type"], "f64");
  EXPECT_EQ(list[0]["ready"], true);
  EXPECT_THAT(Run({"index", "list", "a"}).out, HasSubstr("ready"));
  EXPECT_THAT(Run({"collection", "show", "a"}).out, HasSubstr("price"));
  const Outcome explained = Run({"search", "a", "--id", "2", "--filter",
                                 "price >= 7 AND tag = 'x'", "--explain"});
  EXPECT_EQ(explained.code, 0) << explained.err;
  EXPECT_THAT(explained.out, AllOf(HasSubstr("scan"),
                                   HasSubstr("\"tag\" has no payload index")));
  const auto forced = Json(
      {"search", "a", "--id", "2", "--plan", "index", "--explain", "--json"});
  EXPECT_GE(forced["segments"].size(), 1u);
  EXPECT_EQ(forced["warnings"].size(), 0u);
  EXPECT_EQ(Run({"index", "require", "a", "on"}).code, 0);
  const Outcome refused = Run({"count", "a", "--filter", "tag = 'x'"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("no payload index"));
  EXPECT_EQ(Run({"index", "require", "a", "off"}).code, 0);
  EXPECT_EQ(Run({"count", "a", "--filter", "tag = 'x'"}).out, "3\n");
  EXPECT_EQ(Run({"index", "create", "a", "price", "f64"}).code, 1);
  EXPECT_EQ(Run({"index", "create", "a", "tag", "text"}).code, 2);
  EXPECT_EQ(Run({"index", "drop", "a", "price"}).code, 0);
  EXPECT_EQ(Run({"index", "drop", "a", "price"}).code, 1);
  EXPECT_EQ(Run({"collection", "create", "b", "--dim", "3", "--metric", "ip",
                 "--payload-index", "maker.country:keyword",
                 "--indexed-filters-only"})
                .code,
            0);
  EXPECT_EQ(Json({"index", "list", "b", "--json"})[0]["path"], "maker.country");
  EXPECT_EQ(Run({"collection", "create", "c", "--dim", "3", "--metric", "ip",
                 "--payload-index", "price"})
                .code,
            2);
}

TEST_F(CliSearchTest, SaysWhyAnUpdateIsRefused) {
  Import();
  const Outcome nothing = Run({"update", "a", "--id", "1"});
  EXPECT_EQ(nothing.code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("--set, --merge or --delete-key"));
  EXPECT_EQ(Run({"update", "a", "--merge", "{}"}).code, 2);
  EXPECT_EQ(
      Run({"update", "a", "--id", "1", "--filter", "TRUE", "--merge", "{}"})
          .code,
      2);
  EXPECT_EQ(
      Run({"update", "a", "--id", "1", "--set", "{}", "--merge", "{}"}).code,
      2);
  for (const char* json : {"", "7", "[]", "{", "{\"a\"}"}) {
    const Outcome bad = Run({"update", "a", "--id", "1", "--merge", json});
    EXPECT_EQ(bad.code, 2) << json;
    EXPECT_THAT(bad.err, HasSubstr("JSON object")) << json;
  }
  const Outcome path =
      Run({"update", "a", "--id", "1", "--delete-key", "a..b"});
  EXPECT_EQ(path.code, 1);
  EXPECT_THAT(path.err, HasSubstr("has an empty name"));
}

TEST_F(CliSearchTest, ExitsWithTheCodeThatSaysWhy) {
  Import();
  EXPECT_EQ(Run({"search", "a", "--id", "1"}).code, 0);
  EXPECT_EQ(Run({"search", "nowhere", "--vector", "1"}).code, 1);
  const Outcome wrong_dim = Run({"search", "a", "--vector", "1,2,3"});
  EXPECT_EQ(wrong_dim.code, 1);
  EXPECT_THAT(wrong_dim.err, HasSubstr("16"));
  const Outcome large_k = Run({"search", "a", "--id", "1", "-k", "99999"});
  EXPECT_EQ(large_k.code, 1);
  EXPECT_THAT(large_k.err, HasSubstr("16384"));
  EXPECT_EQ(Run({"search", "a"}).code, 2);
  EXPECT_EQ(Run({"search", "a", "--nonsense"}).code, 2);
  StopServer();
  const Outcome down = Run({"search", "a", "--id", "1"});
  EXPECT_EQ(down.code, 4);
  EXPECT_THAT(down.err, HasSubstr("No Vicinal server answers at 127.0.0.1:"));
}

TEST_F(CliSearchTest, DividesACollectionByItsTenants) {
  const Outcome created = Run({"collection", "create", "shop", "--dim", "16",
                               "--metric", "l2", "--partition-key", "tenant"});
  ASSERT_EQ(created.code, 0) << created.err;
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    lines += R"({"id": )" + std::to_string(i) + R"(, "vector": [)" +
             std::to_string(i) + ",0,0,0,0,0,0,0,0,0,0,0,0,0,0,0" +
             R"(], "payload": {"tenant": "t)" + std::to_string(i % 3) +
             R"("}})" + "\n";
  }
  const Outcome imported =
      Run({"import", "shop", folder_.Write("shop.jsonl", lines), "--quiet"});
  ASSERT_EQ(imported.code, 0) << imported.err;
  const auto collection = Json({"collection", "show", "shop", "--json"});
  EXPECT_EQ(collection["partition_key"], "tenant");
  EXPECT_EQ(collection["vectors"][0]["index"], "ivf");
  EXPECT_EQ(collection["payload_indexes"][0]["type"], "keyword");
  EXPECT_THAT(Run({"collection", "show", "shop"}).out,
              HasSubstr("divided by                tenant"));
  const auto hits = Json({"search", "shop", "--id", "30", "-k", "3", "--filter",
                          "tenant = 't1'", "--json"})["hits"];
  ASSERT_EQ(hits.size(), 3u);
  for (const auto& hit : hits) EXPECT_EQ(hit["id"].get<int>() % 3, 1);

  const auto create = [&](std::vector<std::string> options) {
    std::vector<std::string> words = {
        "collection", "create",   "other", "--dim",
        "16",         "--metric", "l2",    "--partition-key"};
    words.insert(words.end(), options.begin(), options.end());
    return Run(words);
  };
  EXPECT_THAT(create({"tenant", "--m", "16"}).err, HasSubstr("a graph"));
  EXPECT_THAT(create({"tenant:f64"}).err, HasSubstr("keyword, i64 or uuid"));
  EXPECT_EQ(create({"tenant:colour"}).code, 2);
  EXPECT_EQ(create({"tenant:i64", "--index", "flat"}).code, 0);
  EXPECT_THAT(Run({"index", "drop", "shop", "tenant"}).err,
              HasSubstr("stays as long as the collection"));
}

}  // namespace
}  // namespace vicinal::e2e
