// A durable ordered map with atomic batches: the only door to RocksDB.
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

enum class Durability : uint8_t {
  kFsynced = 1,   // survives power loss when Commit returns OK
  kBuffered = 2,  // survives a crash of the process; power loss may lose it
};

// Puts and deletes that become visible and durable together. Not thread-safe.
class WriteBatch {
 public:
  WriteBatch();
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

// Walks keys in [lower, upper) in byte order. Not thread-safe.
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
  // RocksDB's memory for unflushed writes and for cached blocks.
  size_t write_buffer_bytes = size_t{32} << 20;
  size_t block_cache_bytes = size_t{32} << 20;
  // Tests only: the n-th append or sync of a file from now on fails (see
  // storage/fault_env.h). Empty otherwise.
  std::function<absl::Status(absl::string_view operation,
                             absl::string_view path)>
      fault_hook;
};

struct RecordStoreStats {
  uint64_t memory_bytes = 0;     // memtables, block cache, table readers
  uint64_t disk_bytes = 0;       // live table files and the log
  uint64_t commits = 0;          // batches committed by this process
  uint64_t synced_commits = 0;
};

// Thread-safe. Concurrent Commits share one fsync (RocksDB's write group).
// After a failed write or sync the store is read-only: Commit returns
// FailedPrecondition (disk trouble) or ResourceExhausted (disk full) and
// nothing of the failed batch is visible after the next open or Resume.
class RecordStore {
 public:
  // Creates the folder if there is none, takes its lock file. FailedPrecondition:
  // another process holds it, or its format version is newer than ours; both
  // messages say what to do. PermissionDenied: cannot read or write there.
  // DataLoss: RocksDB finds it corrupt.
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
  std::unique_ptr<StoreIterator> NewIterator(
      Table table, absl::string_view lower, absl::string_view upper,
      const StoreSnapshot* snapshot = nullptr) const;
  std::unique_ptr<StoreSnapshot> Snapshot() const;

  // OK, or why the store takes no writes.
  absl::Status WriteHealth() const;
  // Tries to leave read-only mode after the cause was mended.
  absl::Status Resume();
  RecordStoreStats stats() const;
  const std::string& path() const;

 private:
  struct Impl;
  explicit RecordStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vicinal
