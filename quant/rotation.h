// Random orthogonal maps that cost n log n instead of n^2.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal {

// Replaces the rows x columns matrix M by R M, where R is a pseudo-random
// orthogonal rows x rows matrix given by the seed: four rounds of random signs,
// a Walsh-Hadamard transform of the first or last 2^k coordinates in turn, and
// a 45-degree Givens step between the halves (as RaBitQ-Library's rotator).
// rows: even or 1.
void RotateRows(float* matrix, size_t rows, size_t columns, uint64_t seed);

}  // namespace vicinal
