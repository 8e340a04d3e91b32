// What the blocks of maxsim_sm90.cu share, and the thread that copies: it goes
// through parts of documents and copies up to 64 tokens at a time into a ring;
// so that the bytes of several are on their way, whatever is done with them and
// wherever a document ends, and before the columns are there.
#pragma once

#include <cuda.h>
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
// Bytes of a column, or of a token that is multiplied as it lies, that lie side
// by side: 64 halves or 128 bytes.
inline constexpr uint32_t kSlice = 128;
inline constexpr uint32_t kSteps = 4;  // products of a slice
// Floats of a stage: copies begin and end at multiples of four.
inline constexpr uint32_t kFloatRoom = kRows + 4;
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
  uint32_t part;       // its number; kNoMore: there is none
  uint8_t ends;        // the part
  uint8_t has_tokens;  // the document
  uint8_t gap;         // floats before the first token's
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
  // Tokens are multiplied as they lie in shared memory; others are unpacked.
  static constexpr bool kDirect = kBits == 0 || kBits == 8;
  using Sum = std::conditional_t<kBits == 0, float, int32_t>;
};

__host__ __device__ inline uint32_t SlicesOf(uint32_t bytes) {
  return (bytes + kSlice - 1) / kSlice;
}
// Bytes of a stage.
template <class C>
__host__ __device__ uint32_t StageBytes(uint32_t row_bytes) {
  return kRows * (C::kDirect ? SlicesOf(row_bytes) * kSlice : row_bytes);
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
  take(SlicesOf(column_bytes) * kSlice * C::kColumns);
  places.ring = take(stages * StageBytes<C>(row_bytes));
  places.scales = take(C::kScaled ? stages * kFloatRoom * 4 : 0);
  places.centroids = take(C::kCentroids ? stages * kFloatRoom * 4 : 0);
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
  const uint32_t pieces = SlicesOf(column_bytes) * kSlice / 16;
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

// The bits of kLarge and an integer below 2^22, added, are the float that is
// kLarge and it: faster than a conversion. Levels of codes of less than 8 bits
// are so small; their shifts have the bits of kLarge within.
inline constexpr float kLarge = 0x1.8p23f;
inline constexpr uint32_t kLargeBits = 0x4B400000;
static_assert(15 * 128 * kMostColumnBytes < 1u << 22);

// Of the thread's column, what is read before the columns are waited for.
struct ColumnScale {
  float factor = 0;
  int32_t shift = 0;
};
template <class C>
__device__ ColumnScale LoadScale(const MaxSimState& state,
                                 const MaxSimPass& pass) {
  static_assert(C::kColumns <= C::kConsumers);
  ColumnScale scale;
  if (threadIdx.x < min(pass.num_tiles * kTokenColumns, C::kColumns)) {
    const uint32_t at = pass.first_tile * kTokenColumns + threadIdx.x;
    scale.factor = state.factors[at];
    if constexpr (C::kBits > 0) scale.shift = state.shifts[at];
  }
  if constexpr (!C::kDirect) {
    scale.shift = static_cast<int32_t>(scale.shift - kLargeBits);
  }
  return scale;
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

// Tokens first .. + note.num_tokens - 1.
template <class C>
__device__ void Push(const DeviceTokens& tokens, const CUtensorMap* map,
                     uint32_t row_bytes, uint32_t first, Note note,
                     Ring* ring) {
  const uint32_t stage = ring->stage;
  uint64_t* const full = &ring->full[stage];
  const uint32_t stage_bytes = StageBytes<C>(row_bytes);
  uint8_t* const to = ring->rows + stage * stage_bytes;
  note.gap = first % 4;
  const uint32_t num_floats = (note.gap + note.num_tokens + 3) / 4 * 4;
  BarrierWaitInBlock(&ring->empty[stage], ring->parity ^ 1);
  ring->notes[stage] = note;
  ring->Advance();
  if (note.num_tokens == 0) {
    BarrierArrive(full);
    return;
  }
  const uint64_t once = ReadOnce();
  const uint32_t bytes = C::kDirect ? stage_bytes : note.num_tokens * row_bytes;
  BarrierExpect(full, bytes + (C::kScaled ? num_floats * 4 : 0) +
                          (C::kCentroids ? num_floats * 4 : 0));
  if constexpr (C::kDirect) {
    for (uint32_t i = 0; i < SlicesOf(row_bytes); ++i) {
      CopyTile2(to + i * kRows * kSlice, map, full, i * kSlice, first, once);
    }
  } else {
    CopyBytes(to, tokens.codes + size_t{first} * row_bytes, bytes, full, once);
  }
  if constexpr (C::kScaled) {
    CopyBytes(ring->scales + stage * kFloatRoom,
              tokens.scales + first - note.gap, num_floats * 4, full, once);
  }
  if constexpr (C::kCentroids) {
    CopyBytes(ring->centroids + stage * kFloatRoom,
              tokens.centroids + first - note.gap, num_floats * 4, full, once);
  }
}

// The thread that copies.
template <class C>
__device__ void CopyParts(const DeviceTokens& tokens, const MaxSimPass& pass,
                          const CUtensorMap* map, uint32_t row_bytes,
                          uint32_t pair, Ring ring) {
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
      uint32_t first = part.first_token + done;
      Note note = {count, part.candidate, number, ends, part.of_document > 0};
      // What a tile has besides costs nothing if it is of the same part.
      if (C::kDirect && count < kRows && done > 0) {
        first -= kRows - count;
        note.num_tokens = kRows;
      }
      Push<C>(tokens, map, row_bytes, first, note, &ring);
      done += count;
    } while (done < part.num_tokens);
    part = following;
    number = next;
    if (!has_waited) WaitForKernelBefore();
    has_waited = true;
    next = 2 * num_pairs + atomicAdd(pass.next_part, 1);
  }
  Push<C>(tokens, map, row_bytes, 0, {0, 0, kNoMore, 1, 0}, &ring);
}

}  // namespace vicinal::gpu::maxsim
