// Comparing rows exactly, without looking for candidates first.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/rank.cuh"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/sort.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
// Rows of ranges that a warp takes at a time.
constexpr uint32_t kRun = 4;

// That of a row that is not wanted.
constexpr uint64_t kNoKey = ~uint64_t{0};

// Ordered as neighbours are.
__device__ inline uint64_t KeyOfNeighbor(float distance, uint32_t row) {
  return uint64_t{KeyOf(__fadd_rn(distance, 0.0f))} << 32 | row;
}

__device__ inline bool IsSet(const uint64_t* bits, uint32_t i) {
  return bits == nullptr || (bits[i / 64] >> (i % 64) & 1) != 0;
}

// Of every row of a segment.
template <Metric kMetric, class Element>
__global__ __launch_bounds__(kThreads) void AllKeysKernel(
    const DeviceRows rows, const void* query, const uint64_t* accepted,
    uint32_t exclude, uint64_t* keys) {
  extern __shared__ float query_floats[];
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t i = threadIdx.x; i < rows.dim; i += kThreads) {
    query_floats[i] = ToFloat(static_cast<const Element*>(query)[i]);
  }
  __syncthreads();
  const double norm2 =
      NormOfQuery<kMetric, Element>(query_floats, rows.dim, lane);
  const uint32_t warps = gridDim.x * (kThreads / 32);
  for (uint32_t i = blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
       i < rows.num_rows; i += warps) {
    const uint32_t row = rows.first_row + i;
    uint64_t key = kNoKey;
    if (row != exclude && IsSet(accepted, i)) {
      const float distance = CanonicalDistance<kMetric>(
          query_floats, norm2,
          static_cast<const Element*>(rows.exact) + size_t{row} * rows.dim,
          rows.dim, lane);
      key = KeyOfNeighbor(distance, row);
    }
    if (lane == 0) keys[i] = key;
  }
}

// The range that has row number i.
__device__ inline uint32_t RangeOf(const DeviceRanges& ranges, uint32_t i) {
  uint32_t low = 0;
  uint32_t high = ranges.num_ranges;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (ranges.starts[middle] <= i ? low : high) = middle;
  }
  return low;
}

// Of the rows of ranges: a warp takes kRun of them one after the other.
template <Metric kMetric, class Element>
__global__ __launch_bounds__(kThreads) void RangeKeysKernel(
    const DeviceRows rows, const DeviceRanges ranges, uint64_t* keys) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t step = gridDim.x * (kThreads / 32) * kRun;
  for (uint32_t first =
           (blockIdx.x * (kThreads / 32) + threadIdx.x / 32) * kRun;
       first < ranges.total; first += step) {
    const uint32_t last = min(first + kRun, ranges.total);
    uint32_t range = RangeOf(ranges, first);
    uint32_t owner = ~0u;
    const Element* query = nullptr;
    double norm2 = 0;
    for (uint32_t i = first; i < last; ++i) {
      while (i >= ranges.starts[range + 1]) ++range;
      if (ranges.owners[range] != owner) {
        owner = ranges.owners[range];
        query = static_cast<const Element*>(ranges.queries) +
                size_t{owner} * rows.dim;
        norm2 = NormOfQuery<kMetric, Element>(query, rows.dim, lane);
      }
      const uint32_t row = ranges.firsts[range] + i - ranges.starts[range];
      uint64_t key = kNoKey;
      if (IsSet(ranges.accepted, row - ranges.first_bit)) {
        const float distance = CanonicalDistance<kMetric>(
            query, norm2,
            static_cast<const Element*>(rows.exact) + size_t{row} * rows.dim,
            rows.dim, lane);
        key = KeyOfNeighbor(distance, row);
      }
      if (lane == 0) keys[i] = key;
    }
  }
}

// The k smallest of different keys, by one block a query: eight bits of the
// k-th at a time. ends null: one query has all rows; else query q has the keys
// ends[q] .. ends[q + 1] - 1.
template <Metric kMetric, class Element>
__global__ __launch_bounds__(1024) void SmallestKeysKernel(
    const DeviceRows rows, const void* queries, const uint64_t* keys,
    const uint32_t* ends, uint32_t k, Neighbor* out) {
  __shared__ uint32_t bins[256];
  __shared__ uint64_t prefix;
  __shared__ uint32_t wanted;
  __shared__ uint32_t written;
  __shared__ bool is_done;
  __shared__ Neighbor neighbors[kMaxNeighbors];
  extern __shared__ float query_floats[];
  const uint32_t thread = threadIdx.x;
  const uint32_t lane = thread % 32;
  const Element* query =
      static_cast<const Element*>(queries) + size_t{blockIdx.x} * rows.dim;
  for (uint32_t i = thread; i < rows.dim; i += blockDim.x) {
    query_floats[i] = ToFloat(query[i]);
  }
  uint32_t n = rows.num_rows;
  if (ends != nullptr) {
    n = ends[blockIdx.x + 1] - ends[blockIdx.x];
    keys += ends[blockIdx.x];
    out += size_t{blockIdx.x} * k;
  }
  if (thread == 0) {
    prefix = 0;
    wanted = min(k, n);
    written = 0;
  }
  for (int shift = 56; shift >= 0; shift -= 8) {
    if (thread < 256) bins[thread] = 0;
    __syncthreads();
    for (uint32_t i = thread; i < n; i += blockDim.x) {
      const uint64_t key = keys[i];
      if (shift < 56 && key >> (shift + 8) != prefix) continue;
      atomicAdd(&bins[255 - (key >> shift & 255)], 1);
    }
    __syncthreads();
    if (thread < 32) {
      uint32_t below;
      const uint32_t bin = BinOf(bins, wanted, lane, &below);
      __syncwarp();
      if (lane == 0) {
        wanted -= below;
        prefix = prefix << 8 | (255 - bin);
        // All that begin so are wanted.
        is_done = bins[bin] == wanted;
        if (is_done) prefix = ((prefix + 1) << shift) - 1;
      }
    }
    __syncthreads();
    if (is_done) break;
  }
  // No key that is wanted is above `prefix`, which may be that of no row.
  for (uint32_t i = thread; i < n; i += blockDim.x) {
    const uint64_t key = keys[i];
    if (key <= prefix && key != kNoKey) {
      const uint32_t at = atomicAdd(&written, 1);
      if (at < kMaxNeighbors) neighbors[at] = {0, static_cast<uint32_t>(key)};
    }
  }
  __syncthreads();
  const uint32_t num = min(written, kMaxNeighbors);
  const double norm2 =
      NormOfQuery<kMetric, Element>(query_floats, rows.dim, lane);
  // Again, since a key does not tell -0 from 0.
  for (uint32_t i = thread / 32; i < num; i += blockDim.x / 32) {
    const float distance =
        CanonicalDistance<kMetric>(query_floats, norm2,
                                   static_cast<const Element*>(rows.exact) +
                                       size_t{neighbors[i].row} * rows.dim,
                                   rows.dim, lane);
    if (lane == 0) neighbors[i].distance = distance;
  }
  const uint32_t sorted = PowerOfTwo(num);
  for (uint32_t i = num + thread; i < sorted; i += blockDim.x) {
    neighbors[i] = {INFINITY, kInvalidRow};
  }
  SortNeighbors(neighbors, sorted);
  WriteNearest(neighbors, num, k, kInvalidRow, out);
}

template <Metric kMetric, class Element>
__global__ __launch_bounds__(kThreads) void ScoreKernel(
    const DeviceRows rows, const void* queries, uint32_t num_queries,
    const uint32_t* offsets, const uint32_t* list, float* out) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t total = offsets[num_queries];
  const uint32_t warps = gridDim.x * (kThreads / 32);
  for (uint32_t i = blockIdx.x * (kThreads / 32) + threadIdx.x / 32; i < total;
       i += warps) {
    uint32_t low = 0;  // the last query whose list begins at or before i
    uint32_t high = num_queries;
    while (high - low > 1) {
      const uint32_t middle = (low + high) / 2;
      (offsets[middle] <= i ? low : high) = middle;
    }
    const Element* query =
        static_cast<const Element*>(queries) + size_t{low} * rows.dim;
    const double norm2 = NormOfQuery<kMetric, Element>(query, rows.dim, lane);
    const float distance = CanonicalDistance<kMetric>(
        query, norm2,
        static_cast<const Element*>(rows.exact) + size_t{list[i]} * rows.dim,
        rows.dim, lane);
    if (lane == 0) out[i] = distance;
  }
}

uint32_t BlocksFor(size_t warps) {
  return static_cast<uint32_t>(std::clamp<size_t>(
      (warps + kThreads / 32 - 1) / (kThreads / 32), 1, kManyBlocks));
}

}  // namespace

cudaError_t RankAll(const DeviceRows& rows, const void* query, uint32_t k,
                    const uint64_t* accepted, uint32_t exclude, uint64_t* keys,
                    Neighbor* out, cudaStream_t stream) {
  return ForRows(rows, [&]<Metric kMetric, class Element>() {
    const size_t shared = rows.dim * sizeof(float);
    const auto select = SmallestKeysKernel<kMetric, Element>;
    const cudaError_t allowed = AllowShared(select, shared);
    if (allowed != cudaSuccess) return allowed;
    AllKeysKernel<kMetric, Element>
        <<<BlocksFor(rows.num_rows), kThreads, shared, stream>>>(
            rows, query, accepted, exclude, keys);
    select<<<1, 1024, shared, stream>>>(rows, query, keys, nullptr, k, out);
    return cudaGetLastError();
  });
}

cudaError_t RankRanges(const DeviceRows& rows, const DeviceRanges& ranges,
                       uint32_t k, uint64_t* keys, Neighbor* out,
                       cudaStream_t stream) {
  return ForRows(rows, [&]<Metric kMetric, class Element>() {
    const size_t shared = rows.dim * sizeof(float);
    const auto select = SmallestKeysKernel<kMetric, Element>;
    const cudaError_t allowed = AllowShared(select, shared);
    if (allowed != cudaSuccess) return allowed;
    if (ranges.total > 0) {
      RangeKeysKernel<kMetric, Element>
          <<<BlocksFor(ranges.total / kRun), kThreads, 0, stream>>>(
              rows, ranges, keys);
    }
    select<<<ranges.num_queries, 1024, shared, stream>>>(
        rows, ranges.queries, keys, ranges.ends, k, out);
    return cudaGetLastError();
  });
}

cudaError_t ScoreLists(const DeviceRows& rows, const void* queries,
                       uint32_t num_queries, const uint32_t* offsets,
                       const uint32_t* list, float* out, cudaStream_t stream) {
  return ForRows(rows, [&]<Metric kMetric, class Element>() {
    ScoreKernel<kMetric, Element><<<kManyBlocks, kThreads, 0, stream>>>(
        rows, queries, num_queries, offsets, list, out);
    return cudaGetLastError();
  });
}

}  // namespace vicinal::gpu
