// Searches by codes as the CPU's backend does them.
#pragma once

#include <cstddef>
#include <memory>

#include "src/base/top_k.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

BackendStatus LoadCodesOnCpu(const SegmentCodes& segment,
                             std::shared_ptr<const LoadedSegment>* out);
// DistanceBackend::SearchCodes; the backend compares exactly.
BackendStatus SearchCodesOnCpu(const LoadedSegment& segment,
                               const CodeQuestion& question,
                               const DistanceBackend& backend,
                               size_t num_threads, Neighbor* out,
                               BackendReport* report);

}  // namespace vicinal
