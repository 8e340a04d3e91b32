// From the maxima in the registers of a warpgroup to a document's scores.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_ring.cuh"

namespace vicinal::gpu::maxsim {

// What the threads of a warpgroup share, and what they know of their pass.
struct Shared {
  float* maxima;     // a warp x columns
  float* best;       // of a document, by column
  float* tile_sums;  // of eight columns
  uint32_t* is_last;
  const float* factors;
  const int32_t* shifts;
  const float* table;
};

__device__ inline void SyncGroup(uint32_t pair) {
  asm volatile("bar.sync %0, 128;" ::"r"(pair + 1) : "memory");
}

// The maxima over a warp's rows, to shared memory; begins `best` anew.
template <int kValues>
__device__ __forceinline__ void JoinRows(float (&best)[kValues], uint32_t lane,
                                         float* to) {
  float values[kValues / 2];
  const bool upper = (lane & 16) != 0;
#pragma unroll
  for (int i = 0; i < kValues / 2; ++i) {
    const float own = upper ? best[i + kValues / 2] : best[i];
    const float other = upper ? best[i] : best[i + kValues / 2];
    values[i] = fmaxf(own, __shfl_xor_sync(~0u, other, 16));
    best[i] = -INFINITY;
    best[i + kValues / 2] = -INFINITY;
  }
#pragma unroll
  for (int i = 0; i < kValues / 4; ++i) {
    const bool high = (lane & 8) != 0;
    const float own = high ? values[i + kValues / 4] : values[i];
    const float other = high ? values[i] : values[i + kValues / 4];
    values[i] = fmaxf(own, __shfl_xor_sync(~0u, other, 8));
  }
  const uint32_t first = (upper ? kValues / 2 : 0) +
                         ((lane & 8) != 0 ? kValues / 4 : 0) +
                         ((lane & 4) != 0 ? kValues / 8 : 0);
#pragma unroll
  for (int i = 0; i < kValues / 8; ++i) {
    const bool high = (lane & 4) != 0;
    const float own = high ? values[i + kValues / 8] : values[i];
    const float other = high ? values[i] : values[i + kValues / 8];
    const float joined = fmaxf(own, __shfl_xor_sync(~0u, other, 4));
    const uint32_t value = first + i;
    to[value / 2 * 8 + 2 * (lane % 4) + value % 2] = joined;
  }
}

// Of a document in several parts: leaves the maxima of this one for whoever
// finishes the last. Whether this is it; `own` are then the document's.
template <class C>
__device__ bool IsLastPart(const MaxSimPass& pass, const Note& note,
                           uint32_t pair, uint32_t thread, uint32_t* is_last,
                           float (&own)[(C::kColumns + 127) / 128]) {
  float* const to = pass.partials + size_t{note.part} * C::kColumns;
  for (uint32_t i = 0; i * 128 + thread < C::kColumns; ++i) {
    to[i * 128 + thread] = own[i];
  }
  __threadfence();
  SyncGroup(pair);
  if (thread == 0) {
    const bool last =
        atomicAdd(pass.finished + note.candidate, 1) + 1 == pass.num_parts;
    if (last) pass.finished[note.candidate] = 0;  // for the next pass
    *is_last = last;
  }
  SyncGroup(pair);
  if (*is_last == 0) return false;
  __threadfence();
  const float* const from =
      pass.partials + size_t{note.candidate} * pass.num_parts * C::kColumns;
  for (uint32_t part = 0; part < pass.num_parts; ++part) {
    for (uint32_t i = 0; i * 128 + thread < C::kColumns; ++i) {
      own[i] =
          fmaxf(own[i], __ldcg(from + part * C::kColumns + i * 128 + thread));
    }
  }
  return true;
}

__device__ inline bool IsFirstOfQuery(const MaxSimPass& pass, uint32_t tile) {
  return tile < pass.num_tiles &&
         (tile == 0 || pass.query[tile] != pass.query[tile - 1]);
}

// Of floats: sums in any order, as they have an error anyhow.
template <class C>
__device__ void AddScores(const MaxSimState& state, const MaxSimPass& pass,
                          const Note& note, uint32_t pair, uint32_t thread,
                          const Shared& shared,
                          const float (&own)[(C::kColumns + 127) / 128]) {
  for (uint32_t i = 0; i * 128 + thread < C::kColumns; ++i) {
    const uint32_t column = i * 128 + thread;
    float sum = own[i] * shared.factors[column];
    for (int step = 1; step < 8; step *= 2) {
      sum += __shfl_xor_sync(~0u, sum, step);
    }
    if (column % 8 == 0) shared.tile_sums[column / 8] = sum;
  }
  SyncGroup(pair);
  const uint32_t tile = thread;
  if (!IsFirstOfQuery(pass, tile)) return;
  float total = 0;
  for (uint32_t other = tile;
       other < pass.num_tiles && pass.query[other] == pass.query[tile];
       ++other) {
    total += shared.tile_sums[other];
  }
  if (note.has_tokens == 0) total = -INFINITY;
  float* const score = state.scores + pass.score_begin[tile] + note.candidate;
  *score = pass.is_first[tile] ? total : *score + total;
}

// Of codes: sums in the order of TokenCodec::Score, and with its bits.
template <class C>
__device__ void AddExactScores(const MaxSimState& state, const MaxSimPass& pass,
                               const Note& note, uint32_t pair, uint32_t thread,
                               const Shared& shared,
                               const float (&own)[(C::kColumns + 127) / 128]) {
  for (uint32_t i = 0; i * 128 + thread < C::kColumns; ++i) {
    shared.best[i * 128 + thread] = own[i];
  }
  SyncGroup(pair);
  const uint32_t tile = thread / 4;
  if (thread % 4 != 0 || !IsFirstOfQuery(pass, tile)) return;
  const TokenQuery& query = state.queries[pass.query[tile]];
  const uint32_t at = pass.score_begin[tile] + note.candidate;
  uint32_t end = tile + 1;
  while (end < pass.num_tiles && pass.query[end] == pass.query[tile]) ++end;
  // The last tile may have columns that no token has.
  const uint32_t num_left = query.num_tokens + query.first_column -
                            (pass.first_tile + tile) * kTokenColumns;
  const uint32_t num = min(num_left, (end - tile) * kTokenColumns);
  double score =
      pass.is_first[tile] ? query.constant : state.partial_scores[at];
#pragma unroll 8
  for (uint32_t i = 0; i < num; ++i) {
    const uint32_t column = tile * kTokenColumns + i;
    score =
        __dadd_rn(score, __dmul_rn(static_cast<double>(shared.factors[column]),
                                   static_cast<double>(shared.best[column])));
  }
  if (!pass.is_last[end - 1]) {
    state.partial_scores[at] = score;
    return;
  }
  constexpr float kMost = 3.40282346638528859812e38f;
  const float rounded = score >= -kMost
                            ? __double2float_rn(score < kMost ? score : kMost)
                            : -kMost;
  state.scores[at] = note.has_tokens == 0 ? -INFINITY : rounded;
}

}  // namespace vicinal::gpu::maxsim
