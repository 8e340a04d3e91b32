// The exact nearest among few candidates.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_tokens.cuh"
#include "src/distance/gpu/overlap.cuh"
#include "src/distance/gpu/sort.cuh"

namespace vicinal::gpu {
namespace {

// Threads that compare exactly, of which each has four tokens and four query
// tokens: fewer would wait for shared memory.
constexpr uint32_t kThreads = 64;
constexpr uint32_t kTile = 4;
constexpr uint32_t kOrderThreads = 256;
constexpr uint32_t kBlock = 32;         // tokens of documents, and of queries
constexpr uint32_t kDims = 128;         // compared between two barriers
constexpr uint32_t kPitch = kDims + 4;  // floats; eight rows use all banks
constexpr uint32_t kRowThreads = kThreads / kBlock;  // that load a token
constexpr uint32_t kEights = kDims / kRowThreads / 8;
// Blocks of a processor.
constexpr uint32_t kBlocks = 5;
constexpr uint32_t kSorted = 2048;  // neighbours

// What a block that compares exactly shares.
struct RankShared {
  union {
    struct {
      float docs[kBlock * kPitch];
      float queries[kBlock * kPitch];
    } tiles;
    double products[kMaxQueryTokens];  // weights times maxima
  };
  float best[kMaxQueryTokens];
  bool is_last;
};

// Elements of a row from `at` on, zeros behind `dim`. vectors: rows are 16-byte
// aligned, and dim a multiple of 8.
template <class Element>
__device__ __forceinline__ void LoadEight(const Element* row, uint32_t dim,
                                          uint32_t at, bool vectors,
                                          float (&to)[8]) {
  if (vectors && at < dim) {
    constexpr int kVectors = 8 * sizeof(Element) / 16;
    uint4 raw[kVectors];
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      raw[i] = __ldg(reinterpret_cast<const uint4*>(row + at) + i);
    }
    const Element* const values = reinterpret_cast<const Element*>(raw);
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = ToFloat(values[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) to[i] = at + i < dim ? ToFloat(row[at + i]) : 0;
}

__device__ inline void StoreEight(const float (&values)[8], float* to) {
  float4* const there = reinterpret_cast<float4*>(to);
  there[0] = {values[0], values[1], values[2], values[3]};
  there[1] = {values[4], values[5], values[6], values[7]};
}

// Dimensions first_dim .. + kDims of tokens first .. end - 1, the last again
// where there are fewer than kBlock. All is asked for before any is looked at.
template <class Element>
__device__ void LoadDocs(const DeviceTokens& tokens, uint32_t first,
                         uint32_t end, uint32_t first_dim, float* to) {
  const uint32_t row = threadIdx.x / kRowThreads;
  const uint32_t token = min(first + row, end - 1);
  const Element* const from = static_cast<const Element*>(tokens.exact) +
                              size_t{token} * tokens.exact_stride;
  const bool vectors =
      tokens.exact_stride * sizeof(Element) % 16 == 0 && tokens.dim % 8 == 0;
  const float norm = tokens.norms == nullptr ? 1 : tokens.norms[token];
  float values[kEights][8];
#pragma unroll
  for (uint32_t i = 0; i < kEights; ++i) {
    const uint32_t at = (threadIdx.x % kRowThreads + i * kRowThreads) * 8;
    LoadEight(from, tokens.dim, first_dim + at, vectors, values[i]);
  }
#pragma unroll
  for (uint32_t i = 0; i < kEights; ++i) {
    const uint32_t at = (threadIdx.x % kRowThreads + i * kRowThreads) * 8;
    if (tokens.norms != nullptr) {
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) {
        const uint32_t dim = first_dim + at + j;
        if (norm > 0) {
          values[i][j] = __fdiv_rn(values[i][j], norm);
        } else if (dim < tokens.dim) {
          values[i][j] = UnitElement(from, tokens.dim, dim, norm);
        }
      }
    }
    StoreEight(values[i], to + row * kPitch + at);
  }
}

__device__ inline void LoadQueries(const float* from, uint32_t num_tokens,
                                   uint32_t dim, uint32_t first_dim,
                                   float* to) {
  const uint32_t row = threadIdx.x / kRowThreads;
  // Of rows that are not there, zeros.
  const uint32_t own_dim = row < num_tokens ? dim : 0;
  float values[kEights][8];
#pragma unroll
  for (uint32_t i = 0; i < kEights; ++i) {
    const uint32_t at = (threadIdx.x % kRowThreads + i * kRowThreads) * 8;
    LoadEight(from + size_t{row} * dim, own_dim, first_dim + at, dim % 8 == 0,
              values[i]);
  }
#pragma unroll
  for (uint32_t i = 0; i < kEights; ++i) {
    const uint32_t at = (threadIdx.x % kRowThreads + i * kRowThreads) * 8;
    StoreEight(values[i], to + row * kPitch + at);
  }
}

// sums[a][b] += products of tokens of the document, eight rows apart, and of
// the query, one dimension after the other.
__device__ __forceinline__ void Accumulate(const float* docs,
                                           const float* queries,
                                           float (&sums)[kTile][kTile]) {
#pragma unroll 2
  for (uint32_t at = 0; at < kDims; at += 4) {
    float4 doc[kTile];
    float4 query[kTile];
#pragma unroll
    for (uint32_t i = 0; i < kTile; ++i) {
      doc[i] = *reinterpret_cast<const float4*>(docs + i * 8 * kPitch + at);
      query[i] =
          *reinterpret_cast<const float4*>(queries + i * 8 * kPitch + at);
    }
#pragma unroll
    for (uint32_t a = 0; a < kTile; ++a) {
#pragma unroll
      for (uint32_t b = 0; b < kTile; ++b) {
        float sum = sums[a][b];
        sum = __fmaf_rn(doc[a].x, query[b].x, sum);
        sum = __fmaf_rn(doc[a].y, query[b].y, sum);
        sum = __fmaf_rn(doc[a].z, query[b].z, sum);
        sums[a][b] = __fmaf_rn(doc[a].w, query[b].w, sum);
      }
    }
  }
}

// Of up to kBlock query tokens, the largest products with the document tokens
// begin .. end - 1, into best. By all threads, which may go on at once.
template <class Element>
__device__ void ExactMaxima(const DeviceTokens& tokens, const float* query,
                            uint32_t num_tokens, uint32_t begin, uint32_t end,
                            RankShared* shared, float* best) {
  static_assert(kThreads == kBlock / kTile * (kBlock / kTile));
  const uint32_t row = threadIdx.x % 8;
  const uint32_t column = threadIdx.x / 8;
  float maxima[kTile];
#pragma unroll
  for (float& maximum : maxima) maximum = -INFINITY;
  for (uint32_t first = begin; first < end; first += kBlock) {
    float sums[kTile][kTile] = {};
    for (uint32_t dim = 0; dim < tokens.dim; dim += kDims) {
      __syncthreads();
      LoadDocs<Element>(tokens, first, end, dim, shared->tiles.docs);
      LoadQueries(query, num_tokens, tokens.dim, dim, shared->tiles.queries);
      __syncthreads();
      Accumulate(shared->tiles.docs + row * kPitch,
                 shared->tiles.queries + column * kPitch, sums);
    }
#pragma unroll
    for (uint32_t b = 0; b < kTile; ++b) {
#pragma unroll
      for (uint32_t a = 0; a < kTile; ++a) {  // what is no number is left out
        maxima[b] = sums[a][b] > maxima[b] ? sums[a][b] : maxima[b];
      }
    }
  }
#pragma unroll
  for (uint32_t b = 0; b < kTile; ++b) {
    for (int step = 1; step < 8; step *= 2) {
      maxima[b] = fmaxf(maxima[b], __shfl_xor_sync(~0u, maxima[b], step));
    }
    if (row == 0 && column + 8 * b < num_tokens) {
      best[column + 8 * b] = maxima[b];
    }
  }
  __syncthreads();
}

// Whether the calling block is the last of `num` to come here; what the others
// wrote before is then seen. By all threads.
__device__ bool IsLast(uint32_t* counter, uint32_t num, RankShared* shared) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) shared->is_last = atomicAdd(counter, 1) + 1 == num;
  __syncthreads();
  __threadfence();
  return shared->is_last;
}

// The distance of shared->best, as MultiQuery::Score has it. By thread 0 after
// all have come here.
__device__ float DistanceOf(const MaxSimState& state, const TokenQuery& query,
                            RankShared* shared) {
  for (uint32_t i = threadIdx.x; i < query.num_tokens; i += kThreads) {
    const float weight =
        state.weights == nullptr ? 1.0f : state.weights[query.first_token + i];
    shared->products[i] =
        __dmul_rn(static_cast<double>(weight), shared->best[i]);
  }
  __syncthreads();
  if (threadIdx.x != 0) return 0;
  double score = 0;
#pragma unroll 8
  for (uint32_t i = 0; i < query.num_tokens; ++i) {
    score = __dadd_rn(score, shared->products[i]);
  }
  constexpr float kMost = 3.40282346638528859812e38f;
  return -(score >= -kMost ? __double2float_rn(score < kMost ? score : kMost)
                           : -kMost);
}

// Parts of a document that are compared by themselves, where few documents are.
__device__ inline uint32_t PartsOf(uint32_t num_tokens) {
  return max(1u, min(kExactParts, (num_tokens + kBlock - 1) / kBlock));
}

// Blocks x of query y share its survivors, or their parts.
template <class Element>
__global__ __launch_bounds__(kThreads,
                             kBlocks) void RankKernel(const DeviceTokens tokens,
                                                      const MaxSimState state) {
  WaitForKernelBefore();
  extern __shared__ uint4 dynamic_shared[];
  RankShared* const shared = reinterpret_cast<RankShared*>(dynamic_shared);
  const uint32_t q = blockIdx.y;
  const TokenQuery query = state.queries[q];
  const uint32_t count = state.counts[q];
  const bool split = count <= kSplitCandidates;
  const uint32_t num_works = count * (split ? kExactParts : 1);
  for (uint32_t work = blockIdx.x; work < num_works; work += gridDim.x) {
    // First parts first, as there may not be others.
    const uint32_t survivor = work % count;
    const uint32_t part = work / count;
    const uint32_t slot = state.survivors[query.list_begin + survivor];
    const uint32_t doc =
        state.docs == nullptr ? slot : state.docs[query.list_begin + slot];
    const uint32_t first = tokens.offsets[doc];
    const uint32_t length = tokens.offsets[doc + 1] - first;
    const uint32_t parts = split ? PartsOf(length) : 1;
    if (part >= parts) continue;
    for (uint32_t i = 0; i < query.num_tokens; i += kBlock) {
      ExactMaxima<Element>(
          tokens, state.tokens + (size_t{query.first_token} + i) * tokens.dim,
          query.num_tokens - i, first + length * part / parts,
          first + length * (part + 1) / parts, shared, shared->best + i);
    }
    if (parts > 1) {
      const size_t of_survivor = size_t{q} * kSplitCandidates + survivor;
      float* const partials =
          state.exact_partials + of_survivor * kExactParts * state.max_tokens;
      for (uint32_t i = threadIdx.x; i < query.num_tokens; i += kThreads) {
        partials[part * state.max_tokens + i] = shared->best[i];
      }
      if (!IsLast(state.exact_finished + of_survivor, parts, shared)) continue;
      for (uint32_t i = threadIdx.x; i < query.num_tokens; i += kThreads) {
        float best = -INFINITY;
#pragma unroll 4
        for (uint32_t other = 0; other < parts; ++other) {
          best = fmaxf(best, __ldcg(partials + other * state.max_tokens + i));
        }
        shared->best[i] = best;
      }
      __syncthreads();
    }
    const float distance = DistanceOf(state, query, shared);
    if (threadIdx.x == 0) {
      state.distances[query.list_begin + survivor] =
          length == 0 ? INFINITY : distance;
    }
    __syncthreads();
  }
}

// The k nearest of the survivors; distance_of(survivor, candidate), infinite:
// it has no tokens. By all threads.
template <class Distance>
__device__ void WriteRanked(const MaxSimState& state, uint32_t q,
                            const TokenQuery& query, uint32_t count,
                            Neighbor* neighbors, const Distance& distance_of) {
  uint32_t kept = 0;
  for (uint32_t first = 0; first < count;) {
    const uint32_t taken = min(count - first, kSorted - kept);
    const uint32_t n = kept + taken;
    const uint32_t sorted = PowerOfTwo(n);
    __syncthreads();
    for (uint32_t i = kept + threadIdx.x; i < sorted; i += kOrderThreads) {
      Neighbor neighbor = {INFINITY, kInvalidRow};
      if (i < n) {
        const uint32_t survivor = first + i - kept;
        const uint32_t slot = state.survivors[query.list_begin + survivor];
        const float distance = distance_of(survivor, slot);
        if (distance < INFINITY) {
          neighbor = {distance, state.docs == nullptr
                                    ? slot
                                    : state.docs[query.list_begin + slot]};
        }
      }
      neighbors[i] = neighbor;
    }
    SortNeighbors(neighbors, sorted);
    kept = min(state.k, n);
    first += taken;
  }
  for (uint32_t i = threadIdx.x; i < state.k; i += kOrderThreads) {
    state.out[size_t{q} * state.k + i] =
        i < kept ? neighbors[i] : Neighbor{INFINITY, kInvalidRow};
  }
  if (threadIdx.x == 0) {
    state.reports[q] = {count, state.errors[q] < INFINITY ? 0u : 1u};
  }
}

__global__ __launch_bounds__(kOrderThreads) void OrderKernel(
    const MaxSimState state) {
  WaitForKernelBefore();
  __shared__ Neighbor neighbors[kSorted];
  const uint32_t q = blockIdx.x;
  const TokenQuery query = state.queries[q];
  const float* const scores = state.scores + query.list_begin;
  const float* const distances = state.distances + query.list_begin;
  // Without distances scores are exact.
  WriteRanked(state, q, query, state.counts[q], neighbors,
              [&](uint32_t survivor, uint32_t candidate) {
                return state.distances != nullptr ? distances[survivor]
                                                  : -scores[candidate];
              });
}

}  // namespace

cudaError_t RankMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                       int num_processors, cudaStream_t stream) {
  if (tokens.code_bits == 0) {
    const uint32_t most =
        std::max(1u, kBlocks * num_processors / state.num_queries);
    const dim3 grid(std::min(most, kSplitCandidates * kExactParts),
                    state.num_queries);
    const cudaError_t ranked = ForTokens(tokens, [&]<class Element>() {
      return LaunchAfter(state.overlaps, RankKernel<Element>, grid, kThreads,
                         sizeof(RankShared), stream, tokens, state);
    });
    if (ranked != cudaSuccess) return ranked;
  }
  return LaunchAfter(state.overlaps, OrderKernel, state.num_queries,
                     kOrderThreads, 0, stream, state);
}

}  // namespace vicinal::gpu
