#include "src/distance/gpu/staging.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace vicinal::gpu {

Staging::~Staging() {
  for (cudaEvent_t event : sent_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  cudaFreeHost(data_);
}

cudaError_t Staging::Make() {
  void* data = nullptr;
  const cudaError_t made = cudaMallocHost(&data, kChunks * kChunkBytes);
  if (made != cudaSuccess) return made;
  data_ = static_cast<std::byte*>(data);
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
  for (size_t at = 0; at < bytes; at += kChunkBytes) {
    const size_t n = std::min(kChunkBytes, bytes - at);
    std::byte* const chunk = data_ + next_ * kChunkBytes;
    cudaEvent_t const sent = sent_[next_];
    next_ = (next_ + 1) % kChunks;
    cudaError_t error = cudaEventSynchronize(sent);
    if (error != cudaSuccess) return error;
    std::memcpy(chunk, static_cast<const std::byte*>(from) + at, n);
    error = cudaMemcpyAsync(static_cast<std::byte*>(to) + at, chunk, n,
                            cudaMemcpyHostToDevice, stream);
    if (error != cudaSuccess) return error;
    error = cudaEventRecord(sent, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace vicinal::gpu
