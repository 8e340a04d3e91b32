// The exact nearest among few candidates.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_order.cuh"
#include "src/distance/gpu/maxsim_tokens.cuh"
#include "src/distance/gpu/overlap.cuh"

namespace vicinal::gpu {
namespace {

// Threads that compare exactly, of which each has four tokens and two query
// tokens: with fewer it would wait for shared memory, with more there would be
// too few warps.
constexpr uint32_t kThreads = 128;
// Of a block, at most. It has a processor for itself, so that the first parts
// go to all processors.
constexpr uint32_t kTeams = 4;
constexpr uint32_t kDocTile = 4;
constexpr uint32_t kQueryTile = 2;
constexpr uint32_t kBlock = 32;         // tokens of documents, and of queries
constexpr uint32_t kDims = 128;         // compared between two barriers
constexpr uint32_t kPitch = kDims + 4;  // floats; eight rows use all banks
constexpr uint32_t kDocStep = kBlock / kDocTile;
constexpr uint32_t kQueryStep = kBlock / kQueryTile;
static_assert(kThreads == kDocStep * kQueryStep);
constexpr uint32_t kRowThreads = kThreads / kBlock;  // that load a token
constexpr uint32_t kEights = kDims / kRowThreads / 8;

// Thread x of team y. Teams have nothing in common.
struct TeamSync {
  __device__ void operator()() const {
    asm volatile("bar.sync %0, %1;" ::"r"(threadIdx.y + 1), "n"(kThreads)
                 : "memory");
  }
};

// What a team shares.
struct alignas(16) RankShared {
  union {
    struct {
      float docs[kBlock * kPitch];
      float queries[kBlock * kPitch];
    } tiles;
    double products[kMaxQueryTokens];  // weights times maxima
    Neighbor neighbors[kSorted];
  };
  float best[kMaxQueryTokens];
  bool is_last;
};

__device__ inline RankShared* OwnShared() {
  extern __shared__ uint4 dynamic_shared[];
  return reinterpret_cast<RankShared*>(dynamic_shared) + threadIdx.y;
}

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
  float values[kEights][8];
#pragma unroll
  for (uint32_t i = 0; i < kEights; ++i) {
    const uint32_t at = (threadIdx.x % kRowThreads + i * kRowThreads) * 8;
    LoadEight(from, tokens.dim, first_dim + at, vectors, values[i]);
  }
  const float norm = tokens.norms == nullptr ? 1 : tokens.norms[token];
  if (tokens.norms != nullptr && norm > 0) {
#pragma unroll
    for (uint32_t i = 0; i < kEights; ++i) {
#pragma unroll
      for (float& value : values[i]) value = __fdiv_rn(value, norm);
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < kEights; ++i) {
    const uint32_t at = (threadIdx.x % kRowThreads + i * kRowThreads) * 8;
    StoreEight(values[i], to + row * kPitch + at);
  }
  if (norm > 0) return;
#pragma unroll 1  // is rare, and as code so long that the other would wait
  for (uint32_t i = 0; i < kEights * 8; ++i) {
    const uint32_t at =
        (threadIdx.x % kRowThreads + i / 8 * kRowThreads) * 8 + i % 8;
    if (first_dim + at < tokens.dim) {
      to[row * kPitch + at] =
          UnitElement(from, tokens.dim, first_dim + at, norm);
    }
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

// sums[a][b] += products of tokens of the document, kDocStep rows apart, and of
// the query, kQueryStep apart, one dimension after the other.
__device__ __forceinline__ void Accumulate(
    const float* docs, const float* queries,
    float (&sums)[kDocTile][kQueryTile]) {
#pragma unroll 2
  for (uint32_t at = 0; at < kDims; at += 4) {
    float4 doc[kDocTile];
    float4 query[kQueryTile];
#pragma unroll
    for (uint32_t i = 0; i < kDocTile; ++i) {
      doc[i] =
          *reinterpret_cast<const float4*>(docs + i * kDocStep * kPitch + at);
    }
#pragma unroll
    for (uint32_t i = 0; i < kQueryTile; ++i) {
      query[i] = *reinterpret_cast<const float4*>(queries +
                                                  i * kQueryStep * kPitch + at);
    }
#pragma unroll
    for (uint32_t a = 0; a < kDocTile; ++a) {
#pragma unroll
      for (uint32_t b = 0; b < kQueryTile; ++b) {
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
// begin .. end - 1, into best[at] and so on. By all threads, which may go on at
// once.
template <class Element>
__device__ void ExactMaxima(const DeviceTokens& tokens, const float* query,
                            uint32_t num_tokens, uint32_t begin, uint32_t end,
                            uint32_t at) {
  RankShared* const shared = OwnShared();
  const uint32_t row = threadIdx.x % kDocStep;
  const uint32_t column = threadIdx.x / kDocStep;
  float maxima[kQueryTile];
#pragma unroll
  for (float& maximum : maxima) maximum = -INFINITY;
  for (uint32_t first = begin; first < end; first += kBlock) {
    float sums[kDocTile][kQueryTile] = {};
    for (uint32_t dim = 0; dim < tokens.dim; dim += kDims) {
      TeamSync()();
      LoadDocs<Element>(tokens, first, end, dim, shared->tiles.docs);
      LoadQueries(query, num_tokens, tokens.dim, dim, shared->tiles.queries);
      TeamSync()();
      Accumulate(shared->tiles.docs + row * kPitch,
                 shared->tiles.queries + column * kPitch, sums);
    }
#pragma unroll
    for (uint32_t b = 0; b < kQueryTile; ++b) {
#pragma unroll
      for (uint32_t a = 0; a < kDocTile; ++a) {
        // What is no number is left out.
        maxima[b] = sums[a][b] > maxima[b] ? sums[a][b] : maxima[b];
      }
    }
  }
#pragma unroll
  for (uint32_t b = 0; b < kQueryTile; ++b) {
    for (uint32_t step = 1; step < kDocStep; step *= 2) {
      maxima[b] = fmaxf(maxima[b], __shfl_xor_sync(~0u, maxima[b], step));
    }
    const uint32_t token = column + kQueryStep * b;
    if (row == 0 && token < num_tokens) shared->best[at + token] = maxima[b];
  }
  TeamSync()();
}

// Whether the calling team is the last of `num` to come here; what the others
// wrote before is then seen. By all threads.
__device__ bool IsLast(uint32_t* counter, uint32_t num, RankShared* shared) {
  TeamSync()();
  if (threadIdx.x == 0) {
    __threadfence();
    shared->is_last = atomicAdd(counter, 1) + 1 == num;
    __threadfence();
  }
  TeamSync()();
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
  TeamSync()();
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

// The teams of blocks x of query y share its survivors, or their parts; the
// last writes the nearest.
template <class Element>
__global__ __launch_bounds__(kThreads* kTeams) void RankKernel(
    const DeviceTokens tokens, const MaxSimState state) {
  WaitForKernelBefore();
  RankShared* const shared = OwnShared();
  const uint32_t team = threadIdx.y * gridDim.x + blockIdx.x;
  const uint32_t q = blockIdx.y;
  const TokenQuery query = state.queries[q];
  const uint32_t count = state.counts[q];
  const bool split = count <= kSplitCandidates;
  bool is_last = count == 0 && team == 0;
  const uint32_t num_works = count * (split ? kExactParts : 1);
  for (uint32_t work = team; work < num_works; work += blockDim.y * gridDim.x) {
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
          first + length * (part + 1) / parts, i);
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
      TeamSync()();
    }
    const float distance = DistanceOf(state, query, shared);
    if (threadIdx.x == 0) {
      state.distances[query.list_begin + survivor] =
          length == 0 ? INFINITY : distance;
    }
    is_last = IsLast(state.ranked + q, count, shared);
  }
  if (!is_last) return;
  const float* const distances = state.distances + query.list_begin;
  WriteRanked(
      state, q, query, count, shared->neighbors,
      [&](uint32_t survivor, uint32_t) { return __ldcg(distances + survivor); },
      TeamSync());
}

}  // namespace

cudaError_t RankMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                       int num_processors, cudaStream_t stream) {
  int device = 0;
  int most_shared = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                         device);
  const uint32_t teams =
      std::clamp<uint32_t>(most_shared / sizeof(RankShared), 1, kTeams);
  const dim3 grid(
      std::max(1u, kTeams / teams * num_processors / state.num_queries),
      state.num_queries);
  const uint32_t shared = teams * sizeof(RankShared);
  return ForTokens(tokens, [&]<class Element>() {
    const cudaError_t allowed = AllowShared(RankKernel<Element>, shared);
    if (allowed != cudaSuccess) return allowed;
    return LaunchAfter(state.overlaps, RankKernel<Element>, grid,
                       dim3(kThreads, teams), shared, stream, tokens, state);
  });
}

}  // namespace vicinal::gpu
