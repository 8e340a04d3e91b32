// Rows of floats in the bytes of models, their mean and their lengths.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/base/vector_set.h"

namespace vicinal {

void PutFloats(std::string* out, std::span<const float> values);
// Takes the next n off the front; false: there are fewer, or one is not finite.
bool TakeFloats(absl::string_view* in, size_t n, std::vector<float>* out);
// Of at least one row, summed in f64; of none: zeros.
std::vector<float> MeanOf(MatrixView rows);
// By blocks of 64 in f32, these in f64.
double SumSquares(const float* values, size_t n);
// value to the nearest integer, for |value| below 2^22; vectorizes on any CPU.
inline int32_t RoundToInteger(float value) {
  constexpr float kShift = 12'582'912;  // 1.5 * 2^23
  return std::bit_cast<int32_t>(value + kShift) -
         std::bit_cast<int32_t>(kShift);
}

}  // namespace vicinal
