// Kernels over sparse vectors: scores of rows, and which sums are large. One
// table per instruction set, with the same bits from each.
#pragma once

#include "absl/strings/string_view.h"
#include "src/distance/kernels_sparse.h"

namespace vicinal {

// The table of ActiveKernels()'s instruction set. Thread-safe.
const SparseKernels& ActiveSparseKernels();
// The table called `name`, or null when this CPU or build cannot run it.
const SparseKernels* FindSparseKernels(absl::string_view name);

}  // namespace vicinal
