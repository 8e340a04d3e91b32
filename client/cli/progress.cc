#include "client/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/output.h"
#include "src/base/mutex.h"

namespace vicinal::cli {

Progress::Style Progress::Choose(bool quiet) {
  if (quiet) return Style::kOff;
  return isatty(STDERR_FILENO) != 0 ? Style::kTerminal : Style::kPlain;
}

Progress::Progress(std::string label, std::string unit, Style style,
                   uint64_t done_before)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      style_(style),
      done_before_(done_before),
      start_(Clock::now()),
      last_print_(start_) {}

std::string Progress::Line(uint64_t done, double fraction,
                           Clock::time_point now) const {
  const double elapsed = std::max(1e-9, Seconds(now - start_));
  const double rate =
      static_cast<double>(done - std::min(done, done_before_)) / elapsed;
  std::string line = label_;
  if (style_ == Style::kTerminal) {
    constexpr int kWidth = 30;
    const int filled = static_cast<int>(fraction * kWidth);
    absl::StrAppend(&line, " [", std::string(filled, '#'),
                    std::string(kWidth - filled, '.'), "]");
  }
  absl::StrAppendFormat(&line, " %5.1f %%  %s %s  %s %s/s", fraction * 100,
                        WithCommas(done), unit_,
                        WithCommas(static_cast<uint64_t>(rate)), unit_);
  return line;
}

void Progress::Update(uint64_t done, double fraction) {
  if (style_ == Style::kOff) return;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const auto now = Clock::now();
  MutexLock lock(mu_);
  if (first_fraction_ < 0) {
    first_fraction_ = fraction;
    last_fraction_ = style_ == Style::kPlain ? fraction : 0;
  }
  const auto since = now - last_print_;
  last_done_ = done;
  if (style_ == Style::kPlain) {
    const bool next_tenth =
        static_cast<int>(fraction * 10) > static_cast<int>(last_fraction_ * 10);
    if (!next_tenth && since < std::chrono::seconds(10)) return;
    last_fraction_ = fraction;
  } else {
    last_fraction_ = fraction;
    if (since < std::chrono::milliseconds(100)) return;
  }
  last_print_ = now;
  std::string line = Line(done, fraction, now);
  if (fraction > first_fraction_ && fraction < 1) {
    const double left =
        Seconds(now - start_) * (1 - fraction) / (fraction - first_fraction_);
    absl::StrAppend(&line, "  ETA ", HumanSeconds(left));
  }
  if (style_ == Style::kTerminal) {
    absl::FPrintF(stderr, "\r%s\x1b[K", line);
    drawn_ = true;
  } else {
    absl::FPrintF(stderr, "%s\n", line);
  }
  std::fflush(stderr);
}

void Progress::End() {
  MutexLock lock(mu_);
  if (style_ != Style::kTerminal || !drawn_) return;
  absl::FPrintF(stderr, "\r%s\x1b[K\n",
                Line(last_done_, last_fraction_, Clock::now()));
  drawn_ = false;
}

}  // namespace vicinal::cli
