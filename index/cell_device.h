// The parts of finding cells that a device does faster: k-means over the
// sample, the nearest centroids of all rows, and those of each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "quant/kmeans.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/vector_set.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// Life: one FindCells; then the device holds nothing of it. Whatever the device
// refuses or fails at, and whatever is not worth asking it, is answered by
// false. Others have their turns between its calls, which take some
// hundredths of a second. Borrows what it is made with. Used by one thread.
class CellDevice final : public KMeansHelper {
 public:
  // backend may be null: every call is then refused. num_threads: what the CPU
  // would have. cancel may be null.
  CellDevice(DistanceBackend* backend, size_t num_threads,
             const CancelToken* cancel);

  // The points of a k-means of so many iterations, which lie in memory without
  // gaps until Forget.
  void UseSample(MatrixView points, size_t num_centroids,
                 size_t num_iterations);
  bool Iterate(std::vector<float>* centroids) override;
  bool Assign(const std::vector<float>& centroids, uint32_t* nearest,
              float* distances) override;
  void Forget();

  // Copies the centroids, without gaps, if it is worth it for so many rows.
  bool UseCentroids(MatrixView centroids, size_t num_rows, size_t num_nearest);
  // Rows that Nearest should be given at a time.
  size_t RowsAtOnce() const;
  // What CentroidPanels::Nearest answers, by canonical distances, of n rows
  // without gaps. cells, distances: n x num_nearest.
  bool Nearest(const float* rows, size_t n, uint32_t* cells, float* distances);
  // Of each of the centroids that Nearest was last asked for the k nearest
  // others, by canonical distances, ties to the smaller number.
  bool NearestOthers(size_t k, std::vector<Neighbor>* out);

 private:
  // Loads `rows` as a segment.
  bool Load(MatrixView rows, std::shared_ptr<const LoadedSegment>* out);

  DistanceBackend* const backend_;
  const size_t num_threads_;
  const CancelToken* const cancel_;
  MatrixView points_;
  bool assigns_ = false;  // the points, by searches
  std::shared_ptr<const LoadedSegment> sample_;
  std::vector<float> next_;  // centroids
  size_t dim_ = 0;
  size_t num_nearest_ = 0;
  std::shared_ptr<const LoadedSegment> centroids_;
  std::vector<Neighbor> found_;
};

}  // namespace vicinal
