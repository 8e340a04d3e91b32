// What the benchmarks of the GPU backend share: data, times, a report.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "src/distance/gpu/backend.h"

namespace vicinal {

#define CHECK_CUDA(call)                                      \
  do {                                                        \
    const cudaError_t error_of_call = (call);                 \
    if (error_of_call != cudaSuccess) {                       \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, \
                   cudaGetErrorString(error_of_call));        \
      std::exit(1);                                           \
    }                                                         \
  } while (false)

inline void CheckStatus(BackendStatus status, const char* what) {
  if (status == BackendStatus::kOk) return;
  std::fprintf(stderr, "%s: %s (%s)\n", what, BackendStatusName(status),
               cudaGetErrorString(cudaGetLastError()));
  std::exit(1);
}

__host__ __device__ inline uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ull;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

__device__ inline float Normal(uint64_t seed) {
  const uint64_t bits = Mix(seed * 0x9E3779B97F4A7C15ull + 1);
  const float u = (static_cast<uint32_t>(bits) + 1.0f) * 0x1p-32f;
  const float v = static_cast<uint32_t>(bits >> 32) * 0x1p-32f;
  return sqrtf(-2 * logf(u)) * cosf(6.2831853f * v);
}

// The centre of a row, of 1,000.
inline constexpr uint32_t kNumCentres = 1000;
__host__ __device__ inline uint32_t CentreOf(uint64_t row, uint64_t seed) {
  return static_cast<uint32_t>(Mix(row * 77 + seed) % kNumCentres);
}

// n rows on the device: each its centre plus noise of the same length, made a
// unit vector.
void Generate(float* out, size_t n, uint32_t dim, uint64_t seed);

inline double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// After a tenth of a second of the same calls: a device that was idle takes as
// long to reach its clock.
template <class Call>
double MedianSeconds(int repeats, const Call& call) {
  const double start = Now();
  do {
    call();
  } while (Now() - start < 0.1);
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const double begin = Now();
    call();
    times.push_back(Now() - begin);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Prints a line and adds it to what main writes.
void Report(const std::string& name, double value, const char* unit);

// Products of tensor cores by mma.sync.
void RunRates();

// MaxSim over documents of tokens; bandwidth: of a stream, bytes per second.
void RunMaxSim(double bandwidth, const std::string& only);

// Searches by codes; only: of the rows of the table, those whose name has it.
void RunCodes(const std::string& only);

// K-means, assignments, second moments and rotations; only: of "kmeans",
// "assign", "covariance" and "rotate", those that have it.
void RunTraining(const std::string& only);

}  // namespace vicinal
