#include "bench/check/rocksdb_writer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "rocksdb/cache.h"
#include "rocksdb/db.h"
#include "rocksdb/write_batch.h"
#include "storage/record_store.h"
#include "storage/rocksdb_options.h"

namespace vicinal::bench {
namespace {

absl::Status ToStatus(const rocksdb::Status& status) {
  return status.ok() ? absl::OkStatus()
                     : absl::InternalError(
                           absl::StrCat("RocksDB: ", status.ToString()));
}

// All tables, as the store opens them; closed in the right order.
struct Database {
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> tables;

  ~Database() {
    for (rocksdb::ColumnFamilyHandle* table : tables) {
      db->DestroyColumnFamilyHandle(table);
    }
  }
  rocksdb::ColumnFamilyHandle* table(Table which) const {
    return tables[static_cast<size_t>(which)];
  }
};

absl::Status OpenDatabase(const std::string& path, Database* out) {
  const RecordStoreOptions options;
  const std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(options.block_cache_bytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> tables;
  for (size_t i = 0; i < kNumTables; ++i) {
    const auto table = static_cast<Table>(i);
    tables.emplace_back(TableName(table),
                        MakeTableOptions(table, options, cache));
  }
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(
      MakeDbOptions(options, nullptr), path, tables, &out->tables, &db);
  out->db.reset(db);
  return ToStatus(status);
}

// Big-endian, `prefix` zero bytes first.
template <size_t kPrefix>
std::array<char, kPrefix + 8> Key(uint64_t number) {
  std::array<char, kPrefix + 8> key{};
  for (size_t i = 0; i < 8; ++i) {
    key[kPrefix + i] = static_cast<char>(number >> (56 - 8 * i));
  }
  return key;
}

}  // namespace

absl::StatusOr<double> TimeRocksDbWrites(const std::string& path,
                                         const FloatMatrix& rows,
                                         size_t batch_rows) {
  Database database;
  if (absl::Status status = OpenDatabase(path, &database); !status.ok()) {
    return status;
  }
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const std::array<char, 16> id_entry{};
  const auto start = std::chrono::steady_clock::now();
  for (size_t begin = 0; begin < rows.num_rows; begin += batch_rows) {
    const size_t end = std::min(begin + batch_rows, rows.num_rows);
    rocksdb::WriteBatch batch;
    for (size_t row = begin; row < end; ++row) {
      const auto record_key = Key<4>(row);
      const auto id_key = Key<5>(row);
      batch.Put(database.table(Table::kRecords),
                rocksdb::Slice(record_key.data(), record_key.size()),
                rocksdb::Slice(reinterpret_cast<const char*>(rows.row(row)),
                               rows.dim * sizeof(float)));
      batch.Put(database.table(Table::kIds),
                rocksdb::Slice(id_key.data(), id_key.size()),
                rocksdb::Slice(id_entry.data(), id_entry.size()));
    }
    const rocksdb::Status status = database.db->Write(synced, &batch);
    if (!status.ok()) return ToStatus(status);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

}  // namespace vicinal::bench
