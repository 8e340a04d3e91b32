// The `vicinal` command against a server in memory: what it prints, what it
// refuses, and the exit codes. tests/e2e runs it against the real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/bench.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/client.h"
#include "client/formats/hdf5.h"
#include "tests/client/fake_server.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"

namespace vicinal::cli {
namespace {

using client::FakeServer;
using client::Fault;
using client::Npy;
using client::NpyDict;
using client::RandomFloats;
using client::RawBytes;
using client::ReadAll;
using client::Vecs;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

class CliTest : public testing::Test {
 protected:
  Outcome Run(std::vector<std::string> args) {
    args.insert(args.begin(), {"vicinal", "--server", server_->address()});
    return RunAsIs(args);
  }
  static Outcome RunAsIs(const std::vector<std::string>& args) {
    std::vector<const char*> argv;
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Outcome outcome;
    outcome.code = RunCommandLine(static_cast<int>(argv.size()), argv.data());
    outcome.out = testing::internal::GetCapturedStdout();
    outcome.err = testing::internal::GetCapturedStderr();
    return outcome;
  }
  void Restart(const FakeServer::Options& options) {
    server_ = std::make_unique<FakeServer>(options);
  }
  std::string WriteFvecs(const std::string& name, size_t rows, int32_t dim) {
    return folder_.Write(
        name, Vecs(RandomFloats(rows * static_cast<size_t>(dim), 5), dim));
  }
  // Points of collection `name` must be these rows with ids from id_start.
  void ExpectRows(const std::string& name, const std::vector<float>& values,
                  size_t dim, uint64_t id_start = 0, bool once = true) {
    client::FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    const auto& collection = store.collections[name];
    const size_t rows = values.size() / dim;
    ASSERT_EQ(collection.points.size(), rows);
    if (once) {
      EXPECT_EQ(collection.num_upserts, rows);
    }
    for (size_t i = 0; i < rows; ++i) {
      const auto point = collection.points.find(PointId(id_start + i));
      ASSERT_NE(point, collection.points.end()) << i;
      ASSERT_EQ(RawBytes(point->second.vector),
                RawBytes(values).substr(i * dim * 4, dim * 4));
    }
  }

  std::unique_ptr<FakeServer> server_ = std::make_unique<FakeServer>();
  client::TemporaryFolder folder_;
};

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
      {"collection", "create", "a", "--dim", "3"},
      {"collection", "create", "a", "--vector", "nonsense"},
      {"collection", "create", "a", "--vector", "x:3:l7"},
      {"collection", "create", "a", "--dim", "3", "--metric", "l2",
       "--memory-budget", "-5"},
      {"collection", "create", "a", "--dim", "3", "--metric", "l2",
       "--memory-tier", "disk"},
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
  EXPECT_THAT(table.out,
              AllOf(HasSubstr("0.0.0-fake"), HasSubstr("123.0 MiB")));
  const json parsed = json::parse(Run({"server", "info", "--json"}).out);
  EXPECT_EQ(parsed["version"], "0.0.0-fake");
  EXPECT_EQ(parsed["limits"]["max_batch_points"], 65'536);
  EXPECT_EQ(Run({"server", "resume-writes"}).code, kOk);
}

TEST_F(CliTest, CreatesListsShowsAndDropsCollections) {
  EXPECT_EQ(Run({"collection", "create", "one", "--dim", "4", "--metric",
                 "cosine", "--type", "f16", "--index", "flat"})
                .code,
            kOk);
  EXPECT_EQ(Run({"collection", "create", "two", "--vector", "a:8:l2",
                 "--vector", "b:3:ip:u8:flat", "--vector", "c:8:l2:f32:hnsw",
                 "--memory-tier", "mapped", "--memory-budget", "1MiB"})
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
  EXPECT_THAT(Run({"collection", "show", "two"}).out,
              AllOf(HasSubstr("hnsw m=default ef_construction=default"),
                    HasSubstr("growing")));
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

TEST_F(CliTest, ImportsAndCreatesTheCollection) {
  const auto values = RandomFloats(100 * 4, 5);
  const Outcome outcome =
      Run({"import", "a", WriteFvecs("a.fvecs", 100, 4), "--create", "--metric",
           "l2", "--batch-size", "7", "--id-start", "1000"});
  EXPECT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Imported 100 points into a in"));
  EXPECT_THAT(outcome.err, HasSubstr("import  "));  // plain progress lines
  ExpectRows("a", values, 4, 1000);
}

TEST_F(CliTest, ImportsNothingWhenRunAgainUnlessTold) {
  const auto values = RandomFloats(100 * 4, 5);
  const std::vector<std::string> command = {
      "import", "a",      WriteFvecs("a.fvecs", 100, 4), "--create", "--metric",
      "l2",     "--quiet"};
  EXPECT_EQ(Run(command).code, kOk);
  const Outcome again = Run(command);
  EXPECT_EQ(again.code, kOk);
  EXPECT_THAT(again.out, HasSubstr("All 100 rows of "));
  EXPECT_EQ(again.err, "");
  ExpectRows("a", values, 4);
  auto restart = command;
  restart.emplace_back("--restart");
  EXPECT_THAT(Run(restart).out, HasSubstr("Imported 100 points"));
  ExpectRows("a", values, 4, 0, /*once=*/false);
}

TEST_F(CliTest, GoesOnWhereAnEarlierImportStopped) {
  const auto values = RandomFloats(100 * 4, 5);
  const auto file = WriteFvecs("a.fvecs", 100, 4);
  const std::vector<std::string> command = {
      "import", "a", file, "--create", "--metric", "l2", "--batch-size", "7"};
  EXPECT_EQ(Run(command).code, kOk);
  {
    // As if the first run had been killed after its fifth frame.
    client::FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    auto& collection = store.collections["a"];
    ASSERT_EQ(collection.streams.size(), 1u);
    collection.streams.begin()->second = 5;
    collection.points.erase(collection.points.find(PointId(35)),
                            collection.points.end());
    collection.num_upserts = 35;
  }
  const Outcome resumed = Run(command);
  EXPECT_EQ(resumed.code, kOk);
  EXPECT_THAT(resumed.out, AllOf(HasSubstr("Imported 65 points"),
                                 HasSubstr("the first 35 rows were there")));
  ExpectRows("a", values, 4);
}

TEST_F(CliTest, DoesNotGoOnWithTheImportOfAnotherFileOrOtherOptions) {
  const auto file = WriteFvecs("a.fvecs", 20, 4);
  EXPECT_EQ(Run({"import", "a", file, "--create", "--metric", "l2"}).code, kOk);
  const std::vector<std::vector<std::string>> others = {
      {"import", "a", file, "--id-start", "5"},
      {"import", "a", file, "--as", "f16"},
      {"import", "a", file, "--batch-size", "3"},
      {"import", "a", file, "--limit", "19"},
      {"import", "a", folder_.Write("b.fvecs", Vecs(RandomFloats(80, 6), 4))}};
  for (const auto& other : others) {
    EXPECT_THAT(Run(other).out, HasSubstr("Imported ")) << other.back();
  }
}

TEST_F(CliTest, ImportsThroughBrokenStreams) {
  Restart({.cut_after_frames = 3});
  const auto values = RandomFloats(100 * 4, 5);
  const Outcome outcome =
      Run({"import", "a", WriteFvecs("a.fvecs", 100, 4), "--create", "--metric",
           "l2", "--batch-size", "7", "--json"});
  EXPECT_EQ(outcome.code, kOk);
  EXPECT_THAT(outcome.err, HasSubstr("trying to go on"));
  const json parsed = json::parse(outcome.out);
  EXPECT_EQ(parsed["rows_sent"], 100);
  EXPECT_GT(parsed["reconnects"], 2);
  ExpectRows("a", values, 4);
}

TEST_F(CliTest, ExitsWith3AndNamesRefusedRows) {
  auto values = RandomFloats(50 * 4, 5);
  values[13 * 4 + 2] = std::nanf("");
  values[49 * 4] = std::numeric_limits<float>::infinity();
  const auto file = folder_.Write("a.fvecs", Vecs(values, 4));
  const Outcome outcome =
      Run({"import", "a", file, "--create", "--metric", "l2", "--batch-size",
           "8", "--show-refused", "1"});
  EXPECT_EQ(outcome.code, kSomeRefused);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("2 rows were refused"),
                                 HasSubstr("row 13: An element is not finite."),
                                 HasSubstr("and 1 more")));
  EXPECT_THAT(outcome.out, HasSubstr("Imported 48 points"));
}

TEST_F(CliTest, RefusesABadFileBeforeItTouchesTheServer) {
  std::string bytes = Vecs(RandomFloats(40, 1), 4);
  bytes.pop_back();
  const Outcome outcome = Run({"import", "a", folder_.Write("bad.fvecs", bytes),
                               "--create", "--metric", "l2"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_THAT(outcome.err, HasSubstr("cut off after row 9"));
  EXPECT_EQ(server_->num_calls("CreateCollection"), 0);
}

TEST_F(CliTest, StopsAtABadRowAndKeepsWhatWasSent) {
  std::string bytes = Vecs(RandomFloats(40 * 4, 1), 4);
  bytes[30 * 20] = 9;
  const Outcome outcome =
      Run({"import", "a", folder_.Write("bad.fvecs", bytes), "--create",
           "--metric", "l2", "--batch-size", "10"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_THAT(outcome.err, HasSubstr("row 30 (at byte 600) says dimension 9"));
  client::FakeStore& store = *server_->store();
  MutexLock lock(store.mu);
  EXPECT_EQ(store.collections["a"].points.size(), 30u);
}

TEST_F(CliTest, RefusesToImportWhatDoesNotFitTheCollection) {
  const auto file = WriteFvecs("a.fvecs", 3, 4);
  EXPECT_THAT(Run({"import", "a", file}).err,
              HasSubstr("Add --create --metric"));
  EXPECT_THAT(Run({"import", "a", file, "--create"}).err,
              HasSubstr("--create needs --metric"));
  EXPECT_EQ(
      Run({"collection", "create", "a", "--dim", "5", "--metric", "l2"}).code,
      kOk);
  const Outcome dim = Run({"import", "a", file});
  EXPECT_EQ(dim.code, kFailed);
  EXPECT_THAT(dim.err,
              HasSubstr("its vectors have dimension 4, but vector \"\" of "
                        "collection a has 5"));
  EXPECT_THAT(Run({"import", "a", file, "--create", "--metric", "ip"}).err,
              HasSubstr("exists with metric l2, not ip"));
  EXPECT_THAT(Run({"import", "a", file, "--vector-name", "z"}).err,
              HasSubstr("has no vector named \"z\""));
  EXPECT_THAT(Run({"import", "a", file, "--as", "u8"}).err,
              HasSubstr("dimension"));
}

TEST_F(CliTest, ImportsHdf5WithTheMetricThatItNames) {
  const std::string path = folder_.File("a.hdf5");
  const auto values = RandomFloats(30 * 4, 8);
  {
    auto writer = *client::Hdf5Writer::Create(path);
    ASSERT_TRUE(writer->WriteFloats("train", 30, 4, values).ok());
    ASSERT_TRUE(writer->WriteFloats("test", 5, 4, RandomFloats(20, 9)).ok());
    ASSERT_TRUE(writer->WriteInts("neighbors", 5, 1, {0, 1, 2, 3, 4}).ok());
    ASSERT_TRUE(writer->WriteAttribute("distance", "angular").ok());
  }
  EXPECT_EQ(Run({"import", "a", path, "--create"}).code, kOk);
  ExpectRows("a", values, 4);
  EXPECT_THAT(Run({"collection", "show", "a"}).out, HasSubstr("cosine"));
  const Outcome bench = Run({"bench", "a", path, "-k", "1", "--json"});
  EXPECT_EQ(bench.code, kOk) << bench.err;
  EXPECT_EQ(json::parse(bench.out)["runs"][0]["num_queries"], 5);
}

TEST_F(CliTest, ConvertsToTheTypeAsked) {
  const auto file =
      folder_.Write("a.npy", Npy(NpyDict("|u1", "(2, 2)"), "\x01\x02\x03\xff"));
  EXPECT_EQ(
      Run({"import", "a", file, "--create", "--metric", "l2", "--as", "f32"})
          .code,
      kOk);
  ExpectRows("a", {1, 2, 3, 255}, 2);
  EXPECT_THAT(Run({"collection", "show", "a"}).out, HasSubstr("f32"));
  EXPECT_EQ(Run({"import", "b", file, "--create", "--metric", "l2"}).code, kOk);
  EXPECT_THAT(Run({"collection", "show", "b"}).out, HasSubstr("u8"));
}

TEST_F(CliTest, TakesIdsFromFiles) {
  const auto file = WriteFvecs("a.fvecs", 3, 4);
  const auto ids_npy = folder_.Write(
      "ids.npy",
      Npy(NpyDict("<i8", "(3,)"), RawBytes(std::vector<int64_t>{9, 5, 7})));
  EXPECT_EQ(
      Run({"import", "a", file, "--create", "--metric", "l2", "--ids", ids_npy})
          .code,
      kOk);
  const auto ids_txt = folder_.Write("ids.txt", "x\r\ny z\nw");
  EXPECT_EQ(Run({"import", "b", file, "--create", "--metric", "l2", "--ids",
                 ids_txt, "--id-type", "string"})
                .code,
            kOk);
  {
    client::FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    EXPECT_TRUE(store.collections["a"].points.contains(PointId(5)));
    EXPECT_TRUE(
        store.collections["b"].points.contains(*PointId::FromString("y z")));
  }
  EXPECT_THAT(Run({"import", "b", file, "--ids", ids_txt}).err,
              HasSubstr("line 1: \"x\" is not a number"));
  EXPECT_THAT(
      Run({"import", "b", WriteFvecs("c.fvecs", 4, 4), "--ids", ids_npy}).err,
      HasSubstr("has 3 ids, but the file has a row 3"));
  EXPECT_THAT(
      Run({"import", "b", file, "--ids",
           folder_.Write("bad.npy",
                         Npy(NpyDict("<i8", "(3,)"),
                             RawBytes(std::vector<int64_t>{1, -1, 2})))})
          .err,
      HasSubstr("the id of row 1 is -1"));
}

TEST_F(CliTest, RoundTripsJsonLines) {
  const std::string text =
      "{\"id\": 3, \"vector\": [1.5,-2], \"payload\": {\"a\": [1, "
      "\"\\u00e9\"]}}\n"
      "{\"id\": {\"uuid\": \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"}, "
      "\"vector\": [0.1,1e-30]}\n"
      "{\"id\": \"k\\\"ey\", \"vector\": [3,4], \"payload\": {}}\n";
  EXPECT_EQ(Run({"import", "a", folder_.Write("in.jsonl", text), "--create",
                 "--metric", "l2"})
                .code,
            kOk);
  const std::string out = folder_.File("out.jsonl");
  const Outcome outcome = Run({"export", "a", out});
  EXPECT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_EQ(ReadAll(out), text);
  EXPECT_EQ(Run({"export", "a", out, "--no-vectors", "--limit", "1"}).code,
            kOk);
  EXPECT_EQ(ReadAll(out),
            "{\"id\": 3, \"payload\": {\"a\": [1, \"\\u00e9\"]}}\n");
}

TEST_F(CliTest, RoundTripsNpyWithIds) {
  const auto values = RandomFloats(25 * 4, 5);
  EXPECT_EQ(Run({"import", "a", WriteFvecs("a.fvecs", 25, 4), "--create",
                 "--metric", "l2", "--id-start", "7"})
                .code,
            kOk);
  const std::string out = folder_.File("out.npy");
  const std::string ids = folder_.File("ids.npy");
  EXPECT_EQ(Run({"export", "a", out, "--ids", ids}).code, kOk);
  EXPECT_EQ(ReadAll(out).substr(128), RawBytes(values));
  EXPECT_EQ(
      Run({"import", "b", out, "--ids", ids, "--create", "--metric", "l2"})
          .code,
      kOk);
  ExpectRows("b", values, 4, 7);
}

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
  fails({"--multi", source_, "--create"}, kFailed,
        "needs --metric ip or cosine for multi-vector \"c\"");
  fails({"--multi", "c=" + tokens_ + "," + tokens_}, kFailed, "1-d array");
  fails({"--multi", "c=" + lengths_ + "," + lengths_}, kFailed,
        "tokens need 2 dimensions");
  EXPECT_EQ(Run({"collection", "create", "a", "--multi", "c:4"}).code, kOk);
  fails({"--multi", source_}, kFailed,
        "its tokens have dimension 3, but multi-vector \"c\" of collection a "
        "has 4");
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

TEST_F(CliTest, LeavesNoHalfExportBehind) {
  const std::string text = "{\"id\": \"x\", \"vector\": [1]}\n";
  EXPECT_EQ(Run({"import", "a", folder_.Write("in.jsonl", text), "--create",
                 "--metric", "l2"})
                .code,
            kOk);
  const Outcome outcome = Run(
      {"export", "a", folder_.File("o.npy"), "--ids", folder_.File("i.npy")});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_THAT(outcome.err, HasSubstr("is not a number"));
  for (const char* name : {"o.npy", "i.npy", "o.npy.part", "i.npy.part"}) {
    EXPECT_FALSE(std::filesystem::exists(folder_.File(name))) << name;
  }
  EXPECT_EQ(Run({"export", "a", "/nonexistent/x.npy"}).code, kFailed);
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

TEST(BenchTest, CountsRecallByRankK) {
  const TrueIds truth = {{PointId(1), PointId(2), PointId(3)}, {PointId(9)}};
  EXPECT_DOUBLE_EQ(
      Recall(truth, {{PointId(2), PointId(7)}, {PointId(9), PointId(1)}}, 2),
      0.75);
  EXPECT_DOUBLE_EQ(Recall(truth, {{}, {}}, 2), 0);
}

TEST(BenchTest, TakesPercentilesByNearestRank) {
  std::vector<double> values;
  for (int i = 1; i <= 200; ++i) values.push_back(i);
  EXPECT_EQ(Percentile(values, 0.5), 100);
  EXPECT_EQ(Percentile(values, 0.99), 198);
  EXPECT_EQ(Percentile({5}, 0.99), 5);
  EXPECT_EQ(Percentile({}, 0.5), 0);
}

TEST(FilterTest, TakesParametersAsJson) {
  const auto filter = MakeFilter(
      {.text = "a = $x AND b IN $y", .parameters = {"x=null", "y=[1, \"z\"]"}});
  ASSERT_THAT(filter, client::IsOk());
  EXPECT_TRUE(filter->parameters().at("x").has_null_value());
  EXPECT_EQ(filter->parameters().at("y").list().values_size(), 2);
  for (const std::string bad : {"x", "=1", "x=", "x={}", "x=[null]"}) {
    EXPECT_THAT(MakeFilter({.text = "a = $x", .parameters = {bad}}).status(),
                client::Fails(absl::StatusCode::kInvalidArgument, "--param"));
  }
}

TEST(OutputTest, FormatsNumbersForPeople) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(60'000), "60,000");
  EXPECT_EQ(WithCommas(18'446'744'073'709'551'615ULL),
            "18,446,744,073,709,551,615");
  EXPECT_EQ(HumanBytes(1'023), "1023 B");
  EXPECT_EQ(HumanBytes(188'160'000), "179.4 MiB");
  EXPECT_EQ(HumanSeconds(0.85), "850 ms");
  EXPECT_EQ(HumanSeconds(12.34), "12.3 s");
  EXPECT_EQ(HumanSeconds(250), "4 min 10 s");
  EXPECT_EQ(HumanSeconds(7'800), "2 h 10 min");
}

TEST(OutputTest, AlignsTablesByCodePoints) {
  Table table({{"name"}, {"n", Table::Align::kRight}});
  table.AddRow({"caf\xc3\xa9", "1"});
  table.AddRow({"x", "1,000"});
  EXPECT_EQ(table.Format(),
            "name      n\n"
            "caf\xc3\xa9      1\n"
            "x     1,000\n");
}

TEST(ProgressTest, PrintsALineForEachTenthWhenNotOnATerminal) {
  testing::internal::CaptureStderr();
  Progress progress("import", "points", Progress::Style::kPlain);
  for (uint64_t i = 0; i <= 1'000; ++i) {
    progress.Update(i, static_cast<double>(i) / 1'000);
  }
  progress.End();
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 10);
  EXPECT_THAT(text, AllOf(HasSubstr("50."), HasSubstr("points/s"),
                          Not(HasSubstr("\r"))));
}

TEST(ProgressTest, IsSilentWhenTold) {
  testing::internal::CaptureStderr();
  Progress progress("import", "points", Progress::Style::kOff);
  progress.Update(5, 0.5);
  progress.End();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace vicinal::cli
