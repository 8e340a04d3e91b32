// The dense linear algebra that training and encoding need, on BLAS and LAPACK.
// One call at a time, whoever calls; a product in a parallel loop is pair_ip's.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/vector_set.h"

namespace vicinal {

// out (a.num_rows x b.num_rows, `out_stride` floats from row to row) = a b^T.
// a.dim == b.dim.
void MultiplyTransposed(MatrixView a, MatrixView b, float* out,
                        size_t out_stride);

// Eigenvalues, descending, and unit eigenvectors, one per row. The sign of a
// vector is fixed by its element of largest magnitude, which is positive.
struct Eigen {
  std::vector<float> values;   // d
  std::vector<float> vectors;  // d x d
};

// Of a symmetric matrix (d x d, row-major). Internal: LAPACK did not converge.
absl::StatusOr<Eigen> SymmetricEigen(std::vector<float> matrix, size_t d);

// The mean of (x - mean)(x - mean)^T over the rows; d x d. Blocks of rows are
// multiplied in f32 and summed in f64. mean may be empty: zero.
std::vector<float> SecondMoments(MatrixView rows,
                                 const std::vector<float>& mean);

}  // namespace vicinal
