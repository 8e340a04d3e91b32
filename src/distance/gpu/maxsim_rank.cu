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

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlock = 32;         // tokens of documents, and of queries
constexpr uint32_t kDims = 64;          // compared between two barriers
constexpr uint32_t kPitch = kDims + 4;  // floats; eight rows use all banks
constexpr uint32_t kSorted = 2048;      // neighbours

// What a block that compares exactly shares.
struct RankShared {
  union {
    struct {
      float docs[kBlock * kPitch];
      float queries[kBlock * kPitch];
    } tiles;
    Neighbor neighbors[kSorted];
  };
  double products[kMaxQueryTokens];  // weights times maxima
  float best[kMaxQueryTokens];
  float pair_best[2][kBlock];
  bool is_last;
};

// Dimensions first_dim .. + kDims of tokens first .. end - 1, the last again
// where there are fewer than kBlock.
template <class Element>
__device__ void LoadDocs(const DeviceTokens& tokens, uint32_t first,
                         uint32_t end, uint32_t first_dim, float* to) {
  for (uint32_t i = threadIdx.x; i < kBlock * kDims; i += kThreads) {
    const uint32_t token = min(first + i / kDims, end - 1);
    const uint32_t dim = first_dim + i % kDims;
    const Element* const from = static_cast<const Element*>(tokens.exact) +
                                size_t{token} * tokens.exact_stride;
    float value = 0;
    if (dim < tokens.dim) {
      value = tokens.norms == nullptr
                  ? ToFloat(from[dim])
                  : UnitElement(from, tokens.dim, dim, tokens.norms[token]);
    }
    to[i / kDims * kPitch + i % kDims] = value;
  }
}

__device__ inline void LoadQueries(const float* from, uint32_t num_tokens,
                                   uint32_t dim, uint32_t first_dim,
                                   float* to) {
  for (uint32_t i = threadIdx.x; i < kBlock * kDims; i += kThreads) {
    const uint32_t token = i / kDims;
    const uint32_t at = first_dim + i % kDims;
    to[token * kPitch + i % kDims] =
        token < num_tokens && at < dim ? from[size_t{token} * dim + at] : 0;
  }
}

// sums[a][b] += products of two tokens of the document, 16 rows apart, and two
// of the query, one dimension after the other.
__device__ inline void Accumulate(const float* docs, const float* queries,
                                  float (&sums)[2][2]) {
#pragma unroll 4
  for (uint32_t at = 0; at < kDims; at += 4) {
    float4 doc[2];
    float4 query[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      doc[i] = *reinterpret_cast<const float4*>(docs + i * 16 * kPitch + at);
      query[i] =
          *reinterpret_cast<const float4*>(queries + i * 16 * kPitch + at);
    }
#pragma unroll
    for (int a = 0; a < 2; ++a) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
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
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warp = threadIdx.x / 32;
  // 8 rows and 4 columns a warp; a thread has those 16 further, too.
  const uint32_t row = lane % 8 + 8 * (warp % 2);
  const uint32_t column = lane / 8 + 4 * (warp / 2);
  float maxima[2] = {-INFINITY, -INFINITY};
  for (uint32_t first = begin; first < end; first += kBlock) {
    float sums[2][2] = {};
    for (uint32_t dim = 0; dim < tokens.dim; dim += kDims) {
      __syncthreads();
      LoadDocs<Element>(tokens, first, end, dim, shared->tiles.docs);
      LoadQueries(query, num_tokens, tokens.dim, dim, shared->tiles.queries);
      __syncthreads();
      Accumulate(shared->tiles.docs + row * kPitch,
                 shared->tiles.queries + column * kPitch, sums);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // a product that is no number is left out
      maxima[i] = sums[0][i] > maxima[i] ? sums[0][i] : maxima[i];
      maxima[i] = sums[1][i] > maxima[i] ? sums[1][i] : maxima[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    for (int step = 1; step < 8; step *= 2) {
      maxima[i] = fmaxf(maxima[i], __shfl_xor_sync(~0u, maxima[i], step));
    }
    if (lane % 8 == 0) shared->pair_best[warp % 2][column + 16 * i] = maxima[i];
  }
  __syncthreads();
  if (threadIdx.x < num_tokens && threadIdx.x < kBlock) {
    best[threadIdx.x] = fmaxf(shared->pair_best[0][threadIdx.x],
                              shared->pair_best[1][threadIdx.x]);
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

// The k nearest of the survivors, whose distances are known. By all threads.
__device__ void WriteRanked(const MaxSimState& state, uint32_t q,
                            const TokenQuery& query, uint32_t count,
                            Neighbor* neighbors) {
  uint32_t kept = 0;
  for (uint32_t first = 0; first < count;) {
    const uint32_t taken = min(count - first, kSorted - kept);
    const uint32_t n = kept + taken;
    const uint32_t sorted = PowerOfTwo(n);
    __syncthreads();
    for (uint32_t i = kept + threadIdx.x; i < sorted; i += kThreads) {
      Neighbor neighbor = {INFINITY, kInvalidRow};
      if (i < n) {
        const uint32_t at = query.list_begin + first + i - kept;
        const float distance = __ldcg(state.scores + at);
        const uint32_t slot = state.survivors[at];
        if (distance < INFINITY) {  // else it has no tokens
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
  for (uint32_t i = threadIdx.x; i < state.k; i += kThreads) {
    state.out[size_t{q} * state.k + i] =
        i < kept ? neighbors[i] : Neighbor{INFINITY, kInvalidRow};
  }
  if (threadIdx.x == 0) {
    state.reports[q] = {count, state.errors[q] < INFINITY ? 0u : 1u};
  }
}

// Blocks x of query y share its survivors, or their parts; the last that is
// done sorts them.
template <class Element>
__global__ __launch_bounds__(kThreads) void RankKernel(
    const DeviceTokens tokens, const MaxSimState state) {
  WaitForKernelBefore();
  extern __shared__ uint4 dynamic_shared[];
  RankShared* const shared = reinterpret_cast<RankShared*>(dynamic_shared);
  const uint32_t q = blockIdx.y;
  const TokenQuery query = state.queries[q];
  const uint32_t count = state.counts[q];
  if (count == 0) {
    if (blockIdx.x == 0) WriteRanked(state, q, query, 0, shared->neighbors);
    return;
  }
  const uint32_t parts = count <= kSplitCandidates ? kExactParts : 1;
  for (uint32_t work = blockIdx.x; work < count * parts; work += gridDim.x) {
    const uint32_t survivor = work / parts;
    const uint32_t part = work % parts;
    const uint32_t slot = state.survivors[query.list_begin + survivor];
    const uint32_t doc =
        state.docs == nullptr ? slot : state.docs[query.list_begin + slot];
    const uint32_t first = tokens.offsets[doc];
    const uint32_t length = tokens.offsets[doc + 1] - first;
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
        for (uint32_t other = 0; other < kExactParts; ++other) {
          best = fmaxf(best, __ldcg(partials + other * state.max_tokens + i));
        }
        shared->best[i] = best;
      }
      __syncthreads();
    }
    const float distance = DistanceOf(state, query, shared);
    if (threadIdx.x == 0) {
      state.scores[query.list_begin + survivor] =
          length == 0 ? INFINITY : distance;
    }
    if (!IsLast(state.ranked + q, count, shared)) continue;
    WriteRanked(state, q, query, count, shared->neighbors);
    return;
  }
}

}  // namespace

cudaError_t RankMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                       int num_processors, cudaStream_t stream) {
  // What few survivors take in parts, four blocks a processor in all.
  const uint32_t most = std::max(1u, 4u * num_processors / state.num_queries);
  const dim3 grid(std::min(most, kSplitCandidates * kExactParts),
                  state.num_queries);
  return ForTokens(tokens, [&]<class Element>() {
    return LaunchAfter(state.overlaps, RankKernel<Element>, grid, kThreads,
                       sizeof(RankShared), stream, tokens, state);
  });
}

}  // namespace vicinal::gpu
