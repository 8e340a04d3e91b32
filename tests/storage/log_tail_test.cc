// What a power cut leaves at the end of RocksDB's log, and what it cannot.
#include "storage/log_tail.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "storage/record_store.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr size_t kPage = 4096;

class LogTailTest : public ::testing::Test {
 protected:
  LogTailTest() {
    options_.warn = [this](absl::string_view warning) {
      warnings_.emplace_back(warning);
    };
  }

  void Open() { store_ = OpenOrDie(folder_.data(), options_); }
  // Batches up to `length`; ends_ gets where each ends in the log.
  void Write(uint64_t length, Durability durability = Durability::kFsynced) {
    while (length_ < length) {
      ASSERT_TRUE(store_->Commit(HistoryBatch(++length_), durability).ok());
      ends_.push_back(fs::file_size(Log()));
    }
  }
  // The same history with 2 MiB more, as an import's frames have.
  void WriteLarge() {
    WriteBatch batch = HistoryBatch(++length_);
    Random random(5);
    std::string value;
    while (value.size() < size_t{2} << 20) PutFixed(&value, random.Next());
    batch.Put(Table::kPayloads, "large", value);
    ASSERT_TRUE(store_->Commit(std::move(batch), Durability::kFsynced).ok());
    ends_.push_back(fs::file_size(Log()));
  }
  void Close() { store_.reset(); }
  fs::path Log() const { return DbFiles(folder_.data(), ".log").front(); }
  size_t BeginOf(uint64_t batch) const { return ends_[batch - 2]; }
  size_t EndOf(uint64_t batch) const { return ends_[batch - 1]; }

  void Zero(size_t begin, size_t end) {
    std::string bytes = ReadFileOrDie(Log());
    ASSERT_LE(end, bytes.size());
    std::fill(bytes.begin() + begin, bytes.begin() + end, '\0');
    WriteFileOrDie(Log(), bytes);
  }
  void Flip(size_t at, int bit) {
    std::string bytes = ReadFileOrDie(Log());
    bytes.at(at) ^= static_cast<char>(1 << bit);
    WriteFileOrDie(Log(), bytes);
  }
  void ExpectOpens(uint64_t length) {
    warnings_.clear();
    auto store = RecordStore::Open(folder_.data(), options_);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ(CheckHistory(**store), length);
    // It goes on from there.
    ASSERT_TRUE(
        (*store)->Commit(HistoryBatch(length + 1), Durability::kFsynced).ok());
    store->reset();
    EXPECT_EQ(CheckHistory(*OpenOrDie(folder_.data())), length + 1);
  }
  std::string ExpectDataLoss() {
    const auto store = RecordStore::Open(folder_.data(), options_);
    EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss)
        << store.status();
    return std::string(store.status().message());
  }

  TempFolder folder_;
  RecordStoreOptions options_;
  std::vector<std::string> warnings_;
  std::unique_ptr<RecordStore> store_;
  uint64_t length_ = 0;
  std::vector<size_t> ends_;
};

TEST_F(LogTailTest, ALastWriteOfWhichPagesAreMissingIsLeftOutAndReported) {
  Open();
  Write(5);
  WriteLarge();
  Close();
  const size_t first = (BeginOf(6) / kPage + 1) * kPage;
  const size_t last = EndOf(6) / kPage * kPage;
  const std::string log = Log().string();
  const std::string intact = ReadFileOrDie(log);
  TempFolder copies;
  const std::string copy = copies.path() + "/data";
  fs::copy(folder_.data(), copy, fs::copy_options::recursive);
  const std::pair<size_t, size_t> holes[] = {
      {first, first + kPage},                 // a page in the middle
      {first + 40 * kPage, last},             // all from there
      {first, EndOf(6)},                      // all but the first page
      {BeginOf(6), first},                    // the first page
      {BeginOf(6), EndOf(6)},                 // everything
      {last, EndOf(6)},                       // the last page
      {first + 17 * 512, first + 18 * 512}};  // a sector
  for (const auto& [begin, end] : holes) {
    SCOPED_TRACE(absl::StrCat(begin, "..", end));
    Zero(begin, end);
    ExpectOpens(5);
    ASSERT_EQ(warnings_.size(), 1u);
    EXPECT_THAT(warnings_[0], HasSubstr("power cut"));
    EXPECT_EQ(fs::file_size(log + ".torn"), EndOf(6) - BeginOf(6));
    fs::remove_all(folder_.data());
    fs::copy(copy, folder_.data(), fs::copy_options::recursive);
  }
}

TEST_F(LogTailTest, GarbageBehindTheLastSyncedWriteIsLeftOut) {
  Open();
  Write(5);
  Close();
  Random random(11);
  std::string bytes = ReadFileOrDie(Log());
  for (size_t i = 0; i < 80'000; ++i) {
    bytes += static_cast<char>(random.Uniform(256));
  }
  bytes[ends_.back() + 6] = 77;  // no type of record
  WriteFileOrDie(Log(), bytes);
  ExpectOpens(5);
  EXPECT_EQ(warnings_.size(), 1u);
}

TEST_F(LogTailTest, AWriteThatTheFilesEndCutsShortIsLeftOutQuietly) {
  Open();
  Write(5);
  WriteLarge();
  Close();
  fs::resize_file(Log(), EndOf(6) - 100'000);
  ExpectOpens(5);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(LogTailTest, ZerosInASyncedWriteAreRefused) {
  Open();
  Write(20);
  Close();
  const std::string intact = ReadFileOrDie(Log());
  for (uint64_t batch = 2; batch <= 19; ++batch) {
    SCOPED_TRACE(batch);
    // RocksDB skips a block from the place of a header that is zero.
    Zero(BeginOf(batch), BeginOf(batch) + 600);
    EXPECT_THAT(ExpectDataLoss(), HasSubstr("backup"));
    WriteFileOrDie(Log(), intact);
  }
  ExpectOpens(20);
}

TEST_F(LogTailTest, AFlippedSizeIsNoEndOfTheLog) {
  Open();
  Write(12);
  Close();
  const std::string intact = ReadFileOrDie(Log());
  for (uint64_t batch = 2; batch <= 12; ++batch) {
    for (int bit = 0; bit < 16; ++bit) {
      SCOPED_TRACE(absl::StrCat(batch, " bit ", bit));
      // RocksDB takes a record that seems longer than the file for the last.
      Flip(BeginOf(batch) + 4 + bit / 8, bit % 8);
      ExpectDataLoss();
      WriteFileOrDie(Log(), intact);
    }
  }
  ExpectOpens(12);
}

TEST_F(LogTailTest, AFlippedBitOfTheLastWriteIsRefusedUntilSomeoneCutsIt) {
  Open();
  Write(9);
  Close();
  Random random(3);
  for (int i = 0; i < 40; ++i) {
    const size_t at = BeginOf(9) + random.Uniform(EndOf(9) - BeginOf(9));
    const int bit = static_cast<int>(random.Uniform(8));
    Flip(at, bit);
    EXPECT_THAT(ExpectDataLoss(),
                HasSubstr(absl::StrCat("truncate -s ", BeginOf(9), " ")));
    Flip(at, bit);
  }
  Flip(EndOf(9) - 100, 1);
  fs::resize_file(Log(), BeginOf(9));
  ExpectOpens(8);
}

TEST_F(LogTailTest, BufferedWritesEndWhereAPowerCutTookThem) {
  Open();
  Write(5);
  Write(12, Durability::kBuffered);
  Close();
  Zero(BeginOf(7) + 100, BeginOf(7) + 1'300);
  ExpectOpens(6);  // 8 to 12 are whole, but never were synced
  ASSERT_EQ(warnings_.size(), 1u);
}

TEST_F(LogTailTest, ASyncAfterBufferedWritesCoversThem) {
  Open();
  Write(5);
  Write(12, Durability::kBuffered);
  Write(13);
  Write(14, Durability::kBuffered);
  Close();
  Zero(BeginOf(7) + 100, BeginOf(7) + 1'300);
  ExpectDataLoss();
}

TEST_F(LogTailTest, WhatAnEarlierProcessSyncedCounts) {
  for (int i = 1; i <= 6; ++i) {
    Open();
    Write(3 * i);
    Close();
  }
  ExpectOpens(18);
}

TEST_F(LogTailTest, AnEarlierLogIsNoTail) {
  options_ = SmallOptions();
  Open();
  for (uint64_t i = 1; i <= 80; ++i) {
    ASSERT_TRUE(store_->Commit(HistoryBatch(i), Durability::kFsynced).ok());
  }
  Close();
  std::vector<fs::path> logs = DbFiles(folder_.data(), ".log");
  ASSERT_GE(logs.size(), 2u);
  std::sort(logs.begin(), logs.end());
  const std::string intact = ReadFileOrDie(logs[0]);
  fs::resize_file(logs[0], intact.size() - 700);
  ExpectDataLoss();
  std::string zeroed = intact;
  std::fill(zeroed.end() - 700, zeroed.end(), '\0');
  WriteFileOrDie(logs[0], zeroed);
  ExpectDataLoss();
  WriteFileOrDie(logs[0], intact);
  ExpectOpens(80);
}

// What a failed write leaves at the front of a new log. RocksDB may keep that
// log beside later ones, which must not look like proof that it was synced.
TEST_F(LogTailTest, AFirstRecordThatIsCutShortIsGoneForGood) {
  Open();
  Write(1);
  const fs::path log = Log();
  Close();
  const std::string intact = ReadFileOrDie(log);
  for (const size_t length : {size_t{3}, size_t{10}, intact.size() - 1}) {
    TempFolder copies;
    const std::string copy = copies.path() + "/data";
    fs::copy(folder_.data(), copy, fs::copy_options::recursive);
    const fs::path torn = DbFiles(copy, ".log").front();
    fs::resize_file(torn, length);
    for (uint64_t i = 1; i <= 4; ++i) {
      auto store = RecordStore::Open(copy, options_);
      ASSERT_TRUE(store.ok())
          << length << ", open " << i << ": " << store.status();
      EXPECT_EQ(CheckHistory(**store), i - 1);
      ASSERT_TRUE((*store)->Commit(HistoryBatch(i), Durability::kFsynced).ok());
      store->reset();
    }
    EXPECT_EQ(CheckHistory(*OpenOrDie(copy)), 4u);
  }
}

TEST_F(LogTailTest, ALogOfZerosOrNothingIsEmpty) {
  Open();
  Close();
  WriteFileOrDie(Log(), std::string(100'000, '\0'));
  Open();
  Write(3);
}

}  // namespace
}  // namespace vicinal
