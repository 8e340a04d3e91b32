// The end of RocksDB's log after a power cut: what was being written is left
// out, what was synced is never left out in silence. RocksDB alone cannot tell
// the two apart; see the .cc for what it does.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// Bytes that each batch carries in the log and nowhere else (14 with RocksDB's
// framing): when it was written, all batches up to and with this RocksDB
// sequence number had been synced.
std::string SyncNote(uint64_t synced_through);

// Checks the log files in RocksDB's folder, to be called before RocksDB reads
// them. Where the log is damaged, what lies behind the damage decides:
//  - A later record tells that the damaged place had been synced: DataLoss.
//    Acknowledged writes would be lost.
//  - None does, and the place looks as a power cut leaves it (sectors of zeros,
//    or bytes that begin no record): the log ends there from now on. What is
//    cut off is kept in FILE.torn, and `warn` (may be empty) is told.
//  - None does, but nothing is missing from the place, so that bits of it must
//    have flipped: DataLoss. It is the last write, and most likely was
//    acknowledged.
// A last record that the end of the file cuts short is left to RocksDB, which
// opens without it: so every killed process may leave one.
absl::Status MendLogTail(
    const std::string& rocksdb_folder,
    const std::function<void(absl::string_view message)>& warn);

}  // namespace vicinal
