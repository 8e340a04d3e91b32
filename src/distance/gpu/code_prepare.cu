// What a search by codes does before and after its scans: see code_scan.h.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/code_few.h"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/overlap.cuh"
#include "src/distance/gpu/sort.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kManyBlocks = 4096;

// The code of a dimension in a record (kernels_codes.h).
__device__ inline uint32_t CodeAt(const CodeSegment& segment,
                                  const uint8_t* record, uint32_t dim) {
  if (dim >= segment.num_dims) return 0;
  const uint32_t whole = segment.num_dims / 64 * 64;
  const uint32_t width = dim < whole ? 64 : 16;
  const uint32_t at = dim < whole ? dim % 64 : (dim - whole) % 16;
  const uint32_t block = dim - at;
  const uint32_t plane = width * segment.bits / 8;
  const uint8_t byte =
      record[segment.payload_offset + block * segment.bits / 8 + at % plane];
  return byte >> (segment.bits * (at / plane)) & ((1u << segment.bits) - 1);
}

// Where code i of operand p is in a word.
__device__ inline uint32_t ShiftOf(uint32_t bits, uint32_t p, uint32_t i) {
  return bits == 4 ? 16 * p + 4 * i : bits * p + 8 * i;
}

__device__ inline uint32_t WordOf(const CodeSegment& segment, uint32_t bits,
                                  const uint8_t* record, uint32_t word,
                                  uint32_t column) {
  const uint32_t operands = 8 / bits;
  uint32_t value = 0;
  for (uint32_t p = 0; p < operands; ++p) {
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t dim = 16 * (word * operands + p) + 4 * column + i;
      value |= CodeAt(segment, record, dim) << ShiftOf(bits, p, i);
    }
  }
  return value;
}

// Which word of which row lies at a place, from the first row's group on.
struct Place {
  uint32_t row;
  uint32_t word;
  uint32_t column;
};

__device__ inline Place PlaceOf(const DeviceCodes& codes, size_t at) {
  Place place;
  if (codes.is_bits) {
    const uint32_t tile_words = kScanTileRows * codes.num_words * 4;
    const uint32_t in_tile = at % tile_words;
    place.column = in_tile % 4;
    place.row = at / tile_words * kScanTileRows + in_tile / 64 % 8 * 8 +
                in_tile / 4 % 8;
    place.word = in_tile / 512 * 2 + in_tile / 32 % 2;
  } else {
    const uint32_t group_words = codes.num_words * 64;
    const uint32_t in_group = at % group_words;
    const uint32_t lane = in_group / 2 % 32;
    place.column = lane % 4;
    place.row =
        at / group_words * kCodeGroupRows + lane / 4 + 8 * (in_group % 2);
    place.word = in_group / 64;
  }
  return place;
}

// Words of num_rows rows from first_row on.
__global__ __launch_bounds__(kThreads) void PackKernel(
    const __grid_constant__ CodeLayout layout,
    const __grid_constant__ DeviceCodes codes, const uint8_t* records,
    size_t stride_bytes, uint32_t first_row, uint32_t num_rows) {
  const size_t tiles = (num_rows + kScanTileRows - 1) / kScanTileRows;
  const size_t row_words = codes.num_words * 4;
  uint32_t* const out =
      reinterpret_cast<uint32_t*>(const_cast<uint2*>(codes.words)) +
      first_row * row_words;
  for (size_t at = size_t{blockIdx.x} * kThreads + threadIdx.x;
       at < tiles * kScanTileRows * row_words;
       at += size_t{gridDim.x} * kThreads) {
    const Place place = PlaceOf(codes, at);
    if (place.row >= num_rows) {
      out[at] = 0;
      continue;
    }
    uint32_t s = 0;
    while (codes.segments[s].bits == 0 ||
           place.word >=
               codes.segments[s].first_word + codes.segments[s].num_words) {
      ++s;
    }
    out[at] = WordOf(layout.segments[s], codes.segments[s].bits,
                     records + place.row * stride_bytes,
                     place.word - codes.segments[s].first_word, place.column);
  }
}

__global__ __launch_bounds__(kThreads) void FactorsKernel(
    const __grid_constant__ CodeLayout layout,
    const __grid_constant__ DeviceCodes codes, const uint8_t* records,
    size_t stride_bytes, uint32_t first_row, uint32_t num_rows) {
  float* const additive = const_cast<float*>(codes.additive);
  float* const rescale = const_cast<float*>(codes.rescale);
  for (uint32_t row = blockIdx.x * kThreads + threadIdx.x; row < num_rows;
       row += gridDim.x * kThreads) {
    const uint8_t* const factors =
        records + row * stride_bytes + layout.additive_offset;
    additive[first_row + row] = *reinterpret_cast<const float*>(factors);
    for (uint32_t s = 0; s < layout.num_segments; ++s) {
      const uint8_t* const at =
          factors + 4 + (layout.rescale_is_f16 ? 2 : 4) * s;
      rescale[size_t{s} * codes.padded_rows + first_row + row] =
          layout.rescale_is_f16
              ? __half2float(*reinterpret_cast<const __half*>(at))
              : *reinterpret_cast<const float*>(at);
    }
  }
}

// Four values of a segment's dimensions as one word.
__device__ inline uint32_t FourValues(const int8_t* values, uint32_t num_dims,
                                      uint32_t dim) {
  uint32_t word = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    if (dim + i < num_dims) {
      word |= static_cast<uint32_t>(static_cast<uint8_t>(values[dim + i]))
              << (8 * i);
    }
  }
  return word;
}

// Word `at` of eight per step: 2 c + j are the values 16 j + 4 c and up.
__device__ inline uint32_t ByteWordOf(const CodeLayout& layout,
                                      const DeviceCodes& codes,
                                      const int8_t* query, uint32_t at) {
  const uint32_t step = at / 8;
  const uint32_t in_step = at % 2 * 16 + at % 8 / 2 * 4;
  for (uint32_t s = 0; s < layout.num_segments; ++s) {
    const DeviceCodeSegment& segment = codes.segments[s];
    if (segment.bits == 0) continue;
    const uint32_t num_steps = (segment.num_words * 8 / segment.bits + 1) / 2;
    const uint32_t num_dims = layout.segments[s].num_dims;
    if (step >= segment.first_step && step < segment.first_step + num_steps) {
      return FourValues(query + layout.segments[s].query_offset, num_dims,
                        (step - segment.first_step) * 32 + in_step);
    }
    if (segment.low_step != 0 && step >= segment.low_step &&
        step < segment.low_step + num_steps) {
      return FourValues(query + layout.segments[s].low_offset, num_dims,
                        (step - segment.low_step) * 32 + in_step);
    }
  }
  return 0;
}

__global__ __launch_bounds__(kThreads) void ByteQueriesKernel(
    const __grid_constant__ CodeLayout layout,
    const __grid_constant__ DeviceCodes codes, const int8_t* values,
    size_t value_bytes, uint32_t num_queries, uint32_t* out) {
  const uint32_t query_words = codes.query_words(false);
  const size_t total = size_t{num_queries} * query_words;
  for (size_t at = size_t{blockIdx.x} * kThreads + threadIdx.x; at < total;
       at += size_t{gridDim.x} * kThreads) {
    out[at] = ByteWordOf(layout, codes, values + at / query_words * value_bytes,
                         at % query_words);
  }
}

// Word `at` = 4 w + c of each plane, plane_words apart: the bits p of the
// values that word w of codes has in column c.
__device__ inline void PutPlanes(const CodeSegment& segment,
                                 const int8_t* query, uint32_t at,
                                 uint32_t plane_words, uint32_t* out) {
  const int8_t* const own = query + segment.query_offset;
  const uint32_t word = at / 4;
  const uint32_t column = at % 4;
  uint32_t planes[kPlanes] = {};
  for (uint32_t p = 0; p < 8; ++p) {
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t dim = 16 * (8 * word + p) + 4 * column + i;
      if (dim >= segment.num_dims) continue;
      const auto value = static_cast<uint8_t>(own[dim]);
      for (uint32_t plane = 0; plane < kPlanes; ++plane) {
        planes[plane] |= (value >> plane & 1u) << ShiftOf(1, p, i);
      }
    }
  }
  for (uint32_t plane = 0; plane < kPlanes; ++plane) {
    out[plane * plane_words + at] = planes[plane];
  }
}

__global__ __launch_bounds__(kThreads) void BitQueriesKernel(
    const __grid_constant__ CodeLayout layout,
    const __grid_constant__ DeviceCodes codes, const int8_t* values,
    size_t value_bytes, uint32_t num_queries, uint32_t* out) {
  const uint32_t plane_words = codes.num_words * 4;
  const size_t total = size_t{num_queries} * plane_words;
  for (size_t at = size_t{blockIdx.x} * kThreads + threadIdx.x; at < total;
       at += size_t{gridDim.x} * kThreads) {
    const size_t query = at / plane_words;
    PutPlanes(layout.segments[0], values + query * value_bytes,
              at % plane_words, plane_words,
              out + query * codes.query_words(true));
  }
}

// Copies what is at `from`, a multiple of 16 bytes, by some of the threads.
__device__ inline void CopyPieces(const void* from, size_t bytes, size_t first,
                                  size_t step, void* to) {
  for (size_t i = first; i < bytes / 16; i += step) {
    static_cast<uint4*>(to)[i] = static_cast<const uint4*>(from)[i];
  }
}

// Block (0, q) prepares query q, others clear its maxima. What is on the host
// is asked for by different threads, so that all of it comes at once.
__global__ __launch_bounds__(kThreads) void PrepareFewKernel(
    const __grid_constant__ CodeLayout layout,
    const __grid_constant__ DeviceCodes codes,
    const __grid_constant__ FewQueries few, const QueryState state) {
  WaitForKernelBefore();
  extern __shared__ uint4 values[];
  constexpr uint32_t kHalf = kThreads / 2;
  const uint32_t query = blockIdx.y;
  const uint32_t thread = threadIdx.x;
  if (blockIdx.x > 0) {
    for (uint32_t i = (blockIdx.x - 1) * kThreads + thread; i < few.num_groups;
         i += (gridDim.x - 1) * kThreads) {
      few.maxima[size_t{query} * few.num_groups + i] = 0;
    }
    return;
  }
  if (thread < kHalf) {
    CopyPieces(few.values + query * few.value_pitch, few.value_pitch, thread,
               kHalf, values);
  } else if (thread < kHalf + 32) {
    const uint32_t num_terms = codes.num_terms();
    for (uint32_t i = thread % 32; i < num_terms; i += 32) {
      few.terms_there[query * num_terms + i] = few.terms[query * num_terms + i];
    }
  } else {
    constexpr uint32_t kOthers = kHalf - 32;
    CopyPieces(few.raw, few.raw_bytes, query * kOthers + thread - kHalf - 32,
               state.num_queries * kOthers, few.raw_there);
  }
  if (thread == 0) {
    few.probes[query] = {query, 0, codes.num_rows, 0};
    state.error[query] = 0;
    state.floor[query] = -INFINITY;
    state.counts[query] = 0;
    state.kept[query] = 0;
    state.lost[query] = 0;
  }
  __syncthreads();
  const auto* const own = reinterpret_cast<const int8_t*>(values);
  uint32_t* const out =
      few.operands + size_t{query} * codes.query_words(few.as_bits);
  if (few.as_bits) {
    const uint32_t plane_words = codes.num_words * 4;
    for (uint32_t at = thread; at < plane_words; at += kThreads) {
      PutPlanes(layout.segments[0], own, at, plane_words, out);
    }
  } else {
    for (uint32_t at = thread; at < codes.query_words(false); at += kThreads) {
      out[at] = ByteWordOf(layout, codes, own, at);
    }
  }
}

// Of queries with at_least to at_most candidates.
__global__ __launch_bounds__(1024) void RankEstimatesKernel(
    const QueryState state, uint32_t depth, uint32_t k, uint32_t at_least,
    uint32_t at_most, Neighbor* out) {
  extern __shared__ Neighbor neighbors[];
  const uint32_t query = blockIdx.x;
  const uint32_t n = state.counts[query];
  if (state.lost[query] != 0 || n < at_least || n > at_most) return;
  Candidate* const candidates =
      state.candidates + size_t{query} * state.capacity;
  const uint32_t sorted = PowerOfTwo(n);
  for (uint32_t i = threadIdx.x; i < sorted; i += blockDim.x) {
    neighbors[i] = i < n ? Neighbor{-candidates[i].score, candidates[i].row}
                         : Neighbor{INFINITY, kInvalidRow};
  }
  SortNeighbors(neighbors, sorted);
  const uint32_t kept = min(n, depth);
  for (uint32_t i = threadIdx.x; i < kept; i += blockDim.x) {
    candidates[i] = {-neighbors[i].distance, neighbors[i].row};
  }
  if (out != nullptr) {
    for (uint32_t i = threadIdx.x; i < k; i += blockDim.x) {
      out[size_t{query} * k + i] =
          i < n ? neighbors[i] : Neighbor{INFINITY, kInvalidRow};
    }
  }
  __syncthreads();  // all have read the count
  if (threadIdx.x == 0) state.counts[query] = kept;
}

uint32_t BlocksFor(size_t threads) {
  return static_cast<uint32_t>(
      std::clamp<size_t>((threads + kThreads - 1) / kThreads, 1, kManyBlocks));
}

}  // namespace

cudaError_t PackCodes(const CodeLayout& layout, const DeviceCodes& codes,
                      const uint8_t* records, size_t stride_bytes,
                      uint32_t first_row, uint32_t num_rows,
                      cudaStream_t stream) {
  if (codes.num_words > 0) {
    PackKernel<<<kManyBlocks, kThreads, 0, stream>>>(
        layout, codes, records, stride_bytes, first_row, num_rows);
  }
  FactorsKernel<<<BlocksFor(num_rows), kThreads, 0, stream>>>(
      layout, codes, records, stride_bytes, first_row, num_rows);
  return cudaGetLastError();
}

cudaError_t PackCodeQueries(const CodeLayout& layout, const DeviceCodes& codes,
                            const int8_t* values, size_t value_bytes,
                            uint32_t num_queries, bool as_bits, uint32_t* out,
                            cudaStream_t stream) {
  const size_t words = size_t{num_queries} * codes.query_words(as_bits);
  if (words == 0) return cudaSuccess;
  if (as_bits) {
    BitQueriesKernel<<<BlocksFor(words / kPlanes), kThreads, 0, stream>>>(
        layout, codes, values, value_bytes, num_queries, out);
  } else {
    ByteQueriesKernel<<<BlocksFor(words), kThreads, 0, stream>>>(
        layout, codes, values, value_bytes, num_queries, out);
  }
  return cudaGetLastError();
}

cudaError_t PrepareFew(const CodeLayout& layout, const DeviceCodes& codes,
                       const FewQueries& few, const QueryState& state,
                       cudaStream_t stream) {
  const uint32_t blocks =
      1 + std::min<uint32_t>((few.num_groups + kThreads - 1) / kThreads, 16);
  PrepareFewKernel<<<dim3(blocks, state.num_queries), kThreads, few.value_pitch,
                     stream>>>(layout, codes, few, state);
  return cudaGetLastError();
}

cudaError_t RankEstimates(const QueryState& state, uint32_t depth, uint32_t k,
                          Neighbor* out, cudaStream_t stream) {
  const bool few = state.num_queries <= kStreamQueries;
  uint32_t at_least = 0;
  for (uint32_t at_most = few ? state.capacity
                              : std::min<uint32_t>(2048, state.capacity);
       ; at_most = state.capacity) {
    const size_t shared = PowerOfTwo(at_most) * sizeof(Neighbor);
    const cudaError_t allowed = AllowShared(RankEstimatesKernel, shared);
    if (allowed != cudaSuccess) return allowed;
    RankEstimatesKernel<<<state.num_queries, few ? 1024 : kThreads, shared,
                          stream>>>(state, depth, k, at_least, at_most, out);
    if (at_most == state.capacity) return cudaGetLastError();
    at_least = at_most + 1;
  }
}

}  // namespace vicinal::gpu
