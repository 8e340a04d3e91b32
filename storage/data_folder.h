// The data folder and the lock that keeps it to one process.
//
//   <data>/LOCK           flock'ed while in use; text: the holder's process id
//   <data>/db/            RocksDB (record_store.h)
//   <data>/collections/   segment files (segment_path.h)
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// Holds the lock of a data folder from Acquire to destruction. The lock is the
// kernel's, so it ends with the process however that ends; the file stays.
class DataFolderLock {
 public:
  // Creates the folder (and its parents) when there is none.
  // FailedPrecondition: another process holds it (the message names its id).
  // InvalidArgument: the path is not a folder. PermissionDenied,
  // ResourceExhausted, Internal.
  static absl::StatusOr<std::unique_ptr<DataFolderLock>> Acquire(
      const std::string& path);
  ~DataFolderLock();
  DataFolderLock(const DataFolderLock&) = delete;
  DataFolderLock& operator=(const DataFolderLock&) = delete;

 private:
  explicit DataFolderLock(int fd) : fd_(fd) {}
  int fd_;
};

std::string RocksDbPath(absl::string_view data_folder);

// DataLoss: the folder of a RocksDB holds tables or logs but not the file
// CURRENT, which names its state. RocksDB would begin an empty database there.
absl::Status CheckRocksDbFolder(const std::string& rocksdb_path);

}  // namespace vicinal
