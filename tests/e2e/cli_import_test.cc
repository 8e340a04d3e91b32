// `vicinal import` and `export` against the real server: every format, kills of
// either side, round trips.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/formats/hdf5.h"
#include "src/base/random.h"
#include "tests/client/test_files.h"
#include "tests/e2e/cli_fixture.h"
#include "vicinal/v1/point.grpc.pb.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal::e2e {
namespace {

using client::Idx;
using client::Npy;
using client::NpyDict;
using client::RandomFloats;
using client::RawBytes;
using client::ReadAll;
using client::Vecs;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr size_t kNpyHeaderBytes = 128;  // of files that vicinal writes
constexpr uint64_t kSeed = 20'261'125;

class CliImportTest : public CliFixture {
 protected:
  // The vectors of a collection in id order, as the export writes them.
  std::string ExportVectors(const std::string& name) {
    const std::string path = folder_.File("export.npy");
    const Outcome outcome = Run({"export", name, path, "--quiet"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const std::string bytes = ReadAll(path);
    return bytes.substr(std::min(bytes.size(), kNpyHeaderBytes));
  }
  void ExpectImports(const std::string& file, const std::string& vectors,
                     const std::vector<std::string>& more = {}) {
    const std::string name = absl::StrCat("c", ++num_collections_);
    std::vector<std::string> command = {"import",       name,       file,
                                        "--create",     "--metric", "l2",
                                        "--batch-size", "3"};
    command.insert(command.end(), more.begin(), more.end());
    const Outcome outcome = Run(command);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(ExportVectors(name), vectors) << file;
  }

  // Waits, a minute at most, until a collection has so many points.
  uint64_t AwaitPoints(const std::string& collection, uint64_t at_least) {
    const auto points = v1::PointService::NewStub(server_->Connect());
    const auto deadline =
        std::chrono::system_clock::now() + std::chrono::minutes(1);
    v1::CountRequest request;
    request.set_collection(collection);
    v1::CountResponse response;
    do {
      // NotFound until the import has created it.
      grpc::ClientContext context;
      context.set_deadline(deadline);
      (void)points->Count(&context, request, &response);
    } while (response.count() < at_least &&
             std::chrono::system_clock::now() < deadline);
    return response.count();
  }

  int num_collections_ = 0;
};

TEST_F(CliImportTest, ImportsEveryFormat) {
  const auto floats = RandomFloats(10 * 6, 1);
  ExpectImports(folder_.Write("a.fvecs", Vecs(floats, 6)), RawBytes(floats));
  std::vector<uint8_t> bytes(60);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = uint8_t(i * 5 + 1);
  ExpectImports(folder_.Write("a.bvecs", Vecs(bytes, 6)), RawBytes(bytes));
  ExpectImports(
      folder_.Write("a.npy", Npy(NpyDict("<f4", "(10, 6)"), RawBytes(floats))),
      RawBytes(floats));
  const std::string halves(120, '\x31');
  ExpectImports(folder_.Write("h.npy", Npy(NpyDict("<f2", "(10, 6)"), halves)),
                halves);
  ExpectImports(
      folder_.Write("i.npy", Npy(NpyDict("|i1", "(10, 6)"), RawBytes(bytes))),
      RawBytes(bytes));
  ExpectImports(folder_.Write("a-ubyte", Idx(8, {10, 2, 3}, RawBytes(bytes))),
                RawBytes(bytes));
  {
    auto writer = *client::Hdf5Writer::Create(folder_.File("a.hdf5"));
    ASSERT_TRUE(writer->WriteFloats("train", 10, 6, floats).ok());
  }
  ExpectImports(folder_.File("a.hdf5"), RawBytes(floats));
  ExpectImports(
      folder_.Write("a.jsonl", "{\"vector\": [1, 2.5]}\n{\"vector\": [-3, 4]}"),
      RawBytes(std::vector<float>{1, 2.5F, -3, 4}));
  ExpectImports(
      folder_.Write("b.bvecs", Vecs(std::vector<uint8_t>{1, 2, 3, 255}, 2)),
      RawBytes(std::vector<float>{1, 2, 3, 255}), {"--as", "f32"});
}

TEST_F(CliImportTest, RoundTripsJsonLinesWithNamedVectorsAndPayloads) {
  ASSERT_EQ(Run({"collection", "create", "a", "--vector", "t:2:cosine",
                 "--vector", "b:3:ip:f16"})
                .code,
            0);
  const std::string text =
      "{\"id\": 3, \"vectors\": {\"t\": [1.5,-2], \"b\": [1,2,3]}, "
      "\"payload\": {\"title\":\"caf\xc3\xa9\",\"n\":[1,null]}}\n"
      "{\"id\": {\"uuid\": \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"}, "
      "\"vectors\": {\"b\": [0.5,0.25,-1]}}\n"
      "{\"id\": \"key\", \"vectors\": {\"t\": [3,4]}}\n";
  const Outcome imported =
      Run({"import", "a", folder_.Write("in.jsonl", text)});
  ASSERT_EQ(imported.code, 0) << imported.err;
  const std::string out = folder_.File("out.jsonl");
  ASSERT_EQ(Run({"export", "a", out}).code, 0);
  ASSERT_EQ(Run({"collection", "create", "b", "--vector", "t:2:cosine",
                 "--vector", "b:3:ip:f16"})
                .code,
            0);
  ASSERT_EQ(Run({"import", "b", out}).code, 0);
  const std::string again = folder_.File("again.jsonl");
  ASSERT_EQ(Run({"export", "b", again}).code, 0);
  EXPECT_EQ(ReadAll(again), ReadAll(out));
  EXPECT_THAT(ReadAll(out),
              AllOf(HasSubstr("caf\xc3\xa9"), HasSubstr("\"t\": [1.5,-2]"),
                    HasSubstr("{\"id\": \"key\", \"vectors\": {\"t\": [3,4]}}"),
                    HasSubstr("6ba7b810-9dad-11d1-80b4-00c04fd430c8")));
}

TEST_F(CliImportTest, LosesAndRepeatsNothingWhenKilledAgainAndAgain) {
  constexpr size_t kRows = 4'000;
  constexpr size_t kDim = 32;
  const auto values = RandomFloats(kRows * kDim, 2);
  const auto file = folder_.Write("a.fvecs", Vecs(values, kDim));
  const std::vector<std::string> command = {
      "import",       "a",  file,     "--create", "--metric", "l2",
      "--batch-size", "50", "--rate", "8000"};
  std::cout << "seed " << kSeed << "\n";
  Random random(kSeed);
  uint64_t num_points = 0;
  for (int kills = 0; kills < 8; ++kills) {
    Child import(Command(command), "", "");
    num_points = AwaitPoints("a", num_points + 1 + random.Uniform(200));
    import.Kill();
  }
  ASSERT_LT(num_points, kRows);
  const Outcome outcome = Run(command);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("rows were there from an earlier run"));
  EXPECT_EQ(ExportVectors("a"), RawBytes(values));
  const auto shown = Json({"collection", "show", "a", "--json"});
  EXPECT_EQ(shown["num_points"], kRows);
  // No row was ever written over: nothing to delete.
  for (const auto& segment : shown["segments"]) {
    EXPECT_EQ(segment["num_deleted"], 0);
  }
  EXPECT_THAT(Run(command).out, HasSubstr("All 4,000 rows of "));
}

TEST_F(CliImportTest, GoesOnByItselfWhenTheServerIsKilledAndStartedAgain) {
  constexpr size_t kRows = 4'000;
  constexpr size_t kDim = 32;
  const auto values = RandomFloats(kRows * kDim, 3);
  const auto file = folder_.Write("a.fvecs", Vecs(values, kDim));
  Child import(Command({"import", "a", file, "--create", "--metric", "l2",
                        "--batch-size", "50", "--rate", "6000"}),
               folder_.File("out"), folder_.File("err"));
  for (int kills = 0; kills < 2; ++kills) {
    EXPECT_FALSE(import.WaitFor(std::chrono::milliseconds(200)));
    RestartServer();
  }
  ASSERT_EQ(import.Wait(), 0)
      << ReadText(folder_.File("err")) << server_->log();
  EXPECT_THAT(ReadText(folder_.File("err")), HasSubstr("trying to go on"));
  EXPECT_EQ(ExportVectors("a"), RawBytes(values));
  const auto shown = Json({"collection", "show", "a", "--json"});
  EXPECT_EQ(shown["num_points"], kRows);
}

TEST_F(CliImportTest, NamesRefusedRowsAndKeepsTheOthers) {
  auto values = RandomFloats(40 * 4, 4);
  values[7 * 4 + 1] = std::nanf("");
  const auto nan = folder_.Write("nan.fvecs", Vecs(values, 4));
  const Outcome refused = Run(
      {"import", "a", nan, "--create", "--metric", "l2", "--batch-size", "6"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err,
              AllOf(HasSubstr("1 rows were refused"), HasSubstr("row 7: ")));
  EXPECT_EQ(Json({"collection", "show", "a", "--json"})["num_points"], 39);

  const std::vector<float> zero = {1, 0, 0, 0, 0, 2};
  const Outcome cosine =
      Run({"import", "z", folder_.Write("zero.fvecs", Vecs(zero, 2)),
           "--create", "--metric", "cosine", "--json"});
  EXPECT_EQ(cosine.code, 3);
  const auto summary = nlohmann::json::parse(cosine.out);
  EXPECT_EQ(summary["rows_refused"], 1);
  EXPECT_EQ(summary["refused"][0]["row"], 1);
}

TEST_F(CliImportTest, RefusesMalformedFilesAndCreatesNothing) {
  const std::string fvecs = Vecs(RandomFloats(40, 5), 4);
  const std::vector<std::pair<std::string, std::string>> files = {
      {folder_.Write("cut.fvecs", fvecs.substr(0, 95)), "cut off after row 4"},
      {folder_.Write("zero.fvecs", std::string(20, '\0')), "dimension 0"},
      {folder_.Write("magic.npy", "not numpy at all"), "magic bytes"},
      {folder_.Write("type.npy", Npy(NpyDict("<i4", "(1, 1)"), "abcd")),
       "type \"<i4\""},
      {folder_.Write("cut.npy", Npy(NpyDict("<f4", "(9, 9)"), "abcd")),
       "was the copy complete"},
      {folder_.Write("bad.jsonl", "{\"vector\": [1, 2}"), "line 1: byte 16"},
      {folder_.Write("bad.hdf5", "no"), "is not an HDF5 file"},
      {folder_.Write("labels-ubyte", Idx(8, {4}, "abcd")), "1 dimensions"},
      {folder_.File("absent.npy"), "No such file"}};
  for (const auto& [file, part] : files) {
    const Outcome outcome =
        Run({"import", "a", file, "--create", "--metric", "l2"});
    EXPECT_EQ(outcome.code, 1) << file;
    EXPECT_THAT(outcome.err, HasSubstr(part));
  }
  EXPECT_EQ(Json({"collection", "list", "--json"}).size(), 0u);
}

TEST_F(CliImportTest, WaitsForTheIndex) {
  const auto file =
      folder_.Write("a.fvecs", Vecs(RandomFloats(2'000 * 16, 6), 16));
  const Outcome outcome =
      Run({"import", "a", file, "--create", "--metric", "l2", "--wait-index"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Indexed in "));
  const auto shown = Json({"collection", "show", "a", "--json"});
  EXPECT_EQ(shown["num_indexed_points"], 2'000);
}

}  // namespace
}  // namespace vicinal::e2e
