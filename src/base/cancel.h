// Cooperative cancellation and progress of long work.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"

namespace vicinal {

// Set once by any thread, polled by the worker. Thread-safe.
class CancelToken {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_ = false;
};

// What a search polls between blocks of work (about every 64 expansions).
// Empty members never stop it. Cheap to copy; borrowed members must outlive
// the search.
struct StopCondition {
  std::chrono::steady_clock::time_point deadline =
      std::chrono::steady_clock::time_point::max();
  std::function<bool()> cancelled;  // may be empty; must be thread-safe

  // OK, or DeadlineExceeded / Cancelled.
  absl::Status Check() const;
};

// Work done so far, in units chosen by the worker. Thread-safe.
struct Progress {
  std::atomic<uint64_t> done = 0;
  std::atomic<uint64_t> total = 0;  // 0: not known yet
};

}  // namespace vicinal
