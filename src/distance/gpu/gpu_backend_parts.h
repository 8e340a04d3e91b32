// What the files of GpuBackend share: segments, and how a search is planned.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/search_kernels.h"

#define GPU_RETURN_IF_ERROR(call)                                    \
  do {                                                               \
    const BackendStatus status_of_call = (call);                     \
    if (status_of_call != BackendStatus::kOk) return status_of_call; \
  } while (false)

namespace vicinal::gpu {

// Candidates of one query, at most: they are sorted in shared memory, of which
// some devices have half.
inline constexpr uint32_t kMaxCapacity = 16384;
// Queries of one batch: enough for any number of processors.
inline constexpr size_t kMaxBatch = 16384;
// Pinned memory of what a few queries send and get.
inline constexpr size_t kFewBytes = size_t{1} << 20;

// Sizes of the rows; no memory yet.
DeviceRows ShapeOf(uint32_t num_rows, uint32_t dim, ElementType type,
                   Metric metric);

// The rows begin .. end - 1 of a segment or of a part of one. Behind the last
// of a segment there are kTileRows more.
DeviceRows PartOf(const DeviceRows& segment, size_t begin, size_t end);

// Candidates that a query of so many gets room for, where `k` are wanted.
uint32_t CapacityFor(size_t num_queries, size_t k, uint32_t most);

// Rounds over all tiles, of which the first has `stored` at most and each looks
// at up to most_growth times those before it.
std::vector<Round> PlanRounds(uint32_t num_tiles, uint32_t stored,
                              double most_growth);

// Device memory of a segment, within the budget of its backend.
class DeviceBlock {
 public:
  DeviceBlock() = default;
  DeviceBlock(const DeviceBlock&) = delete;
  DeviceBlock& operator=(const DeviceBlock&) = delete;
  ~DeviceBlock() {
    // Of a call that has its results, kernels may still be ending.
    if (backend_ != nullptr) cudaStreamSynchronize(backend_->stream_);
    cudaFree(data_);
    if (backend_ != nullptr) backend_->bytes_in_use_ -= bytes_;
  }
  size_t bytes() const { return bytes_; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  friend class GpuBackend;
  const GpuBackend* backend_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class GpuSegment final : public LoadedSegment {
 public:
  size_t num_rows() const override { return rows_.num_rows; }
  size_t device_bytes() const override { return block_.bytes(); }
  const DeviceRows& rows() const { return rows_; }

 private:
  friend class GpuBackend;
  DeviceBlock block_;
  DeviceRows rows_;
};

struct GpuBackend::Question {
  const void* queries = nullptr;
  size_t num_queries = 0;
  size_t k = 0;
  const uint64_t* accepted = nullptr;  // on the device; null: all rows
  // kInvalidRow, or query q leaves row first_excluded + q out.
  uint32_t first_excluded = kInvalidRow;
  Neighbor* out = nullptr;
  // Whether queries and `out` are on the device.
  bool queries_there = false;
  bool out_there = false;
  // Queries of a batch that may be compared with every row; more: kUnsupported.
  size_t most_fallbacks = SIZE_MAX;

  size_t searched_k() const {
    return k + (first_excluded == kInvalidRow ? 0 : 1);
  }
};

template <class Flag>
BackendStatus GpuBackend::Await(size_t num, const Flag& flag) const {
  // Now and then, whether the stream has ended, or failed.
  constexpr uint32_t kTurns = 1000;
  size_t i = 0;
  for (uint32_t turn = 1; i < num; ++turn) {
    const volatile uint32_t* const word = flag(i);
    if (*word != 0) {
      ++i;
      continue;
    }
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
    if (turn % kTurns != 0) continue;
    const cudaError_t state = cudaStreamQuery(stream_);
    if (state == cudaErrorNotReady) {
      cudaGetLastError();
      continue;
    }
    GPU_RETURN_IF_ERROR(Check(state));
    if (*word == 0) return Check(cudaErrorUnknown);
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  return BackendStatus::kOk;
}

template <class T>
BackendStatus GpuBackend::Upload(const T* from, size_t count, T** there) const {
  *there = workspace_.Take<T>(count);
  if (*there == nullptr) return BackendStatus::kNoMemory;
  return Check(staging_.Copy(*there, from, count * sizeof(T), stream_));
}

}  // namespace vicinal::gpu
