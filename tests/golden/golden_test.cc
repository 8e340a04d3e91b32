// A data folder as the first version wrote it, in v1/, and a graph. Today's
// program reads them, and writes the same keys and values.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "index/hnsw.h"
#include "index/hnsw_graph.h"
#include "src/base/top_k.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"
#include "tests/golden/golden_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;

namespace fs = std::filesystem;

CollectionSchema GoldenSchema() {
  CollectionSchema schema = SchemaOf("golden", 3, Metric::kL2);
  schema.vectors[0].name = "place";
  schema.vectors.push_back(schema.vectors[0]);
  schema.vectors[1].name = "taste";
  schema.vectors[1].dim = 4;
  schema.vectors[1].metric = Metric::kCosine;
  schema.vectors[1].type = ElementType::kInt8;
  return schema;
}

PointId IdOf(int i) {
  if (i == 3) return *PointId::FromString("a string id");
  if (i == 4) {
    PointId::Uuid uuid;
    for (size_t j = 0; j < uuid.size(); ++j) uuid[j] = static_cast<uint8_t>(j);
    return PointId(uuid);
  }
  return PointId(static_cast<uint64_t>(100 + i));
}

Oracle::Stored StoredOf(int i, float shift = 0) {
  const auto x = static_cast<float>(i);
  Oracle::Stored stored;
  stored.vectors = {Bytes({x + shift, -0.5f * x, 1 / (x + 1)}), ""};
  if (i % 3 != 1) {
    stored.vectors[1] = {static_cast<char>(i + 1), static_cast<char>(-i), 7, 0};
  }
  if (i % 2 == 0) stored.payload = absl::StrCat("{\"number\":", i, "}");
  return stored;
}

constexpr int kPoints = 12;
constexpr char kStream[] = "golden-stream";

class GoldenTest : public ::testing::Test {
 protected:
  GoldenTest() : oracle_(GoldenSchema()) {
    options_.clock = &clock_;
    options_.warn = [this](absl::string_view) { ++num_warnings_; };
  }

  // What v1 was made by: a sealed segment; then a version that replaces one of
  // its rows, a deleted one, and a frame of a stream.
  void Write(const std::string& folder) {
    auto database = Database::Open(folder, options_);
    ASSERT_TRUE(database.ok()) << database.status();
    auto collection = (*database)->CreateCollection(GoldenSchema());
    ASSERT_TRUE(collection.ok()) << collection.status();
    BatchBuilder points((*collection)->schema());
    for (int i = 0; i < kPoints; ++i) Upsert(i, 0, &points);
    ASSERT_TRUE((*collection)->Upsert(points.batch()).status.ok());
    ASSERT_TRUE(Finished((*collection)->Optimize(1)).ok());
    BatchBuilder later((*collection)->schema());
    Upsert(2, 0.25f, &later);
    Upsert(kPoints, 0, &later);
    WriteOptions options;
    options.stream_frame = StreamFrame{kStream, 1};
    ASSERT_TRUE((*collection)->Upsert(later.batch(), options).status.ok());
    ASSERT_TRUE((*collection)->Delete({IdOf(5)}).status.ok());
    oracle_.Delete(IdOf(5));
  }
  void Upsert(int i, float shift, BatchBuilder* points) {
    const Oracle::Stored stored = StoredOf(i, shift);
    points->Add(IdOf(i), stored.vectors, stored.payload);
    oracle_.Upsert(IdOf(i), stored);
  }
  FixedClock clock_;
  DatabaseOptions options_ = TestOptions();
  size_t num_warnings_ = 0;
  Oracle oracle_;
};

// Rows of two elements for the graph.
constexpr size_t kGraphRows = 60;
std::vector<float> GraphRows() {
  std::vector<float> values;
  for (size_t i = 0; i < kGraphRows; ++i) {
    const auto x = static_cast<float>(i);
    values.push_back(x * static_cast<float>(i % 7));
    values.push_back(x - 30);
  }
  return values;
}
VectorSetView ViewOf(const std::vector<float>& values) {
  return {reinterpret_cast<const std::byte*>(values.data()), kGraphRows, 2, 8,
          ElementType::kFloat32};
}

TEST_F(GoldenTest, AFolderOfTheFirstVersionHoldsWhatWasWritten) {
  TempFolder written;
  Write(written.path());
  TempFolder folder;
  RestoreGolden(VICINAL_GOLDEN, folder.path());
  num_warnings_ = 0;
  auto database = Database::Open(folder.path(), options_);
  ASSERT_TRUE(database.ok()) << database.status();
  auto collection = (*database)->GetCollection("golden");
  ASSERT_TRUE(collection.ok()) << collection.status();
  EXPECT_EQ((*collection)->schema().vectors.size(), 2u);
  EXPECT_EQ((*collection)->schema().vectors[1].name, "taste");
  EXPECT_FALSE((*collection)->stats().degraded);
  EXPECT_EQ((*collection)->stats().num_indexed, kPoints - 2u);
  EXPECT_EQ(*(*collection)->LastFrame(kStream), 1u);
  Random random(1);
  const absl::Status difference = oracle_.Compare(**collection, random);
  EXPECT_TRUE(difference.ok()) << difference;
  // A merge verifies the vectors, and reads all else.
  EXPECT_TRUE(Finished((*collection)->Optimize(1)).ok());
  const absl::Status merged = oracle_.Compare(**collection, random);
  EXPECT_TRUE(merged.ok()) << merged;
  EXPECT_EQ(num_warnings_, 0u);
}

void SaveGraph(const fs::path& target) {
  const std::vector<float> rows = GraphRows();
  const auto graph =
      BuildHnswGraph(ViewOf(rows), Metric::kL2, {.m = 4}, 1, nullptr, nullptr);
  ASSERT_TRUE(graph.ok()) << graph.status();
  std::ofstream(target / "graph.bin", std::ios::binary) << *graph;
}

TEST_F(GoldenTest, KeysAndValuesAreWrittenAsInTheFirstVersion) {
  TempFolder folder;
  Write(folder.path());
  if (const char* target = std::getenv("VICINAL_WRITE_GOLDEN")) {
    SaveGolden(folder.path(), target);
    SaveGraph(target);
  }
  ExpectWrittenAs(VICINAL_GOLDEN, folder.path());
}

// The layout that storage/collection_store.h describes, spelled out.
TEST_F(GoldenTest, KeysAreWhatTheLayoutSays) {
  std::vector<std::string> keys;
  for (const std::string& line : GoldenLines(VICINAL_GOLDEN)) {
    keys.push_back(line.substr(0, line.rfind(' ')));
  }
  EXPECT_THAT(
      keys,
      ::testing::IsSupersetOf({
          std::string("0 46"),          // 'F'
          std::string("0 4e"),          // 'N'
          std::string("0 4300000001"),  // 'C' c
          std::string("0 4800000001"),  // 'H' c
          std::string("0 4d00000001"),  // 'M' c
          // 'S' c stream-id
          absl::StrCat("0 5300000001", absl::BytesToHexString(kStream)),
          // c id: a number, a UUID, a string
          std::string("1 00000001010000000000000064"),
          std::string("1 0000000102000102030405060708090a0b0c0d"
                      "0e0f"),
          absl::StrCat("1 0000000103", absl::BytesToHexString("a string id")),
          // c ordinal
          std::string("2 000000010000000000000001"),
          std::string("3 000000010000000000000001"),
      }));
}

TEST_F(GoldenTest, AGraphOfTheFirstVersionIsSearched) {
  const std::string bytes = ReadGolden(fs::path(VICINAL_GOLDEN) / "graph.bin");
  const std::vector<float> rows = GraphRows();
  // A mapped section is aligned; a string is at least to 8 bytes.
  const auto index = HnswIndex::Open(ViewOf(rows), Metric::kL2, bytes);
  ASSERT_TRUE(index.ok()) << index.status();
  for (size_t row = 0; row < kGraphRows; ++row) {
    SearchParams params;
    params.k = 1;
    params.ef = 32;
    TopK top(1);
    SearchStats stats;
    const absl::Status status =
        (*index)->Search(&rows[2 * row], params, {}, {}, &top, &stats);
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<Neighbor> found = top.TakeSorted();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].row, row);
  }
}

}  // namespace
}  // namespace vicinal
