// What every backend must do, as plain functions that need no test library, so
// that they run on machines with a GPU and little else. A backend conforms when
// its answers are those of a reference, bit by bit.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "src/distance/gpu/backend.h"

namespace vicinal::backend_tests {

struct ConformanceCase {
  const char* name;
  // Empty: passed. "skipped: ...": the backend may decline this, and does
  // (IsSkipped of comparison.h). Else what is wrong. Data is made from seed.
  std::string (*run)(DistanceBackend& tested, DistanceBackend& reference,
                     uint64_t seed);
  // Takes minutes where the reference is slow.
  bool is_large = false;
};

std::span<const ConformanceCase> ConformanceCases();

// What the options of a GPU promise; run on a device that is there. Same
// outcomes.
struct GpuCase {
  const char* name;
  std::string (*run)(int device, uint64_t seed);
};

std::span<const GpuCase> GpuCases();

}  // namespace vicinal::backend_tests
