// Vectors of a known spectrum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/base/vector_set.h"

namespace vicinal {

// The generator of the quantization study: deviations i^(-alpha / 2) by
// dimension, 300 Gaussian clusters of that spectrum (centres 0.7 and members
// 0.72 of it), log-normal lengths of deviation 0.15. alpha 1.0 with 1,024
// dimensions has the errors of MSMARCO's embeddings, alpha 0.9 with 1,536
// those of OpenAI's.
std::vector<float> StudyRows(size_t num_rows, size_t dim, double alpha,
                             uint64_t seed);

// Rows of the same spectrum along other axes: queries of another distribution.
std::vector<float> TurnedStudyRows(size_t num_rows, size_t dim, double alpha,
                                   uint64_t seed);

inline VectorSetView ViewOf(const std::vector<float>& rows, size_t dim) {
  return {reinterpret_cast<const std::byte*>(rows.data()), rows.size() / dim,
          dim, dim * sizeof(float)};
}

}  // namespace vicinal
