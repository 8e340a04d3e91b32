// Lloyd's k-means with results that depend on the order of the points only
// through the order of their sums, never on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/workers.h"
#include "src/base/cancel.h"
#include "src/base/vector_set.h"

namespace vicinal {

// num_centroids x points.dim floats. The first num_centroids points are the
// first centroids, so the caller shuffles; a centroid that loses all points
// moves to the point farthest from its own. 1 <= num_centroids <=
// points.num_rows. cancel may be null. Cancelled: the token was set.
absl::StatusOr<std::vector<float>> TrainKMeans(MatrixView points,
                                               size_t num_centroids,
                                               size_t num_iterations,
                                               Workers* workers,
                                               const CancelToken* cancel);

// The nearest centroids of one point.
struct CellAssignment {
  uint32_t nearest = 0;
  uint32_t second = 0;  // = nearest when there is only one
  float nearest_distance = 0;
};

// For each of `count` consecutive points (count x dim floats), ties to the
// smaller centroid.
void AssignCells(const float* points, size_t count, MatrixView centroids,
                 CellAssignment* out);

}  // namespace vicinal
