// Queries of one vector field.
#pragma once

#include <cstddef>
#include <vector>

#include "src/base/vector_set.h"

namespace vicinal {

// Move-only, since the view points into the bytes.
struct QuerySample {
  QuerySample() = default;
  QuerySample(QuerySample&&) = default;
  QuerySample& operator=(QuerySample&&) = default;

  std::vector<std::byte> bytes;
  VectorSetView view;
};

}  // namespace vicinal
