// Copies from memory that is not pinned: the driver takes it through chunks of
// its own one after the other (31 MB in 4.0 ms on the host of an H200); here
// one is filled while those before are on their way (2.5 ms).
//
// Life: made once; Copy belongs to one thread at a time.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <mutex>

#include "src/distance/gpu/backend.h"

namespace vicinal::gpu {

class Staging {
 public:
  Staging() = default;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging();

  static constexpr size_t kChunks = 4;
  static constexpr size_t kChunkBytes = size_t{2} << 20;

  cudaError_t Make(size_t chunk_bytes = kChunkBytes);
  // 0: it was not made.
  size_t chunk_bytes() const { return chunk_bytes_; }
  // `to` is on the device. `from`, which is not pinned, has been read when this
  // returns.
  cudaError_t Copy(void* to, const void* from, size_t bytes,
                   cudaStream_t stream);
  // The same of what fill(offset, bytes, out) writes, so many bytes at a time.
  template <class Fill>
  cudaError_t CopyFilled(void* to, size_t bytes, size_t bytes_at_once,
                         const Fill& fill, cudaStream_t stream) {
    for (size_t at = 0; at < bytes; at += bytes_at_once) {
      const size_t n = std::min(bytes_at_once, bytes - at);
      std::byte* chunk = nullptr;
      cudaError_t error = NextChunk(&chunk);
      if (error != cudaSuccess) return error;
      fill(at, n, chunk);
      error = SendChunk(static_cast<std::byte*>(to) + at, n, stream);
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }

 private:
  // What the driver copies as fast.
  static constexpr size_t kFewBytes = size_t{64} << 10;

  // Waits until it has been sent.
  cudaError_t NextChunk(std::byte** chunk);
  cudaError_t SendChunk(void* to, size_t bytes, cudaStream_t stream);

  size_t chunk_bytes_ = 0;
  std::byte* data_ = nullptr;       // kChunks of them, pinned
  cudaEvent_t sent_[kChunks] = {};  // of each, the last time
  size_t next_ = 0;
};

// Copies rows beside the stream of a backend, so that others search meanwhile.
// One copy at a time; what it needs is made by the first. Thread-safe.
class RowCopier {
 public:
  RowCopier() = default;
  RowCopier(const RowCopier&) = delete;
  RowCopier& operator=(const RowCopier&) = delete;
  ~RowCopier();

  // Rows of so many bytes to `to`, on the device, while the next ones are
  // written; they are there when this returns.
  cudaError_t Copy(const RowWriter& write, size_t row_bytes, size_t num_rows,
                   std::byte* to);

 private:
  cudaError_t Make(size_t row_bytes);

  std::mutex mutex_;
  Staging staging_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace vicinal::gpu
