// Products of a warpgroup: of 64 document tokens with kN columns of a query,
// the columns in shared memory (TileDescriptor of hopper.cuh), the tokens there
// or in registers. Thread t of warp w has of the sums those that Product of
// hopper.cuh says, and of tokens in registers the elements that mma.sync wants
// of rows 16 w .. 16 w + 15.
#pragma once

#include <cstdint>

#include "src/distance/gpu/hopper.cuh"

namespace vicinal::gpu {

// Operands 0 .. n - 1, as text and as they are bound.

#define GPU_FIRST_16                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, " \
  "%8, %9, %10, %11, %12, %13, %14, %15"

#define GPU_FIRST_32                         \
  GPU_FIRST_16                               \
  ", "                                       \
  "%16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"

#define GPU_FIRST_64                         \
  GPU_FIRST_32                               \
  ", "                                       \
  "%32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"

#define GPU_BIND_4(letter, i) \
  letter(sums[i]), letter(sums[i + 1]), letter(sums[i + 2]), letter(sums[i + 3])
#define GPU_BIND_16(letter, i)                                                 \
  GPU_BIND_4(letter, i), GPU_BIND_4(letter, i + 4), GPU_BIND_4(letter, i + 8), \
      GPU_BIND_4(letter, i + 12)
#define GPU_BIND_32(letter, i) \
  GPU_BIND_16(letter, i), GPU_BIND_16(letter, i + 16)
#define GPU_BIND_64(letter, i) \
  GPU_BIND_32(letter, i), GPU_BIND_32(letter, i + 32)

// sums = or += the product; kinds and what follows the operands.
#define GPU_PRODUCT(letter, count, kinds, tail, a, b, last)                 \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" last                \
               ", 0;\n"                                                     \
               "wgmma.mma_async.sync.aligned." kinds " {" GPU_FIRST_##count \
               "}, %" a ", %" b ", add" tail ";\n}"                         \
               : GPU_BIND_##count(letter, 0)                                \
               : "l"(tokens), "l"(columns), "r"(static_cast<int>(add)))
// The same with tokens in registers.
#define GPU_PRODUCT_4(letter, count, kinds, a0, a1, a2, a3, b, last)        \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" last                \
               ", 0;\n"                                                     \
               "wgmma.mma_async.sync.aligned." kinds " {" GPU_FIRST_##count \
               "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b ", add;\n}"   \
               : GPU_BIND_##count(letter, 0)                                \
               : "r"(tokens[0]), "r"(tokens[1]), "r"(tokens[2]),            \
                 "r"(tokens[3]), "l"(columns), "r"(static_cast<int>(add)))

// 16 dimensions of halves.
template <int kN>
__device__ __forceinline__ void TokenProduct(float (&sums)[kN / 2],
                                             uint64_t tokens, uint64_t columns,
                                             bool add) {
  if constexpr (kN == 32) {
    GPU_PRODUCT("+f", 16, "m64n32k16.f32.f16.f16", ", 1, 1, 0, 0", "16", "17",
                "18");
  } else if constexpr (kN == 64) {
    GPU_PRODUCT("+f", 32, "m64n64k16.f32.f16.f16", ", 1, 1, 0, 0", "32", "33",
                "34");
  } else {
    static_assert(kN == 128);
    GPU_PRODUCT("+f", 64, "m64n128k16.f32.f16.f16", ", 1, 1, 0, 0", "64", "65",
                "66");
  }
}

// 32 dimensions of bytes: those of documents without a sign, of queries with.
template <int kN>
__device__ __forceinline__ void TokenProduct(int32_t (&sums)[kN / 2],
                                             uint64_t tokens, uint64_t columns,
                                             bool add) {
  if constexpr (kN == 32) {
    GPU_PRODUCT("+r", 16, "m64n32k32.s32.u8.s8", "", "16", "17", "18");
  } else if constexpr (kN == 64) {
    GPU_PRODUCT("+r", 32, "m64n64k32.s32.u8.s8", "", "32", "33", "34");
  } else {
    static_assert(kN == 128);
    GPU_PRODUCT("+r", 64, "m64n128k32.s32.u8.s8", "", "64", "65", "66");
  }
}
template <int kN>
__device__ __forceinline__ void TokenProduct(int32_t (&sums)[kN / 2],
                                             const uint32_t (&tokens)[4],
                                             uint64_t columns, bool add) {
  if constexpr (kN == 32) {
    GPU_PRODUCT_4("+r", 16, "m64n32k32.s32.u8.s8", "16", "17", "18", "19", "20",
                  "21");
  } else if constexpr (kN == 64) {
    GPU_PRODUCT_4("+r", 32, "m64n64k32.s32.u8.s8", "32", "33", "34", "35", "36",
                  "37");
  } else {
    static_assert(kN == 128);
    GPU_PRODUCT_4("+r", 64, "m64n128k32.s32.u8.s8", "64", "65", "66", "67",
                  "68", "69");
  }
}

#undef GPU_PRODUCT_4
#undef GPU_PRODUCT
#undef GPU_BIND_64
#undef GPU_BIND_32
#undef GPU_BIND_16
#undef GPU_BIND_4
#undef GPU_FIRST_64
#undef GPU_FIRST_32
#undef GPU_FIRST_16

}  // namespace vicinal::gpu
