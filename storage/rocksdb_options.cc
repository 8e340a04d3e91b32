#include "storage/rocksdb_options.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "rocksdb/cache.h"
#include "rocksdb/env.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"
#include "storage/record_store.h"

namespace vicinal {
namespace {

constexpr size_t kKiB = size_t{1} << 10;
constexpr size_t kMiB = size_t{1} << 20;

// The tables divide write_buffer_bytes by fixed shares instead of sharing a
// WriteBufferManager: that one flushes the table whose memtable is oldest,
// which here is by turns each small table, before it comes to the records.
struct WriteBuffers {
  size_t share_of_1024;  // of write_buffer_bytes, for all its memtables
  int num_memtables;     // the active one and those being flushed
};

WriteBuffers BuffersOf(Table table) {
  switch (table) {
    case Table::kRecords:
      return {.share_of_1024 = 768, .num_memtables = 3};
    case Table::kPayloads:
      return {.share_of_1024 = 128, .num_memtables = 2};
    case Table::kIds:
      return {.share_of_1024 = 64, .num_memtables = 2};
    case Table::kMeta:
    case Table::kTombstones:
      break;
  }
  return {.share_of_1024 = 32, .num_memtables = 2};
}

}  // namespace

const std::string& TableName(Table table) {
  static const auto& kNames = *new std::array<std::string, kNumTables>{
      "default", "ids", "records", "payloads", "tombstones"};
  return kNames[static_cast<size_t>(table)];
}

rocksdb::DBOptions MakeDbOptions(const RecordStoreOptions& options,
                                 rocksdb::Env* env) {
  rocksdb::DBOptions db;
  if (env != nullptr) db.env = env;
  db.create_if_missing = true;
  db.create_missing_column_families = true;
  db.paranoid_checks = true;
  db.verify_sst_unique_id_in_manifest = true;
  // A log file that is gone, or shorter than what was synced of it, is found.
  db.track_and_verify_wals_in_manifest = true;
  // A record cut short at the end of a log is a write that was never
  // acknowledged: open without it. A checksum that differs refuses to open:
  // kPointInTimeRecovery, RocksDB's default, would drop every acknowledged
  // batch behind it and say nothing. MendLogTail (log_tail.h) has read the log
  // before, and settled what this mode cannot tell apart.
  db.wal_recovery_mode =
      rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  // A recycled log ends where a checksum differs, so that with it the mode
  // above could not tell damage from the end. Off, though an overwritten file
  // syncs faster than a growing one.
  db.recycle_log_file_num = 0;
  // A write that failed stays failed until RecordStore::Resume.
  db.max_bgerror_resume_count = 0;
  // Small tables are flushed when the log has grown by this much, which bounds
  // what an open replays.
  db.max_total_wal_size = std::max(2 * options.write_buffer_bytes, 16 * kMiB);
  // What is in memory is in the log, too (RecordStore::PrepareResume's record
  // is in a table): closing leaves it there.
  db.avoid_flush_during_shutdown = true;
  db.max_background_jobs = 2;
  // Sync large table files in steps: one big sync at the end would delay the
  // log's syncs behind it.
  db.bytes_per_sync = kMiB;
  db.max_open_files = 1024;
  db.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  db.max_log_file_size = 4 * kMiB;
  db.keep_log_file_num = 4;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  return db;
}

rocksdb::ColumnFamilyOptions MakeTableOptions(
    Table table, const RecordStoreOptions& options,
    const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions cf;
  const WriteBuffers buffers = BuffersOf(table);
  cf.max_write_buffer_number = buffers.num_memtables;
  cf.write_buffer_size =
      std::max(options.write_buffer_bytes / 1024 * buffers.share_of_1024 /
                   static_cast<size_t>(buffers.num_memtables),
               64 * kKiB);
  cf.arena_block_size = std::min(cf.write_buffer_size / 8, kMiB);
  cf.compression = rocksdb::kNoCompression;
  cf.level_compaction_dynamic_level_bytes = true;
  cf.target_file_size_base = 64 * kMiB;
  cf.max_bytes_for_level_base = 256 * kMiB;

  rocksdb::BlockBasedTableOptions blocks;
  blocks.block_cache = cache;
  // Indexes and filters live in the capped cache, not beside it.
  blocks.cache_index_and_filter_blocks = true;
  blocks.pin_l0_filter_and_index_blocks_in_cache = true;
  blocks.block_size = 4 * kKiB;
  blocks.max_auto_readahead_size = kMiB;
  blocks.format_version = 5;

  switch (table) {
    case Table::kRecords:
      // Floats do not compress; large blocks keep the index small (about five
      // 784-d records each).
      blocks.block_size = 16 * kKiB;
      break;
    case Table::kPayloads:
      cf.compression = rocksdb::kLZ4Compression;
      blocks.block_size = 16 * kKiB;
      break;
    case Table::kIds:
      // Every upsert asks for an id that most often is not there.
      blocks.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
      blocks.whole_key_filtering = true;
      blocks.data_block_index_type =
          rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
      cf.memtable_whole_key_filtering = true;
      cf.memtable_prefix_bloom_size_ratio = 0.1;
      break;
    case Table::kMeta:
    case Table::kTombstones:
      break;
  }
  cf.table_factory.reset(rocksdb::NewBlockBasedTableFactory(blocks));
  return cf;
}

}  // namespace vicinal
