#include "index/cell_device.h"

#include <algorithm>

#include "src/base/types.h"

namespace vicinal {
namespace {

// Pairs of elements that a core subtracts, squares and adds (measured: k-means
// and assignment of 100,000 x 768 to 1,024 cells on two cores).
constexpr double kCpuPairsPerNs = 13;
// Of an H100 (docs/gpu-notes.md): memory that is not pinned is copied at 6
// GB/s (3 GB in half a second), vectors are multiplied at 450 TFLOP/s, and a
// call takes 100 us beside that.
constexpr double kCopiedPerNs = 6;
constexpr double kDevicePairsPerNs = 225'000;
constexpr double kCallNs = 100'000;
// Rows of one call: 64 MiB, which take a hundredth of a second, most of it to
// copy them. A device compares 16,384 queries at a time.
constexpr size_t kCallBytes = size_t{64} << 20;
constexpr size_t kCallRows = 16'384;
// Where a call of k-means takes longer, or the copy of its sample, searches of
// parts of it do the same.
constexpr double kLongestCallNs = 1e8;
constexpr double kLongestCopyNs = 1e9;

struct Shape {
  double num_rows;
  double num_centroids;
  double dim;

  double pairs() const { return num_rows * num_centroids * dim; }
  double CpuNs(size_t num_threads) const {
    return pairs() / kCpuPairsPerNs / static_cast<double>(num_threads);
  }
  // Rows and centroids are copied, and what is found of each row.
  double SearchNs(size_t num_nearest) const {
    const double bytes = (num_rows + num_centroids) * dim * sizeof(float) +
                         num_rows * static_cast<double>(num_nearest) *
                             static_cast<double>(sizeof(Neighbor));
    return bytes / kCopiedPerNs + pairs() / kDevicePairsPerNs +
           kCallNs * (2 + num_rows * dim * sizeof(float) / kCallBytes);
  }
  double IterateNs() const {
    return kCallNs + pairs() / kDevicePairsPerNs +
           2 * num_centroids * dim * sizeof(float) / kCopiedPerNs;
  }
};

Shape ShapeOf(size_t num_rows, MatrixView centroids) {
  return {static_cast<double>(num_rows),
          static_cast<double>(centroids.num_rows),
          static_cast<double>(centroids.dim)};
}

}  // namespace

// Only devices with a matrix kernel, which graphs need, compare so many rows
// faster than some cores.
CellDevice::CellDevice(DistanceBackend* backend, size_t num_threads,
                       const CancelToken* cancel)
    : backend_(backend != nullptr && backend->builds_graphs() ? backend
                                                              : nullptr),
      num_threads_(num_threads),
      cancel_(cancel) {}

void CellDevice::UseSample(MatrixView points, size_t num_centroids,
                           size_t num_iterations) {
  Forget();
  if (backend_ == nullptr) return;
  points_ = points;
  const Shape shape{static_cast<double>(points.num_rows),
                    static_cast<double>(num_centroids),
                    static_cast<double>(points.dim)};
  const double copied_ns =
      shape.num_rows * shape.dim * sizeof(float) / kCopiedPerNs;
  const auto iterations = static_cast<double>(num_iterations);
  const double cpu_ns = iterations * shape.CpuNs(num_threads_);
  assigns_ = shape.SearchNs(1) < shape.CpuNs(num_threads_);
  if (shape.IterateNs() <= kLongestCallNs && copied_ns <= kLongestCopyNs &&
      kCallNs + copied_ns + iterations * shape.IterateNs() < cpu_ns) {
    Load(points, &sample_);
  }
}

bool CellDevice::Iterate(std::vector<float>* centroids) {
  if (sample_ == nullptr) return false;
  next_ = *centroids;
  if (backend_->KMeans(*sample_, centroids->size() / points_.dim, 1,
                       next_.data(), nullptr, nullptr) != BackendStatus::kOk) {
    sample_ = nullptr;
    return false;
  }
  centroids->swap(next_);
  return true;
}

bool CellDevice::Assign(const std::vector<float>& centroids, uint32_t* nearest,
                        float* distances) {
  if (!assigns_) return false;
  const size_t dim = points_.dim;
  const MatrixView view{centroids.data(), centroids.size() / dim, dim, dim};
  assigns_ = UseCentroids(view, points_.num_rows, 1);
  const size_t at_once = RowsAtOnce();
  for (size_t begin = 0; assigns_ && begin < points_.num_rows;
       begin += at_once) {
    if (cancel_ != nullptr && cancel_->cancelled()) return false;
    const size_t n = std::min(at_once, points_.num_rows - begin);
    assigns_ = Nearest(points_.row(begin).data(), n, nearest + begin,
                       distances + begin);
  }
  centroids_ = nullptr;
  return assigns_;
}

void CellDevice::Forget() {
  sample_ = nullptr;
  centroids_ = nullptr;
  points_ = {};
  assigns_ = false;
}

bool CellDevice::UseCentroids(MatrixView centroids, size_t num_rows,
                              size_t num_nearest) {
  dim_ = centroids.dim;
  num_nearest_ = num_nearest;
  centroids_ = nullptr;
  if (backend_ == nullptr) return false;
  const Shape shape = ShapeOf(num_rows, centroids);
  return shape.SearchNs(num_nearest) < shape.CpuNs(num_threads_) &&
         Load(centroids, &centroids_);
}

size_t CellDevice::RowsAtOnce() const {
  const size_t fit =
      std::max<size_t>(kCallBytes / (std::max<size_t>(dim_, 1) * 4), 1);
  return fit > kCallRows ? fit / kCallRows * kCallRows : fit;
}

bool CellDevice::Nearest(const float* rows, size_t n, uint32_t* cells,
                         float* distances) {
  if (centroids_ == nullptr) return false;
  found_.resize(n * num_nearest_);
  if (backend_->Search(*centroids_, {rows, n}, num_nearest_, nullptr,
                       found_.data(), nullptr) != BackendStatus::kOk) {
    centroids_ = nullptr;
    return false;
  }
  const size_t num_centroids = centroids_->num_rows();
  for (size_t i = 0; i < found_.size(); ++i) {
    // None is nearer than infinity where squares are no floats.
    cells[i] = found_[i].row < num_centroids ? found_[i].row : 0;
    distances[i] = found_[i].distance;
  }
  return true;
}

bool CellDevice::NearestOthers(size_t k, std::vector<Neighbor>* out) {
  if (centroids_ == nullptr || k == 0 || k >= kMaxBackendK) return false;
  const size_t n = centroids_->num_rows();
  const Shape shape{static_cast<double>(n), static_cast<double>(n),
                    static_cast<double>(dim_)};
  const double copied = shape.num_rows * static_cast<double>(k) *
                        static_cast<double>(sizeof(Neighbor));
  // A chain compares half of all pairs.
  if (kCallNs + shape.pairs() / kDevicePairsPerNs + copied / kCopiedPerNs >=
      shape.CpuNs(num_threads_) / 2) {
    return false;
  }
  out->resize(n * k);
  return backend_->KnnGraph(*centroids_, k, out->data(), nullptr) ==
         BackendStatus::kOk;
}

bool CellDevice::Load(MatrixView rows,
                      std::shared_ptr<const LoadedSegment>* out) {
  const SegmentRows segment = {
      .rows = {.data = reinterpret_cast<const std::byte*>(rows.data),
               .num_rows = rows.num_rows,
               .dim = rows.dim,
               .stride_bytes = rows.stride * sizeof(float),
               .type = ElementType::kFloat32},
      .metric = Metric::kL2};
  if (backend_->Load(segment, out) == BackendStatus::kOk) return true;
  *out = nullptr;
  return false;
}

}  // namespace vicinal
