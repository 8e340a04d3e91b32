// What the tensor cores can do, by loops of nothing else: the ceilings that
// kernels are measured against.
#include <cuda_runtime.h>

#include <cstdint>

#include "bench/gpu/bench.cuh"

namespace vicinal {
namespace {

constexpr int kLoops = 2000;
constexpr int kChains = 12;  // independent products in flight

enum class Kind { kB1, kS8, kBf16 };

template <Kind kKind>
__device__ inline void Multiply(uint32_t (&sums)[4], const uint32_t (&a)[4],
                                const uint32_t (&b)[2]) {
  if constexpr (kKind == Kind::kB1) {
    asm volatile(
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else if constexpr (kKind == Kind::kS8) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

template <Kind kKind>
__global__ __launch_bounds__(256) void Rate(uint32_t seed, uint32_t* out) {
  uint32_t a[4];
  uint32_t b[2];
  for (uint32_t& x : a) x = seed * threadIdx.x;
  for (uint32_t& x : b) x = seed + threadIdx.x;
  uint32_t sums[kChains][4] = {};
  for (int i = 0; i < kLoops; ++i) {
#pragma unroll
    for (auto& sum : sums) Multiply<kKind>(sum, a, b);
  }
  uint32_t all = 0;
  for (const auto& sum : sums) {
    for (const uint32_t x : sum) all ^= x;
  }
  if (all == 0x12345) *out = all;
}

template <Kind kKind>
void Measure(const char* name, double depth) {
  const double seconds = MedianSeconds(5, [&] {
    Rate<kKind><<<132 * 4, 256>>>(0, nullptr);
    CHECK_CUDA(cudaDeviceSynchronize());
  });
  Report(
      name,
      132.0 * 4 * 8 * kLoops * kChains * 2 * 16 * 8 * depth / seconds * 1e-12,
      "TOP/s");
}

}  // namespace

void RunRates() {
  Measure<Kind::kB1>("mma.sync b1 TOP/s", 256);
  Measure<Kind::kS8>("mma.sync s8 TOP/s", 32);
  Measure<Kind::kBf16>("mma.sync bf16 TFLOP/s", 16);
}

}  // namespace vicinal
