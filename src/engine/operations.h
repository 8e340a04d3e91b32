// Long work that callers can watch, wait for and cancel.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"

namespace vicinal {

// A snapshot of one operation.
struct OperationInfo {
  std::string name;        // "operations/<number>"
  std::string kind;        // "index_build", "optimize"
  std::string collection;  // name
  std::string phase;       // what it does now, for people
  uint64_t done = 0;       // rows
  uint64_t total = 0;      // 0: not known yet
  int64_t started_unix_micros = 0;
  int64_t finished_unix_micros = 0;  // 0: still running
  bool finished = false;
  absl::Status status;  // when finished
};

// Shared by the worker (which reports) and the registry. Thread-safe.
class Operation {
 public:
  Operation(std::string name, std::string kind, std::string collection,
            const Clock& clock);

  CancelToken& cancel() { return cancel_; }
  Progress& progress() { return progress_; }
  void SetPhase(absl::string_view phase);
  // Once, by the worker.
  void Finish(absl::Status status);
  OperationInfo info() const;
  // Returns when finished or at the deadline; true when finished.
  bool Wait(std::chrono::steady_clock::time_point deadline) const;

 private:
  const Clock& clock_;
  CancelToken cancel_;
  Progress progress_;
  mutable Mutex mu_;
  mutable CondVar finished_cv_;
  OperationInfo info_ ABSL_GUARDED_BY(mu_);
};

// Running operations and the last 1,000 finished ones. Thread-safe.
class OperationRegistry {
 public:
  explicit OperationRegistry(const Clock& clock) : clock_(clock) {}

  std::shared_ptr<Operation> Start(absl::string_view kind,
                                   absl::string_view collection);
  // NotFound: no such operation, or finished long ago.
  absl::StatusOr<std::shared_ptr<Operation>> Find(absl::string_view name) const;
  // Newest first; collection empty: all.
  std::vector<OperationInfo> List(absl::string_view collection) const;

 private:
  const Clock& clock_;
  mutable Mutex mu_;
  uint64_t next_number_ ABSL_GUARDED_BY(mu_) = 1;
  std::deque<std::shared_ptr<Operation>> operations_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
