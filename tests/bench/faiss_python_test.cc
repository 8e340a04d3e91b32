#include "bench/peers/faiss_python.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "bench/check/faiss_rows.h"
#include "bench/workspace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vicinal::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Stands in for python: skips the script's name, answers as the script does.
// Its rows are 7, 8 and a missing one for every query.
constexpr char kFakePython[] = R"sh(#!/bin/bash
while [ $# -gt 1 ]; do
  [ "$1" = --serve ] && pipe=$2
  [ "$1" = --factory ] && factory=$2
  shift
done
echo "WARNING of a library"
echo '{"factory": "'$factory'", "bytes_per_vector": 10, "is_graph": true,' \
     '"compact_bytes_per_vector": 6}'
while read -r line; do
  labels=$(sed 's/.*"labels":"\([^"]*\)".*/\1/' <<<"$line")
  row='\x07\0\0\0\x08\0\0\0\xff\xff\xff\xff'
  printf "$row$row" >"$labels"
  echo '{"seconds": 0.5}'
done <"$pipe"
)sh";

std::string FakePython(const Workspace& workspace) {
  const std::string path = workspace.NewPath("python");
  std::ofstream(path) << kFakePython;
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

Dataset TwoQueries() {
  Dataset dataset{.name = "line"};
  dataset.base = {.num_rows = 3, .dim = 1, .values = {0, 1, 2}};
  dataset.queries = {.num_rows = 2, .dim = 1, .values = {0, 1}};
  return dataset;
}

TEST(FaissPythonTest, ReadsBytesSecondsAndRowsOfTheScript) {
  const auto workspace = Workspace::Create();
  ASSERT_TRUE(workspace.ok()) << workspace.status();
  const auto peer = MakeFaissPython(
      {.python = FakePython(*workspace), .factory = "HNSW16,SQ8"});
  ASSERT_TRUE(peer->Build(TwoQueries(), {}).ok());
  EXPECT_EQ(peer->name(), "faiss HNSW16,SQ8");
  EXPECT_EQ(peer->memory_bytes(), 30);
  EXPECT_EQ(peer->compact_bytes(), 18);
  for (int i = 0; i < 2; ++i) {
    std::vector<uint32_t> rows;
    const auto seconds = peer->SearchAll(3, 10, &rows);
    ASSERT_TRUE(seconds.ok()) << seconds.status();
    EXPECT_EQ(*seconds, 0.5);
    EXPECT_THAT(rows, ElementsAre(7, 8, UINT32_MAX, 7, 8, UINT32_MAX));
  }
}

TEST(FaissPythonTest, SaysWhatAPythonWithoutFaissPrinted) {
  const auto workspace = Workspace::Create();
  ASSERT_TRUE(workspace.ok()) << workspace.status();
  const std::string path = workspace->NewPath("python");
  std::ofstream(path) << "#!/bin/sh\necho No module named faiss >&2\nexit 1\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  const auto peer = MakeFaissPython({.python = path, .factory = "HNSW16,SQ8"});
  const absl::Status status = peer->Build(TwoQueries(), {});
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("No module named faiss"));
}

TEST(FaissRowsTest, WithoutPythonSayWhatToDo) {
  CheckReport report;
  FaissTarget target;
  target.key = "key";
  MeasureFaissGraph(target, "", GraphOptions(), &report);
  ASSERT_EQ(report.rows().size(), 2);
  EXPECT_EQ(report.rows()[0].key, "key_95");
  EXPECT_FALSE(report.rows()[0].measured.has_value());
  EXPECT_THAT(report.rows()[0].why_not, HasSubstr("--faiss-python"));
}

}  // namespace
}  // namespace vicinal::bench
