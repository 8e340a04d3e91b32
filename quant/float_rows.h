// Rows of floats in the bytes of models, and their mean.
#pragma once

#include <cstddef>
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

}  // namespace vicinal
