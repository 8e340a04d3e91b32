// Scans of codes of one bit for a few queries, and the choice of what is
// scanned twice: see code_few.h.
//
// Codes are operands of the tensor cores as they lie in memory: a product
// counts the bits that 16 rows have in common with 8 planes of queries' bits,
// of 256 dimensions (as bytes, which are unpacked first, the integer units take
// as long as the memory). Planes are laid as in code_bits_sm90.cu, so that the
// six of a query end in one thread.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/distance/gpu/code_few.h"
#include "src/distance/gpu/code_scan.cuh"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/overlap.cuh"
#include "src/distance/gpu/select.cuh"
#include "src/distance/gpu/signal.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
// Groups of sixteen rows that a warp compares at once: half of a tile.
constexpr int kGroups = 2;
constexpr int kQuadTiles = kPlanes / 2;  // of eight columns, for four queries

__device__ inline void CountBits(int32_t (&sums)[4], const uint2& a,
                                 const uint2& b, uint2 columns) {
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(b.x), "r"(b.y), "r"(columns.x), "r"(columns.y));
}

// What a thread knows of a query: those of quad i are 4 i + lane % 4.
struct Terms {
  float additive;
  float additive_scale;
  float scale;
  float offset;
  float missing;  // offset of the segment without dimensions
};

__device__ inline Terms TermsOf(const DeviceCodes& codes, const CodeScan& scan,
                                uint32_t query) {
  if (query >= scan.num_probes) return {};
  const float* const terms = scan.terms + query * codes.num_terms();
  return {terms[0], terms[1], terms[2], terms[3],
          codes.num_segments > 1 ? terms[6] : 0.0f};
}

// The columns of products, [quad and tile][step][lane].
template <int kSteps, int kQuads>
__device__ void LoadColumns(const CodeScan& scan, uint2* columns) {
  constexpr uint32_t kPlaneWords = kSteps * 8;
  constexpr uint32_t kPieces = kQuads * kQuadTiles * kSteps * 32;
  for (uint32_t i = threadIdx.x; i < kPieces; i += kThreads) {
    const uint32_t lane = i % 32;
    const uint32_t step = i / 32 % kSteps;
    const uint32_t tile = i / (32 * kSteps);
    const uint32_t query = tile / kQuadTiles * 4 + lane / 8;
    const uint32_t plane = tile % kQuadTiles * 2 + lane / 4 % 2;
    const uint32_t* const words = scan.values +
                                  (query * kPlanes + plane) * kPlaneWords +
                                  step * 8 + lane % 4;
    columns[i] =
        query < scan.num_probes ? uint2{words[0], words[4]} : uint2{0, 0};
  }
}

// Estimates of 32 rows, lane / 4 and 8, 16, 24 further on.
template <int kSteps, int kQuads>
__device__ inline void Estimate(const DeviceCodes& codes, const uint2* columns,
                                const Terms (&terms)[kQuads],
                                uint32_t first_row, uint32_t lane,
                                float (&estimates)[kQuads][2 * kGroups]) {
  // As code_scan.h has them.
  const uint32_t* const words =
      reinterpret_cast<const uint32_t*>(codes.words) +
      size_t{first_row / kScanTileRows} * (kScanTileRows * kSteps * 8) +
      first_row / 16 % 4 * 128 + lane;
  uint2 a[kGroups][2 * kSteps];
#pragma unroll
  for (int word = 0; word < 2 * kSteps; ++word) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const uint32_t* const own =
          words + word / 2 * 512 + group * 128 + word % 2 * 32;
      a[group][word] = {__ldg(own), __ldg(own + 64)};
    }
  }
  const uint32_t own_row = first_row + lane / 4;
  float additive[2 * kGroups];
  float rescale[2 * kGroups];
  float missing[2 * kGroups];
#pragma unroll
  for (int i = 0; i < 2 * kGroups; ++i) {
    additive[i] = __ldg(codes.additive + own_row + 8 * i);
    rescale[i] = __ldg(codes.rescale + own_row + 8 * i);
    missing[i] =
        codes.num_segments > 1
            ? __ldg(codes.rescale + codes.padded_rows + own_row + 8 * i)
            : 0.0f;
  }
  int32_t sums[kQuads * kQuadTiles][kGroups][4] = {};
#pragma unroll
  for (int tile = 0; tile < kQuads * kQuadTiles; ++tile) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const uint2 column = columns[(tile * kSteps + step) * 32 + lane];
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        CountBits(sums[tile][group], a[group][2 * step], a[group][2 * step + 1],
                  column);
      }
    }
  }
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    const Terms& own = terms[quad];
#pragma unroll
    for (int i = 0; i < 2 * kGroups; ++i) {
      const auto plane = [&](int p) {
        return sums[quad * kQuadTiles + p / 2][i / 2][2 * (i % 2) + p % 2];
      };
      int32_t sum = plane(4) - 2 * plane(5);
      for (int p = 3; p >= 0; --p) sum = plane(p) + 2 * sum;
      float estimate = __fmaf_rn(
          rescale[i], __fmaf_rn(own.scale, static_cast<float>(sum), own.offset),
          __fmaf_rn(own.additive_scale, additive[i], own.additive));
      if (codes.num_segments > 1) {
        estimate = __fmaf_rn(missing[i], own.missing, estimate);
      }
      estimates[quad][i] = estimate;
    }
  }
}

template <int kSteps, int kQuads>
__global__ __launch_bounds__(kThreads, kQuads == 1 ? 3 : 2) void MaximaKernel(
    const __grid_constant__ DeviceCodes codes, const CodeScan scan) {
  WaitForKernelBefore();
  __shared__ uint2 columns[kQuads * kQuadTiles * kSteps * 32];
  LoadColumns<kSteps, kQuads>(scan, columns);
  const uint32_t lane = threadIdx.x % 32;
  Terms terms[kQuads];
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    terms[quad] = TermsOf(codes, scan, 4 * quad + lane % 4);
  }
  __syncthreads();
  const uint32_t num_halves = codes.num_tiles() * 2;
  for (uint32_t half = blockIdx.x * kWarps + threadIdx.x / 32;
       half < num_halves; half += gridDim.x * kWarps) {
    const uint32_t first_row = half * (kScanTileRows / 2);
    const uint32_t accepted =
        AcceptedRows(codes, scan, first_row) >> (lane / 4);
    float estimates[kQuads][2 * kGroups];
    Estimate<kSteps, kQuads>(codes, columns, terms, first_row, lane, estimates);
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
      float best = -INFINITY;
#pragma unroll
      for (int i = 0; i < 2 * kGroups; ++i) {
        if ((accepted >> (8 * i) & 1) != 0) {
          best = fmaxf(best, -estimates[quad][i]);
        }
      }
      for (int step = 4; step < 32; step *= 2) {
        best = fmaxf(best, __shfl_xor_sync(~0u, best, step));
      }
      if (lane < 4 && 4 * quad + lane < scan.num_probes) {
        RaiseMaximum(scan, 4 * quad + lane, half / 2, best);
      }
    }
  }
}

// Rows of the chosen groups, each for its query: a warp takes half a tile.
template <int kSteps, int kQuads>
__global__ __launch_bounds__(kThreads, kQuads == 1 ? 3 : 2) void ChosenKernel(
    const __grid_constant__ DeviceCodes codes, const CodeScan scan,
    const QueryState state) {
  WaitForKernelBefore();
  __shared__ uint2 columns[kQuads * kQuadTiles * kSteps * 32];
  LoadColumns<kSteps, kQuads>(scan, columns);
  const uint32_t lane = threadIdx.x % 32;
  Terms terms[kQuads];
  float floors[kQuads];
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    const uint32_t query = 4 * quad + lane % 4;
    terms[quad] = TermsOf(codes, scan, query);
    floors[quad] = query < scan.num_probes ? state.floor[query] : INFINITY;
  }
  __syncthreads();
  const uint32_t halves_per_item = 2 * scan.tiles_per_group;
  const uint32_t num_units = scan.num_items * halves_per_item;
  for (uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32; unit < num_units;
       unit += gridDim.x * kWarps) {
    const ScanItem item = scan.items[unit / halves_per_item];
    const uint32_t half = unit % halves_per_item;
    if (half >= 2 * item.num_tiles) continue;
    const uint32_t first_row =
        item.first_tile * kScanTileRows + half * (kScanTileRows / 2);
    float estimates[kQuads][2 * kGroups];
    Estimate<kSteps, kQuads>(codes, columns, terms, first_row, lane, estimates);
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
      if (4 * quad + lane % 4 != item.first_probe) continue;
#pragma unroll
      for (int i = 0; i < 2 * kGroups; ++i) {
        if (-estimates[quad][i] > floors[quad]) {
          AppendEstimate(scan, state, scan.probes[item.first_probe],
                         estimates[quad][i], first_row + lane / 4 + 8 * i);
        }
      }
    }
    __syncwarp();  // products are of whole warps
  }
}

constexpr uint32_t kChooseThreads = 1024;
constexpr int kEach = kMaxGroups / kChooseThreads;

__global__ __launch_bounds__(kChooseThreads) void ChooseKernel(
    const CodeScan scan, const QueryState state, uint32_t num_tiles,
    uint32_t depth, ScanItem* items) {
  WaitForKernelBefore();
  __shared__ uint32_t num_chosen;
  const uint32_t query = blockIdx.x;
  const uint32_t most = kGroupsPerRow * depth;
  const uint32_t* const maxima = scan.maxima + query * scan.num_groups;
  ScanItem* const own_items = items + query * most;
  if (threadIdx.x == 0) num_chosen = 0;
  uint32_t keys[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const uint32_t group = i * kChooseThreads + threadIdx.x;
    keys[i] = group < scan.num_groups ? maxima[group] : 0;
  }
  const auto key_at = [&](int i) { return keys[i]; };
  const KeyRange range = RangeOf<kEach>(key_at);
  // With fewer, all that there are.
  uint32_t edge = 1;
  if (range.count >= depth) {
    edge = KthLargestKey<kChooseThreads, kEach>(key_at, range, depth,
                                                depth + depth / 4, 4);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (keys[i] < edge) continue;
    const uint32_t at = atomicAdd(&num_chosen, 1);
    if (at >= most) continue;
    const uint32_t tile =
        (i * kChooseThreads + threadIdx.x) * scan.tiles_per_group;
    own_items[at] = {tile, min(scan.tiles_per_group, num_tiles - tile), query,
                     1};
  }
  __syncthreads();
  for (uint32_t i = num_chosen + threadIdx.x; i < most; i += kChooseThreads) {
    own_items[i] = {0, 0, query, 1};
  }
  if (threadIdx.x != 0) return;
  if (num_chosen > most) state.lost[query] = 1;
  state.floor[query] =
      edge == 1 ? -INFINITY : nextafterf(ScoreOf(edge), -INFINITY);
}

// Candidates that are put in order, at most.
constexpr uint32_t kOrdered = 2048;

// Is asked again. By one thread.
__device__ void GiveUp(const QueryState& state, uint32_t query, bool is_last) {
  state.lost[query] = 1;
  if (is_last) Signal(&state.done[query], DoneWord(1, 0));
}

__global__ __launch_bounds__(kChooseThreads) void RankFewKernel(
    const QueryState state, uint32_t depth, uint32_t k, Neighbor* out) {
  WaitForKernelBefore();
  __shared__ Candidate best[kOrdered];
  __shared__ uint64_t order[kOrdered];  // ascending: by score, then by row
  __shared__ uint32_t num_best;
  const uint32_t query = blockIdx.x;
  const uint32_t thread = threadIdx.x;
  const uint32_t n = state.counts[query];
  if (state.lost[query] != 0 || n > state.capacity) {
    if (thread == 0) GiveUp(state, query, out != nullptr);
    return;
  }
  if (thread == 0) num_best = 0;
  Candidate* const candidates =
      state.candidates + size_t{query} * state.capacity;
  Candidate own[kEach];
  uint32_t keys[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const uint32_t at = i * kChooseThreads + thread;
    keys[i] = 0;
    if (at >= n) continue;
    own[i] = candidates[at];
    keys[i] = KeyOf(__fadd_rn(own[i].score, 0.0f));
  }
  const auto key_at = [&](int i) { return keys[i]; };
  const KeyRange range = RangeOf<kEach>(key_at);
  uint32_t edge = 1;
  if (range.count > depth) {
    edge = KthLargestKey<kChooseThreads, kEach>(key_at, range, depth,
                                                depth + depth / 4, 4);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (keys[i] < edge) continue;
    const uint32_t at = atomicAdd(&num_best, 1);
    if (at >= kOrdered) continue;
    best[at] = own[i];
    order[at] = uint64_t{~keys[i]} << 32 | own[i].row;
  }
  __syncthreads();
  const uint32_t m = num_best;
  if (m > kOrdered) {
    if (thread == 0) GiveUp(state, query, out != nullptr);
    return;
  }
  // Each by as many lanes as there are threads for: how many are before it.
  uint32_t lanes = 32;
  while (lanes > 1 && m * lanes > kChooseThreads) lanes /= 2;
  const uint32_t kept = min(m, depth);
  for (uint32_t first = 0; first < m; first += kChooseThreads / lanes) {
    const uint32_t i = first + thread / lanes;
    uint32_t rank = 0;
    if (i < m) {
      const uint64_t place = order[i];
      for (uint32_t j = thread % lanes; j < m; j += lanes) {
        rank += order[j] < place ? 1 : 0;
      }
    }
    for (uint32_t step = 1; step < lanes; step *= 2) {
      rank += __shfl_xor_sync(~0u, rank, step);
    }
    if (i >= m || thread % lanes != 0 || rank >= kept) continue;
    candidates[rank] = best[i];
    if (out != nullptr && rank < k) {
      out[size_t{query} * k + rank] = {-best[i].score, best[i].row};
    }
  }
  if (out != nullptr) {
    for (uint32_t i = m + thread; i < k; i += kChooseThreads) {
      out[size_t{query} * k + i] = {INFINITY, kInvalidRow};
    }
  }
  if (thread == 0) state.counts[query] = kept;
  if (out == nullptr) return;
  __syncthreads();
  if (thread == 0) Signal(&state.done[query], DoneWord(0, kept));
}

template <int kSteps, int kQuads>
cudaError_t Start(const DeviceCodes& codes, const CodeScan& scan,
                  const QueryState& state, int num_processors,
                  cudaStream_t stream) {
  const uint32_t most = (kQuads == 1 ? 3 : 2) * num_processors;
  const auto blocks = [&](size_t num_units) {
    return static_cast<uint32_t>(
        std::min<size_t>(most, (num_units + kWarps - 1) / kWarps));
  };
  if (scan.maxima != nullptr) {
    return LaunchAfter(scan.overlaps, MaximaKernel<kSteps, kQuads>,
                       blocks(codes.num_tiles() * size_t{2}), kThreads, 0,
                       stream, codes, scan);
  }
  return LaunchAfter(scan.overlaps, ChosenKernel<kSteps, kQuads>,
                     blocks(size_t{scan.num_items} * 2 * scan.tiles_per_group),
                     kThreads, 0, stream, codes, scan, state);
}

template <int kSteps>
cudaError_t StartAny(const DeviceCodes& codes, const CodeScan& scan,
                     const QueryState& state, int num_processors,
                     cudaStream_t stream) {
  return scan.num_probes <= 4
             ? Start<kSteps, 1>(codes, scan, state, num_processors, stream)
             : Start<kSteps, 2>(codes, scan, state, num_processors, stream);
}

}  // namespace

cudaError_t ChooseGroups(const CodeScan& scan, const QueryState& state,
                         uint32_t num_tiles, uint32_t depth, ScanItem* items,
                         cudaStream_t stream) {
  return LaunchAfter(scan.overlaps, ChooseKernel, state.num_queries,
                     kChooseThreads, 0, stream, scan, state, num_tiles, depth,
                     items);
}

cudaError_t RankFew(const QueryState& state, uint32_t depth, uint32_t k,
                    Neighbor* out, cudaStream_t stream) {
  return LaunchAfter(state.overlaps, RankFewKernel, state.num_queries,
                     kChooseThreads, 0, stream, state, depth, k, out);
}

cudaError_t ScanFewBits(const DeviceCodes& codes, const CodeScan& scan,
                        const QueryState& state, int num_processors,
                        cudaStream_t stream) {
  switch (codes.num_words / 2) {
    case 1:
      return StartAny<1>(codes, scan, state, num_processors, stream);
    case 2:
      return StartAny<2>(codes, scan, state, num_processors, stream);
    case 3:
      return StartAny<3>(codes, scan, state, num_processors, stream);
    default:
      return StartAny<4>(codes, scan, state, num_processors, stream);
  }
}

}  // namespace vicinal::gpu
