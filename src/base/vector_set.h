// Non-owning views of vectors. The caller keeps the memory alive.
#pragma once

#include <cstddef>
#include <span>

#include "src/base/types.h"

namespace vicinal {

// num_rows x dim floats, row-major, `stride` floats from row to row.
struct MatrixView {
  const float* data = nullptr;
  size_t num_rows = 0;
  size_t dim = 0;
  size_t stride = 0;  // >= dim

  std::span<const float> row(size_t i) const {
    return {data + i * stride, dim};
  }
};

// num_rows vectors of `dim` elements of one type, `stride_bytes` apart.
struct VectorSetView {
  const std::byte* data = nullptr;
  size_t num_rows = 0;
  size_t dim = 0;
  size_t stride_bytes = 0;  // >= dim * ElementSize(type)
  ElementType type = ElementType::kFloat32;

  const std::byte* row(size_t i) const { return data + i * stride_bytes; }
};

}  // namespace vicinal
