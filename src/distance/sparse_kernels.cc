#include "src/distance/sparse_kernels.h"

#include "absl/strings/string_view.h"
#include "src/distance/distance.h"

namespace vicinal {

const SparseKernels* FindSparseKernels(absl::string_view name) {
  if (FindKernels(name) == nullptr) return nullptr;
#ifdef VICINAL_X86_KERNELS
  for (const SparseKernels* table :
       {&kernels::kAvx2SparseTable, &kernels::kAvx512SparseTable}) {
    if (name == table->name) return table;
  }
#endif
  return name == kernels::kScalarSparseTable.name ? &kernels::kScalarSparseTable
                                                  : nullptr;
}

const SparseKernels& ActiveSparseKernels() {
  static const SparseKernels* const active = [] {
    const SparseKernels* found = FindSparseKernels(ActiveKernels().name);
    return found != nullptr ? found : &kernels::kScalarSparseTable;
  }();
  return *active;
}

}  // namespace vicinal
