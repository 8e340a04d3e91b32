// Codes of one bit against planes of the bits of queries on the tensor cores of
// compute capability 9.0: a product counts the bits that both have, of 256
// dimensions at a time (17 times the rate of bf16 on an H100), and six counts,
// weighed by their planes, are the sum of integers that kernels_codes.h wants.
//
// Three warpgroups multiply, each 64 rows with 32 probes at a time, so that
// while some look at their sums another has the tensor cores. A warp of a
// fourth one copies rows into a ring, of which each warpgroup takes every tile
// for its own probes. So their factors stay in registers: read from shared
// memory for each product they took as many of its cycles as operands do.
// Columns of the products are laid so that the six planes of a probe end in one
// thread.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/code_scan.cuh"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/launch.cuh"

namespace vicinal::gpu {
namespace {

// Probes of one product, and those of a thread.
constexpr uint32_t kChunk = 32;
constexpr int kQuads = kChunk / 4;
constexpr uint32_t kGroups = kBitProbes / kChunk;  // warpgroups that multiply
constexpr uint32_t kThreads = (kGroups + 1) * 128;
constexpr uint32_t kStages = 12;
// Candidates of a probe that wait: an append to memory takes a thousand cycles.
constexpr uint32_t kMostWaiting = 32;
constexpr uint32_t kColumns = kChunk * kPlanes;
constexpr int kSums = kColumns / 2;  // of a thread: two rows
// Bytes of 256 dimensions: of 64 rows, and of the columns of a chunk.
constexpr uint32_t kRowStep = kScanTileRows * 32;
constexpr uint32_t kColumnStep = kColumns * 32;

// Of a tile of pieces of 8 rows x 16 bytes, of which two lie side by side, 128
// bytes apart, and 8 rows further down are 256 bytes on: its lower half, to
// which a distance in units of 16 bytes can be added.
__device__ inline uint32_t PieceAddress(const void* tile) {
  return (SharedAddress(tile) & 0x3FFFF) >> 4 | (128u >> 4) << 16;
}
__device__ inline uint64_t PieceDescriptor(uint32_t address) {
  return address | uint64_t{256 >> 4} << 32;
}

// sums (64 x 192, spread over a warpgroup as those of Product are) = or += the
// bits that 64 rows of `a` and 192 of `b` have in common, of 256.
__device__ inline void CountBits(int32_t (&sums)[kSums], uint64_t a, uint64_t b,
                                 bool add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %98, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k256.s32.b1.b1.and.popc {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "
      "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "
      "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "
      "%60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, "
      "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, "
      "%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
      "}, %96, %97, add;\n"
      "}\n"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3]),
        "+r"(sums[4]), "+r"(sums[5]), "+r"(sums[6]), "+r"(sums[7]),
        "+r"(sums[8]), "+r"(sums[9]), "+r"(sums[10]), "+r"(sums[11]),
        "+r"(sums[12]), "+r"(sums[13]), "+r"(sums[14]), "+r"(sums[15]),
        "+r"(sums[16]), "+r"(sums[17]), "+r"(sums[18]), "+r"(sums[19]),
        "+r"(sums[20]), "+r"(sums[21]), "+r"(sums[22]), "+r"(sums[23]),
        "+r"(sums[24]), "+r"(sums[25]), "+r"(sums[26]), "+r"(sums[27]),
        "+r"(sums[28]), "+r"(sums[29]), "+r"(sums[30]), "+r"(sums[31]),
        "+r"(sums[32]), "+r"(sums[33]), "+r"(sums[34]), "+r"(sums[35]),
        "+r"(sums[36]), "+r"(sums[37]), "+r"(sums[38]), "+r"(sums[39]),
        "+r"(sums[40]), "+r"(sums[41]), "+r"(sums[42]), "+r"(sums[43]),
        "+r"(sums[44]), "+r"(sums[45]), "+r"(sums[46]), "+r"(sums[47]),
        "+r"(sums[48]), "+r"(sums[49]), "+r"(sums[50]), "+r"(sums[51]),
        "+r"(sums[52]), "+r"(sums[53]), "+r"(sums[54]), "+r"(sums[55]),
        "+r"(sums[56]), "+r"(sums[57]), "+r"(sums[58]), "+r"(sums[59]),
        "+r"(sums[60]), "+r"(sums[61]), "+r"(sums[62]), "+r"(sums[63]),
        "+r"(sums[64]), "+r"(sums[65]), "+r"(sums[66]), "+r"(sums[67]),
        "+r"(sums[68]), "+r"(sums[69]), "+r"(sums[70]), "+r"(sums[71]),
        "+r"(sums[72]), "+r"(sums[73]), "+r"(sums[74]), "+r"(sums[75]),
        "+r"(sums[76]), "+r"(sums[77]), "+r"(sums[78]), "+r"(sums[79]),
        "+r"(sums[80]), "+r"(sums[81]), "+r"(sums[82]), "+r"(sums[83]),
        "+r"(sums[84]), "+r"(sums[85]), "+r"(sums[86]), "+r"(sums[87]),
        "+r"(sums[88]), "+r"(sums[89]), "+r"(sums[90]), "+r"(sums[91]),
        "+r"(sums[92]), "+r"(sums[93]), "+r"(sums[94]), "+r"(sums[95])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// Nothing that reads the sums is moved to before this.
__device__ inline void KeepBelow(int32_t (&sums)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+r"(sums[i])::"memory");
}

__device__ inline void CopyBytes(void* to, const void* from, uint32_t bytes,
                                 uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1], %2, [%3];" ::"r"(SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}

// Of one of the warpgroups that multiply.
__device__ inline void GroupSync(uint32_t group) {
  asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory");
}

// What a warpgroup has of its probes.
struct Group {
  DeviceProbe probes[kChunk];
  float missing[kChunk];  // offsets of the segment without dimensions
  // Candidates that wait for the item's end, and where they go then.
  uint32_t num_waiting[kChunk];
  uint32_t first_place[kChunk];
  Candidate waiting[kChunk][kMostWaiting];
};

struct Shared {
  Group groups[kGroups];
  uint64_t full[kStages];
  uint64_t empty[kStages];
};

// A stage of the ring: a tile's rows and their factors.
template <int kSteps>
struct Stage {
  uint8_t rows[kSteps * kRowStep];
  float additive[kScanTileRows];
  float rescale[kScanTileRows];
  float missing[kScanTileRows];
};

template <int kSteps, bool kMissing>
__device__ void Copy(const DeviceCodes& codes, const CodeScan& scan,
                     uint32_t num_items, Stage<kSteps>* stages,
                     Shared* shared) {
  using To = Stage<kSteps>;
  constexpr uint32_t kFactorBytes = kScanTileRows * sizeof(float);
  constexpr uint32_t kBytes =
      sizeof(To::rows) + (kMissing ? 3 : 2) * kFactorBytes;
  uint32_t stage = 0;
  uint32_t parity = 1;
  for (uint32_t id = blockIdx.x; id < num_items; id += gridDim.x) {
    const ScanItem item = ItemAt(scan, id);
    for (uint32_t i = 0; i < item.num_tiles; ++i) {
      uint64_t* const full = &shared->full[stage];
      To& to = stages[stage];
      BarrierWaitInBlock(&shared->empty[stage], parity);
      BarrierExpect(full, kBytes);
      const size_t tile = ItemTile(scan, item, i);
      const float* const rescale = codes.rescale + tile * kScanTileRows;
      CopyBytes(to.rows,
                reinterpret_cast<const uint8_t*>(codes.words) +
                    tile * sizeof(to.rows),
                sizeof(to.rows), full);
      CopyBytes(to.additive, codes.additive + tile * kScanTileRows,
                kFactorBytes, full);
      CopyBytes(to.rescale, rescale, kFactorBytes, full);
      if (kMissing) {
        CopyBytes(to.missing, rescale + codes.padded_rows, kFactorBytes, full);
      }
      if (++stage == kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

// What a thread knows of its probes, lane % 4 and each fourth one from there.
struct ProbeTerms {
  float additive[kQuads];
  float additive_scale[kQuads];
  float scale[kQuads];
  float offset[kQuads];
  float floor[kQuads];
};

// The probes of a chunk by the warpgroup that multiplies with them.
template <int kSteps, bool kMissing>
__device__ ProbeTerms LoadChunk(const DeviceCodes& codes, const CodeScan& scan,
                                const QueryState& state, uint32_t first_probe,
                                uint32_t num_probes, uint32_t number,
                                uint8_t* columns, Group* group) {
  const uint32_t thread = threadIdx.x % 128;
  const uint32_t num_terms = codes.num_terms();
  const float* const terms = scan.terms + size_t{first_probe} * num_terms;
  DeviceProbe* const probes = group->probes;
  if (thread < kChunk) {
    const bool there = thread < num_probes;
    probes[thread] = there ? scan.probes[first_probe + thread] : DeviceProbe{};
    group->num_waiting[thread] = 0;
    if (kMissing) {
      group->missing[thread] = there ? terms[thread * num_terms + 6] : 0.0f;
    }
  }
  GroupSync(number);
  // Pieces of 16 bytes: of eight columns, of two halves, of 24 such octets, of
  // the steps. Three octets have planes 0 and 1, 2 and 3, 4 and 5 of four
  // probes in turn.
  constexpr uint32_t kPieces = kSteps * kColumns * 2;
  const uint4* const planes = reinterpret_cast<const uint4*>(scan.values);
#pragma unroll
  for (uint32_t i = thread; i < kPieces; i += 128) {
    const uint32_t column = i % 8;
    const uint32_t half = i / 8 % 2;
    const uint32_t octet = i / 16 % (kColumns / 8);
    const uint32_t step = i / (2 * kColumns);
    const uint32_t probe = octet / 3 * 4 + column / 2;
    const uint32_t plane = octet % 3 * 2 + column % 2;
    reinterpret_cast<uint4*>(columns)[i] =
        probe < num_probes
            ? __ldg(planes +
                    (size_t{probes[probe].query} * kPlanes + plane) *
                        (2 * kSteps) +
                    2 * step + half)
            : uint4{0, 0, 0, 0};
  }
  ProbeTerms own = {};
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    const uint32_t probe = quad * 4 + thread % 4;
    own.floor[quad] = INFINITY;
    if (probe >= num_probes) continue;
    const float* const from = terms + probe * num_terms;
    own.additive[quad] = from[0];
    own.additive_scale[quad] = from[1];
    own.scale[quad] = from[2];
    own.offset[quad] = from[3];
    own.floor[quad] = state.floor[probes[probe].query];
  }
  // Products read shared memory by another way than threads write it.
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  GroupSync(number);
  return own;
}

// Appends what waits, when all of the warpgroup are through with an item.
__device__ void AppendWaiting(const QueryState& state, uint32_t number,
                              Group* group) {
  const uint32_t thread = threadIdx.x % 128;
  GroupSync(number);
  if (thread < kChunk) {
    const uint32_t n = min(group->num_waiting[thread], kMostWaiting);
    group->num_waiting[thread] = n;
    if (n > 0) {
      group->first_place[thread] =
          atomicAdd(&state.counts[group->probes[thread].query], n);
    }
  }
  GroupSync(number);
  for (uint32_t i = thread; i < kChunk * kMostWaiting; i += 128) {
    const uint32_t probe = i / kMostWaiting;
    const uint32_t at = group->first_place[probe] + i % kMostWaiting;
    if (i % kMostWaiting < group->num_waiting[probe] && at < state.capacity) {
      state.candidates[size_t{group->probes[probe].query} * state.capacity +
                       at] = group->waiting[probe][i % kMostWaiting];
    }
  }
  GroupSync(number);
}

// What a thread knows of its rows, lane / 4 and 8 further on.
struct RowFactors {
  float additive[2];
  float rescale[2];
  float missing[2];
};

template <bool kMissing, int kSteps>
__device__ RowFactors LoadFactors(const Stage<kSteps>& stage,
                                  uint32_t row_of_tile) {
  RowFactors rows;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    rows.additive[i] = stage.additive[row_of_tile + 8 * i];
    rows.rescale[i] = stage.rescale[row_of_tile + 8 * i];
    rows.missing[i] = kMissing ? stage.missing[row_of_tile + 8 * i] : 0.0f;
  }
  return rows;
}

// Looks at the sums of a chunk: of eight probes and two rows in each thread.
template <bool kMissing, bool kStore>
__device__ inline void LookAt(const int32_t (&sums)[kSums],
                              const DeviceCodes& codes, const CodeScan& scan,
                              const QueryState& state, const ProbeTerms& terms,
                              const RowFactors& rows, const ScanItem& item,
                              uint32_t i_tile, uint32_t row_of_tile,
                              uint32_t num_probes, Group* group) {
  // All at once, as a branch between them would have each wait for the last.
  const uint32_t first_probe = threadIdx.x % 4;
  float estimates[2 * kQuads];
  bool any = false;
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto plane = [&](int p) {
        return sums[4 * (3 * quad + p / 2) + 2 * i + p % 2];
      };
      int32_t sum = plane(4) - 2 * plane(5);
      for (int p = 3; p >= 0; --p) sum = plane(p) + 2 * sum;
      const auto dot = static_cast<float>(sum);
      float estimate =
          __fmaf_rn(rows.rescale[i],
                    __fmaf_rn(terms.scale[quad], dot, terms.offset[quad]),
                    __fmaf_rn(terms.additive_scale[quad], rows.additive[i],
                              terms.additive[quad]));
      if constexpr (kMissing) {
        estimate = __fmaf_rn(rows.missing[i],
                             group->missing[quad * 4 + first_probe], estimate);
      }
      estimates[2 * quad + i] = estimate;
      any |= -estimate > terms.floor[quad];
    }
  }
  if (!kStore && !any) return;
  const uint32_t own_row =
      ItemTile(scan, item, i_tile) * kScanTileRows + row_of_tile;
  uint32_t wanted = 0;
#pragma unroll
  for (int i = 0; i < 2 * kQuads; ++i) {
    const uint32_t probe = i / 2 * 4 + first_probe;
    if constexpr (kStore) {
      if (probe < num_probes) {
        StoreEstimate(codes, scan, state, group->probes[probe], estimates[i],
                      own_row + i % 2 * 8, item.first_tile + i_tile);
      }
    } else {
      // So that it is compared again, as this is rare, instead of keeping what
      // the comparisons above said, which takes more than the estimates.
      asm volatile("" : "+f"(estimates[i]));
      wanted |= (-estimates[i] > terms.floor[i / 2] ? 1u : 0u) << i;
    }
  }
  for (; wanted != 0; wanted &= wanted - 1) {
    const int place = __ffs(static_cast<int>(wanted)) - 1;
    float estimate = estimates[0];
#pragma unroll
    for (int i = 1; i < 2 * kQuads; ++i) {
      if (i == place) estimate = estimates[i];
    }
    const uint32_t probe = place / 2 * 4 + first_probe;
    const uint32_t row = own_row + place % 2 * 8;
    if (!IsWanted(scan, group->probes[probe], row)) continue;
    const uint32_t at = atomicAdd(&group->num_waiting[probe], 1);
    if (at < kMostWaiting) {
      group->waiting[probe][at] = {-estimate, row};
    } else {
      Append(state, group->probes[probe].query, estimate, row);
    }
  }
}

template <int kSteps, bool kMissing, bool kStore>
__device__ void Multiply(const DeviceCodes& codes, const CodeScan& scan,
                         const QueryState& state, uint32_t num_items,
                         uint8_t* columns, const Stage<kSteps>* stages,
                         Shared* shared) {
  const uint32_t number = threadIdx.x / 128;
  Group* const group = &shared->groups[number];
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t row_of_tile = threadIdx.x % 128 / 32 * 16 + lane / 4;
  const uint32_t b = PieceAddress(columns);
  int32_t sums[kSums];
  uint32_t stage = 0;
  uint32_t parity = 0;
  for (uint32_t id = blockIdx.x; id < num_items; id += gridDim.x) {
    const ScanItem item = ItemAt(scan, id);
    // Where there are fewer chunks than groups, some groups share one and take
    // its tiles in turn; what is left over has no turn.
    const uint32_t num_chunks = (item.num_probes + kChunk - 1) / kChunk;
    const uint32_t num_turns = kGroups / num_chunks;
    const uint32_t first = number % num_chunks * kChunk;
    const uint32_t num_probes = min(kChunk, item.num_probes - first);
    const ProbeTerms terms = LoadChunk<kSteps, kMissing>(
        codes, scan, state, item.first_probe + first, num_probes, number,
        columns, group);
    uint32_t turn = number / num_chunks;
    if (turn >= num_turns) turn = ~0u;
    for (uint32_t i = 0; i < item.num_tiles; ++i) {
      BarrierWaitInBlock(&shared->full[stage], parity);
      if (i != turn) {
        __syncwarp();
        if (lane == 0) BarrierArrive(&shared->empty[stage]);
      } else {
        turn += num_turns;
        const uint32_t a = PieceAddress(stages[stage].rows);
        ProductFence();
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          CountBits(sums, PieceDescriptor(a + step * (kRowStep >> 4)),
                    PieceDescriptor(b + step * (kColumnStep >> 4)), step > 0);
        }
        ProductCommit();
        const RowFactors factors =
            LoadFactors<kMissing>(stages[stage], row_of_tile);
        ProductWait<0>();
        KeepBelow(sums);
        __syncwarp();
        if (lane == 0) BarrierArrive(&shared->empty[stage]);
        LookAt<kMissing, kStore>(sums, codes, scan, state, terms, factors, item,
                                 i, row_of_tile, num_probes, group);
        __syncwarp();  // products are of whole warps
      }
      if (++stage == kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
    AppendWaiting(state, number, group);
  }
}

template <int kSteps, bool kMissing, bool kStore>
__global__ __launch_bounds__(kThreads, 1) void BitsKernel(
    const __grid_constant__ DeviceCodes codes, const CodeScan scan,
    const QueryState state, uint32_t num_items) {
  extern __shared__ uint4 room[];
  __shared__ Shared shared;
  uint8_t* const columns = reinterpret_cast<uint8_t*>(room);
  auto* const stages = reinterpret_cast<Stage<kSteps>*>(
      columns + kGroups * kSteps * kColumnStep);
  if (threadIdx.x == 0) {
    for (uint32_t stage = 0; stage < kStages; ++stage) {
      BarrierInit(&shared.full[stage], 1);
      BarrierInit(&shared.empty[stage], kGroups * 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  const uint32_t group = threadIdx.x / 128;
  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x % 128 == 0) {
      Copy<kSteps, kMissing>(codes, scan, num_items, stages, &shared);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 160;");
    Multiply<kSteps, kMissing, kStore>(codes, scan, state, num_items,
                                       columns + group * kSteps * kColumnStep,
                                       stages, &shared);
  }
}

template <int kSteps, bool kMissing, bool kStore>
cudaError_t Start(const DeviceCodes& codes, const CodeScan& scan,
                  const QueryState& state, int num_processors,
                  cudaStream_t stream) {
  constexpr size_t kShared =
      kGroups * kSteps * kColumnStep + kStages * sizeof(Stage<kSteps>);
  static_assert(kShared > 48 << 10);  // or AllowShared would not ask
  const auto kernel = BitsKernel<kSteps, kMissing, kStore>;
  const cudaError_t allowed = AllowShared(kernel, kShared);
  if (allowed != cudaSuccess) return allowed;
  const uint32_t num_items = NumItems(scan);
  const uint32_t grid = std::min<uint32_t>(num_items, num_processors);
  kernel<<<grid, kThreads, kShared, stream>>>(codes, scan, state, num_items);
  return cudaGetLastError();
}

template <int kSteps>
cudaError_t StartAny(const DeviceCodes& codes, const CodeScan& scan,
                     const QueryState& state, bool store_all,
                     int num_processors, cudaStream_t stream) {
  if (codes.num_segments > 1) {
    return store_all ? Start<kSteps, true, true>(codes, scan, state,
                                                 num_processors, stream)
                     : Start<kSteps, true, false>(codes, scan, state,
                                                  num_processors, stream);
  }
  return store_all ? Start<kSteps, false, true>(codes, scan, state,
                                                num_processors, stream)
                   : Start<kSteps, false, false>(codes, scan, state,
                                                 num_processors, stream);
}

}  // namespace

cudaError_t ScanBits(const DeviceCodes& codes, const CodeScan& scan,
                     const QueryState& state, bool store_all,
                     int num_processors, cudaStream_t stream) {
  if (scan.num_probes == 0 || NumItems(scan) == 0) return cudaSuccess;
  switch (codes.num_words / 2) {
    case 1:
      return StartAny<1>(codes, scan, state, store_all, num_processors, stream);
    case 2:
      return StartAny<2>(codes, scan, state, store_all, num_processors, stream);
    case 3:
      return StartAny<3>(codes, scan, state, store_all, num_processors, stream);
    default:
      return StartAny<4>(codes, scan, state, store_all, num_processors, stream);
  }
}

}  // namespace vicinal::gpu
