#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "storage/record_store.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

void WriteHistory(const std::string& data, uint64_t length,
                  const RecordStoreOptions& options = {}) {
  const auto store = OpenOrDie(data, options);
  for (uint64_t i = 1; i <= length; ++i) {
    ASSERT_TRUE(store->Commit(HistoryBatch(i), Durability::kFsynced).ok());
  }
}

fs::path LargestFile(const std::string& data, const std::string& extension) {
  const std::vector<fs::path> files = DbFiles(data, extension);
  VICINAL_CHECK(!files.empty());
  return files.front();
}

void FlipBit(const fs::path& path, size_t offset, int bit) {
  std::string bytes = ReadFileOrDie(path);
  bytes.at(offset) ^= static_cast<char>(1 << bit);
  WriteFileOrDie(path, bytes);
}

// Opens and reads everything. OK only when nothing was found amiss.
absl::Status OpenAndRead(const std::string& data, uint64_t* length = nullptr) {
  const auto store = RecordStore::Open(data, {});
  if (!store.ok()) return store.status();
  for (Table table : {Table::kMeta, Table::kRecords, Table::kTombstones}) {
    const auto it = (*store)->NewIterator(table, "", "");
    while (it->Valid()) it->Next();
    if (!it->status().ok()) return it->status();
  }
  if (length != nullptr) *length = CheckHistory(**store);
  return absl::OkStatus();
}

TEST(StorageCorruptionTest, TornLastWriteIsLeftOut) {
  TempFolder folder;
  WriteHistory(folder.data(), 20);
  const fs::path log = LargestFile(folder.data(), ".log");
  fs::resize_file(log, fs::file_size(log) - 1);
  uint64_t length = 0;
  ASSERT_TRUE(OpenAndRead(folder.data(), &length).ok());
  EXPECT_EQ(length, 19);
}

TEST(StorageCorruptionTest, LogCutAnywhereGivesAPrefixOfTheHistory) {
  TempFolder folder;
  WriteHistory(folder.data(), 12);
  const fs::path log = LargestFile(folder.data(), ".log");
  const uint64_t size = fs::file_size(log);
  TempFolder copies;
  uint64_t last_length = 12;
  constexpr uint64_t kCuts = 25;
  for (uint64_t i = 1; i <= kCuts; ++i) {
    const std::string copy = absl::StrCat(copies.path(), "/", i);
    fs::copy(folder.data(), copy, fs::copy_options::recursive);
    fs::resize_file(copy + "/db/" + log.filename().string(),
                    size - size * i / (kCuts + 1));
    uint64_t length = 0;
    const absl::Status status = OpenAndRead(copy, &length);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_LE(length, last_length);
    last_length = length;
  }
  EXPECT_LT(last_length, 2);
}

TEST(StorageCorruptionTest, FlippedBitInTheMiddleOfTheLogIsReported) {
  TempFolder folder;
  WriteHistory(folder.data(), 40);
  const fs::path log = LargestFile(folder.data(), ".log");
  FlipBit(log, fs::file_size(log) / 2, 3);
  const absl::Status status = OpenAndRead(folder.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("backup"));
}

TEST(StorageCorruptionTest, FlippedBitsOfTheLogNeverDropABatchSilently) {
  constexpr uint64_t kSeed = 7;
  std::printf("seed %d\n", static_cast<int>(kSeed));
  Random random(kSeed);
  TempFolder folder;
  WriteHistory(folder.data(), 30);
  const std::string log =
      LargestFile(folder.data(), ".log").filename().string();
  TempFolder copies;
  const std::string bytes = ReadFileOrDie(folder.data() + "/db/" + log);
  for (int i = 0; i < 150; ++i) {
    // Half of them among the small records at the end, headers and all.
    const size_t offset = i % 2 == 0 ? random.Uniform(bytes.size())
                                     : bytes.size() - 1 - random.Uniform(6000);
    const std::string copy = absl::StrCat(copies.path(), "/", i);
    fs::copy(folder.data(), copy, fs::copy_options::recursive);
    FlipBit(copy + "/db/" + log, offset, static_cast<int>(random.Uniform(8)));
    uint64_t length = 0;
    const absl::Status status = OpenAndRead(copy, &length);
    if (status.ok()) {
      EXPECT_EQ(length, 30) << "byte " << offset << " of " << bytes.size();
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    }
    fs::remove_all(copy);
  }
}

TEST(StorageCorruptionTest, FlippedBitInATableIsReported) {
  TempFolder folder;
  WriteHistory(folder.data(), 200, SmallOptions());
  const fs::path table = LargestFile(folder.data(), ".sst");
  const std::string intact = ReadFileOrDie(table);
  for (size_t i = 1; i < 8; ++i) {
    FlipBit(table, intact.size() * i / 8, 5);
    const absl::Status status = OpenAndRead(folder.data());
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss)
        << i << " eighths: " << status;
    WriteFileOrDie(table, intact);
  }
  EXPECT_TRUE(OpenAndRead(folder.data()).ok());
}

TEST(StorageCorruptionTest, MissingFilesAreReported) {
  TempFolder folder;
  WriteHistory(folder.data(), 200, SmallOptions());
  TempFolder copies;
  const fs::path gone[] = {"CURRENT", LargestFile(folder.data(), ".sst"),
                           LargestFile(folder.data(), ".log")};
  for (const fs::path& path : gone) {
    const std::string copy = copies.path() + "/data";
    fs::copy(folder.data(), copy, fs::copy_options::recursive);
    ASSERT_TRUE(fs::remove(copy + "/db/" + path.filename().string()));
    const absl::Status status = OpenAndRead(copy);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss)
        << path << ": " << status;
    fs::remove_all(copy);
  }
}

}  // namespace
}  // namespace vicinal
