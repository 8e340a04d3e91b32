#include "src/distance/gpu/staging.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace vicinal::gpu {
namespace {

// Rows written at a time: enough work for some threads.
constexpr size_t kWrittenBytes = size_t{8} << 20;

struct Stream {
  ~Stream() {
    if (stream != nullptr) cudaStreamDestroy(stream);
  }
  cudaStream_t stream = nullptr;
};

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
      to, bytes,
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

cudaError_t CopyWritten(const RowWriter& write, size_t row_bytes,
                        size_t num_rows, std::byte* to) {
  const size_t chunk_rows =
      std::clamp<size_t>(kWrittenBytes / row_bytes, 1, num_rows);
  Stream own;
  cudaError_t error =
      cudaStreamCreateWithFlags(&own.stream, cudaStreamNonBlocking);
  if (error != cudaSuccess) return error;
  Staging staging;
  error = staging.Make(chunk_rows * row_bytes);
  if (error != cudaSuccess) return error;
  error = staging.CopyFilled(
      to, num_rows * row_bytes,
      [&](size_t at, size_t bytes, std::byte* chunk) {
        write(at / row_bytes, (at + bytes) / row_bytes, chunk);
      },
      own.stream);
  if (error != cudaSuccess) return error;
  return cudaStreamSynchronize(own.stream);
}

}  // namespace vicinal::gpu
