// A matrix in 16-bit integers, for products with one vector at a time: these
// read all of it, and it takes half the bytes of floats. One rounding costs
// 1e-5 of the lengths of row and vector; sums are exact, so that every
// instruction set gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vicinal {

// Const and thread-safe once made.
class RoundedMatrix {
 public:
  // A vector rounded, and its products; used again from call to call.
  struct Scratch {
    std::vector<int16_t> vector;
    std::vector<int32_t> products;
  };

  RoundedMatrix() = default;
  // rows: num_rows x dim.
  RoundedMatrix(std::span<const float> rows, size_t dim);

  size_t num_rows() const { return scale_.size(); }
  size_t memory_bytes() const {
    return rows_.size() * sizeof(int16_t) + scale_.size() * sizeof(float);
  }
  // out[i] = <row i, vector>. norm: the vector's length.
  void Multiply(const float* vector, float norm, Scratch* scratch,
                float* out) const;

 private:
  size_t dim_ = 0;
  size_t padded_dim_ = 0;
  std::vector<int16_t> rows_;  // of padded_dim_
  std::vector<float> scale_;   // of each
};

}  // namespace vicinal
