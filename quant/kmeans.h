// Lloyd's k-means with results that depend on the order of the points only
// through the order of their sums, never on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/cancel.h"
#include "src/base/vector_set.h"
#include "src/base/workers.h"

namespace vicinal {

// Does steps of a k-means over points that it knows, in the CPU's place. What
// answers false did nothing, and the CPU does that step.
class KMeansHelper {
 public:
  virtual ~KMeansHelper() = default;
  // An iteration: the centroids become the means of the points that are nearest
  // to them, and those without points move as TrainKMeans says.
  virtual bool Iterate(std::vector<float>* centroids) = 0;
  // Of each point the nearest centroid and its squared distance.
  virtual bool Assign(const std::vector<float>& centroids, uint32_t* nearest,
                      float* distances) = 0;
};

// num_centroids x points.dim floats. The first num_centroids points are the
// first centroids, so the caller shuffles; a centroid that loses all points
// moves to the point farthest from its own. 1 <= num_centroids <=
// points.num_rows. cancel may be null. Cancelled: the token was set. helper:
// asked first at each step; null: the CPU does all.
absl::StatusOr<std::vector<float>> TrainKMeans(MatrixView points,
                                               size_t num_centroids,
                                               size_t num_iterations,
                                               Workers* workers,
                                               const CancelToken* cancel,
                                               KMeansHelper* helper = nullptr);

// Centroids laid out for the search of the nearest ones by blocks of points.
// Const and thread-safe.
class CentroidPanels {
 public:
  static constexpr size_t kMaxNearest = 8;

  // Copies them.
  explicit CentroidPanels(MatrixView centroids);

  // Numbers of the num_nearest (<= kMaxNearest and <= centroids) nearest
  // centroids of each of `count` consecutive points (count x dim floats),
  // nearest first, ties to the smaller number: count x num_nearest. Also their
  // squared distances unless `distances` is null.
  void Nearest(const float* points, size_t count, size_t num_nearest,
               uint32_t* out, float* distances) const;

 private:
  size_t num_centroids_;
  size_t dim_;
  std::vector<float> panels_;
};

}  // namespace vicinal
