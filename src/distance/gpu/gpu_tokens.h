// Documents of token vectors on a GPU, as gpu_tokens.cc loads them and
// gpu_maxsim.cc compares them.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/maxsim_kernels.h"

namespace vicinal::gpu {

// Queries of one batch; all that they return fits pinned memory.
constexpr size_t kMaxBatchQueries = 64;
constexpr size_t kResultBytes =
    kMaxBatchQueries * (kMaxBackendK * sizeof(Neighbor) + sizeof(MaxSimReport));
// What is sent at once from pinned memory; more is copied from elsewhere.
constexpr size_t kSentBytes = size_t{1} << 20;

// How long documents are, in steps of tokens.
struct Lengths {
  size_t num = 0;
  size_t total = 0;
  size_t longest = 0;

  void Add(uint32_t num_tokens) {
    const size_t steps = (num_tokens + kTokenStep - 1) / kTokenStep;
    ++num;
    total += steps;
    longest = longest > steps ? longest : steps;
  }
};

// Arrays one after the other in one block, each at a multiple of 256 bytes.
class Layout {
 public:
  template <class T>
  size_t Add(size_t count) {
    const size_t at = size_;
    size_ += (count * sizeof(T) + 255) / 256 * 256;
    return at;
  }
  size_t size() const { return size_; }

 private:
  size_t size_ = 0;
};

class GpuTokens final : public LoadedSegment {
 public:
  size_t num_rows() const override { return tokens.num_docs; }
  size_t device_bytes() const override { return block.bytes(); }

  // As Load leaves them; const from then on.
  DeviceBlock block;
  DeviceTokens tokens;
  uint32_t code_dim = 0;  // of coded tokens, as the CPU pads it
  // Most tiles of a pass of StreamOnHopper, and its map; 0: not by it.
  uint32_t hopper_tiles = 0;
  CUtensorMap map = {};
  std::vector<uint32_t> offsets;  // of the host
  Lengths lengths;
};

}  // namespace vicinal::gpu
