// What a build without CUDA (VICINAL_CUDA is not defined) has in place of the
// backend of GPUs.
#include <memory>

#include "src/distance/gpu/backend.h"

#ifndef VICINAL_CUDA

namespace vicinal {

int CountGpus() { return 0; }

BackendStatus MakeGpuBackend(const GpuOptions&,
                             std::unique_ptr<DistanceBackend>* out) {
  out->reset();
  return BackendStatus::kUnsupported;
}

}  // namespace vicinal

#endif  // VICINAL_CUDA
