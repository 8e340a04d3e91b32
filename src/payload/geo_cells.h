// An area on the earth as cells of a grid whose numbers, Morton codes, order
// places along a curve: what a sorted list of places is searched by.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "src/payload/filter.h"

namespace vicinal {

// `size` places stand in the order of their Morton codes (MortonOf). Calls
// visit(begin, end, all_inside) for slices of them that together hold every
// place in the area, each once: of some places each, whole cells within a box,
// or what a cell too small to split has; all_inside: they need no check.
// lower_bound(code, begin, end): the first of a slice that is not below a code.
void ForEachCellIn(
    const FilterNode& area, size_t size,
    absl::FunctionRef<size_t(uint64_t, size_t, size_t)> lower_bound,
    absl::FunctionRef<void(size_t, size_t, bool)> visit);

}  // namespace vicinal
