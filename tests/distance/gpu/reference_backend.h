// A backend to compare the CPU's with: one pair after the other by the scalar
// kernels, then everything sorted.
#pragma once

#include <memory>

#include "src/distance/gpu/backend.h"

namespace vicinal::backend_tests {

std::unique_ptr<DistanceBackend> MakeReferenceBackend();

}  // namespace vicinal::backend_tests
