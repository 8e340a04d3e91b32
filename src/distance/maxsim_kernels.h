// MaxSim over coded tokens: one table of kernels per instruction set, with the
// same bits from each.
#pragma once

#include "absl/strings/string_view.h"
#include "src/distance/kernels_maxsim.h"

namespace vicinal {

// The table of ActiveKernels()'s instruction set, where the processor has all
// that it takes (VNNI). Thread-safe.
const MaxSimKernels& ActiveMaxSimKernels();
// The table called `name`, or null when this CPU or build cannot run it.
const MaxSimKernels* FindMaxSimKernels(absl::string_view name);

}  // namespace vicinal
