// Code records of rows on a GPU.
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "src/distance/gpu/encode_kernels.h"
#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/train_kernels.h"

namespace vicinal::gpu {
namespace {

// Rows at a time: enough for any number of processors.
constexpr size_t kMostRows = size_t{1} << 17;
// A rotation takes a row in shared memory.
constexpr size_t kMostCoded = 8192;

}  // namespace

BackendStatus GpuBackend::Encode(const LoadedSegment& segment,
                                 const RowCoding& coding,
                                 uint8_t* records) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  const size_t d = rows.dim;
  const size_t num_coded = coding.num_coded;
  const size_t record_bytes = coding.layout->record_bytes;
  if (coding.dim != d || num_coded > kMostCoded) {
    return BackendStatus::kUnsupported;
  }
  if (rows.num_rows == 0) return BackendStatus::kOk;
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  DeviceCoding there;
  there.layout = *coding.layout;
  there.terms = coding;
  there.metric = rows.metric;
  const auto upload = [&](const float* from, size_t count,
                          const float** to) -> BackendStatus {
    if (from == nullptr) return BackendStatus::kOk;
    float* taken;
    GPU_RETURN_IF_ERROR(Upload(from, count, &taken));
    *to = taken;
    return BackendStatus::kOk;
  };
  const size_t num_centres = coding.num_centres;
  GPU_RETURN_IF_ERROR(upload(coding.mean, d, &there.terms.mean));
  GPU_RETURN_IF_ERROR(upload(coding.basis, num_coded * d, &there.terms.basis));
  GPU_RETURN_IF_ERROR(upload(coding.signs, 4 * num_coded, &there.terms.signs));
  if (coding.centres != nullptr) {
    uint32_t* offsets;
    GPU_RETURN_IF_ERROR(Upload(coding.offsets, num_centres + 1, &offsets));
    there.terms.offsets = offsets;
    GPU_RETURN_IF_ERROR(
        upload(coding.centres, num_centres * d, &there.terms.centres));
    GPU_RETURN_IF_ERROR(upload(coding.coded_centres, num_centres * num_coded,
                               &there.terms.coded_centres));
  }
  there.rotation_size = std::bit_floor(static_cast<uint32_t>(num_coded));
  there.rotation_scale = 1 / std::sqrt(static_cast<float>(there.rotation_size));
  const bool adjusts = coding.adjust_rounds > 0;
  const size_t row_bytes = (d + num_coded) * sizeof(float) +
                           (adjusts ? num_coded : 0) + record_bytes;
  constexpr size_t kGaps = 4 * Arena::kAlignment;
  if (workspace_.left() < kGaps) return BackendStatus::kNoMemory;
  const size_t at_once =
      std::min<size_t>(
          (rows.num_rows + kEncodedRows - 1) / kEncodedRows,
          std::min(kMostRows, (workspace_.left() - kGaps) / row_bytes) /
              kEncodedRows) *
      kEncodedRows;
  if (at_once == 0) return BackendStatus::kNoMemory;
  float* const centred = workspace_.Take<float>(at_once * d);
  float* const coded = workspace_.Take<float>(at_once * num_coded);
  uint8_t* const codes =
      workspace_.Take<uint8_t>(adjusts ? at_once * num_coded : 0);
  uint8_t* const made = workspace_.Take<uint8_t>(at_once * record_bytes);
  if (centred == nullptr || coded == nullptr || codes == nullptr ||
      made == nullptr) {
    return BackendStatus::kNoMemory;
  }
  for (size_t first = 0; first < rows.num_rows; first += at_once) {
    const auto n =
        static_cast<uint32_t>(std::min(at_once, rows.num_rows - first));
    const auto begin = static_cast<uint32_t>(first);
    GPU_RETURN_IF_ERROR(
        Check(CentreRows(rows, there, begin, n, centred, stream_)));
    if (coding.basis == nullptr) {
      GPU_RETURN_IF_ERROR(Check(RotateFast(there, n, centred, coded, stream_)));
    } else if (num_coded > 0) {
      DeviceRows taken;
      taken.exact = centred;
      taken.num_rows = n;
      taken.dim = rows.dim;
      // Sums of the product run over the dimensions in their order.
      GPU_RETURN_IF_ERROR(Check(RotateRows(taken, there.terms.basis,
                                           static_cast<uint32_t>(num_coded), 0,
                                           n, coded, stream_)));
    }
    GPU_RETURN_IF_ERROR(
        Check(cudaMemsetAsync(made, 0, n * record_bytes, stream_)));
    GPU_RETURN_IF_ERROR(Check(
        EncodeRows(there, begin, n, centred, coded, codes, made, stream_)));
    GPU_RETURN_IF_ERROR(Check(
        cudaMemcpyAsync(records + first * record_bytes, made, n * record_bytes,
                        cudaMemcpyDeviceToHost, stream_)));
  }
  return Check(cudaStreamSynchronize(stream_));
}

}  // namespace vicinal::gpu
