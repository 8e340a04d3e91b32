#include "storage/record_store.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "rocksdb/cache.h"
#include "rocksdb/comparator.h"
#include "rocksdb/convenience.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "rocksdb/listener.h"
#include "rocksdb/options.h"
#include "rocksdb/slice.h"
#include "rocksdb/snapshot.h"
#include "rocksdb/status.h"
#include "rocksdb/transaction_log.h"
#include "rocksdb/write_batch.h"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "storage/data_folder.h"
#include "storage/fault_env.h"
#include "storage/log_tail.h"
#include "storage/rocksdb_options.h"

namespace vicinal {
namespace {

constexpr absl::string_view kFormatKey = "F";

rocksdb::Slice ToSlice(absl::string_view text) {
  return {text.data(), text.size()};
}
absl::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

bool IsDiskFull(const rocksdb::Status& status) {
  return status.IsNoSpace() ||
         status.subcode() == rocksdb::Status::SubCode::kSpaceLimit;
}

absl::Status ReadError(absl::string_view path, const rocksdb::Status& status) {
  if (status.IsCorruption()) {
    return absl::DataLossError(
        absl::StrCat("The data in ", path, " is damaged: ", status.ToString(),
                     "; restore the folder from a backup."));
  }
  return absl::InternalError(
      absl::StrCat("Cannot read from ", path, ": ", status.ToString()));
}

absl::Status WriteError(absl::string_view path, const rocksdb::Status& status) {
  if (IsDiskFull(status)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "The disk of ", path, " is full, the store is read-only: ",
        status.ToString(), "; free some space, then resume or restart."));
  }
  // A compaction met it before any reader did.
  if (status.IsCorruption()) return ReadError(path, status);
  return absl::FailedPreconditionError(
      absl::StrCat("A write to ", path, " failed, the store is read-only: ",
                   status.ToString(), "; mend the disk, then restart."));
}

absl::Status OpenError(absl::string_view path, const rocksdb::Status& status) {
  if (IsDiskFull(status)) return WriteError(path, status);
  return ReadError(path, status);
}

// Batches are built without a store, so they name tables by number only; this
// is all that rocksdb::WriteBatch asks of a handle.
class TableHandle final : public rocksdb::ColumnFamilyHandle {
 public:
  explicit TableHandle(Table table) : table_(table) {}
  const std::string& GetName() const override { return TableName(table_); }
  uint32_t GetID() const override { return static_cast<uint32_t>(table_); }
  rocksdb::Status GetDescriptor(rocksdb::ColumnFamilyDescriptor*) override {
    return rocksdb::Status::NotSupported();
  }
  const rocksdb::Comparator* GetComparator() const override {
    return rocksdb::BytewiseComparator();
  }

 private:
  Table table_;
};

rocksdb::ColumnFamilyHandle* BatchHandle(Table table) {
  static std::array<TableHandle, kNumTables>& handles =
      *new std::array<TableHandle, kNumTables>{
          TableHandle(Table::kMeta), TableHandle(Table::kIds),
          TableHandle(Table::kRecords), TableHandle(Table::kPayloads),
          TableHandle(Table::kTombstones)};
  return &handles[static_cast<size_t>(table)];
}

// Whether a folder takes a file of num_bytes and a little more.
rocksdb::IOStatus ProbeRoom(rocksdb::FileSystem* files,
                            const std::string& folder, uint64_t num_bytes) {
  constexpr uint64_t kChunk = uint64_t{1} << 20;
  const std::string chunk(kChunk, '\xA5');  // not zeros: no holes
  const std::string path = folder + "/room.tmp";
  const rocksdb::IOOptions options;
  std::unique_ptr<rocksdb::FSWritableFile> file;
  rocksdb::IOStatus status =
      files->NewWritableFile(path, rocksdb::FileOptions(), &file, nullptr);
  for (uint64_t written = 0; status.ok() && written < num_bytes + kChunk;
       written += kChunk) {
    status = file->Append(chunk, options, nullptr);
  }
  if (status.ok()) status = file->Sync(options, nullptr);
  if (file != nullptr) file->Close(options, nullptr).PermitUncheckedError();
  files->DeleteFile(path, options, nullptr).PermitUncheckedError();
  return status;
}

// Whether the store takes writes. RocksDB's threads report to it too.
class Health final : public rocksdb::EventListener {
 public:
  Health(std::string path, std::function<void(absl::string_view)> warn)
      : path_(std::move(path)), warn_(std::move(warn)) {}

  bool ok() const { return ok_.load(std::memory_order_acquire); }
  absl::Status Get() const {
    if (ok()) return absl::OkStatus();
    MutexLock lock(mu_);
    return failure_;
  }
  // The first failure stays until Clear.
  absl::Status Fail(const rocksdb::Status& status) {
    absl::Status failure;
    bool is_first = false;
    {
      MutexLock lock(mu_);
      is_first = failure_.ok();
      if (is_first) failure_ = WriteError(path_, status);
      ok_.store(false, std::memory_order_release);
      failure = failure_;
    }
    if (is_first && warn_) warn_(failure.message());
    return failure;
  }
  void Clear() {
    {
      MutexLock lock(mu_);
      failure_ = absl::OkStatus();
      ok_.store(true, std::memory_order_release);
    }
    if (warn_) warn_(absl::StrCat("The store at ", path_, " takes writes."));
  }
  void OnBackgroundError(rocksdb::BackgroundErrorReason /*reason*/,
                         rocksdb::Status* error) override {
    if (error != nullptr && !error->ok()) Fail(*error).IgnoreError();
  }
  // After a full disk RocksDB would try every five seconds by itself, and
  // Resume would find it busy. Writes come back when we say so.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/,
                            rocksdb::Status /*error*/,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }

 private:
  const std::string path_;
  const std::function<void(absl::string_view)> warn_;
  std::atomic<bool> ok_ = true;
  mutable Mutex mu_;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
};

class SnapshotImpl final : public StoreSnapshot {
 public:
  explicit SnapshotImpl(rocksdb::DB* db)
      : db_(db), snapshot_(db->GetSnapshot()) {}
  ~SnapshotImpl() override { db_->ReleaseSnapshot(snapshot_); }
  SnapshotImpl(const SnapshotImpl&) = delete;
  SnapshotImpl& operator=(const SnapshotImpl&) = delete;
  const rocksdb::Snapshot* get() const { return snapshot_; }

 private:
  rocksdb::DB* db_;
  const rocksdb::Snapshot* snapshot_;
};

rocksdb::ReadOptions MakeReadOptions(const StoreSnapshot* snapshot) {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  if (snapshot != nullptr) {
    options.snapshot = static_cast<const SnapshotImpl*>(snapshot)->get();
  }
  return options;
}

class IteratorImpl final : public StoreIterator {
 public:
  IteratorImpl(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* handle,
               rocksdb::ReadOptions options, absl::string_view lower,
               absl::string_view upper, absl::string_view path)
      : path_(path),
        lower_(lower),
        upper_(upper),
        lower_slice_(lower_),
        upper_slice_(upper_) {
    // RocksDB keeps pointers to the slices, hence the members.
    options.iterate_lower_bound = &lower_slice_;
    if (!upper_.empty()) options.iterate_upper_bound = &upper_slice_;
    it_.reset(db->NewIterator(options, handle));
    it_->Seek(lower_slice_);
  }
  IteratorImpl(const IteratorImpl&) = delete;
  IteratorImpl& operator=(const IteratorImpl&) = delete;

  bool Valid() const override { return it_->Valid(); }
  void Next() override { it_->Next(); }
  void Seek(absl::string_view key) override {
    it_->Seek(key < absl::string_view(lower_) ? lower_slice_ : ToSlice(key));
  }
  absl::string_view key() const override { return ToView(it_->key()); }
  absl::string_view value() const override { return ToView(it_->value()); }
  absl::Status status() const override {
    const rocksdb::Status status = it_->status();
    return status.ok() ? absl::OkStatus() : ReadError(path_, status);
  }

 private:
  const std::string path_;
  const std::string lower_;
  const std::string upper_;
  const rocksdb::Slice lower_slice_;
  const rocksdb::Slice upper_slice_;
  std::unique_ptr<rocksdb::Iterator> it_;
};

// FailedPrecondition: the database has tables that this program does not know.
absl::Status CheckTables(const rocksdb::DBOptions& options,
                         const std::string& data_path) {
  const std::string path = RocksDbPath(data_path);
  if (!options.env->FileExists(path + "/CURRENT").ok()) {
    return absl::OkStatus();  // a new one
  }
  std::vector<std::string> names;
  const rocksdb::Status status =
      rocksdb::DB::ListColumnFamilies(options, path, &names);
  if (!status.ok()) return OpenError(data_path, status);
  for (const std::string& name : names) {
    bool known = false;
    for (size_t i = 0; i < kNumTables; ++i) {
      known = known || name == TableName(static_cast<Table>(i));
    }
    if (!known) {
      return absl::FailedPreconditionError(absl::StrCat(
          "The data folder ", data_path, " has a table \"", name,
          "\" that this program does not know: a newer program wrote it; use "
          "that one or a newer one."));
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct WriteBatch::Impl {
  explicit Impl(size_t reserved_bytes) : batch(reserved_bytes) {}

  // A batch that could not take an operation (more than 4 GiB) must not be
  // committed without it.
  void Note(rocksdb::Status status) {
    if (failure.ok() && !status.ok()) failure = std::move(status);
  }

  rocksdb::WriteBatch batch;
  rocksdb::Status failure;
};

WriteBatch::WriteBatch(size_t reserved_bytes)
    : impl_(std::make_unique<Impl>(reserved_bytes)) {}
WriteBatch::~WriteBatch() = default;
WriteBatch::WriteBatch(WriteBatch&&) noexcept = default;
WriteBatch& WriteBatch::operator=(WriteBatch&&) noexcept = default;

void WriteBatch::Put(Table table, absl::string_view key,
                     absl::string_view value) {
  impl_->Note(
      impl_->batch.Put(BatchHandle(table), ToSlice(key), ToSlice(value)));
}

void WriteBatch::PutParts(Table table, absl::string_view key,
                          std::vector<absl::string_view> value_parts) {
  std::vector<rocksdb::Slice> slices;
  slices.reserve(value_parts.size());
  for (absl::string_view part : value_parts) slices.push_back(ToSlice(part));
  const rocksdb::Slice key_slice = ToSlice(key);
  impl_->Note(impl_->batch.Put(
      BatchHandle(table), rocksdb::SliceParts(&key_slice, 1),
      rocksdb::SliceParts(slices.data(), static_cast<int>(slices.size()))));
}

void WriteBatch::Delete(Table table, absl::string_view key) {
  impl_->Note(impl_->batch.Delete(BatchHandle(table), ToSlice(key)));
}

void WriteBatch::DeleteRange(Table table, absl::string_view begin,
                             absl::string_view end) {
  impl_->Note(impl_->batch.DeleteRange(BatchHandle(table), ToSlice(begin),
                                       ToSlice(end)));
}

void WriteBatch::Clear() {
  impl_->batch.Clear();
  impl_->failure = rocksdb::Status::OK();
}

size_t WriteBatch::size_bytes() const { return impl_->batch.GetDataSize(); }
size_t WriteBatch::num_operations() const {
  return static_cast<size_t>(impl_->batch.Count());
}

// The members die in reverse order: the database first, the lock last.
struct RecordStore::Impl {
  ~Impl() {
    if (db == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      db->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
    }
    // Everything acknowledged is in the log: a failure here loses nothing.
    db->Close().PermitUncheckedError();
  }

  rocksdb::ColumnFamilyHandle* handle(Table table) const {
    return handles[static_cast<size_t>(table)];
  }
  absl::Status OpenDb(const RecordStoreOptions& options);
  absl::Status CheckOrWriteFormat();
  // Puts something into memory that a flush would write. RocksDB's Resume
  // begins a new log only when there is something to flush; otherwise it would
  // go on with a log writer that has failed, which ends the process.
  rocksdb::Status PrepareResume();
  rocksdb::Status Write(rocksdb::WriteBatch* batch, Durability durability);

  std::string path;
  std::unique_ptr<DataFolderLock> lock;
  std::unique_ptr<rocksdb::Env> fault_env;  // null but in tests
  std::shared_ptr<Health> health;
  std::shared_ptr<rocksdb::Cache> cache;
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;  // owned by db
  std::atomic<uint64_t> synced_through = 0;  // RocksDB's sequence number
  std::atomic<uint64_t> commits = 0;
  std::atomic<uint64_t> synced_commits = 0;
};

absl::Status RecordStore::Impl::OpenDb(const RecordStoreOptions& options) {
  if (options.fault_hook) {
    fault_env = rocksdb::NewCompositeEnv(
        NewFaultFileSystem(rocksdb::FileSystem::Default(), options.fault_hook));
  }
  rocksdb::DBOptions db_options = MakeDbOptions(options, fault_env.get());
  db_options.listeners.push_back(health);
  cache = rocksdb::NewLRUCache(options.block_cache_bytes);

  const std::string rocksdb_path = RocksDbPath(path);
  VICINAL_RETURN_IF_ERROR(CheckRocksDbFolder(rocksdb_path));
  VICINAL_RETURN_IF_ERROR(CheckTables(db_options, path));
  VICINAL_RETURN_IF_ERROR(MendLogTail(rocksdb_path, options.warn));
  std::vector<rocksdb::ColumnFamilyDescriptor> tables;
  for (size_t i = 0; i < kNumTables; ++i) {
    const auto table = static_cast<Table>(i);
    tables.emplace_back(TableName(table),
                        MakeTableOptions(table, options, cache));
  }
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(db_options, rocksdb_path, tables, &handles, &raw);
  if (!status.ok()) return OpenError(path, status);
  db.reset(raw);
  // What was replayed is in table files now.
  synced_through = db->GetLatestSequenceNumber();
  for (size_t i = 0; i < kNumTables; ++i) {
    // Batches name tables by these numbers.
    if (handles[i]->GetID() != i) {
      return absl::DataLossError(absl::StrCat(
          "The data folder ", path, " has table \"", handles[i]->GetName(),
          "\" under number ", handles[i]->GetID(), " where ", i,
          " belongs; restore the folder from a backup."));
    }
  }
  VICINAL_RETURN_IF_ERROR(CheckOrWriteFormat());
  const rocksdb::Status prepared = PrepareResume();
  return prepared.ok() ? absl::OkStatus() : WriteError(path, prepared);
}

rocksdb::Status RecordStore::Impl::PrepareResume() {
  std::string value;
  rocksdb::Status status =
      db->Get(MakeReadOptions(nullptr), handle(Table::kMeta),
              ToSlice(kFormatKey), &value);
  if (!status.ok()) return status;
  // The value that is there, and not in the log: nothing would be lost.
  rocksdb::WriteOptions in_memory;
  in_memory.disableWAL = true;
  return db->Put(in_memory, handle(Table::kMeta), ToSlice(kFormatKey), value);
}

absl::Status RecordStore::Impl::CheckOrWriteFormat() {
  std::string value;
  const rocksdb::Status status =
      db->Get(MakeReadOptions(nullptr), handle(Table::kMeta),
              ToSlice(kFormatKey), &value);
  if (status.IsNotFound()) {
    PutFixed<uint32_t>(&value, kDataFormatVersion);
    rocksdb::WriteBatch batch;
    batch.Put(handle(Table::kMeta), ToSlice(kFormatKey), value)
        .PermitUncheckedError();
    const rocksdb::Status written = Write(&batch, Durability::kFsynced);
    return written.ok() ? absl::OkStatus() : WriteError(path, written);
  }
  if (!status.ok()) return ReadError(path, status);
  if (value.size() != sizeof(uint32_t)) {
    return absl::DataLossError(absl::StrCat(
        "The format version of the data folder ", path, " has ", value.size(),
        " bytes where 4 belong; restore the folder from a backup."));
  }
  const auto version = GetFixed<uint32_t>(value.data());
  if (version > kDataFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("The data folder ", path, " has format version ", version,
                     " and this program reads up to ", kDataFormatVersion,
                     "; use the program that wrote it or a newer one."));
  }
  return absl::OkStatus();
}

rocksdb::Status RecordStore::Impl::Write(rocksdb::WriteBatch* batch,
                                         Durability durability) {
  rocksdb::WriteOptions options;
  options.sync = durability == Durability::kFsynced;
  rocksdb::Status status = batch->PutLogData(
      SyncNote(synced_through.load(std::memory_order_acquire)));
  if (!status.ok()) return status;
  status = db->Write(options, batch);
  if (!status.ok() || !options.sync) return status;
  // RocksDB has written its number into the batch. What came before it in the
  // log was synced with it.
  const uint64_t last = GetFixed<uint64_t>(batch->Data().data()) +
                        static_cast<uint64_t>(batch->Count()) - 1;
  uint64_t before = synced_through.load(std::memory_order_relaxed);
  while (before < last && !synced_through.compare_exchange_weak(
                              before, last, std::memory_order_release)) {
  }
  return status;
}

RecordStore::RecordStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RecordStore::~RecordStore() = default;

absl::StatusOr<std::unique_ptr<RecordStore>> RecordStore::Open(
    const std::string& path, const RecordStoreOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  VICINAL_ASSIGN_OR_RETURN(impl->lock, DataFolderLock::Acquire(path));
  impl->health = std::make_shared<Health>(path, options.warn);
  VICINAL_RETURN_IF_ERROR(impl->OpenDb(options));
  return std::unique_ptr<RecordStore>(new RecordStore(std::move(impl)));
}

absl::Status RecordStore::Commit(WriteBatch batch, Durability durability) {
  VICINAL_RETURN_IF_ERROR(WriteHealth());
  if (const rocksdb::Status& failure = batch.impl_->failure; !failure.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The batch is too large for one commit (", batch.size_bytes(),
        " bytes): ", failure.ToString(), "; split it."));
  }
  const rocksdb::Status status = impl_->Write(&batch.impl_->batch, durability);
  if (!status.ok()) return impl_->health->Fail(status);
  impl_->commits.fetch_add(1, std::memory_order_relaxed);
  if (durability == Durability::kFsynced) {
    impl_->synced_commits.fetch_add(1, std::memory_order_relaxed);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> RecordStore::Get(
    Table table, absl::string_view key, const StoreSnapshot* snapshot) const {
  std::string value;
  const rocksdb::Status status = impl_->db->Get(
      MakeReadOptions(snapshot), impl_->handle(table), ToSlice(key), &value);
  if (status.IsNotFound()) return std::nullopt;
  if (!status.ok()) return ReadError(impl_->path, status);
  return value;
}

absl::StatusOr<std::vector<std::optional<std::string>>> RecordStore::MultiGet(
    Table table, const std::vector<absl::string_view>& keys,
    const StoreSnapshot* snapshot) const {
  std::vector<std::optional<std::string>> out(keys.size());
  if (keys.empty()) return out;
  std::vector<rocksdb::Slice> slices;
  slices.reserve(keys.size());
  for (absl::string_view key : keys) slices.push_back(ToSlice(key));
  std::vector<rocksdb::PinnableSlice> values(keys.size());
  std::vector<rocksdb::Status> statuses(keys.size());
  impl_->db->MultiGet(MakeReadOptions(snapshot), impl_->handle(table),
                      slices.size(), slices.data(), values.data(),
                      statuses.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (statuses[i].IsNotFound()) continue;
    if (!statuses[i].ok()) return ReadError(impl_->path, statuses[i]);
    out[i].emplace(values[i].data(), values[i].size());
  }
  return out;
}

std::unique_ptr<StoreIterator> RecordStore::NewIterator(
    Table table, absl::string_view lower, absl::string_view upper,
    const StoreSnapshot* snapshot) const {
  rocksdb::ReadOptions options = MakeReadOptions(snapshot);
  if (table == Table::kRecords || table == Table::kPayloads) {
    // Read once, in order: must not push the ids out of the cache. RocksDB
    // reads ahead by itself, twice as much each time: a fixed amount would cost
    // every small collection all of it.
    options.fill_cache = false;
    options.adaptive_readahead = true;
  }
  return std::make_unique<IteratorImpl>(impl_->db.get(), impl_->handle(table),
                                        options, lower, upper, impl_->path);
}

std::unique_ptr<StoreSnapshot> RecordStore::Snapshot() const {
  return std::make_unique<SnapshotImpl>(impl_->db.get());
}

absl::Status RecordStore::WriteHealth() const { return impl_->health->Get(); }

absl::Status RecordStore::Resume() {
  if (impl_->health->ok()) return absl::OkStatus();
  // A flush that fails on the way leaves RocksDB in a state that only a restart
  // mends, so look first whether it would fit.
  uint64_t unflushed_bytes = 0;
  impl_->db->GetAggregatedIntProperty(
      rocksdb::DB::Properties::kCurSizeAllMemTables, &unflushed_bytes);
  const rocksdb::IOStatus room = ProbeRoom(
      impl_->db->GetFileSystem(), impl_->db->GetName(), unflushed_bytes);
  if (!room.ok()) return WriteError(impl_->path, room);
  // Flushes what is committed and begins a new log, which leaves a failed
  // batch's bytes behind in the old one.
  rocksdb::Status status = impl_->db->Resume();
  // Deletes the old one now, not later in the background: those bytes with a
  // whole log behind them would look as damage (log_tail.h).
  if (status.ok()) status = impl_->db->DisableFileDeletions();
  if (status.ok()) status = impl_->db->EnableFileDeletions(/*force=*/true);
  if (status.ok()) status = impl_->PrepareResume();
  if (!status.ok()) return WriteError(impl_->path, status);
  impl_->health->Clear();
  return absl::OkStatus();
}

absl::Status RecordStore::Flush() {
  VICINAL_RETURN_IF_ERROR(impl_->health->Get());
  rocksdb::Status status =
      impl_->db->Flush(rocksdb::FlushOptions(), impl_->handles);
  if (status.ok()) status = impl_->PrepareResume();
  return status.ok() ? absl::OkStatus() : WriteError(impl_->path, status);
}

absl::Status RecordStore::ReclaimSpace(Table table, absl::string_view begin,
                                       absl::string_view end) {
  const rocksdb::Slice begin_slice = ToSlice(begin);
  const rocksdb::Slice end_slice = ToSlice(end);
  const rocksdb::RangePtr range(&begin_slice, &end_slice);
  const rocksdb::Status status = rocksdb::DeleteFilesInRanges(
      impl_->db.get(), impl_->handle(table), &range, 1, /*include_end=*/false);
  return status.ok() ? absl::OkStatus() : WriteError(impl_->path, status);
}

RecordStoreStats RecordStore::stats() const {
  RecordStoreStats stats;
  const auto sum = [&](const std::string& property) {
    uint64_t total = 0;
    for (rocksdb::ColumnFamilyHandle* handle : impl_->handles) {
      uint64_t value = 0;
      if (impl_->db->GetIntProperty(handle, property, &value)) total += value;
    }
    return total;
  };
  stats.memory_bytes = sum(rocksdb::DB::Properties::kSizeAllMemTables) +
                       sum(rocksdb::DB::Properties::kEstimateTableReadersMem) +
                       impl_->cache->GetUsage();
  stats.disk_bytes = sum(rocksdb::DB::Properties::kLiveSstFilesSize);
  rocksdb::VectorLogPtr logs;
  if (impl_->db->GetSortedWalFiles(logs).ok()) {
    for (const auto& log : logs) stats.disk_bytes += log->SizeFileBytes();
  }
  stats.commits = impl_->commits.load(std::memory_order_relaxed);
  stats.synced_commits = impl_->synced_commits.load(std::memory_order_relaxed);
  return stats;
}

const std::string& RecordStore::path() const { return impl_->path; }

}  // namespace vicinal
