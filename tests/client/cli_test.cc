// The `vicinal` command: help, exit codes, collections, searches and bench, as
// against a server in memory. tests/e2e runs it against the real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/cli/exit_code.h"
#include "tests/client/cli_fixture.h"
#include "tests/client/test_files.h"

namespace vicinal::cli {
namespace {

using client::Vecs;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST_F(CliTest, PrintsHelpWithAnExampleForEachCommand) {
  const std::vector<std::vector<std::string>> commands = {
      {},
      {"server"},
      {"server", "info"},
      {"server", "resume-writes"},
      {"collection"},
      {"collection", "create"},
      {"collection", "list"},
      {"collection", "show"},
      {"collection", "update"},
      {"collection", "drop"},
      {"collection", "optimize"},
      {"import"},
      {"export"},
      {"search"},
      {"facet"},
      {"bench"}};
  for (std::vector<std::string> command : commands) {
    command.emplace_back("--help");
    const Outcome outcome = Run(command);
    EXPECT_EQ(outcome.code, kOk);
    EXPECT_THAT(outcome.out, HasSubstr("Example")) << command[0];
  }
}

TEST_F(CliTest, ExitsWith2OnWrongUsage) {
  const auto file = WriteFvecs("a.fvecs", 3, 4);
  const std::vector<std::vector<std::string>> commands = {
      {},
      {"frobnicate"},
      {"import"},
      {"import", "a"},
      {"import", "a", file, "--metric", "l7"},
      {"import", "a", file, "--rate", "-1"},
      {"collection", "create", "a"},
      {"collection", "update", "a"},
      {"collection", "update", "a", "--gpu", "on"},
      {"collection", "update", "a", "--memory-budget", "-1"},
      {"collection", "update", "a", "--memory-budget", " -1"},
      {"collection", "update", "a", "--memory-budget", "1.5GiB"},
      {"collection", "update", "a", "--memory-budget", "GiB"},
      {"collection", "update", "a", "--memory-budget", "1 parsec"},
      {"collection", "update", "a", "--memory-budget", "16777216TiB"},
      {"collection", "update", "a", "--memory-budget", "18446744073709551616"},
      {"collection", "create", "a", "--dim", "3"},
      {"collection", "create", "a", "--vector", "nonsense"},
      {"collection", "create", "a", "--vector", "x:3:l7"},
      {"collection", "create", "a", "--dim", "3", "--metric", "l2",
       "--memory-budget", "-5"},
      {"collection", "create", "a", "--dim", "3", "--metric", "l2",
       "--memory-tier", "disk"},
      {"collection", "create", "a", "--dim", "3", "--metric", "l2", "--gpu",
       "sometimes"},
      {"search", "a"},
      {"search", "a", "--id", "1", "--vector", "1,2"},
      {"search", "a", "--vector", "1,two"},
      {"search", "a", "--vector", "1", "-k", "0"},
      {"search", "a", "--vector", "1", "--exact", "--ef", "10"},
      {"export", "a", "a.csv"},
      {"export", "a", "a.jsonl", "--descending"},
      {"export", "a", "a.jsonl", "--ids", "b.npy"},
      {"bench", "a", file, "--concurrency", "0"}};
  for (const auto& command : commands) {
    const Outcome outcome = Run(command);
    EXPECT_EQ(outcome.code, kUsage) << outcome.out << outcome.err;
    EXPECT_THAT(outcome.out + outcome.err, Not(testing::IsEmpty()));
  }
}

TEST_F(CliTest, ExitsWith4WhenNoServerAnswers) {
  const std::string address = server_->address();
  server_->Shutdown();
  const Outcome outcome =
      RunAsIs({"vicinal", "collection", "list", "--server", address});
  EXPECT_EQ(outcome.code, kNoServer);
  EXPECT_THAT(outcome.err,
              HasSubstr("No Vicinal server answers at " + address));
  EXPECT_EQ(outcome.out, "");
}

TEST_F(CliTest, TakesTheServerFromTheEnvironment) {
  setenv("VICINAL_SERVER", server_->address().c_str(), 1);
  EXPECT_EQ(RunAsIs({"vicinal", "collection", "list"}).code, kOk);
  unsetenv("VICINAL_SERVER");
}

TEST_F(CliTest, ExitsWith1WhenTheServerRefuses) {
  const Outcome outcome = Run({"collection", "show", "missing"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_EQ(outcome.err, "vicinal: There is no collection missing.\n");
}

TEST_F(CliTest, PrintsFieldViolations) {
  server_->FailNext({.code = grpc::StatusCode::INVALID_ARGUMENT,
                     .message = "Bad.",
                     .field = "collection.name"});
  const Outcome outcome =
      Run({"collection", "create", "-bad", "--dim", "2", "--metric", "l2"});
  EXPECT_EQ(outcome.code, kUsage);  // a name that looks like an option
  const Outcome refused =
      Run({"collection", "create", "bad", "--dim", "2", "--metric", "l2"});
  EXPECT_EQ(refused.code, kFailed);
  EXPECT_EQ(refused.err, "vicinal: Bad.\n  collection.name: is wrong\n");
}

TEST_F(CliTest, ShowsTheServer) {
  const Outcome table = Run({"server", "info"});
  EXPECT_EQ(table.code, kOk);
  EXPECT_THAT(
      table.out,
      AllOf(HasSubstr("0.0.0-fake"), HasSubstr("123.0 MiB"),
            HasSubstr("cuda:0"), HasSubstr("7.0 MiB of them 3 segments"),
            HasSubstr("4, of 2.5 queries on average"),
            HasSubstr("0 unsupported, 2 no memory, 0 lost"),
            HasSubstr("cuda:1, lost: restart the server to use it")));
  const json parsed = json::parse(Run({"server", "info", "--json"}).out);
  EXPECT_EQ(parsed["version"], "0.0.0-fake");
  EXPECT_EQ(parsed["limits"]["max_batch_points"], 65'536);
  ASSERT_EQ(parsed["gpus"].size(), 2u);
  EXPECT_EQ(parsed["gpus"][0]["batch_queries"], 10);
  EXPECT_EQ(parsed["gpus"][1]["name"], "cuda:1");
  EXPECT_EQ(Run({"server", "resume-writes"}).code, kOk);
}

TEST_F(CliTest, CreatesListsShowsAndDropsCollections) {
  EXPECT_EQ(Run({"collection", "create", "one", "--dim", "4", "--metric",
                 "cosine", "--type", "f16", "--index", "flat"})
                .code,
            kOk);
  EXPECT_EQ(
      Run({"collection", "create", "two", "--vector", "a:8:l2", "--vector",
           "b:3:ip:u8:flat", "--vector", "c:8:l2:f32:hnsw", "--memory-tier",
           "mapped", "--memory-budget", "1MiB", "--gpu", "never"})
          .code,
      kOk);
  EXPECT_EQ(
      Run({"collection", "create", "one", "--dim", "4", "--metric", "l2"}).code,
      kFailed);
  const json list = json::parse(Run({"collection", "list", "--json"}).out);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["vectors"][0]["metric"], "cosine");
  EXPECT_EQ(list[0]["vectors"][0]["type"], "f16");
  EXPECT_EQ(list[1]["vectors"][1]["index"], "flat");
  EXPECT_THAT(Run({"collection", "list"}).out,
              HasSubstr("a: 8 x f32 l2, b: 3 x u8 ip, c: 8 x f32 l2"));
  EXPECT_EQ(list[1]["vectors"][0]["index"], "auto");
  EXPECT_EQ(list[1]["memory_tier"], "mapped");
  EXPECT_EQ(list[1]["memory_budget_bytes"], 1 << 20);
  EXPECT_EQ(list[0]["gpu"], "auto");
  EXPECT_EQ(list[1]["gpu"], "never");
  EXPECT_THAT(Run({"collection", "show", "two"}).out,
              AllOf(HasSubstr("hnsw m=default ef_construction=default"),
                    HasSubstr("growing")));
  EXPECT_EQ(Run({"collection", "update", "two", "--gpu", "auto",
                 "--memory-budget", "2MiB"})
                .code,
            kOk);
  json changed = json::parse(Run({"collection", "show", "two", "--json"}).out);
  EXPECT_EQ(changed["gpu"], "auto");
  EXPECT_EQ(changed["memory_budget_bytes"], 2 << 20);
  EXPECT_EQ(changed["memory_tier"], "mapped");
  EXPECT_THAT(Run({"collection", "update", "two", "--memory-tier", "ram"}).out,
              HasSubstr("ram, at most 2.0 MiB"));
  EXPECT_EQ(
      Run({"collection", "update", "two", "--memory-budget", " 3 kib "}).code,
      kOk);
  changed = json::parse(Run({"collection", "show", "two", "--json"}).out);
  EXPECT_EQ(changed["memory_budget_bytes"], 3 << 10);
  EXPECT_THAT(Run({"collection", "update", "two", "--memory-budget", "0"}).out,
              Not(HasSubstr("at most")));
  EXPECT_EQ(Run({"collection", "update", "three", "--gpu", "never"}).code,
            kFailed);
  EXPECT_EQ(Run({"collection", "drop", "two"}).code, kOk);
  EXPECT_EQ(Run({"collection", "drop", "two"}).code, kFailed);
  EXPECT_EQ(Run({"collection", "drop", "two", "--if-exists"}).code, kOk);
  const Outcome optimized = Run({"collection", "optimize", "one"});
  EXPECT_EQ(optimized.code, kOk);
  EXPECT_THAT(optimized.err, HasSubstr("rows"));
}

TEST_F(CliTest, PrintsTheValuesOfAField) {
  const Outcome two = Run({"facet", "a", "brand", "--limit", "2"});
  EXPECT_EQ(two.code, kOk) << two.err;
  EXPECT_EQ(two.out,
            "value    points\n"
            "brand||   3,000\n"
            "7         2,999\n"
            "\n"
            "2 of 3 values, from 7 to 7.25\n");
  EXPECT_EQ(server_->num_calls("Facet"), 1);
  const Outcome all = Run({"facet", "a", "brand", "--filter", "x > $n",
                           "--param", "n=1", "--prefix", "p\x1b", "--json"});
  EXPECT_EQ(all.code, kOk) << all.err;
  EXPECT_EQ(server_->num_calls("Facet"), 3) << "two pages";
  const auto printed = nlohmann::json::parse(all.out);
  EXPECT_EQ(printed["values"], nlohmann::json::parse(R"([
              {"value": "brand|p\u001b|x > $n", "count": 3000},
              {"value": 7, "count": 2999},
              {"value": "2024-05-31T00:00:00Z", "count": 2998}])"));
  EXPECT_EQ(printed["num_distinct"], 3);
  EXPECT_EQ(printed["min"], 7);
  EXPECT_EQ(printed["max"], 7.25);
  EXPECT_EQ(Run({"facet", "a", "brand", "--limit", "0"}).out,
            "3 values, from 7 to 7.25\n");
  EXPECT_EQ(Run({"facet", "a"}).code, kUsage);
}

TEST_F(CliTest, SearchesByIdVectorAndRow) {
  const auto file = WriteFvecs("a.fvecs", 40, 4);
  EXPECT_EQ(Run({"import", "a", file, "--create", "--metric", "l2"}).code, kOk);
  const Outcome by_id = Run({"search", "a", "--id", "12", "-k", "3"});
  EXPECT_EQ(by_id.code, kOk);
  EXPECT_THAT(by_id.out, AllOf(HasSubstr("rank  id"), HasSubstr("\n   1  12 "),
                               HasSubstr("3 hits, approximate, 1.50 ms")));
  const json by_row = json::parse(
      Run({"search", "a", "--file", file, "--row", "7", "--exact", "--json"})
          .out);
  EXPECT_EQ(by_row["hits"][0]["id"], 7);
  EXPECT_EQ(by_row["hits"].size(), 10u);
  EXPECT_EQ(by_row["exact"], true);
  EXPECT_EQ(Run({"search", "a", "--vector", "0.1, -2, 3e-1, 4"}).code, kOk);
  EXPECT_EQ(Run({"search", "a", "--vector", "[1, 2, 3]"}).code, kFailed);
  EXPECT_THAT(Run({"search", "a", "--id", "999"}).err,
              HasSubstr("has no point 999"));
  EXPECT_THAT(Run({"search", "a", "--file", file, "--row", "40"}).err,
              HasSubstr("The file ends 1 rows before"));
  EXPECT_EQ(Run({"search", "missing", "--id", "1"}).code, kFailed);
}

TEST_F(CliTest, PrintsPayloadsWithoutLettingThemDriveTheTerminal) {
  const std::string text =
      "{\"id\": 1, \"vector\": [1], \"payload\": {\"t\": \"a\\u001b\"}}\n"
      "{\"id\": 2, \"vector\": [2], \"payload\": {\"t\": \"\x7f\"}}\n";
  EXPECT_EQ(Run({"import", "a", folder_.Write("in.jsonl", text), "--create",
                 "--metric", "l2"})
                .code,
            kOk);
  const Outcome table = Run({"search", "a", "--vector", "1", "--with-payload"});
  EXPECT_THAT(table.out, AllOf(HasSubstr("{\"t\": \"a\\u001b\"}"),
                               HasSubstr("\\x7f"), Not(HasSubstr("\x7f"))));
  const json parsed = json::parse(
      Run({"search", "a", "--vector", "1", "--with-payload", "--json"}).out);
  EXPECT_EQ(parsed["hits"][0]["payload"]["t"], "a\x1b");
}

TEST_F(CliTest, MeasuresRecallAndLatency) {
  const auto file = WriteFvecs("a.fvecs", 60, 4);
  EXPECT_EQ(Run({"import", "a", file, "--create", "--metric", "l2",
                 "--id-start", "100"})
                .code,
            kOk);
  for (const char* batch : {"1", "16"}) {
    const Outcome outcome =
        Run({"bench", "a", file, "--compute-truth", "--ef", "5,10", "--exact",
             "--concurrency", "4", "--batch", batch, "--json"});
    ASSERT_EQ(outcome.code, kOk) << outcome.err;
    const json runs = json::parse(outcome.out)["runs"];
    ASSERT_EQ(runs.size(), 3u);
    EXPECT_EQ(runs[0]["quality"], "ef=5");
    EXPECT_DOUBLE_EQ(runs[0]["recall"], 0.5);  // the fake returns ef of 10
    EXPECT_DOUBLE_EQ(runs[1]["recall"], 1.0);
    EXPECT_DOUBLE_EQ(runs[2]["recall"], 1.0);
    EXPECT_GT(runs[0]["qps"], 0);
    EXPECT_LE(runs[0]["p50_ms"], runs[0]["p99_ms"]);
    EXPECT_DOUBLE_EQ(runs[0]["distances_per_query"], 60);
  }
  std::vector<int32_t> self(60);
  for (int i = 0; i < 60; ++i) self[static_cast<size_t>(i)] = i;
  const auto truth = folder_.Write("t.ivecs", Vecs(self, 1));
  const Outcome table = Run({"bench", "a", file, "--truth", truth, "-k", "1",
                             "--id-start", "100", "--limit", "20"});
  EXPECT_EQ(table.code, kOk) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("20 queries, k = 1"),
                               HasSubstr("recall@1"), HasSubstr("1.0000")));
  EXPECT_THAT(Run({"bench", "a", file, "--truth", truth, "-k", "2"}).err,
              HasSubstr("has 1 neighbours of 60 queries; 2 of 60 are needed"));
  EXPECT_THAT(Run({"bench", "a", file}).out, HasSubstr("  -  "));
}

}  // namespace
}  // namespace vicinal::cli
