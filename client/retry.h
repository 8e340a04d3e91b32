// When to try a failed call again, and how long to wait before.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "src/base/random.h"

namespace vicinal::client {

struct RetryPolicy {
  // Tries in all; 1: never again. 5 with the waits below spans about 1.5 s:
  // a restart of the server's process, not of its machine.
  int max_attempts = 5;
  // First wait; doubles each time up to max_backoff. Each is multiplied by a
  // random factor from 0.5 to 1, so that clients do not return together.
  std::chrono::milliseconds initial_backoff{100};
  std::chrono::milliseconds max_backoff{5'000};
};

// The server was not reached, or asks to come back later: UNAVAILABLE, and
// RESOURCE_EXHAUSTED with RetryInfo (without it a disk is full or a message is
// too long, and trying again cannot help).
bool IsRetryable(const absl::Status& status);

// The waits of one call or stream. Not thread-safe.
class Backoff {
 public:
  Backoff(const RetryPolicy& policy, uint64_t seed)
      : policy_(policy), random_(seed) {}

  // The wait after this failure: at least what the server asks for.
  std::chrono::nanoseconds Next(const absl::Status& status);
  // The next failure is a first one again.
  void Reset() { failures_ = 0; }
  int failures() const { return failures_; }

 private:
  RetryPolicy policy_;
  Random random_;
  int failures_ = 0;
};

}  // namespace vicinal::client
