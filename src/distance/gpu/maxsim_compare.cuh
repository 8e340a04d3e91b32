// The warpgroup of maxsim_sm90.cu that multiplies: it takes tokens into
// registers (codes are unpacked to bytes there), multiplies them with all
// columns and keeps maxima. Which dimension is where in a product does not
// matter as long as columns are arranged alike (PlaceOf).
#pragma once

#include <cstdint>

#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_products.cuh"
#include "src/distance/gpu/maxsim_ring.cuh"
#include "src/distance/gpu/maxsim_scores.cuh"

namespace vicinal::gpu::maxsim {

template <int kBits, class C>
__device__ __forceinline__ void LoadRows(const uint8_t* upper,
                                         const uint8_t* lower, uint32_t slice,
                                         uint32_t num_units, uint32_t column,
                                         uint32_t (&a)[C::kSteps][4]) {
  // `upper` and `lower` are rows r and r + 8 of the warp's 16; of 128
  // dimensions a thread reads those that PlaceOf says.
  if constexpr (kBits == 0) {
#pragma unroll
    for (uint32_t unit = 0; unit < 4; ++unit) {
      const uint32_t at = slice * 256 + unit * 64 + column * 16;
      uint4 x = {0, 0, 0, 0};
      uint4 y = {0, 0, 0, 0};
      if (slice * 4 + unit < num_units) {
        x = *reinterpret_cast<const uint4*>(upper + at);
        y = *reinterpret_cast<const uint4*>(lower + at);
      }
      a[2 * unit][0] = x.x;
      a[2 * unit][1] = y.x;
      a[2 * unit][2] = x.y;
      a[2 * unit][3] = y.y;
      a[2 * unit + 1][0] = x.z;
      a[2 * unit + 1][1] = y.z;
      a[2 * unit + 1][2] = x.w;
      a[2 * unit + 1][3] = y.w;
    }
  } else if constexpr (kBits == 8) {
#pragma unroll
    for (uint32_t part = 0; part < 2; ++part) {
      const uint32_t at = slice * 128 + column * 32 + part * 16;
      const uint4 x = *reinterpret_cast<const uint4*>(upper + at);
      const uint4 y = *reinterpret_cast<const uint4*>(lower + at);
      a[2 * part][0] = x.x;
      a[2 * part][1] = y.x;
      a[2 * part][2] = x.y;
      a[2 * part][3] = y.y;
      a[2 * part + 1][0] = x.z;
      a[2 * part + 1][1] = y.z;
      a[2 * part + 1][2] = x.w;
      a[2 * part + 1][3] = y.w;
    }
  } else if constexpr (kBits == 4) {
    const uint32_t at = slice * 64 + column * 16;
    const uint4 x = *reinterpret_cast<const uint4*>(upper + at);
    const uint4 y = *reinterpret_cast<const uint4*>(lower + at);
    const uint32_t xs[4] = {x.x, x.y, x.z, x.w};
    const uint32_t ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      a[step][0] = xs[step] & 0x0F0F0F0F;
      a[step][1] = ys[step] & 0x0F0F0F0F;
      a[step][2] = xs[step] >> 4 & 0x0F0F0F0F;
      a[step][3] = ys[step] >> 4 & 0x0F0F0F0F;
    }
  } else if constexpr (kBits == 2) {
    const uint32_t at = slice * 32 + column * 8;
    const uint2 x = *reinterpret_cast<const uint2*>(upper + at);
    const uint2 y = *reinterpret_cast<const uint2*>(lower + at);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const uint32_t of_x = step < 2 ? x.x : x.y;
      const uint32_t of_y = step < 2 ? y.x : y.y;
      a[step][0] = of_x >> step % 2 * 4 & 0x03030303;
      a[step][1] = of_y >> step % 2 * 4 & 0x03030303;
      a[step][2] = of_x >> (step % 2 * 4 + 2) & 0x03030303;
      a[step][3] = of_y >> (step % 2 * 4 + 2) & 0x03030303;
    }
  } else {
    const uint32_t at = slice * 16 + column * 4;
    const uint32_t x = *reinterpret_cast<const uint32_t*>(upper + at);
    const uint32_t y = *reinterpret_cast<const uint32_t*>(lower + at);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      a[step][0] = x >> 2 * step & 0x01010101;
      a[step][1] = y >> 2 * step & 0x01010101;
      a[step][2] = x >> (2 * step + 1) & 0x01010101;
      a[step][3] = y >> (2 * step + 1) & 0x01010101;
    }
  }
}

// What is unpacked is unpacked before this: products would else be taken one
// by one.
template <class C>
__device__ __forceinline__ void KeepAbove(uint32_t (&a)[C::kSteps][4]) {
#pragma unroll
  for (int step = 0; step < C::kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[step][i])::"memory");
  }
}

// Raises best[2 j + i], of column 8 j + 2 (lane % 4) + i, by the products with
// the rows of the thread; scales of rows that are not there are NaN, which is
// above nothing.
template <class C>
__device__ __forceinline__ void Raise(
    typename C::Sum (&sums)[C::kN / 2], uint32_t group, const Shared& shared,
    const bool (&there)[2], const float (&scales)[2],
    const uint32_t (&centroids)[2], uint32_t column, float (&best)[C::kN / 4]) {
#pragma unroll
  for (int j = 0; j < C::kN / 8; ++j) {
    int2 shift = {0, 0};
    float2 of_centroid[2] = {};
    if constexpr (C::kBits > 0) {
      shift = *reinterpret_cast<const int2*>(shared.shifts + group * C::kN +
                                             8 * j + 2 * column);
    }
    if constexpr (C::kCentroids) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        of_centroid[row] = *reinterpret_cast<const float2*>(
            shared.table + centroids[row] * (C::kN + kTablePadding) + 8 * j +
            2 * column);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        float value;
        if constexpr (C::kBits == 0) {
          value = sums[4 * j + 2 * row + i];
          value = C::kScaled ? value * scales[row]
                             : (there[row] ? value : -INFINITY);
        } else {
          constexpr int kFactor = C::kBits == 8 ? 1 : 2;
          const float level =
              __int2float_rn(kFactor * sums[4 * j + 2 * row + i] -
                             (i == 0 ? shift.x : shift.y));
          value = C::kCentroids ? __fmaf_rn(scales[row], level,
                                            i == 0 ? of_centroid[row].x
                                                   : of_centroid[row].y)
                                : __fmul_rn(scales[row], level);
        }
        best[2 * j + i] = fmaxf(best[2 * j + i], value);
      }
    }
  }
}

// The warpgroup that multiplies.
template <class C>
__device__ void CompareParts(const DeviceTokens& tokens,
                             const MaxSimState& state, const MaxSimPass& pass,
                             const uint8_t* columns, uint32_t row_bytes,
                             uint32_t pair, uint32_t thread,
                             const Shared& shared, Ring ring) {
  using Sum = typename C::Sum;
  const uint32_t lane = thread % 32;
  const uint32_t row = thread / 32 * 16 + lane / 4;
  const uint32_t column = lane % 4;
  const uint32_t num_slices = (tokens.padded_dim + 127) / 128;
  // Of 32 dimensions; of 16 or 32 in a product.
  const uint32_t num_units = tokens.padded_dim / 32;
  float best[C::kGroups][C::kN / 4];
#pragma unroll
  for (int group = 0; group < C::kGroups; ++group) {
#pragma unroll
    for (int i = 0; i < C::kN / 4; ++i) best[group][i] = -INFINITY;
  }
  uint32_t a[C::kSteps][4] = {};
  for (;;) {
    const uint32_t stage = ring.stage;
    BarrierWaitInBlock(&ring.full[stage], ring.parity);
    Note note = ring.notes[stage];
    // The same for all lanes, which the compiler has to know for products.
    note.part = __shfl_sync(~0u, note.part, 0);
    note.num_tokens = __shfl_sync(~0u, note.num_tokens, 0);
    note.ends = __shfl_sync(~0u, note.ends, 0);
    if (note.part == kNoMore) break;
    const bool there[2] = {row < note.num_tokens, row + 8 < note.num_tokens};
    float scales[2] = {1, 1};
    uint32_t centroids[2] = {0, 0};
    if constexpr (C::kScaled) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scales[i] = there[i] ? ring.scales[stage * kRows + row + 8 * i]
                             : __int_as_float(0x7FC00000);
        if constexpr (C::kCentroids) {
          centroids[i] =
              there[i] ? ring.centroids[stage * kRows + row + 8 * i] : 0;
        }
      }
    }
    const uint8_t* const upper = ring.rows + (stage * kRows + row) * row_bytes;
    const auto release = [&] {
      __syncwarp();
      if (lane == 0) BarrierArrive(&ring.empty[stage]);
    };
#pragma unroll
    for (int group = 0; group < C::kGroups; ++group) {
      Sum sums[C::kN / 2];
      for (uint32_t slice = 0; slice < num_slices; ++slice) {
        const bool stays = num_slices == 1;  // in registers
        if (group == 0 || !stays) {
          LoadRows<C::kBits, C>(upper, upper + 8 * row_bytes, slice, num_units,
                                column, a);
          if (slice + 1 == num_slices && (group + 1 == C::kGroups || stays)) {
            release();
          }
        }
        const uint64_t first = TileDescriptor(
            columns +
            (slice * (C::kSteps / 4) * C::kColumns + group * C::kN) * kSlice);
        KeepAbove<C>(a);
        ProductFence();
#pragma unroll
        for (int step = 0; step < C::kSteps; ++step) {
          // A product is of 32 bytes of each column.
          const uint64_t b = first + step / 4 * (C::kColumns * kSlice >> 4) +
                             step % 4 * kDescriptorStep;
          TokenProduct<C::kN>(sums, a[step], b, slice > 0 || step > 0);
        }
        ProductCommit();
        ProductWait<0>();
      }
      Raise<C>(sums, group, shared, there, scales, centroids, column,
               best[group]);
    }
    ring.Advance();
    if (note.ends == 0) continue;
#pragma unroll
    for (int group = 0; group < C::kGroups; ++group) {
      JoinRows<C::kN / 4>(
          best[group], lane,
          shared.maxima + thread / 32 * C::kColumns + group * C::kN);
    }
    SyncGroup(pair);
    float own[(C::kColumns + 127) / 128];
#pragma unroll
    for (uint32_t i = 0; i < (C::kColumns + 127) / 128; ++i) {
      own[i] = -INFINITY;
      if (i * 128 + thread >= C::kColumns) continue;
#pragma unroll
      for (uint32_t warp = 0; warp < 4; ++warp) {
        own[i] =
            fmaxf(own[i], shared.maxima[warp * C::kColumns + i * 128 + thread]);
      }
    }
    if (pass.num_parts > 1 &&
        !IsLastPart<C>(pass, note, pair, thread, shared.is_last, own)) {
      continue;
    }
    if constexpr (C::kBits == 0) {
      AddScores<C>(state, pass, note, pair, thread, shared, own);
    } else {
      AddExactScores<C>(state, pass, note, pair, thread, shared, own);
    }
  }
}

}  // namespace vicinal::gpu::maxsim
