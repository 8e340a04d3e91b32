#include "src/distance/gpu/staging.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstring>
#include <mutex>

namespace vicinal::gpu {
namespace {

// Rows written at a time: enough work for some threads.
constexpr size_t kWrittenBytes = size_t{8} << 20;

}  // namespace

Staging::~Staging() {
  for (cudaEvent_t event : sent_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  cudaFreeHost(data_);
}

cudaError_t Staging::Make(size_t chunk_bytes) {
  void* data = nullptr;
  const cudaError_t made = cudaMallocHost(&data, kChunks * chunk_bytes);
  if (made != cudaSuccess) return made;
  data_ = static_cast<std::byte*>(data);
  chunk_bytes_ = chunk_bytes;
  for (cudaEvent_t& event : sent_) {
    const cudaError_t created =
        cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (created != cudaSuccess) return created;
  }
  return cudaSuccess;
}

cudaError_t Staging::Copy(void* to, const void* from, size_t bytes,
                          cudaStream_t stream) {
  if (bytes <= kFewBytes) {
    return cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream);
  }
  return CopyFilled(
      to, bytes, chunk_bytes_,
      [from](size_t at, size_t n, std::byte* chunk) {
        std::memcpy(chunk, static_cast<const std::byte*>(from) + at, n);
      },
      stream);
}

cudaError_t Staging::NextChunk(std::byte** chunk) {
  *chunk = data_ + next_ * chunk_bytes_;
  return cudaEventSynchronize(sent_[next_]);
}

cudaError_t Staging::SendChunk(void* to, size_t bytes, cudaStream_t stream) {
  const cudaError_t error = cudaMemcpyAsync(
      to, data_ + next_ * chunk_bytes_, bytes, cudaMemcpyHostToDevice, stream);
  if (error != cudaSuccess) return error;
  cudaEvent_t const sent = sent_[next_];
  next_ = (next_ + 1) % kChunks;
  return cudaEventRecord(sent, stream);
}

RowCopier::~RowCopier() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

cudaError_t RowCopier::Make(size_t row_bytes) {
  if (stream_ == nullptr) {
    const cudaError_t error =
        cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    if (error != cudaSuccess) return error;
  }
  if (staging_.chunk_bytes() > 0) return cudaSuccess;
  size_t chunk_bytes = kWrittenBytes;
  cudaError_t error = staging_.Make(chunk_bytes);
  // Less of the host's memory is slower; to have the device let go of segments,
  // as is done where it has no room, would not help.
  while (error == cudaErrorMemoryAllocation && chunk_bytes / 2 >= row_bytes) {
    cudaGetLastError();
    chunk_bytes /= 2;
    error = staging_.Make(chunk_bytes);
  }
  return error;
}

cudaError_t RowCopier::Copy(const RowWriter& write, size_t row_bytes,
                            size_t num_rows, std::byte* to) {
  const std::lock_guard<std::mutex> lock(mutex_);
  cudaError_t error = Make(row_bytes);
  if (error != cudaSuccess) return error;
  const size_t rows_at_once = staging_.chunk_bytes() / row_bytes;
  if (rows_at_once == 0) return cudaErrorMemoryAllocation;
  error = staging_.CopyFilled(
      to, num_rows * row_bytes, rows_at_once * row_bytes,
      [&](size_t at, size_t bytes, std::byte* chunk) {
        write(at / row_bytes, (at + bytes) / row_bytes, chunk);
      },
      stream_);
  // Also after an error, as the caller frees `to` then.
  const cudaError_t done = cudaStreamSynchronize(stream_);
  return error != cudaSuccess ? error : done;
}

}  // namespace vicinal::gpu
