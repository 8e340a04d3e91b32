#include "src/distance/gpu/cpu_train.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "src/distance/gpu/cpu_parallel.h"

namespace vicinal {
namespace {

// Rows whose products are summed in f32.
constexpr size_t kMomentRows = 512;
// Rows of the matrix of moments that one thread has at a time.
constexpr size_t kMomentColumns = 16;
constexpr size_t kRotatedRows = 64;

const float* Row(const VectorSetView& rows, size_t i) {
  return reinterpret_cast<const float*>(rows.row(i));
}

// Rows by the centroid they are nearest to, ascending; offsets: where those of
// each centroid begin, and the end.
std::vector<uint32_t> Group(const std::vector<uint32_t>& nearest,
                            std::vector<uint32_t>& offsets) {
  std::fill(offsets.begin(), offsets.end(), 0);
  for (const uint32_t centroid : nearest) ++offsets[centroid + 1];
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  std::vector<uint32_t> order(nearest.size());
  std::vector<uint32_t> next(offsets.begin(), offsets.end() - 1);
  for (size_t i = 0; i < nearest.size(); ++i) {
    order[next[nearest[i]]++] = static_cast<uint32_t>(i);
  }
  return order;
}

// Puts the centroids that have no rows where the rows are that are farthest
// from their own.
void FillEmpty(const VectorSetView& rows, const std::vector<uint32_t>& offsets,
               const std::vector<float>& distances, float* centroids) {
  std::vector<uint32_t> empty;
  for (uint32_t c = 0; c + 1 < offsets.size(); ++c) {
    if (offsets[c] == offsets[c + 1]) empty.push_back(c);
  }
  std::vector<uint32_t> farthest(rows.num_rows);
  std::iota(farthest.begin(), farthest.end(), 0);
  const size_t n = std::min(empty.size(), farthest.size());
  std::partial_sort(farthest.begin(), farthest.begin() + n, farthest.end(),
                    [&](uint32_t a, uint32_t b) {
                      return distances[a] > distances[b] ||
                             (distances[a] == distances[b] && a < b);
                    });
  for (size_t i = 0; i < n; ++i) {
    std::copy_n(Row(rows, farthest[i]), rows.dim,
                centroids + empty[i] * rows.dim);
  }
}

// Offers the products of columns `begin` .. `end` - 1 with those that follow
// to the sums.
void AddMoments(const float* block, size_t num_rows, size_t d, size_t begin,
                size_t end, double* sums) {
  std::vector<float> products(d);
  for (size_t i = begin; i < end; ++i) {
    std::fill(products.begin() + i, products.end(), 0.0f);
    for (size_t row = 0; row < num_rows; ++row) {
      const float* const x = block + row * d;
      const float factor = x[i];
      for (size_t j = i; j < d; ++j) products[j] += factor * x[j];
    }
    for (size_t j = i; j < d; ++j) sums[i * d + j] += products[j];
  }
}

}  // namespace

BackendStatus KMeansOnCpu(const DistanceBackend& backend,
                          const LoadedSegment& segment,
                          const VectorSetView& rows, size_t num_centroids,
                          size_t rounds, size_t num_threads, float* centroids,
                          uint32_t* nearest, double* inertia) {
  if (num_centroids == 0) return BackendStatus::kUnsupported;
  if (inertia != nullptr) *inertia = 0;
  if (rows.num_rows == 0) return BackendStatus::kOk;
  const size_t d = rows.dim;
  std::vector<uint32_t> cells(rows.num_rows);
  std::vector<float> distances(rows.num_rows);
  std::vector<uint32_t> offsets(num_centroids + 1);
  const auto assign = [&] {
    return backend.Assign(segment, centroids, num_centroids, cells.data(),
                          distances.data());
  };
  for (size_t round = 0; round < rounds; ++round) {
    const BackendStatus assigned = assign();
    if (assigned != BackendStatus::kOk) return assigned;
    const std::vector<uint32_t> order = Group(cells, offsets);
    ParallelFor(num_threads, num_centroids, [&](size_t c) {
      const size_t count = offsets[c + 1] - offsets[c];
      if (count == 0) return;
      std::vector<double> sum(d);
      for (size_t i = offsets[c]; i < offsets[c + 1]; ++i) {
        const float* const row = Row(rows, order[i]);
        for (size_t j = 0; j < d; ++j) sum[j] += row[j];
      }
      for (size_t j = 0; j < d; ++j) {
        centroids[c * d + j] = static_cast<float>(sum[j] / count);
      }
    });
    FillEmpty(rows, offsets, distances, centroids);
  }
  if (nearest == nullptr && inertia == nullptr) return BackendStatus::kOk;
  const BackendStatus assigned = assign();
  if (assigned != BackendStatus::kOk) return assigned;
  if (nearest != nullptr) std::copy(cells.begin(), cells.end(), nearest);
  if (inertia != nullptr) {
    *inertia = std::accumulate(distances.begin(), distances.end(), 0.0);
  }
  return BackendStatus::kOk;
}

void CovarianceOnCpu(const VectorSetView& rows, size_t num_threads, float* mean,
                     float* out) {
  const size_t d = rows.dim;
  if (mean != nullptr) {
    std::vector<double> sums(d);
    for (size_t i = 0; i < rows.num_rows; ++i) {
      const float* const row = Row(rows, i);
      for (size_t j = 0; j < d; ++j) sums[j] += row[j];
    }
    const double factor = 1.0 / std::max<size_t>(rows.num_rows, 1);
    for (size_t j = 0; j < d; ++j) {
      mean[j] = static_cast<float>(sums[j] * factor);
    }
  }
  std::vector<double> sums(d * d);
  std::vector<float> block(std::min(kMomentRows, rows.num_rows) * d);
  for (size_t first = 0; first < rows.num_rows; first += kMomentRows) {
    const size_t n = std::min(kMomentRows, rows.num_rows - first);
    for (size_t i = 0; i < n; ++i) {
      const float* const row = Row(rows, first + i);
      for (size_t j = 0; j < d; ++j) {
        block[i * d + j] = mean == nullptr ? row[j] : row[j] - mean[j];
      }
    }
    ParallelFor(num_threads, (d + kMomentColumns - 1) / kMomentColumns,
                [&](size_t task) {
                  const size_t begin = task * kMomentColumns;
                  AddMoments(block.data(), n, d, begin,
                             std::min(begin + kMomentColumns, d), sums.data());
                });
  }
  const double factor = 1.0 / std::max<size_t>(rows.num_rows, 1);
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = i; j < d; ++j) {
      out[i * d + j] = out[j * d + i] =
          static_cast<float>(sums[i * d + j] * factor);
    }
  }
}

void RotateOnCpu(const VectorSetView& rows, const kernels::OpsEntry& ip,
                 const float* matrix, size_t num_out, size_t num_threads,
                 float* out) {
  if (num_out == 0) return;
  const size_t num_tasks = (rows.num_rows + kRotatedRows - 1) / kRotatedRows;
  ParallelFor(num_threads, num_tasks, [&](size_t task) {
    const size_t end = std::min((task + 1) * kRotatedRows, rows.num_rows);
    for (size_t i = task * kRotatedRows; i < end; ++i) {
      float* const to = out + i * num_out;
      ip.scan(rows.row(i), matrix, rows.dim * sizeof(float), num_out, rows.dim,
              to);
      for (size_t j = 0; j < num_out; ++j) to[j] = -to[j];  // it is a distance
    }
  });
}

}  // namespace vicinal
