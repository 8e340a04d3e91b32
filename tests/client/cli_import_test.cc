// What the `vicinal` command imports and exports: formats, ids, imports that go
// on, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/cli/exit_code.h"
#include "client/formats/hdf5.h"
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
using client::Vecs;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

using CliImportTest = CliTest;

TEST_F(CliImportTest, ImportsAndCreatesTheCollection) {
  const auto values = RandomFloats(100 * 4, 5);
  const Outcome outcome =
      Run({"import", "a", WriteFvecs("a.fvecs", 100, 4), "--create", "--metric",
           "l2", "--batch-size", "7", "--id-start", "1000"});
  EXPECT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Imported 100 points into a in"));
  EXPECT_THAT(outcome.err, HasSubstr("import  "));  // plain progress lines
  ExpectRows("a", values, 4, 1000);
}

TEST_F(CliImportTest, ImportsNothingWhenRunAgainUnlessTold) {
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

TEST_F(CliImportTest, GoesOnWhereAnEarlierImportStopped) {
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

TEST_F(CliImportTest, DoesNotGoOnWithTheImportOfAnotherFileOrOtherOptions) {
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

TEST_F(CliImportTest, ImportsThroughBrokenStreams) {
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

TEST_F(CliImportTest, ExitsWith3AndNamesRefusedRows) {
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

TEST_F(CliImportTest, RefusesABadFileBeforeItTouchesTheServer) {
  std::string bytes = Vecs(RandomFloats(40, 1), 4);
  bytes.pop_back();
  const Outcome outcome = Run({"import", "a", folder_.Write("bad.fvecs", bytes),
                               "--create", "--metric", "l2"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_THAT(outcome.err, HasSubstr("cut off after row 9"));
  EXPECT_EQ(server_->num_calls("CreateCollection"), 0);
}

TEST_F(CliImportTest, StopsAtABadRowAndKeepsWhatWasSent) {
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

TEST_F(CliImportTest, RefusesToImportWhatDoesNotFitTheCollection) {
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
  EXPECT_THAT(
      Run({"import", "a", file, "--vector-name", "z"}).err,
      HasSubstr("has no dense vector named \"z\"; it has \"\": choose"));
  EXPECT_THAT(Run({"import", "a", file, "--as", "u8"}).err,
              HasSubstr("dimension"));
}

TEST_F(CliImportTest, ImportsHdf5WithTheMetricThatItNames) {
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

TEST_F(CliImportTest, ConvertsToTheTypeAsked) {
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

TEST_F(CliImportTest, TakesIdsFromFiles) {
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

TEST_F(CliImportTest, RoundTripsJsonLines) {
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

TEST_F(CliImportTest, RoundTripsNpyWithIds) {
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

TEST_F(CliImportTest, LeavesNoHalfExportBehind) {
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

}  // namespace
}  // namespace vicinal::cli
