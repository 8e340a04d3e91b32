// The floor under any ingest: RocksDB by itself writes the same bytes in the
// same batches with the options that the storage engine uses.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "bench/dataset.h"

namespace vicinal::bench {

// Writes per row a record (12-byte key, the row's floats) and an id entry
// (13-byte key, 16 bytes) into a new database at `path`, batch_rows rows in
// each synced batch. Returns the seconds from the first batch to the last
// sync; opening and closing do not count. Errors: RocksDB's.
absl::StatusOr<double> TimeRocksDbWrites(const std::string& path,
                                         const FloatMatrix& rows,
                                         size_t batch_rows);

}  // namespace vicinal::bench
