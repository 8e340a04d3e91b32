// Code records as RowCoding says, one row after the other.
#pragma once

#include <cstdint>
#include <vector>

#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/kernels_codes.h"

namespace vicinal::backend_tests {

std::vector<uint8_t> EncodeRows(const VectorSetView& rows, Metric metric,
                                const RowCoding& coding);

}  // namespace vicinal::backend_tests
