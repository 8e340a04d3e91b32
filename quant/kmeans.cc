#include "quant/kmeans.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "absl/status/status.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

// Points compared at a time: their rows stay in the second-level cache while
// the centroids pass.
constexpr size_t kPointBlock = 64;
// Centroids that one thread takes at a time.
constexpr size_t kCentroidBlock = 8;

// Centroids become the means of their points, which are summed in their order.
// distances: to the nearest centroid; spoilt.
void MoveCentroids(MatrixView points, const std::vector<uint32_t>& cells,
                   std::vector<float>* distances, Workers* workers,
                   std::vector<float>* centroids) {
  const size_t dim = points.dim;
  const size_t num_centroids = centroids->size() / dim;
  std::vector<uint32_t> ends(num_centroids + 1);
  for (const uint32_t cell : cells) ++ends[cell + 1];
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  std::vector<uint32_t> order(cells.size());
  // Afterwards `ends` says where each ends instead of begins.
  for (size_t i = 0; i < cells.size(); ++i) {
    order[ends[cells[i]]++] = static_cast<uint32_t>(i);
  }
  const auto begin_of = [&](size_t c) { return c == 0 ? 0 : ends[c - 1]; };
  workers->For(
      num_centroids, kCentroidBlock, [&](size_t first, size_t last, size_t) {
        for (size_t c = first; c < last; ++c) {
          float* const mean = centroids->data() + c * dim;
          std::fill_n(mean, dim, 0.0f);
          for (size_t i = begin_of(c); i < ends[c]; ++i) {
            const float* const point = points.row(order[i]).data();
            for (size_t j = 0; j < dim; ++j) mean[j] += point[j];
          }
          const float scale = 1.0f / static_cast<float>(ends[c] - begin_of(c));
          for (size_t j = 0; j < dim; ++j) mean[j] *= scale;
        }
      });
  for (size_t c = 0; c < num_centroids; ++c) {
    if (ends[c] != begin_of(c)) continue;
    const auto farthest =
        std::max_element(distances->begin(), distances->end());
    *farthest = -1;  // each empty cell takes another
    std::copy_n(points.row(farthest - distances->begin()).data(), dim,
                centroids->data() + c * dim);
  }
}

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

absl::StatusOr<std::vector<float>> TrainKMeans(
    MatrixView points, size_t num_centroids, size_t num_iterations,
    Workers* workers, const CancelToken* cancel, KMeansHelper* helper) {
  const size_t dim = points.dim;
  const size_t n = points.num_rows;
  std::vector<float> centroids(num_centroids * dim);
  for (size_t c = 0; c < num_centroids; ++c) {
    std::copy_n(points.row(c).data(), dim, &centroids[c * dim]);
  }
  const auto cancelled = [&] {
    return cancel != nullptr && cancel->cancelled();
  };
  std::vector<uint32_t> cells(n);
  std::vector<float> distances(n);
  for (size_t iteration = 0; iteration < num_iterations && !cancelled();
       ++iteration) {
    if (helper != nullptr && helper->Iterate(&centroids)) continue;
    if (cancelled()) break;
    if (helper == nullptr ||
        !helper->Assign(centroids, cells.data(), distances.data())) {
      const CentroidPanels panels({centroids.data(), num_centroids, dim, dim});
      workers->For(n, kPointBlock, [&](size_t begin, size_t end, size_t) {
        if (cancelled()) return;
        panels.Nearest(points.row(begin).data(), end - begin, 1, &cells[begin],
                       &distances[begin]);
      });
    }
    if (cancelled()) break;
    MoveCentroids(points, cells, &distances, workers, &centroids);
  }
  if (cancelled()) return absl::CancelledError("k-means cancelled");
  return centroids;
}

}  // namespace vicinal
