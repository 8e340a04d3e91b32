#include "quant/rotation.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>

#include "src/base/random.h"

namespace vicinal {
namespace {

constexpr size_t kRounds = 4;

// (a, b) -> (a + b, a - b) * scale, element by element.
void Butterfly(float* a, float* b, size_t n, float scale) {
  for (size_t j = 0; j < n; ++j) {
    const float sum = (a[j] + b[j]) * scale;
    b[j] = (a[j] - b[j]) * scale;
    a[j] = sum;
  }
}

}  // namespace

void RotateRows(float* matrix, size_t rows, size_t columns, uint64_t seed) {
  Random random(seed * 0x9E3779B97F4A7C15ULL + rows);
  const size_t power = std::bit_floor(rows);
  constexpr auto kHalfTurn = static_cast<float>(std::numbers::sqrt2 / 2);
  for (size_t round = 0; round < kRounds; ++round) {
    uint64_t bits = 0;
    for (size_t i = 0; i < rows; ++i) {
      if (i % 64 == 0) bits = random.Next();
      if (((bits >> (i % 64)) & 1) == 0) continue;
      float* row = matrix + i * columns;
      for (size_t j = 0; j < columns; ++j) row[j] = -row[j];
    }
    float* first = matrix + (round % 2 == 0 ? 0 : rows - power) * columns;
    for (size_t h = 1; h < power; h *= 2) {
      for (size_t i = 0; i < power; i += 2 * h) {
        for (size_t k = i; k < i + h; ++k) {
          Butterfly(first + k * columns, first + (k + h) * columns, columns,
                    kHalfTurn);
        }
      }
    }
    if (rows == power || rows < 2) continue;
    for (size_t i = 0; i < rows / 2; ++i) {
      Butterfly(matrix + i * columns, matrix + (i + rows / 2) * columns,
                columns, kHalfTurn);
    }
  }
}

}  // namespace vicinal
