// How the vectors of a collection lie in memory and in segment files; derived
// from the schema once.
#pragma once

#include <cstddef>
#include <vector>

#include "src/base/types.h"
#include "src/engine/schema.h"

namespace vicinal {

// One vector field. f32 cosine fields keep unit vectors and are searched by
// inner product (the kernel then has one sum instead of three); everything
// else keeps what the user sent.
struct FieldLayout {
  size_t dim = 0;
  ElementType type = ElementType::kFloat32;
  Metric metric = Metric::kL2;         // the user's
  Metric search_metric = Metric::kL2;  // of the kernels and the index
  bool normalized = false;             // rows and queries are unit vectors
  size_t row_bytes = 0;                // dim elements
  size_t stride_bytes = 0;             // from row to row, >= row_bytes
};

struct Layout {
  std::vector<FieldLayout> fields;
  // Memory of one row of a growing segment, all fields and its bookkeeping.
  size_t memory_per_row = 0;
};

Layout LayoutOf(const CollectionSchema& schema);

}  // namespace vicinal
