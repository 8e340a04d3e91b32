#include "src/distance/gpu/gpu_backend.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/link_kernels.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal {
namespace gpu {
namespace {

constexpr size_t kSharedForMaxCapacity = 160 << 10;
constexpr uint32_t kMaxDim = 4096;

// Rows begin .. end - 1, without gaps.
void CopyRows(const VectorSetView& rows, size_t begin, size_t end, void* to) {
  const size_t row_bytes = rows.dim * ElementSize(rows.type);
  if (rows.stride_bytes == row_bytes) {
    std::memcpy(to, rows.row(begin), (end - begin) * row_bytes);
    return;
  }
  auto* const out = static_cast<std::byte*>(to);
  for (size_t i = begin; i < end; ++i) {
    std::memcpy(out + (i - begin) * row_bytes, rows.row(i), row_bytes);
  }
}

}  // namespace

DeviceRows ShapeOf(uint32_t num_rows, uint32_t dim, ElementType type,
                   Metric metric) {
  DeviceRows rows;
  rows.num_rows = num_rows;
  rows.dim = dim;
  rows.type = type;
  rows.metric = metric;
  const uint32_t used = dim + (metric == Metric::kL2 ? 3 : 0);
  rows.padded_dim = (used + 31) / 32 * 32;
  rows.stripe_rows = (num_rows + kTileRows - 1) / kTileRows * kStripeRun;
  return rows;
}

BackendStatus GpuBackend::Make(const GpuOptions& options,
                               std::unique_ptr<GpuBackend>* out) {
  if (options.device < 0 || options.device >= CountGpus()) {
    return BackendStatus::kUnsupported;
  }
  std::unique_ptr<GpuBackend> backend(new GpuBackend);
  cudaDeviceProp properties;
  if (cudaSetDevice(options.device) != cudaSuccess ||
      cudaGetDeviceProperties(&properties, options.device) != cudaSuccess) {
    return BackendStatus::kUnsupported;
  }
  if (properties.major < 8) return BackendStatus::kUnsupported;
  std::snprintf(backend->name_, sizeof(backend->name_), "cuda:%d",
                options.device);
  backend->device_ = options.device;
  backend->is_hopper_ = properties.major == 9 && properties.minor == 0;
  backend->num_processors_ = properties.multiProcessorCount;
  backend->max_capacity_ =
      properties.sharedMemPerBlockOptin >= kSharedForMaxCapacity
          ? kMaxCapacity
          : kMaxCapacity / 2;
  backend->budget_ = options.memory_budget;
  if (options.workspace_bytes > options.memory_budget) {
    return BackendStatus::kNoMemory;
  }
  void* workspace = nullptr;
  const BackendStatus made =
      backend->Check(cudaMalloc(&workspace, options.workspace_bytes));
  if (made != BackendStatus::kOk) return made;
  backend->workspace_ = Arena(workspace, options.workspace_bytes);
  backend->bytes_in_use_ = options.workspace_bytes;
  const BackendStatus streamed = backend->Check(
      cudaStreamCreateWithFlags(&backend->stream_, cudaStreamNonBlocking));
  if (streamed != BackendStatus::kOk) return streamed;
  const BackendStatus copies = backend->Check(
      cudaStreamCreateWithFlags(&backend->copies_, cudaStreamNonBlocking));
  if (copies != BackendStatus::kOk) return copies;
  const BackendStatus copied = backend->Check(
      cudaEventCreateWithFlags(&backend->copied_, cudaEventDisableTiming));
  if (copied != BackendStatus::kOk) return copied;
  const BackendStatus staged = backend->Check(backend->staging_.Make());
  if (staged != BackendStatus::kOk) return staged;
  void* lost = nullptr;
  const BackendStatus pinned = backend->Check(cudaMallocHost(&lost, kMaxBatch));
  if (pinned != BackendStatus::kOk) return pinned;
  backend->lost_queries_ = static_cast<uint8_t*>(lost);
  const BackendStatus few =
      backend->Check(cudaMallocHost(&backend->few_.data, kFewBytes));
  if (few != BackendStatus::kOk) return few;
  *out = std::move(backend);
  return BackendStatus::kOk;
}

GpuBackend::~GpuBackend() {
  // Of the last call, kernels may still be ending.
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  cudaFreeHost(lost_queries_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  if (copies_ != nullptr) cudaStreamDestroy(copies_);
  if (copied_ != nullptr) cudaEventDestroy(copied_);
  cudaFree(workspace_.data());
}

BackendStatus GpuBackend::Check(cudaError_t error) const {
  if (error == cudaSuccess) return BackendStatus::kOk;
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky
    return BackendStatus::kNoMemory;
  }
  if (error == cudaErrorInvalidValue ||
      error == cudaErrorInvalidConfiguration ||
      error == cudaErrorNotSupported ||
      error == cudaErrorNoKernelImageForDevice ||
      error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    cudaGetLastError();
    return BackendStatus::kUnsupported;
  }
  lost_ = true;
  return BackendStatus::kDeviceLost;
}

BackendStatus GpuBackend::Ready() const {
  if (lost_.load()) return BackendStatus::kDeviceLost;
  const cudaError_t set = cudaSetDevice(device_);
  cudaGetLastError();  // of another device that this thread asked
  return Check(set);
}

BackendStatus GpuBackend::Allocate(size_t bytes, DeviceBlock* out) const {
  if (bytes > budget_) return BackendStatus::kNoMemory;
  if (bytes_in_use_.fetch_add(bytes) > budget_ - bytes) {
    bytes_in_use_ -= bytes;
    return BackendStatus::kNoMemory;
  }
  out->backend_ = this;
  out->bytes_ = bytes;
  return Check(cudaMalloc(&out->data_, bytes));
}

BackendStatus GpuBackend::Load(const SegmentRows& segment,
                               std::shared_ptr<const LoadedSegment>* out) {
  GPU_RETURN_IF_ERROR(Ready());
  const VectorSetView& view = segment.rows;
  if (view.type > ElementType::kUint8 || view.dim == 0 || view.dim > kMaxDim ||
      view.num_rows >= kInvalidRow / 2) {
    return BackendStatus::kUnsupported;
  }
  const auto* const whole = dynamic_cast<const GpuSegment*>(segment.whole);
  if (segment.whole != nullptr &&
      (whole == nullptr || whole->rows().dim != view.dim ||
       whole->rows().type != view.type ||
       (whole->num_rows() > 0 && whole->block_.backend_ != this))) {
    return BackendStatus::kUnsupported;
  }
  auto loaded = std::make_shared<GpuSegment>();
  DeviceRows& rows = loaded->rows_;
  rows = ShapeOf(static_cast<uint32_t>(view.num_rows),
                 static_cast<uint32_t>(view.dim), view.type, segment.metric);
  if (view.num_rows == 0) {
    *out = std::move(loaded);
    return BackendStatus::kOk;
  }
  const size_t row_bytes = view.dim * ElementSize(view.type);
  const size_t exact_bytes = view.num_rows * row_bytes;
  // A part of the segment reads up to a tile behind its last row.
  const size_t bf16_bytes =
      (rows.padded_rows() + kTileRows) * rows.padded_dim * 2;
  GPU_RETURN_IF_ERROR(Allocate(bf16_bytes + exact_bytes, &loaded->block_));
  std::byte* const bf16 = loaded->block_.data();
  std::byte* const exact = bf16 + bf16_bytes;  // a multiple of 16
  rows.bf16 = reinterpret_cast<uint16_t*>(bf16);
  rows.exact = exact;

  // Others search meanwhile.
  if (segment.write != nullptr) {
    GPU_RETURN_IF_ERROR(Check(
        row_copier_.Copy(*segment.write, row_bytes, view.num_rows, exact)));
  } else if (whole == nullptr) {
    GPU_RETURN_IF_ERROR(Check(
        row_copier_.Copy([&view](size_t begin, size_t end,
                                 void* to) { CopyRows(view, begin, end, to); },
                         row_bytes, view.num_rows, exact)));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  float* const maxima = workspace_.Take<float>(2);
  if (maxima == nullptr) return BackendStatus::kNoMemory;
  if (whole != nullptr) {
    uint32_t* part;
    GPU_RETURN_IF_ERROR(Upload(segment.part, view.num_rows, &part));
    GPU_RETURN_IF_ERROR(Check(GatherRows(whole->rows(), part, rows.num_rows,
                                         row_bytes, exact, stream_)));
  }
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(maxima, 0, 2 * sizeof(float), stream_)));
  const size_t used_bytes = view.num_rows * rows.padded_dim * 2;
  GPU_RETURN_IF_ERROR(Check(
      cudaMemsetAsync(bf16 + used_bytes, 0, bf16_bytes - used_bytes, stream_)));
  GPU_RETURN_IF_ERROR(Check(
      RoundRows(rows, reinterpret_cast<uint16_t*>(bf16), maxima, stream_)));
  float host_maxima[2];
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(host_maxima, maxima, sizeof(host_maxima),
                            cudaMemcpyDeviceToHost, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  rows.max_norm = host_maxima[0];
  rows.max_error = host_maxima[1];
  *out = std::move(loaded);
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::Score(const LoadedSegment& segment,
                                const QueryBatch& queries,
                                const uint32_t* offsets, const RowId* list,
                                float* out) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  const size_t total = offsets[queries.num_queries];
  if (total == 0) return BackendStatus::kOk;
  const size_t query_bytes =
      queries.num_queries * rows.dim * ElementSize(rows.type);
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  std::byte* raw;
  uint32_t* ends;
  uint32_t* ids;
  GPU_RETURN_IF_ERROR(
      Upload(static_cast<const std::byte*>(queries.data), query_bytes, &raw));
  GPU_RETURN_IF_ERROR(Upload(offsets, queries.num_queries + 1, &ends));
  GPU_RETURN_IF_ERROR(Upload(list, total, &ids));
  float* const distances = workspace_.Take<float>(total);
  if (distances == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(
      Check(ScoreLists(rows, raw, static_cast<uint32_t>(queries.num_queries),
                       ends, ids, distances, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(out, distances, total * 4,
                                            cudaMemcpyDeviceToHost, stream_)));
  return Check(cudaStreamSynchronize(stream_));
}

}  // namespace gpu

int CountGpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

std::string WhyNoGpu() {
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();
  const auto version = [](int number) {
    return std::to_string(number / 1000) + "." +
           std::to_string(number % 1000 / 10);
  };
  if (driver == 0) return "no NVIDIA driver is installed";
  if (counted == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is for CUDA " + version(driver) +
           ", and this build takes " + version(runtime) + " or newer";
  }
  if (counted == cudaErrorNoDevice) {
    return "the NVIDIA driver shows no device; see CUDA_VISIBLE_DEVICES";
  }
  return std::string("the NVIDIA driver says: ") + cudaGetErrorString(counted);
}

BackendStatus MakeGpuBackend(const GpuOptions& options,
                             std::unique_ptr<DistanceBackend>* out) {
  std::unique_ptr<gpu::GpuBackend> backend;
  const BackendStatus made = gpu::GpuBackend::Make(options, &backend);
  if (made == BackendStatus::kOk) *out = std::move(backend);
  return made;
}

}  // namespace vicinal
