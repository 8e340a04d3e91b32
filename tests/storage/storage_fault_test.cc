#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/mutex.h"
#include "storage/record_store.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A disk that goes wrong at the n-th change of a file, for once or for good.
class Disk {
 public:
  void Arm(uint64_t nth, absl::Status fault, bool for_good,
           std::string operation = "") {
    MutexLock lock(mu_);
    countdown_ = nth;
    fault_ = std::move(fault);
    for_good_ = for_good;
    operation_ = std::move(operation);
    num_faults_ = 0;
  }
  void Mend() { Arm(0, absl::OkStatus(), false); }
  uint64_t num_faults() {
    MutexLock lock(mu_);
    return num_faults_;
  }
  RecordStoreOptions Options() {
    RecordStoreOptions options = SmallOptions();
    options.fault_hook = [this](absl::string_view operation,
                                absl::string_view /*path*/) {
      MutexLock lock(mu_);
      if (countdown_ == 0 || (!operation_.empty() && operation != operation_)) {
        return absl::OkStatus();
      }
      if (countdown_ > 1) {
        --countdown_;
        return absl::OkStatus();
      }
      if (!for_good_) countdown_ = 0;
      ++num_faults_;
      return fault_;
    };
    return options;
  }

 private:
  Mutex mu_;
  uint64_t countdown_ ABSL_GUARDED_BY(mu_) = 0;  // 0: all is well
  absl::Status fault_ ABSL_GUARDED_BY(mu_);
  bool for_good_ ABSL_GUARDED_BY(mu_) = false;
  std::string operation_ ABSL_GUARDED_BY(mu_);  // empty: any
  uint64_t num_faults_ ABSL_GUARDED_BY(mu_) = 0;
};

absl::Status CommitHistory(RecordStore& store, uint64_t i) {
  return store.Commit(HistoryBatch(i), Durability::kFsynced);
}

struct FaultKind {
  const char* name;
  absl::Status fault;
  bool for_good;
  absl::StatusCode expected;
};

const FaultKind kFaultKinds[] = {
    {"i/o error", absl::InternalError("injected"), false,
     absl::StatusCode::kFailedPrecondition},
    {"torn write", absl::DataLossError("injected"), false,
     absl::StatusCode::kFailedPrecondition},
    {"disk full", absl::ResourceExhaustedError("injected"), true,
     absl::StatusCode::kResourceExhausted},
};

// Extends the history from `length` until the disk fails, at most by 60.
// Returns the length acknowledged.
uint64_t CommitUntilFault(RecordStore& store, uint64_t length,
                          const FaultKind& kind) {
  for (int i = 0; i < 60; ++i) {
    const absl::Status status = CommitHistory(store, length + 1);
    if (status.ok()) {
      ++length;
      continue;
    }
    EXPECT_EQ(status.code(), kind.expected) << status;
    EXPECT_EQ(store.WriteHealth(), status);
    EXPECT_EQ(CommitHistory(store, length + 1), status) << "read-only";
    break;
  }
  return length;
}

TEST(StorageFaultTest, NoAcknowledgedBatchIsLostWhicheverChangeFails) {
  for (const FaultKind& kind : kFaultKinds) {
    uint64_t length = 0;
    Disk disk;
    TempFolder folder;
    for (uint64_t nth = 1; nth <= 24; ++nth) {
      SCOPED_TRACE(absl::StrCat(kind.name, " at change ", nth));
      auto store = OpenOrDie(folder.data(), disk.Options());
      const uint64_t before = CheckHistory(*store);
      ASSERT_GE(before, length);
      ASSERT_LE(before, length + 1) << "the failed batch, whole, or nothing";
      disk.Arm(nth, kind.fault, kind.for_good);
      length = CommitUntilFault(*store, before, kind);
      EXPECT_GT(disk.num_faults(), 0) << "the test never met its fault";
      EXPECT_EQ(CheckHistory(*store), length) << "reads go on, without it";
      store.reset();
      disk.Mend();
    }
    EXPECT_GE(CheckHistory(*OpenOrDie(folder.data())), length);
  }
}

TEST(StorageFaultTest, OpenThatFailsAnywhereFailsCleanly) {
  Disk disk;
  TempFolder folder;
  uint64_t length = 0;
  size_t num_failed = 0;
  for (uint64_t nth = 1; nth <= 24; ++nth) {
    SCOPED_TRACE(nth);
    disk.Arm(nth, absl::InternalError("injected"), false);
    auto store = RecordStore::Open(folder.data(), disk.Options());
    if (!store.ok()) {
      ++num_failed;
      EXPECT_THAT(std::string(store.status().message()), HasSubstr("injected"));
    }
    disk.Mend();
    if (store.ok()) store->reset();
    store = RecordStore::Open(folder.data(), disk.Options());
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_EQ(CheckHistory(**store), length);
    ASSERT_TRUE(CommitHistory(**store, length + 1).ok());
    ++length;
  }
  EXPECT_GT(num_failed, 10);
}

TEST(StorageFaultTest, FullDiskIsResumedOnceThereIsSpace) {
  Disk disk;
  TempFolder folder;
  RecordStoreOptions options = disk.Options();
  std::vector<std::string> warnings;
  options.warn = [&](absl::string_view message) {
    warnings.emplace_back(message);
  };
  auto store = OpenOrDie(folder.data(), options);
  ASSERT_TRUE(CommitHistory(*store, 1).ok());
  EXPECT_THAT(warnings, IsEmpty());
  disk.Arm(1, absl::ResourceExhaustedError("injected"), /*for_good=*/true);
  const absl::Status full = CommitHistory(*store, 2);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("is full"));
  EXPECT_FALSE(store->Resume().ok()) << "still full";
  EXPECT_EQ(store->WriteHealth(), full);
  EXPECT_EQ(CheckHistory(*store), 1);

  disk.Mend();
  // What there was room for of the failed batch.
  const std::filesystem::path log = DbFiles(folder.data(), ".log").front();
  std::ofstream(log, std::ios::binary | std::ios::app)
      << std::string("\x12\x34\x56\x78\x90\x08\x01half", 11);
  const absl::Status resumed = store->Resume();
  ASSERT_TRUE(resumed.ok()) << resumed;
  EXPECT_FALSE(std::filesystem::exists(log)) << "it would look damaged";
  EXPECT_TRUE(store->WriteHealth().ok());
  EXPECT_THAT(warnings,
              ElementsAre(HasSubstr("is full"), HasSubstr("takes writes")));
  EXPECT_EQ(CheckHistory(*store), 1) << "the failed batch does not come back";
  for (uint64_t i = 2; i <= 20; ++i) {
    ASSERT_TRUE(CommitHistory(*store, i).ok());
  }
  store.reset();
  store = OpenOrDie(folder.data(), disk.Options());
  EXPECT_EQ(CheckHistory(*store), 20);
}

// With nothing in memory to flush, RocksDB's own Resume goes on with the log
// writer that failed and aborts at the next write.
TEST(StorageFaultTest, ADiskThatFillsAtTheFirstWriteAndAgainIsResumed) {
  Disk disk;
  TempFolder folder;
  ASSERT_TRUE(CommitHistory(*OpenOrDie(folder.data(), disk.Options()), 1).ok());
  auto store = OpenOrDie(folder.data(), disk.Options());
  for (uint64_t i = 2; i <= 4; ++i) {
    disk.Arm(1, absl::ResourceExhaustedError("injected"), /*for_good=*/true);
    EXPECT_FALSE(CommitHistory(*store, i).ok());
    disk.Mend();
    const absl::Status resumed = store->Resume();
    ASSERT_TRUE(resumed.ok()) << resumed;
    if (i == 3) continue;  // and full again before anything was written
    ASSERT_TRUE(CommitHistory(*store, i == 4 ? 3 : i).ok());
  }
  EXPECT_EQ(CheckHistory(*store), 3);
  store.reset();
  EXPECT_EQ(CheckHistory(*OpenOrDie(folder.data(), disk.Options())), 3);
}

TEST(StorageFaultTest, FailedSyncNeedsARestart) {
  Disk disk;
  TempFolder folder;
  auto store = OpenOrDie(folder.data(), disk.Options());
  ASSERT_TRUE(CommitHistory(*store, 1).ok());
  disk.Arm(1, absl::InternalError("injected"), false, "sync");
  const absl::Status failed = CommitHistory(*store, 2);
  EXPECT_EQ(failed.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(failed.message()), HasSubstr("restart"));
  EXPECT_EQ(store->Resume().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CheckHistory(*store), 1);
  store.reset();
  store = OpenOrDie(folder.data(), disk.Options());
  const uint64_t length = CheckHistory(*store);
  EXPECT_GE(length, 1);
  EXPECT_LE(length, 2);
}

TEST(StorageFaultTest, FailedFlushInTheBackgroundStopsWrites) {
  Disk disk;
  TempFolder folder;
  auto store = OpenOrDie(folder.data(), disk.Options());
  // Tables are files that are created; the log in use exists already.
  disk.Arm(1, absl::InternalError("injected"), /*for_good=*/true, "create");
  uint64_t length = 0;
  while (length < 10000 &&
         store->Commit(HistoryBatch(length + 1), Durability::kBuffered).ok()) {
    ++length;
  }
  EXPECT_LT(length, 10000);
  EXPECT_FALSE(store->WriteHealth().ok());
  EXPECT_EQ(CheckHistory(*store), length);
  store.reset();
  disk.Mend();
  store = OpenOrDie(folder.data(), disk.Options());
  EXPECT_GE(CheckHistory(*store), length);
}

}  // namespace
}  // namespace vicinal
