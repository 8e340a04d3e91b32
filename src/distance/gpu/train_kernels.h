// The kernels of training, as the host starts them: assignment (train.cu,
// assign_sm90.cu), means (means.cu), covariance and rotation (products.cu).
// Every function only enqueues work on the stream and returns the launch's
// error.
//
// An assignment compares points with centroids by the rounded vectors,
//
//   score = scale <p', c'> - |c|^2/2  = (|p|^2 - |p - c|^2) / 2 - error
//
// where p' is the bf16 row of the segment as it is, scale is 1, or |p| where
// the metric made a unit vector of it. Where the best score leads the second by
// more than twice what the error may be, its centroid is the nearest one.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {

// Centroids on the device.
struct DeviceCentroids {
  float* exact = nullptr;    // num x dim
  uint16_t* bf16 = nullptr;  // padded_rows x padded_dim, zeros in the gaps
  float* bias = nullptr;     // padded_rows: -|c|^2/2; a gap's never wins
  float* maxima = nullptr;   // of norms, of |c - c'|
  uint32_t num = 0;
  uint32_t dim = 0;
  uint32_t padded_dim = 0;  // a multiple of 32

  uint32_t num_tiles() const { return (num + kTileRows - 1) / kTileRows; }
  size_t padded_rows() const { return size_t{num_tiles()} * kTileRows; }
};

// What an assignment knows of its points, all on the device, an element a
// point.
struct PointState {
  float* scale = nullptr;       // see above; null: 1
  float* norm2 = nullptr;       // |p|^2
  float* error = nullptr;       // |p - scale p'|; may be infinite
  uint32_t* nearest = nullptr;  // by the scores, < num
  float* best = nullptr;        // score
  float* margin = nullptr;      // from the second best; may be NaN
};

// Fills scale, norm2 and error; max_norm, which begins as 0, becomes the
// largest length.
cudaError_t MeasurePoints(const DeviceRows& points, const PointState& state,
                          float* max_norm, cudaStream_t stream);
// Fills bf16, bias and maxima by `exact`.
cudaError_t RoundCentroids(const DeviceCentroids& centroids,
                           cudaStream_t stream);
// Fills nearest, best and margin, on the tensor cores of compute capability
// 9.0. The maps are those of MakeAssignMaps.
struct TensorMaps;
cudaError_t AssignTiles(const TensorMaps& maps,
                        const DeviceCentroids& centroids,
                        const PointState& state, uint32_t num_points,
                        int num_processors, cudaStream_t stream);
// The points whose nearest centroid the scores cannot tell, in any order; count
// begins as 0.
cudaError_t ListUnsettled(const DeviceCentroids& centroids,
                          const PointState& state, uint32_t num_points,
                          uint32_t* list, uint32_t* count, cudaStream_t stream);
// Canonical squared distances of points to their nearest centroids.
cudaError_t DistancesToNearest(const DeviceRows& points,
                               const DeviceCentroids& centroids,
                               const uint32_t* nearest, float* distances,
                               cudaStream_t stream);
// Distances by norm2 and best.
cudaError_t DistancesByScores(const PointState& state, uint32_t num_points,
                              float* distances, cudaStream_t stream);
// `exact` rows list[0], list[1], ... together.
cudaError_t GatherPoints(const DeviceRows& points, const uint32_t* list,
                         uint32_t count, float* out, cudaStream_t stream);
// nearest[p] = found[i].row, and distances[p], unless null, its distance, where
// p is list[i], or first + i where list is null.
cudaError_t ScatterNearest(const Neighbor* found, const uint32_t* list,
                           uint32_t first, uint32_t count, uint32_t* nearest,
                           float* distances, cudaStream_t stream);

// Rows whose sum is one step in a fixed order.
inline constexpr uint32_t kPieceRows = 256;

// How the points of each centroid are found and summed, in ascending order, so
// that sums repeat.
struct Grouping {
  uint32_t num_points = 0;
  uint32_t num_centroids = 0;
  // Points are sorted in chunks that know how many of each centroid are before
  // them.
  uint32_t chunk_points = 0;
  uint32_t* before = nullptr;  // num_chunks x num_centroids
  // Of each centroid's points in `order`, and of their pieces; one more element
  // than centroids.
  uint32_t* offsets = nullptr;
  uint32_t* piece_offsets = nullptr;
  uint32_t* num_empty = nullptr;
  uint32_t* order = nullptr;  // num_points
  float* sums = nullptr;      // max_pieces x dim

  uint32_t num_chunks() const {
    return (num_points + chunk_points - 1) / chunk_points;
  }
  uint32_t max_pieces() const {
    return num_points / kPieceRows + num_centroids;
  }
};

// Fills all but the sums.
cudaError_t GroupPoints(const Grouping& grouping, const uint32_t* nearest,
                        cudaStream_t stream);
// Each centroid becomes the mean of its points; one without keeps its place.
cudaError_t MoveCentroids(const DeviceRows& points, const Grouping& grouping,
                          float* centroids, cudaStream_t stream);
// The mean of all rows. sums: num_rows / kPieceRows + 1 times dim.
cudaError_t MeanOfRows(const DeviceRows& rows, float* sums, float* mean,
                       cudaStream_t stream);
// centroids[to[i]] = points[from[i]].
cudaError_t PlaceCentroids(const DeviceRows& points, const uint32_t* from,
                           const uint32_t* to, uint32_t count, float* centroids,
                           cudaStream_t stream);

// Side of the tiles that products are made in, by plain f32: 3xTF32 would take
// a third of the time, of which little is left beside the copies, and keep
// fewer bits.
inline constexpr uint32_t kProductTile = 128;
// Rows whose products are summed in f32; such sums are summed in f64.
inline constexpr uint32_t kMomentRows = 512;

// Pairs of tiles on and above the diagonal.
inline uint32_t NumMomentTiles(uint32_t dim) {
  const uint32_t side = (dim + kProductTile - 1) / kProductTile;
  return side * (side + 1) / 2;
}
// The upper tiles of sum (x - mean)(x - mean)^T over each of num_chunks runs of
// kMomentRows rows, from chunk `first_chunk` on. mean may be null: zero.
// partial: num_chunks x NumMomentTiles x kProductTile^2.
cudaError_t MomentTiles(const DeviceRows& rows, const float* mean,
                        uint32_t first_chunk, uint32_t num_chunks,
                        float* partial, cudaStream_t stream);
// sums (NumMomentTiles x kProductTile^2) += those chunks.
cudaError_t AddMoments(uint32_t dim, uint32_t num_chunks, const float* partial,
                       double* sums, cudaStream_t stream);
// out (dim x dim) = sums * factor, both triangles.
cudaError_t WriteMoments(uint32_t dim, const double* sums, double factor,
                         float* out, cudaStream_t stream);
// out[i * num_out + j] = <row first + i, matrix row j>; matrix: num_out x dim.
cudaError_t RotateRows(const DeviceRows& rows, const float* matrix,
                       uint32_t num_out, uint32_t first, uint32_t count,
                       float* out, cudaStream_t stream);

}  // namespace vicinal::gpu
