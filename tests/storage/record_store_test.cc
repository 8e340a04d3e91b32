#include "storage/record_store.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/coding.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Table kAllTables[] = {Table::kMeta, Table::kIds, Table::kRecords,
                                Table::kPayloads, Table::kTombstones};

void Commit(RecordStore& store, WriteBatch batch,
            Durability durability = Durability::kBuffered) {
  const absl::Status status = store.Commit(std::move(batch), durability);
  ASSERT_TRUE(status.ok()) << status;
}

std::vector<std::string> Keys(StoreIterator& it) {
  std::vector<std::string> keys;
  for (; it.Valid(); it.Next()) keys.emplace_back(it.key());
  EXPECT_TRUE(it.status().ok()) << it.status();
  return keys;
}

TEST(RecordStoreTest, ReturnsWhatWasCommittedInEveryTableAndAfterReopening) {
  TempFolder folder;
  auto store = OpenOrDie(folder.data());
  WriteBatch batch;
  for (Table table : kAllTables) {
    batch.Put(table, "key", absl::StrCat("value ", static_cast<int>(table)));
  }
  EXPECT_EQ(batch.num_operations(), kNumTables);
  Commit(*store, std::move(batch), Durability::kFsynced);
  for (int round = 0; round < 2; ++round) {
    for (Table table : kAllTables) {
      const auto value = store->Get(table, "key");
      ASSERT_TRUE(value.ok()) << value.status();
      EXPECT_EQ(*value, absl::StrCat("value ", static_cast<int>(table)));
      EXPECT_EQ(*store->Get(table, "other"), std::nullopt);
    }
    store.reset();
    store = OpenOrDie(folder.data());
  }
}

TEST(RecordStoreTest, WalksKeysInByteOrderBetweenTheBounds) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data());
  WriteBatch batch;
  for (const char* key : {"b", "\xff", "a", "ab", "c", "\x01"}) {
    batch.Put(Table::kIds, key, "");
  }
  Commit(*store, std::move(batch));
  EXPECT_THAT(Keys(*store->NewIterator(Table::kIds, "", "")),
              ElementsAre("\x01", "a", "ab", "b", "c", "\xff"));
  EXPECT_THAT(Keys(*store->NewIterator(Table::kIds, "ab", "c")),
              ElementsAre("ab", "b"));
  const auto it = store->NewIterator(Table::kIds, "ab", "c");
  it->Seek("a");  // below the lower bound
  EXPECT_EQ(it->key(), "ab");
  it->Seek("c");  // at the upper bound
  EXPECT_FALSE(it->Valid());
  EXPECT_TRUE(it->status().ok());
}

TEST(RecordStoreTest, JoinsThePartsOfAValue) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data());
  WriteBatch batch;
  batch.PutParts(Table::kRecords, "parts", {"one ", "", "two"});
  batch.PutParts(Table::kRecords, "none", {});
  Commit(*store, std::move(batch));
  EXPECT_EQ(*store->Get(Table::kRecords, "parts"), "one two");
  EXPECT_EQ(*store->Get(Table::kRecords, "none"), "");
}

TEST(RecordStoreTest, AppliesTheOperationsOfABatchInOrder) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data());
  WriteBatch batch;
  batch.Put(Table::kIds, "a", "1");
  batch.Put(Table::kIds, "b", "1");
  batch.DeleteRange(Table::kIds, "a", "b");
  batch.Put(Table::kIds, "c", "1");
  batch.Delete(Table::kIds, "c");
  batch.Put(Table::kIds, "d", "1");
  batch.Put(Table::kIds, "d", "2");
  Commit(*store, std::move(batch));
  EXPECT_THAT(Keys(*store->NewIterator(Table::kIds, "", "")),
              ElementsAre("b", "d"));
  EXPECT_EQ(*store->Get(Table::kIds, "d"), "2");
}

TEST(RecordStoreTest, ClearedBatchDoesNothing) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data());
  WriteBatch batch(1000);
  batch.Put(Table::kIds, "a", "1");
  batch.Clear();
  EXPECT_EQ(batch.num_operations(), 0);
  Commit(*store, std::move(batch));
  EXPECT_THAT(Keys(*store->NewIterator(Table::kIds, "", "")), IsEmpty());
}

TEST(RecordStoreTest, GetsManyKeysInTheOrderAsked) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data(), SmallOptions());
  WriteBatch batch;
  for (int i = 0; i < 2000; i += 2) {
    batch.Put(Table::kIds, absl::StrCat("key ", i), absl::StrCat(i));
  }
  Commit(*store, std::move(batch));
  std::vector<std::string> keys;
  for (int i = 1999; i >= 0; --i) keys.push_back(absl::StrCat("key ", i));
  const auto values = store->MultiGet(Table::kIds, {keys.begin(), keys.end()});
  ASSERT_TRUE(values.ok()) << values.status();
  ASSERT_EQ(values->size(), 2000);
  for (int i = 0; i < 2000; ++i) {
    const auto& value = (*values)[1999 - i];
    ASSERT_EQ(value.has_value(), i % 2 == 0) << i;
    if (value.has_value()) {
      EXPECT_EQ(*value, absl::StrCat(i));
    }
  }
  EXPECT_THAT(*store->MultiGet(Table::kIds, {}), IsEmpty());
}

TEST(RecordStoreTest, SnapshotKeepsItsMoment) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data());
  WriteBatch first;
  first.Put(Table::kIds, "a", "old");
  first.Put(Table::kIds, "b", "old");
  Commit(*store, std::move(first));
  const auto snapshot = store->Snapshot();
  WriteBatch second;
  second.Put(Table::kIds, "a", "new");
  second.Delete(Table::kIds, "b");
  second.Put(Table::kIds, "c", "new");
  Commit(*store, std::move(second));

  EXPECT_EQ(*store->Get(Table::kIds, "a", snapshot.get()), "old");
  EXPECT_EQ(*store->Get(Table::kIds, "a"), "new");
  EXPECT_THAT(*store->MultiGet(Table::kIds, {"b", "c"}, snapshot.get()),
              ElementsAre("old", std::nullopt));
  EXPECT_THAT(Keys(*store->NewIterator(Table::kIds, "", "", snapshot.get())),
              ElementsAre("a", "b"));
  EXPECT_THAT(Keys(*store->NewIterator(Table::kIds, "", "")),
              ElementsAre("a", "c"));
}

TEST(RecordStoreTest, ReadersNeverSeeHalfABatch) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data(), SmallOptions());
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (uint64_t i = 1; i <= 300; ++i) {
      WriteBatch batch;
      for (Table table : kAllTables) batch.Put(table, "k", HistoryKey(i));
      EXPECT_TRUE(store->Commit(std::move(batch), Durability::kBuffered).ok());
    }
    done = true;
  });
  while (!done) {
    const auto snapshot = store->Snapshot();
    const auto first = store->Get(Table::kMeta, "k", snapshot.get());
    for (Table table : kAllTables) {
      ASSERT_EQ(*store->Get(table, "k", snapshot.get()), *first);
    }
  }
  writer.join();
}

TEST(RecordStoreTest, ConcurrentCommitsAreAllThereAfterReopening) {
  TempFolder folder;
  auto store = OpenOrDie(folder.data(), SmallOptions());
  constexpr int kThreads = 4;
  constexpr int kCommits = 25;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&store, t] {
      for (int i = 0; i < kCommits; ++i) {
        WriteBatch batch;
        batch.Put(Table::kIds, absl::StrCat(t, "/", i), "x");
        EXPECT_TRUE(store->Commit(std::move(batch), Durability::kFsynced).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store->stats().commits, kThreads * kCommits);
  EXPECT_EQ(store->stats().synced_commits, kThreads * kCommits);
  store.reset();
  store = OpenOrDie(folder.data());
  EXPECT_EQ(Keys(*store->NewIterator(Table::kIds, "", "")).size(),
            kThreads * kCommits);
}

TEST(RecordStoreTest, LongHistorySurvivesFlushesCompactionsAndReopening) {
  TempFolder folder;
  uint64_t length = 0;
  for (int round = 0; round < 4; ++round) {
    const auto store = OpenOrDie(folder.data(), SmallOptions());
    EXPECT_EQ(CheckHistory(*store), length);
    for (int i = 0; i < 400; ++i) Commit(*store, HistoryBatch(++length));
    EXPECT_EQ(CheckHistory(*store), length);
  }
  EXPECT_FALSE(DbFiles(folder.data(), ".sst").empty());
}

TEST(RecordStoreTest, MemoryStaysNearTheConfiguredBuffers) {
  TempFolder folder;
  RecordStoreOptions options;
  options.write_buffer_bytes = size_t{4} << 20;
  options.block_cache_bytes = size_t{1} << 20;
  const auto store = OpenOrDie(folder.data(), options);
  const std::string value(3140, 'x');
  for (uint64_t i = 0; i < 60; ++i) {
    WriteBatch batch;
    for (uint64_t j = 0; j < 100; ++j) {
      batch.Put(Table::kRecords, HistoryKey(i * 100 + j), value);
    }
    Commit(*store, std::move(batch));
    // One batch more than the buffers, and what RocksDB allots by itself.
    EXPECT_LT(store->stats().memory_bytes, size_t{9} << 20);
  }
  EXPECT_GT(store->stats().disk_bytes, size_t{18} << 20);
}

TEST(RecordStoreTest, FlushGivesBackMemoryAndKeepsEverything) {
  TempFolder folder;
  auto store = OpenOrDie(folder.data());
  for (uint64_t i = 1; i <= 1000; ++i) {
    ASSERT_TRUE(store->Commit(HistoryBatch(i), Durability::kFsynced).ok());
  }
  const uint64_t before = store->stats().memory_bytes;
  EXPECT_GT(before, uint64_t{2} << 20);
  ASSERT_TRUE(store->Flush().ok());
  EXPECT_LT(store->stats().memory_bytes, before / 2);
  EXPECT_EQ(CheckHistory(*store), 1000u);
  ASSERT_TRUE(store->Flush().ok());  // nothing to do
  store.reset();
  EXPECT_EQ(CheckHistory(*OpenOrDie(folder.data())), 1000u);
}

TEST(RecordStoreTest, ReclaimSpaceGivesBackTheFilesOfDeletedRanges) {
  TempFolder folder;
  const auto store = OpenOrDie(folder.data(), SmallOptions());
  for (uint64_t i = 1; i <= 1000; ++i) {
    WriteBatch batch;
    batch.Put(Table::kRecords, HistoryKey(i), HistoryValue(i));
    Commit(*store, std::move(batch));
  }
  const uint64_t before = store->stats().disk_bytes;
  WriteBatch batch;
  batch.DeleteRange(Table::kRecords, HistoryKey(0), HistoryKey(900));
  Commit(*store, std::move(batch));
  ASSERT_TRUE(
      store->ReclaimSpace(Table::kRecords, HistoryKey(0), HistoryKey(900))
          .ok());
  EXPECT_LT(store->stats().disk_bytes, before);
  EXPECT_EQ(Keys(*store->NewIterator(Table::kRecords, "", "")).size(), 101);
}

TEST(RecordStoreTest, RefusesANewerFormat) {
  TempFolder folder;
  auto store = OpenOrDie(folder.data());
  WriteBatch batch;
  std::string version;
  PutFixed<uint32_t>(&version, 2);
  batch.Put(Table::kMeta, "F", version);
  Commit(*store, std::move(batch));
  store.reset();
  const auto reopened = RecordStore::Open(folder.data(), {});
  EXPECT_EQ(reopened.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(reopened.status().message()),
              HasSubstr("has format version 2 and this program reads up to 1"));
}

TEST(RecordStoreTest, ReportsADamagedFormatVersion) {
  TempFolder folder;
  auto store = OpenOrDie(folder.data());
  WriteBatch batch;
  batch.Put(Table::kMeta, "F", "x");
  Commit(*store, std::move(batch));
  store.reset();
  EXPECT_EQ(RecordStore::Open(folder.data(), {}).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace vicinal
