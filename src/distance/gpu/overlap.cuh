// Kernels of which each is launched while the one before still runs, so that
// the time between them is hidden. On compute capability 9.0; elsewhere one
// after the other, as always.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace vicinal::gpu {

// The first statement of every such kernel: lets the next one come, and waits
// until what the one before wrote is there (whose own wait came before its
// end, so that all kernels before have ended, too).
__device__ inline void WaitForKernelBefore() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// kernel<<<grid, threads, shared, stream>>>(arguments...). overlaps: the device
// can, the kernel before is such a kernel, and both begin by waiting.
template <class... Parameters, class... Arguments>
cudaError_t LaunchAfter(bool overlaps, void (*kernel)(Parameters...), dim3 grid,
                        dim3 threads, size_t shared, cudaStream_t stream,
                        const Arguments&... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlaps ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace vicinal::gpu
