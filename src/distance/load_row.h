// Rows of any element type as floats.
#pragma once

#include <cstddef>

#include "src/base/types.h"

namespace vicinal {

// The dim elements at `row`, which need no alignment, as floats; exact.
void LoadFloats(const void* row, ElementType type, size_t dim, float* out);

}  // namespace vicinal
