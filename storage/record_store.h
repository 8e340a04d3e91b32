// A durable ordered map with atomic batches: the only door to RocksDB.
// data_folder.h shows where it lies in the data folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// One RocksDB column family each; numbers never change meaning.
enum class Table : uint8_t {
  kMeta = 0,        // database and collection state, manifests
  kIds = 1,         // point id -> where its current version is
  kRecords = 2,     // ordinal -> id and vectors (large, written in order)
  kPayloads = 3,    // ordinal -> payload
  kTombstones = 4,  // ordinal of a replaced or deleted version
};
inline constexpr size_t kNumTables = 5;

// Of the data folder; an older one is upgraded, a newer one refused.
inline constexpr uint32_t kDataFormatVersion = 1;

enum class Durability : uint8_t {
  kFsynced = 1,   // survives power loss when Commit returns OK
  kBuffered = 2,  // survives a crash of the process; power loss may lose it
};

// Puts and deletes that become visible and durable together. Not thread-safe.
class WriteBatch {
 public:
  // reserved_bytes: about how large it will get (saves copies while growing).
  explicit WriteBatch(size_t reserved_bytes = 0);
  ~WriteBatch();
  WriteBatch(WriteBatch&&) noexcept;
  WriteBatch& operator=(WriteBatch&&) noexcept;

  void Put(Table table, absl::string_view key, absl::string_view value);
  // The value is the concatenation of the parts (saves the caller a copy).
  void PutParts(Table table, absl::string_view key,
                std::vector<absl::string_view> value_parts);
  void Delete(Table table, absl::string_view key);
  // Keys in [begin, end).
  void DeleteRange(Table table, absl::string_view begin, absl::string_view end);
  void Clear();
  size_t size_bytes() const;
  size_t num_operations() const;

 private:
  friend class RecordStore;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A consistent view of the store at one moment. Release before the store.
class StoreSnapshot {
 public:
  virtual ~StoreSnapshot() = default;
};

// Walks keys in [lower, upper) in byte order, from lower. Not thread-safe.
class StoreIterator {
 public:
  virtual ~StoreIterator() = default;
  virtual bool Valid() const = 0;  // false at the end or on an error
  virtual void Next() = 0;
  virtual void Seek(absl::string_view key) = 0;
  virtual absl::string_view key() const = 0;    // until Next
  virtual absl::string_view value() const = 0;  // until Next
  virtual absl::Status status() const = 0;
};

struct RecordStoreOptions {
  // RocksDB's memory for unflushed writes (shared out over the tables) and for
  // cached blocks. Larger write buffers make fewer, larger flushes.
  size_t write_buffer_bytes = size_t{32} << 20;
  size_t block_cache_bytes = size_t{32} << 20;
  // Told in a sentence when writes end, with the reason, and when they are
  // taken again; from any thread, must not block. Empty: nobody.
  std::function<void(absl::string_view message)> warn;
  // Tests only: asked before every change of a file, fails it at will (see
  // FaultHook in storage/fault_env.h). Empty otherwise.
  std::function<absl::Status(absl::string_view operation,
                             absl::string_view path)>
      fault_hook;
};

struct RecordStoreStats {
  uint64_t memory_bytes = 0;  // memtables, block cache, table readers
  uint64_t disk_bytes = 0;    // live table files and the log
  uint64_t commits = 0;       // batches committed by this process
  uint64_t synced_commits = 0;
};

// Thread-safe. Concurrent Commits share one fsync (RocksDB's write group).
// After a failed write or sync the store is read-only: Commit returns
// FailedPrecondition (disk trouble; DataLoss where it is damaged data that a
// compaction met) or ResourceExhausted (disk full), reads go
// on, and nothing of the failed batch is visible, nor after Resume. The next
// open shows it whole or not at all: a sync that fails leaves in doubt what
// the disk holds, and a log record that is complete is kept, as for a commit
// whose answer was lost on its way. A batch that did not fit on a full disk is
// incomplete and goes.
class RecordStore {
 public:
  // Creates the folder if there is none, takes its lock file.
  // FailedPrecondition: another process holds it, or its format version is
  // newer than ours; both messages say what to do. InvalidArgument: the path is
  // not a folder. PermissionDenied: cannot read or write there. DataLoss: it is
  // corrupt.
  static absl::StatusOr<std::unique_ptr<RecordStore>> Open(
      const std::string& path, const RecordStoreOptions& options);
  ~RecordStore();

  absl::Status Commit(WriteBatch batch, Durability durability);
  // nullopt: no such key. snapshot may be null: the newest state.
  absl::StatusOr<std::optional<std::string>> Get(
      Table table, absl::string_view key,
      const StoreSnapshot* snapshot = nullptr) const;
  // One element per key, in order.
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      Table table, const std::vector<absl::string_view>& keys,
      const StoreSnapshot* snapshot = nullptr) const;
  // An empty `upper` means to the end of the table. Errors show in status().
  std::unique_ptr<StoreIterator> NewIterator(
      Table table, absl::string_view lower, absl::string_view upper,
      const StoreSnapshot* snapshot = nullptr) const;
  std::unique_ptr<StoreSnapshot> Snapshot() const;

  // OK, or why the store takes no writes.
  absl::Status WriteHealth() const;
  // Tries to leave read-only mode after the cause was mended. The error when
  // that cannot be: a full disk can be mended in place, but after a write or
  // sync that failed otherwise only opening anew shows what the disk holds.
  absl::Status Resume();
  // Writes the memtables to table files, which gives back their memory and
  // shortens the log that the next open reads.
  absl::Status Flush();
  // Gives back the disk space of keys in [begin, end), all of which a committed
  // DeleteRange covers. Snapshots taken before lose them. Best effort.
  absl::Status ReclaimSpace(Table table, absl::string_view begin,
                            absl::string_view end);
  RecordStoreStats stats() const;
  const std::string& path() const;

 private:
  struct Impl;
  explicit RecordStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vicinal
