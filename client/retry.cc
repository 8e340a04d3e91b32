#include "client/retry.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "client/status.h"

namespace vicinal::client {

bool IsRetryable(const absl::Status& status) {
  return absl::IsUnavailable(status) ||
         (absl::IsResourceExhausted(status) && RetryDelay(status).has_value());
}

std::chrono::nanoseconds Backoff::Next(const absl::Status& status) {
  const int doublings = std::min(failures_++, 30);
  const auto grown = std::chrono::nanoseconds(policy_.initial_backoff) *
                     (int64_t{1} << doublings);
  const auto wait =
      std::min<std::chrono::nanoseconds>(grown, policy_.max_backoff);
  const auto jittered = std::chrono::nanoseconds(
      static_cast<int64_t>(static_cast<double>(wait.count()) *
                           (0.5 + 0.5 * random_.UniformDouble())));
  return std::max(jittered, RetryDelay(status).value_or(jittered));
}

}  // namespace vicinal::client
