// Random orthogonal maps that cost n log n instead of n^2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vicinal {

// A pseudo-random orthogonal size x size matrix R given by its seed: four
// rounds of random signs, a Walsh-Hadamard transform of the first or last 2^k
// coordinates in turn, and a 45-degree Givens step between the halves (as
// RaBitQ-Library's rotator). The same bits on every machine. Const.
class Rotation {
 public:
  // size: even or 1.
  Rotation(size_t size, uint64_t seed);

  // Replaces the size x columns matrix M by R M.
  void Apply(float* matrix, size_t columns = 1) const;
  // By R^-1 M.
  void ApplyInverse(float* matrix, size_t columns = 1) const;
  // Of round r, size from r * size on.
  std::span<const float> signs() const { return signs_; }

 private:
  void FlipSigns(size_t round, float* matrix, size_t columns) const;
  void MixHalves(float* matrix, size_t columns) const;

  size_t size_;
  std::vector<float> signs_;
};

}  // namespace vicinal
