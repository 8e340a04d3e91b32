#include "src/distance/maxsim_kernels.h"

#include "absl/strings/string_view.h"
#include "src/distance/distance.h"

namespace vicinal {

const MaxSimKernels* FindMaxSimKernels(absl::string_view name) {
  if (FindKernels(name) == nullptr) return nullptr;
#ifdef VICINAL_X86_KERNELS
  if (name == kernels::kAvx2MaxSimTable.name) return &kernels::kAvx2MaxSimTable;
  if (name == kernels::kAvx512MaxSimTable.name) {
    return __builtin_cpu_supports("avx512vnni") ? &kernels::kAvx512MaxSimTable
                                                : nullptr;
  }
#endif
  return name == kernels::kScalarMaxSimTable.name ? &kernels::kScalarMaxSimTable
                                                  : nullptr;
}

const MaxSimKernels& ActiveMaxSimKernels() {
  static const MaxSimKernels* const active = [] {
    const MaxSimKernels* found = FindMaxSimKernels(ActiveKernels().name);
    if (found == nullptr) found = FindMaxSimKernels("avx2");
    return found != nullptr ? found : &kernels::kScalarMaxSimTable;
  }();
  return *active;
}

}  // namespace vicinal
