// The warpgroup of maxsim_sm90.cu that multiplies tokens with all columns and
// keeps maxima. Codes of less than 8 bits are unpacked into registers; which
// dimension is where in a product does not matter as long as columns are
// arranged alike (PlaceOf).
#pragma once

#include <cstdint>

#include "src/distance/gpu/hopper.cuh"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/maxsim_products.cuh"
#include "src/distance/gpu/maxsim_ring.cuh"
#include "src/distance/gpu/maxsim_scores.cuh"

namespace vicinal::gpu::maxsim {

template <int kBits>
__device__ __forceinline__ void LoadRows(const uint8_t* upper,
                                         const uint8_t* lower, uint32_t slice,
                                         uint32_t column,
                                         uint32_t (&a)[kSteps][4]) {
  // `upper` and `lower` are rows r and r + 8 of the warp's 16; of 128
  // dimensions a thread reads those that PlaceOf says.
  if constexpr (kBits == 4) {
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
__device__ __forceinline__ void KeepAbove(uint32_t (&a)[kSteps][4]) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[step][i])::"memory");
  }
}

// Begins the products of a stage of tokens that lie there as they are
// multiplied with kN columns.
template <class C>
__device__ __forceinline__ void Multiply(const uint8_t* rows,
                                         const uint8_t* columns,
                                         uint32_t num_slices,
                                         typename C::Sum (&sums)[C::kN / 2]) {
  uint64_t a = TileDescriptor(rows);
  uint64_t b = TileDescriptor(columns);
#pragma unroll 1  // registers for another slice would be missing elsewhere
  for (uint32_t slice = 0; slice < num_slices; ++slice) {
    ProductFence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      TokenProduct<C::kN>(sums, a + step * kDescriptorStep,
                          b + step * kDescriptorStep, slice > 0 || step > 0);
    }
    a += kRows * kSlice >> 4;
    ProductCommit();
    b += C::kColumns * kSlice >> 4;
  }
}

// The same of tokens that are unpacked. `stays`: all is in `a` already.
template <class C>
__device__ __forceinline__ void MultiplyUnpacked(
    const uint8_t* upper, const uint8_t* lower, const uint8_t* columns,
    uint32_t num_slices, uint32_t column, bool stays, uint32_t (&a)[kSteps][4],
    int32_t (&sums)[C::kN / 2]) {
  uint64_t b = TileDescriptor(columns);
#pragma unroll 1  // registers for another slice would be missing elsewhere
  for (uint32_t slice = 0; slice < num_slices; ++slice) {
    if (slice > 0) ProductWait<0>();  // which still reads `a`
    if (!stays) LoadRows<C::kBits>(upper, lower, slice, column, a);
    KeepAbove(a);
    ProductFence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      TokenProduct<C::kN>(sums, a[step], b + step * kDescriptorStep,
                          slice > 0 || step > 0);
    }
    ProductCommit();
    b += C::kColumns * kSlice >> 4;
  }
}

// Raises best[2 j + i], of column 8 j + 2 (lane % 4) + i, by the products with
// the rows of the thread; scales of rows that are not there are NaN, which is
// above nothing.
template <class C>
__device__ __forceinline__ void Raise(typename C::Sum (&sums)[C::kN / 2],
                                      uint32_t group, const Shared& shared,
                                      const float (&scales)[2],
                                      const uint32_t (&centroids)[2],
                                      uint32_t column,
                                      float (&best)[C::kN / 4]) {
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
          if constexpr (C::kScaled) value *= scales[row];
        } else {
          const int sum = sums[4 * j + 2 * row + i];
          const int own = i == 0 ? shift.x : shift.y;
          const float level =
              C::kBits == 8 ? __int2float_rn(sum - own)
                            : __fadd_rn(__int_as_float(2 * sum - own), -kLarge);
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
                             uint32_t column_bytes, uint32_t pair,
                             uint32_t thread, const Shared& shared, Ring ring) {
  uint32_t lane = thread % 32;
  uint32_t row = thread / 32 * 16 + lane / 4;
  uint32_t column = lane % 4;
  // Else they would be reckoned anew each time.
  asm volatile("" : "+r"(lane), "+r"(row), "+r"(column));
  const uint32_t num_slices = SlicesOf(column_bytes);
  const uint32_t stage_bytes = StageBytes<C>(row_bytes);
  float best[C::kGroups][C::kN / 4];
#pragma unroll
  for (int group = 0; group < C::kGroups; ++group) {
#pragma unroll
    for (int i = 0; i < C::kN / 4; ++i) best[group][i] = -INFINITY;
  }
  for (;;) {
    const uint32_t stage = ring.stage;
    const uint8_t* const rows = ring.rows + stage * stage_bytes;
    BarrierWaitInBlock(&ring.full[stage], ring.parity);
    const Note note = ring.notes[stage];
    // The same for all lanes, which the compiler has to know for products.
    const bool is_over = __shfl_sync(~0u, note.part, 0) == kNoMore;
    const bool ends = __shfl_sync(~0u, note.ends, 0) != 0;
    const bool there[2] = {row < note.num_tokens, row + 8 < note.num_tokens};
    float scales[2] = {1, 1};
    uint32_t centroids[2] = {0, 0};
    if constexpr (C::kScaled) {
      const uint32_t at = stage * kFloatRoom + note.gap + row;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scales[i] =
            there[i] ? ring.scales[at + 8 * i] : __int_as_float(0x7FC00000);
        if constexpr (C::kCentroids) {
          centroids[i] = there[i] ? ring.centroids[at + 8 * i] : 0;
        }
      }
    }
    if (is_over) break;
    uint32_t a[kSteps][4];
#pragma unroll
    for (int group = 0; group < C::kGroups; ++group) {
      typename C::Sum sums[C::kN / 2];
      const uint8_t* const first = columns + group * C::kN * kSlice;
      if constexpr (C::kDirect) {
        Multiply<C>(rows, first, num_slices, sums);
      } else {
        const uint8_t* const upper = rows + row * row_bytes;
        MultiplyUnpacked<C>(upper, upper + 8 * row_bytes, first, num_slices,
                            column, group > 0 && num_slices == 1, a, sums);
      }
      ProductWait<0>();
      if (group + 1 == C::kGroups) {
        __syncwarp();
        if (lane == 0) BarrierArrive(&ring.empty[stage]);
      }
      if constexpr (!C::kScaled) {
        if (note.num_tokens < kRows) {
#pragma unroll
          for (int i = 0; i < C::kN / 2; ++i) {
            if (!there[i / 2 % 2]) sums[i] = -INFINITY;
          }
        }
      }
      Raise<C>(sums, group, shared, scales, centroids, column, best[group]);
    }
    ring.Advance();
    if (!ends) continue;
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
