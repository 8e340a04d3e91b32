// How each table is laid out in RocksDB. The reasons are in the .cc.
#pragma once

#include <memory>
#include <string>

#include "rocksdb/cache.h"
#include "rocksdb/options.h"
#include "storage/record_store.h"

namespace vicinal {

// Names of the column families; kMeta is RocksDB's default one.
const std::string& TableName(Table table);

// env must outlive the database; null: the system's.
rocksdb::DBOptions MakeDbOptions(const RecordStoreOptions& options,
                                 rocksdb::Env* env);
rocksdb::ColumnFamilyOptions MakeTableOptions(
    Table table, const RecordStoreOptions& options,
    const std::shared_ptr<rocksdb::Cache>& cache);

}  // namespace vicinal
