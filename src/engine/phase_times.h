// How long the phases of some long work take.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/base/clock.h"

namespace vicinal {

// Not thread-safe.
class PhaseTimes {
 public:
  // Begins. The clock is borrowed.
  explicit PhaseTimes(const Clock& clock)
      : clock_(clock), start_(clock.Now()), since_(start_) {}

  // Ends the phase before. One that comes again goes on.
  void Begin(absl::string_view phase);

  // Up to now, e.g. "12.3 s: ordering rows 8.2 s, encoding 4.1 s", of phases
  // that took more than a twentieth.
  std::string Text();

 private:
  using Duration = std::chrono::duration<double>;

  void EndCurrent();

  const Clock& clock_;
  const std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point since_;
  std::vector<std::pair<std::string, Duration>> phases_;
  size_t current_ = 0;  // their number: none yet
};

}  // namespace vicinal
