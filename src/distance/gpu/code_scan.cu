// Codes of any width against queries of bytes, by integer products of the
// tensor cores: codes are unpacked into operands as they are loaded, queries
// wait in shared memory. Sums are exact, and what follows is done in the order
// of kernels_codes.h, so that estimates have the bits of the CPU's.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "src/distance/gpu/code_scan.cuh"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/launch.cuh"
#include "src/distance/gpu/overlap.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
// Groups of rows that a warp compares at once.
constexpr int kGroups = 2;
// Most tiles of probes where there are second digits, whose sums take
// registers, too.
constexpr uint32_t kMostLowTiles = 4;
// Words that are loaded before the first is used.
constexpr uint32_t kAhead = 4;

__device__ inline void Multiply(int32_t (&sums)[4], const uint32_t (&a)[4],
                                uint2 b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

// Operand p of a word.
__device__ inline uint32_t Unpack1(uint32_t word, int p) {
  return (word >> p) & 0x01010101u;
}
__device__ inline uint32_t Unpack2(uint32_t word, int p) {
  return (word >> (2 * p)) & 0x03030303u;
}
// Its four codes of four bits as bytes of a table of sixteen.
__device__ inline uint32_t Unpack4(uint32_t word, int p,
                                   const uint32_t (&levels)[4]) {
  const uint32_t codes = word >> (16 * p);
  const uint32_t in_half = codes & 0x7777u;
  const uint32_t low = __byte_perm(levels[0], levels[1], in_half);
  const uint32_t high = __byte_perm(levels[2], levels[3], in_half);
  return __byte_perm(low, high, 0x3210u | (codes >> 1 & 0x4444u));
}

// What becomes of estimates: all are stored, or those above the floors, or the
// largest scores of groups of tiles.
enum class Keep { kAll, kAbove, kMaxima };

// What one warp compares: the sums of kGroups groups of rows with kTiles tiles
// of eight probes.
template <int kTiles>
using Sums = int32_t[kGroups][kTiles][4];

// One step of 32 dimensions; a: the operands of the groups.
template <int kTiles, bool kLow>
__device__ inline void Step(const uint32_t (&a)[kGroups][4],
                            const uint2* fragments, uint32_t num_steps,
                            uint32_t step, uint32_t low_step, uint32_t lane,
                            Sums<kTiles>& sums, Sums<kLow ? kTiles : 1>& low) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const uint2 b = fragments[(tile * num_steps + step) * 32 + lane];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      Multiply(sums[group][tile], a[group], b);
    }
    if constexpr (kLow) {
      if (low_step != 0) {
        const uint2 rest = fragments[(tile * num_steps + low_step) * 32 + lane];
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
          Multiply(low[group][tile], a[group], rest);
        }
      }
    }
  }
}

// The words of rows r and r + 8 of a group of sixteen.
__device__ inline uint2 LoadWords(const DeviceCodes& codes, uint32_t group,
                                  uint32_t word, uint32_t lane) {
  if (codes.is_bits) {
    const uint32_t* const words =
        reinterpret_cast<const uint32_t*>(codes.words) +
        size_t{group / 4} * kScanTileRows * codes.num_words * 4 +
        word / 2 * 512 + group % 4 * 128 + word % 2 * 32 + lane;
    return {__ldg(words), __ldg(words + 64)};
  }
  return __ldg(codes.words + (size_t{group} * codes.num_words + word) * 32 +
               lane);
}

// The products of a segment.
template <int kTiles, bool kLow>
__device__ void Products(const DeviceCodes& codes,
                         const DeviceCodeSegment& segment, uint32_t first_group,
                         const uint2* fragments, uint32_t lane,
                         Sums<kTiles>& sums, Sums<kLow ? kTiles : 1>& low) {
  uint32_t step = segment.first_step;
  uint32_t low_step = segment.low_step;
  const auto add = [&](const uint32_t(&a)[kGroups][4]) {
    Step<kTiles, kLow>(a, fragments, codes.num_steps, step, low_step, lane,
                       sums, low);
    ++step;
    if (low_step != 0) ++low_step;
  };
  for (uint32_t first = 0; first < segment.num_words; first += kAhead) {
    uint2 raw[kGroups][kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        raw[group][i] = first + i < segment.num_words
                            ? LoadWords(codes, first_group + group,
                                        segment.first_word + first + i, lane)
                            : uint2{0, 0};
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      if (first + i >= segment.num_words) break;
      uint32_t a[kGroups][4];
      if (segment.bits == 1) {
#pragma unroll
        for (int half = 0; half < 4; ++half) {
#pragma unroll
          for (int group = 0; group < kGroups; ++group) {
            a[group][0] = Unpack1(raw[group][i].x, 2 * half);
            a[group][1] = Unpack1(raw[group][i].y, 2 * half);
            a[group][2] = Unpack1(raw[group][i].x, 2 * half + 1);
            a[group][3] = Unpack1(raw[group][i].y, 2 * half + 1);
          }
          add(a);
        }
      } else if (segment.bits == 2) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int group = 0; group < kGroups; ++group) {
            a[group][0] = Unpack2(raw[group][i].x, 2 * half);
            a[group][1] = Unpack2(raw[group][i].y, 2 * half);
            a[group][2] = Unpack2(raw[group][i].x, 2 * half + 1);
            a[group][3] = Unpack2(raw[group][i].y, 2 * half + 1);
          }
          add(a);
        }
      } else if (segment.bits == 4) {
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
          a[group][0] = Unpack4(raw[group][i].x, 0, segment.levels);
          a[group][1] = Unpack4(raw[group][i].y, 0, segment.levels);
          a[group][2] = Unpack4(raw[group][i].x, 1, segment.levels);
          a[group][3] = Unpack4(raw[group][i].y, 1, segment.levels);
        }
        add(a);
      } else if (i % 2 == 0) {
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
          a[group][0] = raw[group][i].x;
          a[group][1] = raw[group][i].y;
          a[group][2] = raw[group][i + 1].x;
          a[group][3] = raw[group][i + 1].y;
        }
        add(a);
      }
    }
  }
}

// The probes of an item in shared memory.
struct Probes {
  uint2* fragments;  // [tile][step][lane]
  float* terms;      // num_terms of each
  DeviceProbe* probes;
  float* floors;
};

template <int kTiles>
__device__ void LoadProbes(const DeviceCodes& codes, const CodeScan& scan,
                           const QueryState& state, const ScanItem& item,
                           const Probes& to) {
  constexpr uint32_t kCount = 8 * kTiles;
  for (uint32_t i = threadIdx.x; i < kCount; i += kThreads) {
    const bool there = i < item.num_probes;
    to.probes[i] = there ? scan.probes[item.first_probe + i] : DeviceProbe{};
    to.floors[i] = there ? state.floor[to.probes[i].query] : INFINITY;
  }
  const uint32_t num_terms = codes.num_segments * 3 + 2;
  for (uint32_t i = threadIdx.x; i < kCount * num_terms; i += kThreads) {
    to.terms[i] =
        i < item.num_probes * num_terms
            ? __ldg(scan.terms + size_t{item.first_probe} * num_terms + i)
            : 0.0f;
  }
  __syncthreads();
  const uint32_t pieces = codes.num_steps * 4;  // of 8 bytes, of a query
  const uint2* const values = reinterpret_cast<const uint2*>(scan.values);
#pragma unroll 8
  for (uint32_t i = threadIdx.x; i < kCount * pieces; i += kThreads) {
    const uint32_t probe = i / pieces;
    const uint32_t piece = i % pieces;
    to.fragments[(probe / 8 * codes.num_steps + piece / 4) * 32 +
                 probe % 8 * 4 + piece % 4] =
        probe < item.num_probes
            ? __ldg(values + size_t{to.probes[probe].query} * pieces + piece)
            : uint2{0, 0};
  }
}

// Of two neighbouring probes, from what eight lanes each know of 32 rows.
__device__ inline void KeepMaxima(const CodeScan& scan, const Probes& probes,
                                  uint32_t num_probes, uint32_t tile,
                                  uint32_t lane, float (&best)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    for (int step = 4; step < 32; step *= 2) {
      best[i] = fmaxf(best[i], __shfl_xor_sync(~0u, best[i], step));
    }
    const uint32_t probe = 2 * lane + i;
    if (lane < 4 && probe < num_probes) {
      RaiseMaximum(scan, probes.probes[probe].query, tile, best[i]);
    }
  }
}

// Rows first_row .. first_row + 32 with the probes of an item.
template <int kTiles, bool kLow, Keep kKeep>
__device__ void ScanRows(const DeviceCodes& codes, const CodeScan& scan,
                         const QueryState& state, const Probes& probes,
                         uint32_t num_probes, uint32_t first_row,
                         uint32_t number, uint32_t lane) {
  const uint32_t own_row = first_row + lane / 4;
  const uint32_t own_probe = 2 * (lane % 4);
  const uint32_t num_terms = codes.num_segments * 3 + 2;
  float estimates[kGroups][kTiles][4];
  float factors[2 * kGroups];
#pragma unroll
  for (int i = 0; i < 2 * kGroups; ++i) {
    factors[i] = codes.additive[own_row + 8 * i];
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const terms =
          probes.terms + (tile * 8 + own_probe + i % 2) * num_terms;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        estimates[group][tile][i] =
            __fmaf_rn(terms[1], factors[2 * group + i / 2], terms[0]);
      }
    }
  }
  for (uint32_t s = 0; s < codes.num_segments; ++s) {
    Sums<kTiles> sums = {};
    Sums<kLow ? kTiles : 1> low = {};
    const DeviceCodeSegment& segment = codes.segments[s];
    Products<kTiles, kLow>(codes, segment, first_row / kCodeGroupRows,
                           probes.fragments, lane, sums, low);
#pragma unroll
    for (int i = 0; i < 2 * kGroups; ++i) {
      factors[i] =
          codes.rescale[size_t{s} * codes.padded_rows + own_row + 8 * i];
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const terms = probes.terms +
                                   (tile * 8 + own_probe + i % 2) * num_terms +
                                   2 + 3 * s;
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
          float product = __fmaf_rn(
              terms[0], static_cast<float>(sums[group][tile][i]), terms[1]);
          if constexpr (kLow) {
            if (segment.low_step != 0) {
              product = __fmaf_rn(
                  terms[2], static_cast<float>(low[group][tile][i]), product);
            }
          }
          estimates[group][tile][i] = __fmaf_rn(
              factors[2 * group + i / 2], product, estimates[group][tile][i]);
        }
      }
    }
  }
  if constexpr (kKeep == Keep::kMaxima) {
    static_assert(kTiles == 1);
    const uint32_t rows = AcceptedRows(codes, scan, first_row) >> (lane / 4);
    float best[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        if ((rows >> (16 * group + i / 2 * 8) & 1) == 0) continue;
        best[i % 2] = fmaxf(best[i % 2], -estimates[group][0][i]);
      }
    }
    KeepMaxima(scan, probes, num_probes, first_row / kScanTileRows, lane, best);
    return;
  }
  constexpr bool kStore = kKeep == Keep::kAll;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const float floors[2] = {probes.floors[tile * 8 + own_probe],
                             probes.floors[tile * 8 + own_probe + 1]};
    bool any = kStore;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        any |= -estimates[group][tile][i] > floors[i % 2];
      }
    }
    if (!any) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t probe = tile * 8 + own_probe + i % 2;
      const float floor = floors[i % 2];
      if (kStore && probe >= num_probes) continue;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        const float estimate = estimates[group][tile][i];
        const uint32_t row = own_row + 16 * group + i / 2 * 8;
        if constexpr (kStore) {
          StoreEstimate(codes, scan, state, probes.probes[probe], estimate, row,
                        number);
        } else if (-estimate > floor) {
          AppendEstimate(scan, state, probes.probes[probe], estimate, row);
        }
      }
    }
  }
}

template <int kTiles, bool kLow, Keep kKeep>
__global__ __launch_bounds__(kThreads) void ScanKernel(
    const __grid_constant__ DeviceCodes codes, const CodeScan scan,
    const QueryState state, uint32_t num_items) {
  WaitForKernelBefore();
  extern __shared__ uint4 room[];
  constexpr uint32_t kCount = 8 * kTiles;
  Probes probes;
  probes.fragments = reinterpret_cast<uint2*>(room);
  probes.probes = reinterpret_cast<DeviceProbe*>(probes.fragments +
                                                 kTiles * codes.num_steps * 32);
  probes.floors = reinterpret_cast<float*>(probes.probes + kCount);
  probes.terms = probes.floors + kCount;
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t id = blockIdx.x; id < num_items; id += gridDim.x) {
    const ScanItem item = ItemAt(scan, id);
    if (item.num_tiles == 0) continue;
    __syncthreads();
    LoadProbes<kTiles>(codes, scan, state, item, probes);
    __syncthreads();
    for (uint32_t half = threadIdx.x / 32; half < 2 * item.num_tiles;
         half += kWarps) {
      ScanRows<kTiles, kLow, kKeep>(
          codes, scan, state, probes, item.num_probes,
          ItemTile(scan, item, half / 2) * kScanTileRows + half % 2 * 32,
          item.first_tile + half / 2, lane);
      __syncwarp();  // products are of whole warps
    }
  }
}

template <int kTiles>
size_t SharedBytes(const DeviceCodes& codes) {
  return size_t{kTiles} * codes.num_steps * 32 * sizeof(uint2) +
         8 * kTiles *
             (sizeof(DeviceProbe) + sizeof(float) * (codes.num_terms() + 1));
}

template <int kTiles, bool kLow, Keep kKeep>
cudaError_t Start(const DeviceCodes& codes, const CodeScan& scan,
                  const QueryState& state, int num_processors,
                  cudaStream_t stream) {
  const auto kernel = ScanKernel<kTiles, kLow, kKeep>;
  const size_t shared = SharedBytes<kTiles>(codes);
  uint32_t at_once = 0;
  const cudaError_t counted =
      BlocksAtOnce(kernel, kThreads, shared, num_processors, &at_once);
  if (counted != cudaSuccess) return counted;
  const uint32_t num_items = NumItems(scan);
  const uint32_t grid = std::min<uint32_t>(num_items, at_once);
  return LaunchAfter(scan.overlaps, kernel, grid, kThreads, shared, stream,
                     codes, scan, state, num_items);
}

template <int kTiles, bool kLow>
cudaError_t StartKept(const DeviceCodes& codes, const CodeScan& scan,
                      const QueryState& state, bool store_all,
                      int num_processors, cudaStream_t stream) {
  if constexpr (kTiles == 1) {
    if (scan.maxima != nullptr) {
      return Start<kTiles, kLow, Keep::kMaxima>(codes, scan, state,
                                                num_processors, stream);
    }
  }
  return store_all ? Start<kTiles, kLow, Keep::kAll>(codes, scan, state,
                                                     num_processors, stream)
                   : Start<kTiles, kLow, Keep::kAbove>(codes, scan, state,
                                                       num_processors, stream);
}

template <int kTiles>
cudaError_t StartAny(const DeviceCodes& codes, const CodeScan& scan,
                     const QueryState& state, bool store_all,
                     int num_processors, cudaStream_t stream) {
  if constexpr (kTiles <= kMostLowTiles) {
    if (codes.has_low) {
      return StartKept<kTiles, true>(codes, scan, state, store_all,
                                     num_processors, stream);
    }
  }
  return StartKept<kTiles, false>(codes, scan, state, store_all, num_processors,
                                  stream);
}

// So that shared memory has room for the operands, and registers for the sums.
uint32_t MostTiles(const DeviceCodes& codes) {
  if (codes.num_steps > 192) return 1;
  return codes.has_low || codes.num_steps > 80 ? kMostLowTiles : 8;
}

}  // namespace

uint32_t ProbesPerItem(const DeviceCodes& codes, size_t num_probes) {
  if (num_probes <= 8) return 8;
  return 8 * MostTiles(codes);
}

cudaError_t ScanCodes(const DeviceCodes& codes, const CodeScan& scan,
                      const QueryState& state, bool store_all,
                      int num_processors, cudaStream_t stream) {
  if (scan.num_probes == 0 || NumItems(scan) == 0) return cudaSuccess;
  switch (scan.probes_per_item) {
    case 8:
      return StartAny<1>(codes, scan, state, store_all, num_processors, stream);
    case 32:
      return StartAny<4>(codes, scan, state, store_all, num_processors, stream);
    default:
      return StartAny<8>(codes, scan, state, store_all, num_processors, stream);
  }
}

}  // namespace vicinal::gpu
