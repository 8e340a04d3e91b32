// Time as a dependency, so that tests can replay it.
#pragma once

#include <chrono>
#include <cstdint>

namespace vicinal {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::chrono::steady_clock::time_point Now() const = 0;
  virtual int64_t UnixMicros() const = 0;  // wall clock, for people
  // The system's clock; lives for ever.
  static const Clock& Real();
};

}  // namespace vicinal
