// Rows, queries and filters for the tests of backends, laid out so that reading
// outside of them shows: no byte follows the last element, gaps hold NaNs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal::backend_tests {

// num vectors of dim elements, `gap` elements of NaN between two of them.
class Vectors {
 public:
  // Writes the elements of one vector as floats; all are 0 before.
  using Fill = std::function<void(size_t index, std::span<float> out)>;

  Vectors(size_t num, size_t dim, ElementType type, const Fill& fill,
          size_t gap = 0);

  // Rounds to the type; integers are 32 times the value, within their limits.
  void Set(size_t index, std::span<const float> values);
  // Makes vector `index` that of `other`, of the same type and dimension.
  void Copy(size_t index, const Vectors& other, size_t other_index);

  size_t num() const { return num_; }
  size_t dim() const { return dim_; }
  ElementType type() const { return type_; }
  const void* data() const { return bytes_.data(); }
  VectorSetView view() const {
    return {bytes_.data(), num_, dim_, stride_bytes_, type_};
  }

 private:
  size_t num_;
  size_t dim_;
  ElementType type_;
  size_t stride_bytes_;
  std::vector<std::byte> bytes_;
};

// Near enough to a normal distribution, at a tenth of its cost.
inline float Noise(Random& random) {
  const uint64_t bits = random.Next();
  const auto sum =
      static_cast<int64_t>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) +
                           (bits >> 32 & 0xFFFF) + (bits >> 48));
  return static_cast<float>(sum - 131070) * (1.0f / 37837.0f);
}

// Independent elements.
Vectors::Fill NoiseFill(Random& random, float scale = 1.0f);
// Unit vectors around num_clusters centres; clusters of rows lie together.
Vectors::Fill ClusterFill(Random& random, size_t num, size_t dim,
                          size_t num_clusters);
// `distinct` different vectors again and again.
Vectors::Fill RepeatFill(Random& random, size_t distinct);

// Which rows may be returned; bits beyond the last row are set.
class RowSet {
 public:
  explicit RowSet(size_t num_rows, bool all = false);

  static RowSet Sample(Random& random, size_t num_rows, double fraction);
  void Add(size_t row) { words_[row / 64] |= uint64_t{1} << (row % 64); }
  const uint64_t* words() const { return words_.data(); }

 private:
  std::vector<uint64_t> words_;
};

std::string MetricName(Metric metric);
std::string TypeName(ElementType type);

}  // namespace vicinal::backend_tests
