#include "quant/kmeans.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/status/status.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

// Points compared at a time: their rows stay in the second-level cache while
// the centroids pass.
constexpr size_t kPointBlock = 64;

}  // namespace

CentroidPanels::CentroidPanels(MatrixView centroids)
    : num_centroids_(centroids.num_rows),
      dim_(centroids.dim),
      panels_((num_centroids_ + kPairPanel - 1) / kPairPanel * kPairPanel *
              dim_) {
  PackPanels(centroids.data, centroids.stride, num_centroids_, dim_,
             panels_.data());
}

void CentroidPanels::Nearest(const float* points, size_t count,
                             size_t num_nearest, uint32_t* out,
                             float* distances) const {
  const DistanceKernels& kernels = ActiveKernels();
  const size_t num_panels = panels_.size() / dim_ / kPairPanel;
  const size_t width = num_panels * kPairPanel;
  std::vector<float> block(std::min(count, kPointBlock) * width);
  for (size_t first = 0; first < count; first += kPointBlock) {
    const size_t n = std::min(kPointBlock, count - first);
    kernels.pair_l2(points + first * dim_, dim_, n, panels_.data(), num_panels,
                    dim_, block.data(), width);
    for (size_t i = 0; i < n; ++i) {
      std::array<float, kMaxNearest + 1> best;
      std::array<uint32_t, kMaxNearest + 1> number = {};
      best.fill(std::numeric_limits<float>::infinity());
      for (size_t c = 0; c < num_centroids_; ++c) {
        const float distance = block[i * width + c];
        if (distance >= best[num_nearest - 1]) continue;
        size_t at = num_nearest - 1;
        for (; at > 0 && distance < best[at - 1]; --at) {
          best[at] = best[at - 1];
          number[at] = number[at - 1];
        }
        best[at] = distance;
        number[at] = static_cast<uint32_t>(c);
      }
      std::copy_n(number.begin(), num_nearest, out + (first + i) * num_nearest);
      if (distances != nullptr) {
        std::copy_n(best.begin(), num_nearest,
                    distances + (first + i) * num_nearest);
      }
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
  std::vector<uint32_t> cells(n);
  std::vector<float> distances(n);
  std::vector<uint32_t> counts(num_centroids);
  for (size_t iteration = 0; iteration < num_iterations; ++iteration) {
    const CentroidPanels panels(view);
    workers->For(n, kPointBlock, [&](size_t begin, size_t end, size_t) {
      if (cancel != nullptr && cancel->cancelled()) return;
      panels.Nearest(points.row(begin).data(), end - begin, 1, &cells[begin],
                     &distances[begin]);
    });
    if (cancel != nullptr && cancel->cancelled()) {
      return absl::CancelledError("k-means cancelled");
    }
    std::fill(centroids.begin(), centroids.end(), 0.0f);
    std::fill(counts.begin(), counts.end(), 0);
    for (size_t i = 0; i < n; ++i) {
      float* sum = &centroids[cells[i] * dim];
      const float* point = points.row(i).data();
      for (size_t j = 0; j < dim; ++j) sum[j] += point[j];
      ++counts[cells[i]];
    }
    for (size_t c = 0; c < num_centroids; ++c) {
      if (counts[c] == 0) {
        const auto farthest =
            std::max_element(distances.begin(), distances.end());
        *farthest = -1;  // each empty cell takes another
        std::copy_n(points.row(farthest - distances.begin()).data(), dim,
                    &centroids[c * dim]);
        continue;
      }
      const float scale = 1.0f / static_cast<float>(counts[c]);
      for (size_t j = 0; j < dim; ++j) centroids[c * dim + j] *= scale;
    }
  }
  return centroids;
}

}  // namespace vicinal
