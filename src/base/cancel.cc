#include "src/base/cancel.h"

#include <chrono>

#include "absl/status/status.h"

namespace vicinal {

absl::Status StopCondition::Check() const {
  if (cancelled && cancelled()) {
    return absl::CancelledError("The caller cancelled the request.");
  }
  if (deadline != std::chrono::steady_clock::time_point::max() &&
      std::chrono::steady_clock::now() >= deadline) {
    return absl::DeadlineExceededError(
        "The deadline passed before the work was done; allow more time or ask "
        "for less (smaller k, ef or batch).");
  }
  return absl::OkStatus();
}

}  // namespace vicinal
