// What the storage tests share.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/random.h"
#include "storage/record_store.h"

namespace vicinal {

// A folder of its own, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string name = ::testing::TempDir() + "vicinal_storage_XXXXXX";
    VICINAL_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string data() const { return path_ + "/data"; }

 private:
  std::string path_;
};

// Small buffers, so that flushes and compactions happen in short tests.
inline RecordStoreOptions SmallOptions() {
  RecordStoreOptions options;
  options.write_buffer_bytes = size_t{1} << 18;
  options.block_cache_bytes = size_t{1} << 20;
  return options;
}

inline std::unique_ptr<RecordStore> OpenOrDie(
    const std::string& path, const RecordStoreOptions& options = {}) {
  auto store = RecordStore::Open(path, options);
  if (!store.ok()) {
    ADD_FAILURE() << store.status();
    std::abort();
  }
  return *std::move(store);
}

inline std::string ReadFileOrDie(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  VICINAL_CHECK(in.good());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline void WriteFileOrDie(const std::filesystem::path& path,
                           const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  VICINAL_CHECK(out.good());
}

// The files of RocksDB with this extension, largest first.
inline std::vector<std::filesystem::path> DbFiles(
    const std::string& data, const std::string& extension) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(data + "/db")) {
    if (entry.path().extension() == extension) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) {
    return std::filesystem::file_size(a) > std::filesystem::file_size(b);
  });
  return files;
}

// A history whose every state is known from its length: batch i (1, 2, ...)
// puts "head" = i, the record i and, when i > 5, deletes the record i - 5 and
// buries it.
inline std::string HistoryKey(uint64_t i) {
  std::string key;
  PutBigEndian64(&key, i);
  return key;
}
inline std::string HistoryValue(uint64_t i) {
  Random random(i);
  std::string value;
  const size_t num_words = 100 + random.Uniform(300);
  for (size_t j = 0; j < num_words; ++j) PutFixed(&value, random.Next());
  return value;
}
inline WriteBatch HistoryBatch(uint64_t i) {
  WriteBatch batch;
  batch.Put(Table::kMeta, "head", HistoryKey(i));
  batch.Put(Table::kRecords, HistoryKey(i), HistoryValue(i));
  if (i > 5) {
    batch.Delete(Table::kRecords, HistoryKey(i - 5));
    batch.Put(Table::kTombstones, HistoryKey(i - 5), "");
  }
  return batch;
}

// The length of the history in the store; fails the test unless all of it is
// there and nothing else.
inline uint64_t CheckHistory(const RecordStore& store) {
  const auto head = store.Get(Table::kMeta, "head");
  EXPECT_TRUE(head.ok()) << head.status();
  const uint64_t length =
      head.ok() && head->has_value() ? GetBigEndian64((*head)->data()) : 0;
  uint64_t expected = length > 5 ? length - 4 : 1;
  const auto records = store.NewIterator(Table::kRecords, "", "");
  for (; records->Valid(); records->Next()) {
    EXPECT_EQ(records->key(), HistoryKey(expected));
    EXPECT_EQ(records->value(), HistoryValue(expected));
    ++expected;
  }
  EXPECT_TRUE(records->status().ok()) << records->status();
  EXPECT_EQ(expected, length + 1);
  uint64_t buried = 1;
  const auto tombstones = store.NewIterator(Table::kTombstones, "", "");
  for (; tombstones->Valid(); tombstones->Next()) {
    EXPECT_EQ(tombstones->key(), HistoryKey(buried));
    ++buried;
  }
  EXPECT_TRUE(tombstones->status().ok()) << tombstones->status();
  EXPECT_EQ(buried, length > 5 ? length - 4 : 1);
  return length;
}

// Another process with the store open. The constructor returns when it is.
class StorageChild {
 public:
  // mode: see storage_child.cc.
  StorageChild(const std::string& mode, const std::string& data);
  ~StorageChild() { Kill(); }
  StorageChild(const StorageChild&) = delete;
  StorageChild& operator=(const StorageChild&) = delete;

  pid_t pid() const { return pid_; }
  // The next number it reports; nullopt when it ended.
  std::optional<uint64_t> Read();
  // SIGKILL, and waits for the end.
  void Kill();

 private:
  pid_t pid_ = -1;
  int fd_ = -1;
};

}  // namespace vicinal
