// What kernels need before they are launched.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace vicinal::gpu {

// Lets the kernel have so much dynamic shared memory. One with static memory,
// too, must not need less than 48 KB of it where both are more.
template <class Kernel>
cudaError_t AllowShared(Kernel* kernel, size_t bytes) {
  if (bytes <= 48 << 10) return cudaSuccess;
  return cudaFuncSetAttribute(kernel,
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

// The same; *out: blocks of it that run on the device at once, 1 at least.
template <class Kernel>
cudaError_t BlocksAtOnce(Kernel* kernel, int threads, size_t shared,
                         int num_processors, uint32_t* out) {
  const cudaError_t allowed = AllowShared(kernel, shared);
  if (allowed != cudaSuccess) return allowed;
  int of_processor = 0;
  const cudaError_t counted = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &of_processor, kernel, threads, shared);
  *out = static_cast<uint32_t>(std::max(1, of_processor) * num_processors);
  return counted;
}

}  // namespace vicinal::gpu
