// Copies from memory that is not pinned: the driver takes it through chunks of
// its own one after the other (31 MB in 4.0 ms on the host of an H200); here
// one is filled while those before are on their way (2.5 ms).
//
// Life: made once; Copy belongs to one thread at a time.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace vicinal::gpu {

class Staging {
 public:
  Staging() = default;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging();

  cudaError_t Make();
  // `to` is on the device. `from`, which is not pinned, has been read when this
  // returns.
  cudaError_t Copy(void* to, const void* from, size_t bytes,
                   cudaStream_t stream);

 private:
  static constexpr size_t kChunks = 4;
  static constexpr size_t kChunkBytes = size_t{2} << 20;
  // What the driver copies as fast.
  static constexpr size_t kFewBytes = size_t{64} << 10;

  std::byte* data_ = nullptr;       // kChunks of them, pinned
  cudaEvent_t sent_[kChunks] = {};  // of each, the last time
  size_t next_ = 0;
};

}  // namespace vicinal::gpu
