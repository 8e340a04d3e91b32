// What the blocks of maxsim_sm90.cu share, and the warp that copies: it goes
// through parts of documents and copies up to 64 tokens at a time, as they lie,
// into a ring; so that the bytes of several are on their way, whatever is done
// with them and wherever a document ends, and before the columns are there.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_tokens.cuh"
#include "src/distance/gpu/overlap.cuh"

namespace vicinal::gpu::maxsim {

inline constexpr uint32_t kRows = 64;  // of a product
static_assert(kRows == kTokenStep);
inline constexpr uint32_t kGroupThreads = 128;
inline constexpr uint32_t kSlice =
    128;  // bytes of a column that lie side by side
// Of a token, at most.
inline constexpr uint32_t kMostRowBytes = 512;
inline constexpr uint32_t kMostNarrowBytes = 192;
inline constexpr uint32_t kMostColumnBytes = 1024;
inline constexpr uint32_t kSharedBytes = 227 << 10;
inline constexpr uint32_t kFewestStages = 3;
inline constexpr uint32_t kMostStages = 8;
inline constexpr uint32_t kNumCentroids = 256;
inline constexpr uint32_t kTablePadding = 8;  // floats a row

// What the ring says of 64 tokens.
struct alignas(16) Note {
  uint32_t num_tokens;
  uint32_t candidate;
  uint32_t part;        // its number; kNoMore: there is none
  uint16_t ends;        // the part
  uint16_t has_tokens;  // the document
};
inline constexpr uint32_t kNoMore = ~0u;

// kBits: of codes; 0: halves. A product has kN columns; kGroups of them make a
// pass.
template <int kBits_, bool kScaled_, bool kCentroids_, int kN_, int kGroups_,
          int kPairs_>
struct Config {
  static constexpr int kBits = kBits_;
  static constexpr bool kScaled = kScaled_;
  static constexpr bool kCentroids = kCentroids_;
  static constexpr int kN = kN_;
  static constexpr int kGroups = kGroups_;
  static constexpr uint32_t kPairs = kPairs_;
  static constexpr uint32_t kColumns = kN * kGroups;
  // By one warpgroup more, the last, is copied.
  static constexpr uint32_t kConsumers = kPairs * kGroupThreads;
  static constexpr uint32_t kThreads = (kPairs + 1) * kGroupThreads;
  using Sum = std::conditional_t<kBits == 0, float, int32_t>;
  // Products of 128 dimensions.
  static constexpr int kSteps = kBits == 0 ? 8 : 4;
};

// Bytes that a column takes: products are of whole 128 dimensions.
template <class C>
__host__ __device__ uint32_t RoomOf(uint32_t column_bytes) {
  constexpr uint32_t kUnit = C::kSteps * 32;
  return (column_bytes + kUnit - 1) / kUnit * kUnit;
}

// Where things are in shared memory.
struct Places {
  uint32_t ring, scales, centroids, maxima, best, tile_sums, factors, shifts,
      table, notes, full, empty, is_last, size;
};
template <class C>
__host__ __device__ Places PlacesOf(uint32_t row_bytes, uint32_t column_bytes,
                                    uint32_t num_stages) {
  const uint32_t stages = C::kPairs * num_stages;
  uint32_t at = 0;
  const auto take = [&](uint32_t bytes) {
    const uint32_t taken = at;
    at += (bytes + 127) / 128 * 128;
    return taken;
  };
  Places places;
  take(RoomOf<C>(column_bytes) * C::kColumns);
  places.ring = take(stages * kRows * row_bytes);
  places.scales = take(C::kScaled ? stages * kRows * 4 : 0);
  places.centroids = take(C::kCentroids ? stages * kRows * 4 : 0);
  places.maxima = take(C::kPairs * 4 * C::kColumns * 4);
  places.best = take(C::kPairs * C::kColumns * 4);
  places.tile_sums = take(C::kPairs * kMaxPassTiles * 4);
  places.factors = take(C::kColumns * 4);
  places.shifts = take(C::kColumns * 4);
  places.table =
      take(C::kCentroids ? kNumCentroids * (C::kN + kTablePadding) * 4 : 0);
  places.notes = take(stages * sizeof(Note));
  places.full = take(stages * 8);
  places.empty = take(stages * 8);
  places.is_last = take(C::kPairs * 4);
  places.size = at;
  return places;
}

// 16 bytes at a time, as TileDescriptor wants them; zeros in the gaps.
template <class C>
__device__ void LoadColumns(const MaxSimState& state, const MaxSimPass& pass,
                            uint32_t column_bytes, uint8_t* to) {
  const uint32_t own_pieces = column_bytes / 16;
  const uint32_t pieces = RoomOf<C>(column_bytes) / 16;
  const std::byte* const from =
      state.columns + size_t{pass.first_tile} * kTokenColumns * column_bytes;
  for (uint32_t i = threadIdx.x; i < C::kColumns * pieces; i += C::kConsumers) {
    const uint32_t column = i / pieces;
    const uint32_t piece = i % pieces;
    const uint4 value =
        column < pass.num_tiles * kTokenColumns && piece < own_pieces
            ? *reinterpret_cast<const uint4*>(
                  from + size_t{column} * column_bytes + piece * 16)
            : uint4{0, 0, 0, 0};
    *reinterpret_cast<uint4*>(to + piece / 8 * C::kColumns * kSlice +
                              column * kSlice + ((piece ^ column) % 8) * 16) =
        value;
  }
  // Products read it by another way than threads wrote it.
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

template <class C>
__device__ void LoadFactors(const MaxSimState& state, const MaxSimPass& pass,
                            float* factors, int32_t* shifts) {
  for (uint32_t i = threadIdx.x; i < C::kColumns; i += C::kConsumers) {
    const bool there = i < pass.num_tiles * kTokenColumns;
    const uint32_t at = pass.first_tile * kTokenColumns + i;
    factors[i] = there ? state.factors[at] : 0;
    if constexpr (C::kBits > 0) shifts[i] = there ? state.shifts[at] : 0;
  }
}

// The products of the pass's columns with all centroids.
template <class C>
__device__ void LoadTable(const MaxSimState& state, const MaxSimPass& pass,
                          float* table) {
  for (uint32_t i = threadIdx.x; i < kNumCentroids * C::kN;
       i += C::kConsumers) {
    const uint32_t column = i % C::kN;
    const uint32_t centroid = i / C::kN;
    const uint32_t tile = column / kTokenColumns;
    float value = 0;
    if (tile < pass.num_tiles) {
      const TokenQuery& query = state.queries[pass.query[tile]];
      const uint32_t width = 16 * query.num_panels;
      const uint32_t token =
          pass.first_tile * kTokenColumns + column - query.first_column;
      value = state.table[size_t{query.first_panel} * 16 * kNumCentroids +
                          size_t{centroid} * width + token];
    }
    table[centroid * (C::kN + kTablePadding) + column] = value;
  }
}

__device__ inline void CopyBytes(void* to, const void* from, uint32_t bytes,
                                 uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1], %2, [%3];" ::"r"(SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}
__device__ inline void CopyWord(void* to, const void* from) {
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(SharedAddress(to)),
      "l"(from)
      : "memory");
}
// Arrives when the words that the thread copies are there.
__device__ inline void ArriveAfterWords(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
                   SharedAddress(barrier))
               : "memory");
}

// The ring of a pair.
struct Ring {
  uint8_t* rows;
  float* scales;
  uint32_t* centroids;
  Note* notes;
  uint64_t* full;
  uint64_t* empty;
  uint32_t num_stages;
  uint32_t stage = 0;
  uint32_t parity = 0;

  __device__ void Advance() {
    if (++stage < num_stages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <class C>
__device__ void Push(const DeviceTokens& tokens, uint32_t row_bytes,
                     uint32_t first, const Note& note, uint32_t lane,
                     Ring* ring) {
  const uint32_t stage = ring->stage;
  BarrierWaitInBlock(&ring->empty[stage], ring->parity ^ 1);
  if constexpr (C::kScaled) {
    for (uint32_t i = lane; i < note.num_tokens; i += 32) {
      CopyWord(ring->scales + stage * kRows + i, tokens.scales + first + i);
      if constexpr (C::kCentroids) {
        CopyWord(ring->centroids + stage * kRows + i,
                 tokens.centroids + first + i);
      }
    }
    ArriveAfterWords(&ring->full[stage]);
  }
  if (lane == 0) {
    ring->notes[stage] = note;
    if (note.num_tokens == 0) {
      BarrierArrive(&ring->full[stage]);
    } else {
      const uint32_t bytes = note.num_tokens * row_bytes;
      const void* const from =
          C::kBits == 0 ? static_cast<const void*>(tokens.half) : tokens.codes;
      BarrierExpect(&ring->full[stage], bytes);
      CopyBytes(ring->rows + stage * kRows * row_bytes,
                static_cast<const uint8_t*>(from) + size_t{first} * row_bytes,
                bytes, &ring->full[stage]);
    }
  }
  __syncwarp();
  ring->Advance();
}

// The warp that copies.
template <class C>
__device__ void CopyParts(const DeviceTokens& tokens, const MaxSimPass& pass,
                          uint32_t row_bytes, uint32_t pair, uint32_t lane,
                          Ring ring) {
  const uint32_t num_parts = pass.num_candidates * pass.num_parts;
  const uint32_t num_pairs = gridDim.x * C::kPairs;
  const auto part_at = [&](uint32_t number) {
    return number < num_parts ? PartAt(tokens, pass, number) : TokenPart();
  };
  uint32_t number = pair * gridDim.x + blockIdx.x;
  uint32_t next = number + num_pairs;
  // Documents are there before anything else is.
  bool has_waited = pass.docs != nullptr;
  if (has_waited) WaitForKernelBefore();
  TokenPart part = part_at(number);
  while (number < num_parts) {
    const TokenPart following = part_at(next);
    uint32_t done = 0;
    do {
      const uint32_t count = min(kRows, part.num_tokens - done);
      const bool ends = done + count == part.num_tokens;
      Push<C>(tokens, row_bytes, part.first_token + done,
              {count, part.candidate, number, ends, part.of_document > 0}, lane,
              &ring);
      done += count;
    } while (done < part.num_tokens);
    part = following;
    number = next;
    if (!has_waited) WaitForKernelBefore();
    has_waited = true;
    const uint32_t asked = lane == 0 ? atomicAdd(pass.next_part, 1) : 0;
    next = 2 * num_pairs + __shfl_sync(~0u, asked, 0);
  }
  Push<C>(tokens, row_bytes, 0, {0, 0, kNoMore, 1, 0}, lane, &ring);
}

}  // namespace vicinal::gpu::maxsim
