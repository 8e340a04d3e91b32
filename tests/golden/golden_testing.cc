#include "tests/golden/golden_testing.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "storage/record_store.h"
#include "storage/segment_path.h"

namespace vicinal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSegmentFiles[] = {"1.seg", "1.vec"};

std::vector<std::string> Dump(const std::string& folder) {
  std::vector<std::string> lines;
  auto store = RecordStore::Open(folder, {});
  EXPECT_TRUE(store.ok()) << store.status();
  for (size_t table = 0; table < kNumTables; ++table) {
    const auto it = (*store)->NewIterator(static_cast<Table>(table), "", "");
    for (; it->Valid(); it->Next()) {
      lines.push_back(absl::StrCat(table, " ",
                                   absl::BytesToHexString(it->key()), " ",
                                   absl::BytesToHexString(it->value())));
    }
  }
  return lines;
}

}  // namespace

std::string ReadGolden(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> GoldenLines(const fs::path& golden) {
  std::vector<std::string> lines;
  std::ifstream in(golden / "store.hex");
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

void RestoreGolden(const fs::path& golden, const std::string& folder) {
  auto store = RecordStore::Open(folder, {});
  ASSERT_TRUE(store.ok()) << store.status();
  WriteBatch batch;
  for (const std::string& line : GoldenLines(golden)) {
    std::istringstream in(line);
    int table = 0;
    std::string key;
    std::string value;
    in >> table >> key >> value;
    batch.Put(static_cast<Table>(table), absl::HexStringToBytes(key),
              absl::HexStringToBytes(value));
  }
  ASSERT_TRUE((*store)->Commit(std::move(batch), Durability::kFsynced).ok());
  fs::create_directories(CollectionFolder(folder, 1));
  for (const char* name : kSegmentFiles) {
    fs::copy(golden / name, fs::path(CollectionFolder(folder, 1)) / name);
  }
}

void SaveGolden(const std::string& folder, const fs::path& golden) {
  fs::create_directories(golden);
  std::ofstream out(golden / "store.hex");
  for (const std::string& line : Dump(folder)) out << line << "\n";
  for (const char* name : kSegmentFiles) {
    fs::copy(fs::path(CollectionFolder(folder, 1)) / name, golden / name);
  }
}

void ExpectWrittenAs(const fs::path& golden, const std::string& folder) {
  const std::vector<std::string> lines = Dump(folder);
  const std::vector<std::string> wanted = GoldenLines(golden);
  ASSERT_EQ(lines.size(), wanted.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    // The descriptor has a random UUID in it.
    if (absl::StartsWith(wanted[i], "0 43")) {
      EXPECT_EQ(lines[i].size(), wanted[i].size());
    } else {
      EXPECT_EQ(lines[i], wanted[i]);
    }
  }
}

}  // namespace vicinal
