// Training by the backend of the CPU: in f32, by blocks whose sums are f64.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/base/vector_set.h"
#include "src/distance/gpu/backend.h"
#include "src/distance/kernels.h"

namespace vicinal {

// As DistanceBackend's methods of these names say, of rows of f32. Results do
// not depend on num_threads.

// segment: the rows, in `backend`, whose Assign it calls.
BackendStatus KMeansOnCpu(const DistanceBackend& backend,
                          const LoadedSegment& segment,
                          const VectorSetView& rows, size_t num_centroids,
                          size_t rounds, size_t num_threads, float* centroids,
                          uint32_t* nearest, double* inertia);
void CovarianceOnCpu(const VectorSetView& rows, size_t num_threads, float* mean,
                     float* out);
// ip: the kernels of the inner product of f32.
void RotateOnCpu(const VectorSetView& rows, const kernels::OpsEntry& ip,
                 const float* matrix, size_t num_out, size_t num_threads,
                 float* out);

}  // namespace vicinal
