#include "quant/rotation.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include "src/base/random.h"

namespace vicinal {
namespace {

constexpr size_t kRounds = 4;

// (a, b) -> (a + b, a - b) * scale, element by element; its own inverse where
// scale^2 is 1/2.
void Butterfly(float* a, float* b, size_t n, float scale) {
  for (size_t j = 0; j < n; ++j) {
    const float sum = (a[j] + b[j]) * scale;
    b[j] = (a[j] - b[j]) * scale;
    a[j] = sum;
  }
}

// Of each round, 1 or -1 for each coordinate.
std::vector<float> Signs(size_t rows, uint64_t seed) {
  Random random(seed * 0x9E3779B97F4A7C15ULL + rows);
  std::vector<float> signs(kRounds * rows);
  for (size_t round = 0; round < kRounds; ++round) {
    uint64_t bits = 0;
    for (size_t i = 0; i < rows; ++i) {
      if (i % 64 == 0) bits = random.Next();
      signs[round * rows + i] = ((bits >> (i % 64)) & 1) == 0 ? 1.0f : -1.0f;
    }
  }
  return signs;
}

// Two steps of the transform of a vector: a quarter of the loads and stores.
void HadamardOfFours(float* vector, size_t n) {
  for (float* v = vector; v < vector + n; v += 4) {
    const float a = v[0] + v[1], b = v[0] - v[1];
    const float c = v[2] + v[3], d = v[2] - v[3];
    v[0] = a + c;
    v[1] = b + d;
    v[2] = a - c;
    v[3] = b - d;
  }
}

// The Walsh-Hadamard transform of 2^k rows; its own inverse.
void Hadamard(float* matrix, size_t rows, size_t columns) {
  const float scale = 1 / std::sqrt(static_cast<float>(rows));
  size_t h = 1;
  if (columns == 1 && rows >= 4) {
    HadamardOfFours(matrix, rows);
    h = 4;
  }
  for (; h < rows; h *= 2) {
    // Rows i to i + h and i + h to i + 2 h lie side by side.
    const size_t half = h * columns;
    for (float* a = matrix; a < matrix + rows * columns; a += 2 * half) {
      Butterfly(a, a + half, half, 1);
    }
  }
  for (size_t i = 0; i < rows * columns; ++i) matrix[i] *= scale;
}

}  // namespace

Rotation::Rotation(size_t size, uint64_t seed)
    : size_(size), signs_(Signs(size, seed)) {}

void Rotation::FlipSigns(size_t round, float* matrix, size_t columns) const {
  const float* signs = &signs_[round * size_];
  if (columns == 1) {
    for (size_t i = 0; i < size_; ++i) matrix[i] *= signs[i];
    return;
  }
  for (size_t i = 0; i < size_; ++i) {
    float* row = matrix + i * columns;
    for (size_t j = 0; j < columns; ++j) row[j] *= signs[i];
  }
}

void Rotation::MixHalves(float* matrix, size_t columns) const {
  constexpr auto kHalfTurn = static_cast<float>(std::numbers::sqrt2 / 2);
  if (std::has_single_bit(size_)) return;
  const size_t half = size_ / 2 * columns;
  Butterfly(matrix, matrix + half, half, kHalfTurn);
}

void Rotation::Apply(float* matrix, size_t columns) const {
  const size_t power = std::bit_floor(size_);
  for (size_t round = 0; round < kRounds; ++round) {
    FlipSigns(round, matrix, columns);
    Hadamard(matrix + (round % 2 == 0 ? 0 : size_ - power) * columns, power,
             columns);
    MixHalves(matrix, columns);
  }
}

void Rotation::ApplyInverse(float* matrix, size_t columns) const {
  const size_t power = std::bit_floor(size_);
  for (size_t round = kRounds; round-- > 0;) {
    MixHalves(matrix, columns);
    Hadamard(matrix + (round % 2 == 0 ? 0 : size_ - power) * columns, power,
             columns);
    FlipSigns(round, matrix, columns);
  }
}

}  // namespace vicinal
