#include "src/engine/phase_times.h"

#include <cstddef>
#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace vicinal {

void PhaseTimes::EndCurrent() {
  const auto now = clock_.Now();
  if (current_ < phases_.size()) phases_[current_].second += now - since_;
  since_ = now;
}

void PhaseTimes::Begin(absl::string_view phase) {
  EndCurrent();
  const auto known = absl::c_find_if(
      phases_, [&](const auto& other) { return other.first == phase; });
  current_ = static_cast<size_t>(known - phases_.begin());
  if (known == phases_.end()) phases_.emplace_back(phase, Duration(0));
}

std::string PhaseTimes::Text() {
  EndCurrent();
  const Duration total = since_ - start_;
  std::string out = absl::StrFormat("%.1f s", total.count());
  absl::string_view separator = ": ";
  for (const auto& [phase, time] : phases_) {
    if (time * 20 <= total) continue;
    absl::StrAppendFormat(&out, "%s%s %.1f s", separator, phase, time.count());
    separator = ", ";
  }
  return out;
}

}  // namespace vicinal
