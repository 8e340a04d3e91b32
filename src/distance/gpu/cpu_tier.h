// Which tables of kernels run here; a leaf cannot ask src/distance/distance.h.
#pragma once

#include <cstdint>

namespace vicinal {

// Each has what those before it have: AVX2 with FMA and F16C; AVX-512 F, BW, DQ
// and VL; VNNI.
enum class CpuTier : uint8_t { kScalar, kAvx2, kAvx512, kAvx512Vnni };

inline CpuTier TierOfCpu() {
#ifdef VICINAL_X86_KERNELS
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c")) {
    return CpuTier::kScalar;
  }
  if (!__builtin_cpu_supports("avx512f") ||
      !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl")) {
    return CpuTier::kAvx2;
  }
  return __builtin_cpu_supports("avx512vnni") ? CpuTier::kAvx512Vnni
                                              : CpuTier::kAvx512;
#else
  return CpuTier::kScalar;
#endif
}

}  // namespace vicinal
