// The largest and the second largest of many scores, and where the largest is,
// in four instructions a score. Plain enough to be tested without a GPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace vicinal::gpu {

// Scores that one thread sees of a point and a tile; a power of two.
inline constexpr uint32_t kOwnColumns = 64;
// What a tag adds to or takes from a score, of its magnitude.
inline constexpr float kTagError = 0x1p-17f;

__host__ __device__ inline uint32_t BitsOf(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
#endif
}

__host__ __device__ inline float FloatOf(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
#endif
}

inline constexpr uint32_t kScoreBits = ~(kOwnColumns - 1);

// The score with the thread's number of the column as its last six bits. mask
// is kScoreBits, in a register: with two constants this is two instructions.
__host__ __device__ inline float Tagged(float score, uint32_t number,
                                        uint32_t mask) {
  return FloatOf((BitsOf(score) & mask) | number);
}

// Of the tagged scores so far. A NaN is never among them.
struct BestTwo {
  float best = -INFINITY;
  float second = -INFINITY;
  uint32_t tile = 0;  // where `best` is

  __host__ __device__ void Offer(float a, float b) {
    const float more = fmaxf(a, b);
    const float less = fminf(a, b);
    second = fmaxf(fmaxf(second, less), fminf(best, more));
    best = fmaxf(best, more);
  }

  // The column of the tile that `best` is in: thread `lane` has columns
  // 8 j + 2 (lane % 4) + b as its numbers 2 j + b.
  __host__ __device__ uint32_t column(uint32_t lane) const {
    const uint32_t number = BitsOf(best) & (kOwnColumns - 1);
    return number / 2 * 8 + lane % 4 * 2 + number % 2;
  }
};

}  // namespace vicinal::gpu
