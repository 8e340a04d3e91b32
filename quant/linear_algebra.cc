#include "quant/linear_algebra.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/mutex.h"

namespace vicinal {
namespace {

// Debian's single-threaded OpenBLAS shares its buffers between callers without
// a lock: two calls at once give wrong products (found by a test).
Mutex& BlasMutex() {
  static Mutex mutex;
  return mutex;
}

}  // namespace

void MultiplyTransposed(MatrixView a, MatrixView b, float* out,
                        size_t out_stride) {
  if (a.num_rows == 0 || b.num_rows == 0) return;
  MutexLock lock(BlasMutex());
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans,
              static_cast<int>(a.num_rows), static_cast<int>(b.num_rows),
              static_cast<int>(a.dim), 1.0f, a.data, static_cast<int>(a.stride),
              b.data, static_cast<int>(b.stride), 0.0f, out,
              static_cast<int>(out_stride));
}

absl::StatusOr<Eigen> SymmetricEigen(std::vector<float> matrix, size_t d) {
  std::vector<float> ascending(d);
  MutexLock lock(BlasMutex());
  const auto n = static_cast<lapack_int>(d);
  // LAPACKE_ssyevd asks how much room it takes and is told in f32, too little
  // from 2,896 dimensions on. A symmetric matrix is the same by columns.
  std::vector<float> room(1 + 6 * d + 2 * d * d);
  std::vector<lapack_int> places(3 + 5 * d);
  const lapack_int info = LAPACKE_ssyevd_work(
      LAPACK_COL_MAJOR, 'V', 'L', n, matrix.data(), n, ascending.data(),
      room.data(), static_cast<lapack_int>(room.size()), places.data(),
      static_cast<lapack_int>(places.size()));
  if (info != 0) {
    return absl::InternalError(
        absl::StrCat("the eigenvalues of a ", d, " x ", d,
                     " matrix were not found (ssyevd: ", info, ")"));
  }
  // A column is a vector, its elements side by side.
  Eigen out;
  out.values.assign(ascending.rbegin(), ascending.rend());
  out.vectors.resize(d * d);
  for (size_t i = 0; i < d; ++i) {
    const size_t column = d - 1 - i;
    float* row = &out.vectors[i * d];
    float largest = 0;
    for (size_t j = 0; j < d; ++j) {
      row[j] = matrix[column * d + j];
      if (std::abs(row[j]) > std::abs(largest)) largest = row[j];
    }
    if (largest < 0) {
      for (size_t j = 0; j < d; ++j) row[j] = -row[j];
    }
  }
  return out;
}

absl::StatusOr<Cholesky> Cholesky::Factor(std::vector<double> matrix,
                                          size_t d) {
  const auto n = static_cast<lapack_int>(d);
  MutexLock lock(BlasMutex());
  const lapack_int info =
      LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'L', n, matrix.data(), n);
  if (info != 0) {
    return absl::InternalError(
        absl::StrCat("a ", d, " x ", d,
                     " matrix is not positive definite (dpotrf: ", info, ")"));
  }
  return Cholesky(std::move(matrix), d);
}

// Rows are the columns of BLAS.
void Cholesky::Solve(std::vector<double>* rows) const {
  const auto n = static_cast<int>(d_);
  MutexLock lock(BlasMutex());
  cblas_dtrsm(CblasColMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit,
              n, static_cast<int>(rows->size() / d_), 1.0, factor_.data(), n,
              rows->data(), n);
}

void Cholesky::SolveTransposed(std::vector<double>* rows) const {
  const auto n = static_cast<int>(d_);
  MutexLock lock(BlasMutex());
  cblas_dtrsm(CblasColMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, n,
              static_cast<int>(rows->size() / d_), 1.0, factor_.data(), n,
              rows->data(), n);
}

std::vector<float> SecondMoments(MatrixView rows,
                                 const std::vector<float>& mean) {
  constexpr size_t kBlock = 512;
  const size_t d = rows.dim;
  std::vector<double> sums(d * d);
  std::vector<float> block(kBlock * d);
  std::vector<float> product(d * d);
  for (size_t first = 0; first < rows.num_rows; first += kBlock) {
    const size_t count = std::min(kBlock, rows.num_rows - first);
    for (size_t i = 0; i < count; ++i) {
      const float* row = rows.row(first + i).data();
      for (size_t j = 0; j < d; ++j) {
        block[i * d + j] = mean.empty() ? row[j] : row[j] - mean[j];
      }
    }
    const auto n = static_cast<int>(d);
    MutexLock lock(BlasMutex());
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, n,
                static_cast<int>(count), 1.0f, block.data(), n, 0.0f,
                product.data(), n);
    for (size_t i = 0; i < d; ++i) {
      for (size_t j = i; j < d; ++j) sums[i * d + j] += product[i * d + j];
    }
  }
  std::vector<float> out(d * d);
  const double scale = 1.0 / std::max<size_t>(1, rows.num_rows);
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = i; j < d; ++j) {
      out[i * d + j] = out[j * d + i] =
          static_cast<float>(sums[i * d + j] * scale);
    }
  }
  return out;
}

}  // namespace vicinal
