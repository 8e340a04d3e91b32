// The dense linear algebra that training and encoding need, on BLAS and LAPACK.
// One call at a time, whoever calls; a product in a parallel loop is pair_ip's.
#pragma once

#include <cstddef>
#include <utility>
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

// The lower triangular L with L L^T = matrix, which is symmetric and positive
// definite. Const.
class Cholesky {
 public:
  // Of a d x d matrix. Internal: it is not positive definite.
  static absl::StatusOr<Cholesky> Factor(std::vector<double> matrix, size_t d);

  // Replaces each row x (d doubles, row-major) by L^-1 x.
  void Solve(std::vector<double>* rows) const;
  // By L^-T x.
  void SolveTransposed(std::vector<double>* rows) const;

 private:
  Cholesky(std::vector<double> factor, size_t d)
      : factor_(std::move(factor)), d_(d) {}
  std::vector<double> factor_;  // by columns
  size_t d_;
};

// The mean of (x - mean)(x - mean)^T over the rows; d x d. Blocks of rows are
// multiplied in f32 and summed in f64. mean may be empty: zero.
std::vector<float> SecondMoments(MatrixView rows,
                                 const std::vector<float>& mean);

}  // namespace vicinal
