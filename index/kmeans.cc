#include "index/kmeans.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/status/status.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

// Points and centroids compared at a time, so that both stay in the
// first-level caches.
constexpr size_t kPointBlock = 32;
constexpr size_t kCentroidBlock = 8;

}  // namespace

void AssignCells(const float* points, size_t count, MatrixView centroids,
                 CellAssignment* out) {
  const DistanceOps& ops = OpsFor(Metric::kL2, ElementType::kFloat32);
  const size_t dim = centroids.dim;
  for (size_t first = 0; first < count; first += kPointBlock) {
    const size_t block = std::min(kPointBlock, count - first);
    std::array<float, kPointBlock> nearest;
    std::array<float, kPointBlock> second;
    nearest.fill(std::numeric_limits<float>::infinity());
    second.fill(std::numeric_limits<float>::infinity());
    std::fill_n(out + first, block, CellAssignment{});
    for (size_t c = 0; c < centroids.num_rows; c += kCentroidBlock) {
      const size_t n = std::min(kCentroidBlock, centroids.num_rows - c);
      std::array<float, kCentroidBlock> distances;
      for (size_t i = 0; i < block; ++i) {
        CellAssignment& cell = out[first + i];
        ops.scan(points + (first + i) * dim,
                 centroids.data + c * centroids.stride,
                 centroids.stride * sizeof(float), n, dim, distances.data());
        for (size_t j = 0; j < n; ++j) {
          const auto number = static_cast<uint32_t>(c + j);
          if (distances[j] < nearest[i]) {
            second[i] = nearest[i];
            cell.second = cell.nearest;
            nearest[i] = distances[j];
            cell.nearest = number;
          } else if (distances[j] < second[i]) {
            second[i] = distances[j];
            cell.second = number;
          }
        }
      }
    }
    for (size_t i = 0; i < block; ++i) {
      out[first + i].nearest_distance = nearest[i];
    }
  }
}

absl::StatusOr<std::vector<float>> TrainKMeans(MatrixView points,
                                               size_t num_centroids,
                                               size_t num_iterations,
                                               Workers* workers,
                                               const CancelToken* cancel) {
  const size_t dim = points.dim;
  const size_t n = points.num_rows;
  std::vector<float> centroids(num_centroids * dim);
  for (size_t c = 0; c < num_centroids; ++c) {
    std::copy_n(points.row(c).data(), dim, &centroids[c * dim]);
  }
  const MatrixView view{centroids.data(), num_centroids, dim, dim};
  std::vector<CellAssignment> cells(n);
  std::vector<uint32_t> counts(num_centroids);
  for (size_t iteration = 0; iteration < num_iterations; ++iteration) {
    if (cancel != nullptr && cancel->cancelled()) {
      return absl::CancelledError("k-means cancelled");
    }
    workers->For(n, kPointBlock, [&](size_t begin, size_t end, size_t) {
      AssignCells(points.row(begin).data(), end - begin, view, &cells[begin]);
    });
    std::fill(centroids.begin(), centroids.end(), 0.0f);
    std::fill(counts.begin(), counts.end(), 0);
    for (size_t i = 0; i < n; ++i) {
      float* sum = &centroids[cells[i].nearest * dim];
      const float* point = points.row(i).data();
      for (size_t j = 0; j < dim; ++j) sum[j] += point[j];
      ++counts[cells[i].nearest];
    }
    for (size_t c = 0; c < num_centroids; ++c) {
      if (counts[c] == 0) {
        const auto farthest = std::max_element(
            cells.begin(), cells.end(),
            [](const CellAssignment& a, const CellAssignment& b) {
              return a.nearest_distance < b.nearest_distance;
            });
        farthest->nearest_distance = -1;  // each empty cell takes another
        std::copy_n(points.row(farthest - cells.begin()).data(), dim,
                    &centroids[c * dim]);
        continue;
      }
      const float scale = 1.0f / counts[c];
      for (size_t j = 0; j < dim; ++j) centroids[c * dim + j] *= scale;
    }
  }
  return centroids;
}

}  // namespace vicinal
