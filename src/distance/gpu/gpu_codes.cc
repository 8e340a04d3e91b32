// Codes on a GPU: how they lie there, and the entry of their searches.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

#include "src/distance/gpu/code_run.h"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"

namespace vicinal::gpu {
namespace {

// Records that are copied to the device at a time.
constexpr size_t kPackBytes = size_t{64} << 20;
// Rows of codes, less than: their numbers and sizes stay below 2^32.
constexpr size_t kMaxCodeRows = size_t{1} << 30;

// One segment of one bit, maybe with one without dimensions behind it.
bool IsBits(const CodeLayout& layout) {
  return layout.num_segments >= 1 && layout.segments[0].bits == 1 &&
         layout.segments[0].low_offset == 0 &&
         (layout.num_segments == 1 ||
          (layout.num_segments == 2 && layout.segments[1].bits == 0));
}

// How codes of this layout lie on the device; no memory yet.
DeviceCodes ShapeOfCodes(const CodeLayout& layout, size_t num_rows) {
  DeviceCodes codes;
  codes.num_rows = static_cast<uint32_t>(num_rows);
  codes.padded_rows = static_cast<uint32_t>((num_rows + kScanTileRows - 1) /
                                            kScanTileRows * kScanTileRows);
  codes.num_segments = layout.num_segments;
  for (uint32_t s = 0; s < layout.num_segments; ++s) {
    const CodeSegment& from = layout.segments[s];
    DeviceCodeSegment& to = codes.segments[s];
    if (from.bits == 0 || from.num_dims == 0) continue;
    // Two bits with levels become four.
    to.bits = from.bits == 2 && from.has_levels ? 4 : from.bits;
    const uint32_t dims_per_word = 128 / to.bits;
    to.first_word = codes.num_words;
    to.num_words = (from.num_dims + dims_per_word - 1) / dims_per_word;
    if (to.bits == 8) to.num_words += to.num_words % 2;
    codes.num_words += to.num_words;
    uint8_t levels[16];
    for (uint8_t code = 0; code < 16; ++code) {
      levels[code] = from.has_levels ? from.levels[code] : code;
    }
    std::memcpy(to.levels, levels, sizeof(levels));
  }
  codes.is_bits = IsBits(layout) && codes.num_words <= kMaxBitWords;
  if (codes.is_bits) {
    codes.num_words += codes.num_words % 2;
    codes.segments[0].num_words = codes.num_words;
  }
  const auto take_steps = [&](const DeviceCodeSegment& segment) {
    const uint32_t first = codes.num_steps;
    codes.num_steps += segment.num_words * 4 / segment.bits;
    return first;
  };
  for (uint32_t s = 0; s < layout.num_segments; ++s) {
    DeviceCodeSegment& segment = codes.segments[s];
    if (segment.bits != 0) segment.first_step = take_steps(segment);
  }
  for (uint32_t s = 0; s < layout.num_segments; ++s) {
    DeviceCodeSegment& segment = codes.segments[s];
    if (segment.bits == 0 || layout.segments[s].low_offset == 0) continue;
    segment.low_step = take_steps(segment);
    codes.has_low = true;
  }
  return codes;
}
}  // namespace

BackendStatus GpuBackend::LoadCodes(const SegmentCodes& segment,
                                    std::shared_ptr<const LoadedSegment>* out) {
  GPU_RETURN_IF_ERROR(Ready());
  if (segment.num_rows >= kMaxCodeRows) return BackendStatus::kUnsupported;
  auto loaded = std::make_shared<GpuCodes>();
  loaded->layout_ = *segment.layout;
  DeviceCodes& codes = loaded->codes_;
  codes = ShapeOfCodes(*segment.layout, segment.num_rows);
  if (segment.num_rows == 0) {
    *out = std::move(loaded);
    return BackendStatus::kOk;
  }
  const size_t words_bytes = size_t{codes.padded_rows} / kCodeGroupRows *
                             codes.num_words * 32 * sizeof(uint2);
  const size_t factors =
      size_t{codes.padded_rows} * (1 + codes.num_segments) * sizeof(float);
  GPU_RETURN_IF_ERROR(Allocate(words_bytes + factors, &loaded->block_));
  std::byte* const data = loaded->block_.data();
  codes.words = reinterpret_cast<const uint2*>(data);
  codes.additive = reinterpret_cast<const float*>(data + words_bytes);
  codes.rescale = codes.additive + codes.padded_rows;
  const std::lock_guard<std::mutex> lock(mutex_);
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(data, 0, words_bytes + factors, stream_)));
  const size_t record_bytes = segment.layout->record_bytes;
  const size_t at_once = std::min(kPackBytes, workspace_.size() / 2) /
                         record_bytes / kScanTileRows * kScanTileRows;
  if (at_once == 0) return BackendStatus::kNoMemory;
  for (size_t first = 0; first < segment.num_rows; first += at_once) {
    const size_t n = std::min(at_once, segment.num_rows - first);
    workspace_.Rewind(0);
    uint8_t* const records = workspace_.Take<uint8_t>(n * record_bytes);
    if (records == nullptr) return BackendStatus::kNoMemory;
    GPU_RETURN_IF_ERROR(Check(cudaMemcpy2DAsync(
        records, record_bytes, segment.records + first * segment.stride_bytes,
        segment.stride_bytes, record_bytes, n, cudaMemcpyHostToDevice,
        stream_)));
    GPU_RETURN_IF_ERROR(Check(PackCodes(
        *segment.layout, codes, records, record_bytes,
        static_cast<uint32_t>(first), static_cast<uint32_t>(n), stream_)));
  }
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  *out = std::move(loaded);
  return BackendStatus::kOk;
}
BackendStatus GpuBackend::SearchCodes(const LoadedSegment& segment,
                                      const CodeQuestion& question,
                                      Neighbor* out,
                                      BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  if (question.k == 0 || question.depth < question.k ||
      question.depth > kMaxBackendK) {
    return BackendStatus::kUnsupported;
  }
  if (question.num_queries == 0) return BackendStatus::kOk;
  if (segment.num_rows() == 0 || question.num_probes == 0) {
    std::fill(out, out + question.num_queries * question.k,
              Neighbor{std::numeric_limits<float>::infinity(), kInvalidRow});
    return BackendStatus::kOk;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  const BackendStatus status =
      CodeRun(*this, static_cast<const GpuCodes&>(segment), question, out,
              report)
          .Run();
  // What has begun still uses the memory of the next call.
  if (status != BackendStatus::kOk) cudaStreamSynchronize(stream_);
  return status;
}

}  // namespace vicinal::gpu
