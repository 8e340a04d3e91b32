// How a kernel hands results over that it wrote to pinned memory of the host,
// so that the host need not wait for the kernel's end.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace vicinal::gpu {

// By one thread, behind a barrier of all that wrote results. See
// GpuBackend::Await.
__device__ inline void Signal(uint32_t* flag, uint32_t value) {
  __threadfence_system();
  *static_cast<volatile uint32_t*>(flag) = value;
}

}  // namespace vicinal::gpu
