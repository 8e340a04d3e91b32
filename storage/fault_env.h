// A disk that fails on command, for tests.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "rocksdb/file_system.h"

namespace vicinal {

// Asked before each operation that changes a file ("create", "append", "sync",
// "rename", "sync_folder"), from any thread. OK lets it happen. Otherwise it
// fails: ResourceExhausted as a full disk does, after half of an append;
// DataLoss as a torn write does, after half of an append; any other code as an
// I/O error that changes nothing.
using FaultHook = std::function<absl::Status(absl::string_view operation,
                                             absl::string_view path)>;

// `base` with `hook` in front. Thread-safe if the hook is.
std::shared_ptr<rocksdb::FileSystem> NewFaultFileSystem(
    std::shared_ptr<rocksdb::FileSystem> base, FaultHook hook);

}  // namespace vicinal
