// Progress of long work on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"

namespace vicinal::cli {

// A bar on a terminal, redrawn ten times a second; elsewhere a line for every
// tenth of the work or every 10 s. Thread-safe.
class Progress {
 public:
  enum class Style { kOff, kPlain, kTerminal };
  // kTerminal when stderr is one, kPlain else, kOff when quiet.
  static Style Choose(bool quiet);

  // label: what is done; unit: what is counted, e.g. "points".
  // done_before: what an earlier run did, which does not count for the rate.
  Progress(std::string label, std::string unit, Style style,
           uint64_t done_before = 0);
  // done: so many, `fraction` (0 to 1) of all.
  void Update(uint64_t done, double fraction);
  // Ends the bar's line.
  void End();

 private:
  using Clock = std::chrono::steady_clock;
  std::string Line(uint64_t done, double fraction, Clock::time_point now) const;

  const std::string label_;
  const std::string unit_;
  const Style style_;
  const uint64_t done_before_;
  const Clock::time_point start_;
  Mutex mu_;
  double first_fraction_ ABSL_GUARDED_BY(mu_) = -1;
  double last_fraction_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t last_done_ ABSL_GUARDED_BY(mu_) = 0;
  Clock::time_point last_print_ ABSL_GUARDED_BY(mu_);
  bool drawn_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace vicinal::cli
