// What a build without CUDA (VICINAL_CUDA is not defined) has in place of the
// backend of GPUs.
#include <memory>
#include <string>

#include "src/distance/gpu/backend.h"

#ifndef VICINAL_CUDA

namespace vicinal {

int CountGpus() { return 0; }

std::string WhyNoGpu() { return "this build is one without CUDA"; }

BackendStatus MakeGpuBackend(const GpuOptions&,
                             std::unique_ptr<DistanceBackend>* out) {
  out->reset();
  return BackendStatus::kUnsupported;
}

}  // namespace vicinal

#endif  // VICINAL_CUDA
