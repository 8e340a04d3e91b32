// Training on a GPU: assignments, k-means, second moments, rotations.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/tensor_maps.h"
#include "src/distance/gpu/train_kernels.h"

namespace vicinal::gpu {
namespace {

// Points that are searched for at a time, of those that scores do not settle.
constexpr size_t kSearchedPoints = kMaxBatch;
// Points that one warp sorts, and most counters of all such chunks.
constexpr size_t kChunkPoints = 4096;
constexpr size_t kMaxCounters = size_t{1} << 24;
// Lengths whose squares float can add.
constexpr float kMaxNorm = 1e14f;
// Blocks of products that are started together.
constexpr size_t kBlocksAtOnce = 2048;
// Rows that are rotated together, at most: each takes a block's row of a grid.
constexpr size_t kRotatedRows = size_t{1} << 20;

constexpr size_t RoundUp(size_t n, size_t step) {
  return (n + step - 1) / step * step;
}

const DeviceRows& RowsOf(const LoadedSegment& segment) {
  return static_cast<const GpuSegment&>(segment).rows();
}

}  // namespace

// One training of a segment: what it has in the workspace, which it takes for
// itself. Used by one thread, under the backend's lock.
class Trainer {
 public:
  Trainer(const GpuBackend& backend, const DeviceRows& points)
      : backend_(backend), points_(points), stream_(backend.stream_) {
    backend.workspace_.Rewind(0);
  }

  // Takes the room and copies the centroids there.
  BackendStatus SetCentroids(const float* centroids, size_t num);
  // The room that updates take, beside.
  BackendStatus TakeGrouping();
  // What the points' scores need to be judged.
  BackendStatus Measure();
  // Whether k-means' sums stay finite.
  BackendStatus CheckNorms(bool* bounded);
  // `nearest` by the rounded vectors where the device is fast at that.
  BackendStatus AssignByScores();
  // `nearest`, and the distances where they are wanted.
  BackendStatus AssignExactly(bool with_distances);
  // From points to means.
  BackendStatus Update();

  BackendStatus Read(float* centroids) const {
    return Download(centroids_.exact, size_t{centroids_.num} * points_.dim,
                    centroids);
  }
  BackendStatus Read(uint32_t* nearest, float* distances) const;

 private:
  template <class T>
  BackendStatus Take(size_t count, T** out) const {
    *out = backend_.workspace_.Take<T>(count);
    return *out == nullptr ? BackendStatus::kNoMemory : BackendStatus::kOk;
  }
  // Waits, too.
  template <class T>
  BackendStatus Download(const T* from, size_t count, T* to) const {
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        to, from, count * sizeof(T), cudaMemcpyDeviceToHost, stream_)));
    return Check(cudaStreamSynchronize(stream_));
  }
  BackendStatus Check(cudaError_t error) const { return backend_.Check(error); }

  BackendStatus AssignTilesOnce();
  // Of all points where list is null.
  BackendStatus SearchFor(const uint32_t* list, size_t count, float* distances);
  BackendStatus FillEmpty(uint32_t num_empty);

  const GpuBackend& backend_;
  const DeviceRows& points_;
  const cudaStream_t stream_;
  DeviceCentroids centroids_;
  PointState state_;
  Grouping grouping_;
  float* max_norm_ = nullptr;   // of points
  float* distances_ = nullptr;  // to the nearest
  uint32_t* list_ = nullptr;
  uint32_t* list_size_ = nullptr;
};

BackendStatus Trainer::SetCentroids(const float* centroids, size_t num) {
  const size_t n = points_.num_rows;
  centroids_.num = static_cast<uint32_t>(num);
  centroids_.dim = points_.dim;
  centroids_.padded_dim = static_cast<uint32_t>(RoundUp(points_.dim, 32));
  const size_t padded_rows = centroids_.padded_rows();
  GPU_RETURN_IF_ERROR(
      backend_.Upload(centroids, num * points_.dim, &centroids_.exact));
  GPU_RETURN_IF_ERROR(
      Take(padded_rows * centroids_.padded_dim, &centroids_.bf16));
  GPU_RETURN_IF_ERROR(Take(padded_rows, &centroids_.bias));
  GPU_RETURN_IF_ERROR(Take(2, &centroids_.maxima));
  if (points_.metric == Metric::kCosine) {
    GPU_RETURN_IF_ERROR(Take(n, &state_.scale));
  }
  GPU_RETURN_IF_ERROR(Take(n, &state_.norm2));
  GPU_RETURN_IF_ERROR(Take(n, &state_.error));
  GPU_RETURN_IF_ERROR(Take(n, &state_.nearest));
  GPU_RETURN_IF_ERROR(Take(n, &state_.best));
  GPU_RETURN_IF_ERROR(Take(n, &state_.margin));
  GPU_RETURN_IF_ERROR(Take(n, &distances_));
  GPU_RETURN_IF_ERROR(Take(n, &list_));
  GPU_RETURN_IF_ERROR(Take(1, &list_size_));
  return Take(1, &max_norm_);
}

BackendStatus Trainer::TakeGrouping() {
  const size_t n = points_.num_rows;
  const size_t k = centroids_.num;
  const size_t num_chunks = std::clamp<size_t>(
      kMaxCounters / k, 1, (n + kChunkPoints - 1) / kChunkPoints);
  grouping_.num_points = points_.num_rows;
  grouping_.num_centroids = centroids_.num;
  grouping_.chunk_points =
      static_cast<uint32_t>((n + num_chunks - 1) / num_chunks);
  GPU_RETURN_IF_ERROR(
      Take(size_t{grouping_.num_chunks()} * k, &grouping_.before));
  GPU_RETURN_IF_ERROR(Take(k + 1, &grouping_.offsets));
  GPU_RETURN_IF_ERROR(Take(k + 1, &grouping_.piece_offsets));
  GPU_RETURN_IF_ERROR(Take(1, &grouping_.num_empty));
  GPU_RETURN_IF_ERROR(Take(n, &grouping_.order));
  return Take(size_t{grouping_.max_pieces()} * points_.dim, &grouping_.sums);
}

BackendStatus Trainer::Measure() {
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(max_norm_, 0, sizeof(float), stream_)));
  return Check(MeasurePoints(points_, state_, max_norm_, stream_));
}

BackendStatus Trainer::CheckNorms(bool* bounded) {
  GPU_RETURN_IF_ERROR(Check(RoundCentroids(centroids_, stream_)));
  float of_points;
  float of_centroids;
  GPU_RETURN_IF_ERROR(Download(max_norm_, 1, &of_points));
  GPU_RETURN_IF_ERROR(Download(centroids_.maxima, 1, &of_centroids));
  *bounded = of_points < kMaxNorm && of_centroids < kMaxNorm;
  return BackendStatus::kOk;
}

BackendStatus Trainer::AssignTilesOnce() {
  GPU_RETURN_IF_ERROR(Check(RoundCentroids(centroids_, stream_)));
  TensorMaps maps;
  if (!MakeAssignMaps(points_, centroids_, &maps)) {
    return BackendStatus::kUnsupported;
  }
  return Check(AssignTiles(maps, centroids_, state_, points_.num_rows,
                           backend_.num_processors_, stream_));
}

BackendStatus Trainer::AssignByScores() {
  return backend_.is_hopper_ ? AssignTilesOnce()
                             : SearchFor(nullptr, points_.num_rows, distances_);
}

BackendStatus Trainer::AssignExactly(bool with_distances) {
  if (!backend_.is_hopper_) {
    return SearchFor(nullptr, points_.num_rows, distances_);
  }
  GPU_RETURN_IF_ERROR(AssignTilesOnce());
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(list_size_, 0, sizeof(uint32_t), stream_)));
  GPU_RETURN_IF_ERROR(Check(ListUnsettled(centroids_, state_, points_.num_rows,
                                          list_, list_size_, stream_)));
  if (with_distances) {
    GPU_RETURN_IF_ERROR(Check(DistancesToNearest(
        points_, centroids_, state_.nearest, distances_, stream_)));
  }
  uint32_t count;
  GPU_RETURN_IF_ERROR(Download(list_size_, 1, &count));
  if (count == 0) return BackendStatus::kOk;
  return SearchFor(list_, count, with_distances ? distances_ : nullptr);
}

BackendStatus Trainer::SearchFor(const uint32_t* list, size_t count,
                                 float* distances) {
  Arena& workspace = backend_.workspace_;
  const size_t used = workspace.used();
  // The centroids as a segment.
  DeviceRows rows =
      ShapeOf(centroids_.num, points_.dim, ElementType::kFloat32, Metric::kL2);
  const size_t size = rows.padded_rows() * rows.padded_dim;
  float* maxima;
  uint16_t* bf16;
  GPU_RETURN_IF_ERROR(Take(2, &maxima));
  GPU_RETURN_IF_ERROR(Take(size, &bf16));
  rows.exact = centroids_.exact;
  rows.bf16 = bf16;
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(maxima, 0, 2 * sizeof(float), stream_)));
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(bf16, 0, size * sizeof(uint16_t), stream_)));
  GPU_RETURN_IF_ERROR(Check(RoundRows(rows, bf16, maxima, stream_)));
  float host_maxima[2];
  GPU_RETURN_IF_ERROR(Download(maxima, 2, host_maxima));
  rows.max_norm = host_maxima[0];
  rows.max_error = host_maxima[1];
  // A quarter of what is left, and the search takes the rest.
  const size_t per_point = points_.dim * sizeof(float) + sizeof(Neighbor);
  const size_t at_once = std::min<size_t>(
      {count, kSearchedPoints, workspace.left() / 4 / per_point});
  if (at_once == 0) return BackendStatus::kNoMemory;
  float* gathered = nullptr;
  Neighbor* found;
  if (list != nullptr) {
    GPU_RETURN_IF_ERROR(Take(at_once * points_.dim, &gathered));
  }
  GPU_RETURN_IF_ERROR(Take(at_once, &found));
  const auto* exact = static_cast<const float*>(points_.exact);
  const size_t searching = workspace.used();
  for (size_t first = 0; first < count; first += at_once) {
    const auto n = static_cast<uint32_t>(std::min(at_once, count - first));
    const uint32_t* const part = list == nullptr ? nullptr : list + first;
    if (list != nullptr) {
      GPU_RETURN_IF_ERROR(
          Check(GatherPoints(points_, part, n, gathered, stream_)));
    }
    workspace.Rewind(searching);
    GPU_RETURN_IF_ERROR(backend_.Run(
        rows, rows,
        {.queries = list == nullptr ? exact + first * points_.dim : gathered,
         .num_queries = n,
         .k = 1,
         .out = found,
         .queries_there = true,
         .out_there = true},
        nullptr));
    GPU_RETURN_IF_ERROR(
        Check(ScatterNearest(found, part, static_cast<uint32_t>(first), n,
                             state_.nearest, distances, stream_)));
  }
  workspace.Rewind(used);
  return BackendStatus::kOk;
}

BackendStatus Trainer::Update() {
  GPU_RETURN_IF_ERROR(Check(GroupPoints(grouping_, state_.nearest, stream_)));
  GPU_RETURN_IF_ERROR(
      Check(MoveCentroids(points_, grouping_, centroids_.exact, stream_)));
  uint32_t num_empty;
  GPU_RETURN_IF_ERROR(Download(grouping_.num_empty, 1, &num_empty));
  return num_empty == 0 ? BackendStatus::kOk : FillEmpty(num_empty);
}

// On the host: it is rare.
BackendStatus Trainer::FillEmpty(uint32_t num_empty) {
  const size_t n = points_.num_rows;
  if (backend_.is_hopper_) {
    GPU_RETURN_IF_ERROR(Check(
        DistancesByScores(state_, points_.num_rows, distances_, stream_)));
  }
  std::vector<uint32_t> offsets(centroids_.num + 1);
  std::vector<float> distances(n);
  GPU_RETURN_IF_ERROR(
      Download(grouping_.offsets, offsets.size(), offsets.data()));
  GPU_RETURN_IF_ERROR(Download(distances_, n, distances.data()));
  std::vector<uint32_t> to;
  for (uint32_t c = 0; c < centroids_.num; ++c) {
    if (offsets[c] == offsets[c + 1]) to.push_back(c);
  }
  std::vector<uint32_t> from(n);
  std::iota(from.begin(), from.end(), 0);
  const size_t count = std::min<size_t>(num_empty, n);
  to.resize(count);
  std::partial_sort(from.begin(), from.begin() + count, from.end(),
                    [&](uint32_t a, uint32_t b) {
                      return distances[a] > distances[b] ||
                             (distances[a] == distances[b] && a < b);
                    });
  from.resize(count);
  const size_t used = backend_.workspace_.used();
  uint32_t* rows;
  uint32_t* places;
  GPU_RETURN_IF_ERROR(backend_.Upload(from.data(), count, &rows));
  GPU_RETURN_IF_ERROR(backend_.Upload(to.data(), count, &places));
  GPU_RETURN_IF_ERROR(
      Check(PlaceCentroids(points_, rows, places, static_cast<uint32_t>(count),
                           centroids_.exact, stream_)));
  backend_.workspace_.Rewind(used);
  return Check(cudaStreamSynchronize(stream_));
}

BackendStatus Trainer::Read(uint32_t* nearest, float* distances) const {
  const size_t n = points_.num_rows;
  if (nearest != nullptr) {
    GPU_RETURN_IF_ERROR(Download(state_.nearest, n, nearest));
  }
  return distances == nullptr ? BackendStatus::kOk
                              : Download(distances_, n, distances);
}

BackendStatus GpuBackend::Assign(const LoadedSegment& segment,
                                 const float* centroids, size_t num_centroids,
                                 uint32_t* nearest, float* distances) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& points = RowsOf(segment);
  if (points.type != ElementType::kFloat32 || num_centroids == 0 ||
      num_centroids >= kInvalidRow / 2) {
    return BackendStatus::kUnsupported;
  }
  if (points.num_rows == 0) return BackendStatus::kOk;
  const std::lock_guard<std::mutex> lock(mutex_);
  Trainer trainer(*this, points);
  GPU_RETURN_IF_ERROR(trainer.SetCentroids(centroids, num_centroids));
  if (is_hopper_) GPU_RETURN_IF_ERROR(trainer.Measure());
  GPU_RETURN_IF_ERROR(trainer.AssignExactly(distances != nullptr));
  return trainer.Read(nearest, distances);
}

BackendStatus GpuBackend::KMeans(const LoadedSegment& segment,
                                 size_t num_centroids, size_t rounds,
                                 float* centroids, uint32_t* nearest,
                                 double* inertia) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& points = RowsOf(segment);
  if (points.type != ElementType::kFloat32 || num_centroids == 0 ||
      num_centroids >= kInvalidRow / 2) {
    return BackendStatus::kUnsupported;
  }
  if (inertia != nullptr) *inertia = 0;
  if (points.num_rows == 0) return BackendStatus::kOk;
  const std::lock_guard<std::mutex> lock(mutex_);
  Trainer trainer(*this, points);
  GPU_RETURN_IF_ERROR(trainer.SetCentroids(centroids, num_centroids));
  GPU_RETURN_IF_ERROR(trainer.TakeGrouping());
  GPU_RETURN_IF_ERROR(trainer.Measure());
  bool bounded = false;
  GPU_RETURN_IF_ERROR(trainer.CheckNorms(&bounded));
  if (!bounded) return BackendStatus::kUnsupported;
  for (size_t round = 0; round < rounds; ++round) {
    GPU_RETURN_IF_ERROR(trainer.AssignByScores());
    GPU_RETURN_IF_ERROR(trainer.Update());
  }
  GPU_RETURN_IF_ERROR(trainer.Read(centroids));
  if (nearest == nullptr && inertia == nullptr) return BackendStatus::kOk;
  GPU_RETURN_IF_ERROR(trainer.AssignExactly(inertia != nullptr));
  std::vector<float> distances(inertia == nullptr ? 0 : points.num_rows);
  GPU_RETURN_IF_ERROR(
      trainer.Read(nearest, inertia == nullptr ? nullptr : distances.data()));
  if (inertia != nullptr) {
    *inertia = std::accumulate(distances.begin(), distances.end(), 0.0);
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::Covariance(const LoadedSegment& segment, float* mean,
                                     float* out) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = RowsOf(segment);
  if (rows.type != ElementType::kFloat32) return BackendStatus::kUnsupported;
  const size_t d = rows.dim;
  if (rows.num_rows == 0) {
    if (mean != nullptr) std::fill(mean, mean + d, 0.0f);
    std::fill(out, out + d * d, 0.0f);
    return BackendStatus::kOk;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  float* around = nullptr;
  if (mean != nullptr) {
    around = workspace_.Take<float>(d);
    float* const pieces =
        workspace_.Take<float>((rows.num_rows / kPieceRows + 1) * d);
    if (around == nullptr || pieces == nullptr) return BackendStatus::kNoMemory;
    GPU_RETURN_IF_ERROR(Check(MeanOfRows(rows, pieces, around, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        mean, around, d * sizeof(float), cudaMemcpyDeviceToHost, stream_)));
  }
  const size_t num_tiles = NumMomentTiles(rows.dim);
  const size_t size = num_tiles * kProductTile * kProductTile;
  const size_t num_chunks = (rows.num_rows + kMomentRows - 1) / kMomentRows;
  float* const result = workspace_.Take<float>(d * d);
  double* const sums = workspace_.Take<double>(size);
  const size_t at_once =
      std::min({num_chunks, (kBlocksAtOnce + num_tiles - 1) / num_tiles,
                workspace_.left() / 2 / (size * sizeof(float))});
  float* const partial = workspace_.Take<float>(at_once * size);
  if (result == nullptr || sums == nullptr || partial == nullptr ||
      at_once == 0) {
    return BackendStatus::kNoMemory;
  }
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(sums, 0, size * sizeof(double), stream_)));
  for (size_t first = 0; first < num_chunks; first += at_once) {
    const auto n = static_cast<uint32_t>(std::min(at_once, num_chunks - first));
    GPU_RETURN_IF_ERROR(Check(MomentTiles(
        rows, around, static_cast<uint32_t>(first), n, partial, stream_)));
    GPU_RETURN_IF_ERROR(Check(AddMoments(rows.dim, n, partial, sums, stream_)));
  }
  GPU_RETURN_IF_ERROR(Check(
      WriteMoments(rows.dim, sums, 1.0 / rows.num_rows, result, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(out, result, d * d * sizeof(float),
                                            cudaMemcpyDeviceToHost, stream_)));
  return Check(cudaStreamSynchronize(stream_));
}

BackendStatus GpuBackend::Rotate(const LoadedSegment& segment,
                                 const float* matrix, size_t num_out,
                                 float* out) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = RowsOf(segment);
  if (rows.type != ElementType::kFloat32 || num_out >= kInvalidRow) {
    return BackendStatus::kUnsupported;
  }
  if (rows.num_rows == 0 || num_out == 0) return BackendStatus::kOk;
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  float* there;
  GPU_RETURN_IF_ERROR(Upload(matrix, num_out * rows.dim, &there));
  const size_t at_once =
      std::min<size_t>({rows.num_rows, kRotatedRows,
                        workspace_.left() / (num_out * sizeof(float))});
  float* const part = workspace_.Take<float>(at_once * num_out);
  if (at_once == 0 || part == nullptr) return BackendStatus::kNoMemory;
  for (size_t first = 0; first < rows.num_rows; first += at_once) {
    const size_t n = std::min(at_once, rows.num_rows - first);
    GPU_RETURN_IF_ERROR(
        Check(RotateRows(rows, there, static_cast<uint32_t>(num_out),
                         static_cast<uint32_t>(first), static_cast<uint32_t>(n),
                         part, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        out + first * num_out, part, n * num_out * sizeof(float),
        cudaMemcpyDeviceToHost, stream_)));
  }
  return Check(cudaStreamSynchronize(stream_));
}

}  // namespace vicinal::gpu
