// A block selects the links of one row. The vectors of the candidates that are
// chosen stay in shared memory, so that each candidate's vector is read once;
// the next one's is on its way while the current is compared.
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/link_kernels.h"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
constexpr size_t kMostShared = 226 << 10;
// Blocks enough for any device.
constexpr uint32_t kManyBlocks = 4096;

size_t SharedBytes(uint32_t dim, const LinkRule& rule) {
  return (rule.max_links + 2) * (size_t{dim} * sizeof(float) + 4);
}

// Starts to copy a row into shared memory.
__device__ inline void CopyAhead(float* to, const float* from, uint32_t dim) {
  for (uint32_t i = threadIdx.x; i < dim; i += kThreads) {
    __pipeline_memcpy_async(to + i, from + i, sizeof(float));
  }
}

__global__ __launch_bounds__(kThreads) void SelectKernel(
    const DeviceRows rows, const CandidateLists lists, const LinkRule rule,
    Neighbor* out, uint32_t* num_duplicates) {
  extern __shared__ float room[];
  __shared__ uint32_t covered[2];
  const uint32_t dim = rows.dim;
  const auto max_links = static_cast<uint32_t>(rule.max_links);
  // places[0 .. count) are those of the chosen, [count] of the current
  // candidate, [count + 1] of the next.
  auto* const places =
      reinterpret_cast<uint32_t*>(room + (max_links + 2) * dim);
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warp = threadIdx.x / 32;
  const auto* const exact = static_cast<const float*>(rows.exact);
  const size_t list = blockIdx.x;
  const size_t begin =
      lists.offsets != nullptr ? lists.offsets[list] : list * lists.width;
  const size_t end =
      lists.offsets != nullptr ? lists.offsets[list + 1] : begin + lists.width;
  Neighbor* const chosen = out + list * max_links;

  for (uint32_t i = threadIdx.x; i < max_links + 2; i += kThreads) {
    places[i] = i;
  }
  if (threadIdx.x < 2) covered[threadIdx.x] = 0;
  const auto row_at = [&](size_t i) {
    return i < end ? lists.lists[i].row : kInvalidRow;
  };
  uint32_t count = 0;
  uint32_t duplicates = 0;  // chosen
  uint32_t zeros = 0;
  __syncthreads();
  uint32_t row = row_at(begin);
  if (row != kInvalidRow) {
    CopyAhead(room + places[0] * dim, exact + size_t{row} * dim, dim);
  }
  __pipeline_commit();
  uint32_t turn = 0;
  for (size_t i = begin; row != kInvalidRow && count < max_links; ++i) {
    const uint32_t next = row_at(i + 1);
    const uint32_t place = places[count];
    if (next != kInvalidRow) {
      CopyAhead(room + places[count + 1] * dim, exact + size_t{next} * dim,
                dim);
    }
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    const Neighbor candidate = lists.lists[i];
    const bool is_copy = candidate.distance <= 0;
    if (is_copy) ++zeros;
    bool takes = !is_copy || duplicates < rule.max_duplicates;
    if (takes) {
      const float limit = __fmul_rn(candidate.distance, rule.share);
      for (uint32_t j = warp; j < count; j += kWarps) {
        const float distance = CanonicalDistance<Metric::kL2>(
            room + place * dim, 0, room + places[j] * dim, dim, lane);
        if (distance < limit) {
          if (lane == 0) covered[turn] = 1;
          break;
        }
      }
    }
    __syncthreads();
    takes = takes && covered[turn] == 0;
    // The other flag is read by nobody now; this one is cleared in a turn.
    if (threadIdx.x == 0) {
      covered[turn ^ 1] = 0;
      if (takes) {
        chosen[count] = candidate;
      } else {  // the place of this one is free, that of the next is its
        places[count] = places[count + 1];
        places[count + 1] = place;
      }
    }
    if (takes) {
      ++count;
      if (is_copy) ++duplicates;
    }
    turn ^= 1;
    row = next;
    __syncthreads();
  }
  for (uint32_t i = count + threadIdx.x; i < max_links; i += kThreads) {
    chosen[i] = {INFINITY, kInvalidRow};
  }
  if (num_duplicates != nullptr && threadIdx.x == 0) {
    // Zeros come first, so that a full row has seen them or has none left out
    // that matters.
    uint32_t all = zeros;
    for (size_t i = begin + zeros; i < end; ++i) {
      const Neighbor candidate = lists.lists[i];
      if (candidate.row == kInvalidRow || candidate.distance > 0) break;
      ++all;
    }
    num_duplicates[list] = all;
  }
}

// By one warp a row, `words` of them.
template <class Word>
__global__ __launch_bounds__(kThreads) void GatherRowsKernel(
    const Word* from, const uint32_t* part, uint32_t num_rows, size_t words,
    Word* to) {
  const uint32_t step = gridDim.x * kWarps;
  for (uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32; i < num_rows;
       i += step) {
    for (size_t j = threadIdx.x % 32; j < words; j += 32) {
      to[i * words + j] = from[part[i] * words + j];
    }
  }
}

}  // namespace

cudaError_t GatherRows(const DeviceRows& from, const uint32_t* part,
                       uint32_t num_rows, size_t row_bytes, std::byte* to,
                       cudaStream_t stream) {
  const uint32_t blocks =
      std::min<uint32_t>((num_rows + kWarps - 1) / kWarps, kManyBlocks);
  const auto copy = [&]<class Word>(Word) {
    GatherRowsKernel<<<blocks, kThreads, 0, stream>>>(
        static_cast<const Word*>(from.exact), part, num_rows,
        row_bytes / sizeof(Word), reinterpret_cast<Word*>(to));
    return cudaGetLastError();
  };
  return row_bytes % sizeof(uint4) == 0 ? copy(uint4{}) : copy(uint8_t{});
}

bool CanSelectLinks(uint32_t dim, const LinkRule& rule) {
  return rule.max_links > 0 && rule.max_links <= kMaxBackendLinks &&
         SharedBytes(dim, rule) <= kMostShared;
}

cudaError_t SelectLinks(const DeviceRows& rows, const CandidateLists& lists,
                        const LinkRule& rule, Neighbor* out,
                        uint32_t* num_duplicates, cudaStream_t stream) {
  if (lists.num_lists == 0) return cudaSuccess;
  const size_t shared = SharedBytes(rows.dim, rule);
  const cudaError_t allowed = AllowShared(SelectKernel, shared);
  if (allowed != cudaSuccess) return allowed;
  SelectKernel<<<static_cast<uint32_t>(lists.num_lists), kThreads, shared,
                 stream>>>(rows, lists, rule, out, num_duplicates);
  return cudaGetLastError();
}

}  // namespace vicinal::gpu
