#include "index/cell_order.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/build_distance.h"
#include "index/cell_device.h"
#include "quant/kmeans.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr size_t kMinCells = 1;
constexpr size_t kMaxCells = 1024;
constexpr size_t kRowBlock = 64;
constexpr size_t kChainElements = size_t{1} << 18;
// Of these one is left in all but 3 % of the steps of a chain (measured: 4,096
// centroids of 8, 32 and 64 degrees of freedom).
constexpr size_t kChainNeighbours = 64;

// Cells of about sqrt(n) rows.
size_t NumCells(size_t num_rows) {
  return std::clamp<size_t>(std::lround(std::sqrt(num_rows)), kMinCells,
                            kMaxCells);
}

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// Four independent lanes, so that multiplications overlap.
uint64_t HashBytes(const std::byte* bytes, size_t size, uint64_t seed) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ULL;
  uint64_t lanes[4] = {seed, seed + 1, seed + 2, seed + 3};
  size_t at = 0;
  for (; at + 32 <= size; at += 32) {
    for (size_t l = 0; l < 4; ++l) {
      uint64_t word;
      std::memcpy(&word, bytes + at + 8 * l, 8);
      lanes[l] = std::rotl((lanes[l] ^ word) * kMultiplier, 29);
    }
  }
  for (; at < size; ++at) {
    lanes[at % 4] = (lanes[at % 4] ^ static_cast<uint64_t>(bytes[at]) ^ 0x100) *
                    kMultiplier;
    lanes[at % 4] = std::rotl(lanes[at % 4], 29);
  }
  return Mix(lanes[0] ^ Mix(lanes[1] ^ Mix(lanes[2] ^ Mix(lanes[3]))));
}

// Rank of each centroid in a chain that goes from one to the nearest that is
// left. nearest: the num_nearest nearest others of each, which mostly have it;
// or empty.
std::vector<uint32_t> ChainRanks(MatrixView centroids,
                                 const std::vector<Neighbor>& nearest,
                                 size_t num_nearest, Workers* workers) {
  const DistanceOps& ops = OpsFor(Metric::kL2, ElementType::kFloat32);
  const size_t n = centroids.num_rows;
  // Of one thread's part: more than what it takes to wake it.
  const size_t chunk =
      std::max<size_t>(kChainElements / std::max<size_t>(centroids.dim, 1), 1);
  constexpr uint32_t kNoRank = UINT32_MAX;
  std::vector<uint32_t> rank(n, kNoRank);
  const auto is_placed = [&](RowId c) { return rank[c] != kNoRank; };
  std::vector<RowId> left(n);
  std::iota(left.begin(), left.end(), 0);
  std::vector<float> distances(n);
  RowId at = 0;
  for (uint32_t i = 0; i < n; ++i) {
    rank[at] = i;
    if (i + 1 == n) break;
    if (!nearest.empty()) {
      const auto begin =
          nearest.begin() + static_cast<ptrdiff_t>(at * num_nearest);
      const auto end = begin + static_cast<ptrdiff_t>(num_nearest);
      const auto next = std::find_if(begin, end, [&](const Neighbor& other) {
        return other.row < n && !is_placed(other.row);
      });
      if (next != end) {
        at = next->row;
        continue;
      }
    }
    std::erase_if(left, is_placed);
    workers->For(left.size(), chunk, [&](size_t begin, size_t end, size_t) {
      ops.gather(centroids.row(at).data(), centroids.data,
                 centroids.stride * sizeof(float), left.data() + begin,
                 end - begin, centroids.dim, distances.data() + begin);
    });
    const auto end = distances.begin() + static_cast<ptrdiff_t>(left.size());
    at = left[std::min_element(distances.begin(), end) - distances.begin()];
  }
  return rank;
}

// The rows by a hash of their bytes: an order that does not depend on theirs.
std::vector<std::pair<uint64_t, RowId>> HashOrder(VectorSetView vectors,
                                                  uint64_t seed,
                                                  Workers* workers) {
  const size_t size = vectors.dim * ElementSize(vectors.type);
  std::vector<std::pair<uint64_t, RowId>> order(vectors.num_rows);
  workers->For(vectors.num_rows, 1024, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      order[i] = {HashBytes(vectors.row(i), size, seed), static_cast<RowId>(i)};
    }
  });
  std::sort(order.begin(), order.end());
  return order;
}

// The first num_samples rows of `order` as floats.
std::vector<float> SampleOf(
    VectorSetView vectors, Metric metric,
    const std::vector<std::pair<uint64_t, RowId>>& order, size_t num_samples,
    Workers* workers) {
  const size_t dim = vectors.dim;
  std::vector<float> sample(num_samples * dim);
  workers->For(num_samples, kRowBlock, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      RowToFloats(vectors, metric, order[i].second, &sample[i * dim]);
    }
  });
  return sample;
}

// The nearest centroids of each row, nearest first.
struct NearestCells {
  size_t num = 0;  // of each row
  std::vector<uint32_t> cells;
  std::vector<float> distances;
};

// The rows begin .. end as floats without gaps: where they lie, or in `buffer`.
const float* FloatsOf(VectorSetView vectors, Metric metric, size_t begin,
                      size_t end, Workers* workers,
                      std::unique_ptr<float[]>* buffer, size_t room) {
  const size_t dim = vectors.dim;
  if (vectors.type == ElementType::kFloat32 && metric != Metric::kCosine &&
      vectors.stride_bytes == dim * sizeof(float)) {
    return reinterpret_cast<const float*>(vectors.row(begin));
  }
  // Not filled with zeros first, which would be one thread's work.
  if (*buffer == nullptr)
    *buffer = std::make_unique_for_overwrite<float[]>(room * dim);
  workers->For(end - begin, kRowBlock, [&](size_t from, size_t to, size_t) {
    for (size_t i = from; i < to; ++i) {
      RowToFloats(vectors, metric, begin + i, &(*buffer)[i * dim]);
    }
  });
  return buffer->get();
}

// How many rows the device found the nearest of before it failed, or was not
// worth asking.
size_t FindByDevice(VectorSetView vectors, Metric metric, MatrixView centroids,
                    CellDevice* device, Workers* workers,
                    const CancelToken* cancel, NearestCells* out) {
  const size_t n = vectors.num_rows;
  if (!device->UseCentroids(centroids, n, out->num)) return 0;
  const size_t at_once = std::min(n, device->RowsAtOnce());
  std::unique_ptr<float[]> buffer;
  for (size_t begin = 0; begin < n; begin += at_once) {
    const size_t end = std::min(n, begin + at_once);
    if (cancel != nullptr && cancel->cancelled()) return begin;
    const float* const rows =
        FloatsOf(vectors, metric, begin, end, workers, &buffer, at_once);
    if (!device->Nearest(rows, end - begin, &out->cells[begin * out->num],
                         &out->distances[begin * out->num])) {
      return begin;
    }
  }
  return n;
}

absl::StatusOr<NearestCells> FindNearest(VectorSetView vectors, Metric metric,
                                         MatrixView centroids,
                                         CellDevice* device, Workers* workers,
                                         const CancelToken* cancel) {
  const size_t n = vectors.num_rows;
  const size_t dim = vectors.dim;
  const size_t num = std::min<size_t>(2, centroids.num_rows);
  NearestCells out{num, std::vector<uint32_t>(n * num),
                   std::vector<float>(n * num)};
  const size_t first =
      FindByDevice(vectors, metric, centroids, device, workers, cancel, &out);
  if (first < n) {
    const CentroidPanels panels(centroids);
    std::vector<std::vector<float>> buffers(workers->size());
    workers->For(n - first, kRowBlock, [&](size_t from, size_t to, size_t w) {
      if (cancel != nullptr && cancel->cancelled()) return;
      const size_t begin = first + from;
      std::vector<float>& rows = buffers[w];
      rows.resize(kRowBlock * dim);
      for (size_t i = from; i < to; ++i) {
        RowToFloats(vectors, metric, first + i, &rows[(i - from) * dim]);
      }
      panels.Nearest(rows.data(), to - from, num, &out.cells[begin * num],
                     &out.distances[begin * num]);
    });
  }
  if (cancel != nullptr && cancel->cancelled()) {
    return absl::CancelledError("cell order cancelled");
  }
  return out;
}

// Within a cell, rows that lean to the same neighbour cell lie together.
Cells Arrange(const std::vector<std::pair<uint64_t, RowId>>& order,
              const NearestCells& nearest, MatrixView centroids,
              CellDevice* device, Workers* workers) {
  struct Place {
    uint32_t neighbour;
    float distance;
    uint32_t position;  // in `order`
    RowId row;
  };
  const size_t n = order.size();
  const size_t dim = centroids.dim;
  const size_t num_cells = centroids.num_rows;
  const size_t num_others = std::min(kChainNeighbours, num_cells - 1);
  std::vector<Neighbor> others;
  if (!device->NearestOthers(num_others, &others)) others.clear();
  const std::vector<uint32_t> rank =
      ChainRanks(centroids, others, num_others, workers);
  Cells out;
  out.offsets.assign(num_cells + 1, 0);
  for (size_t i = 0; i < n; ++i) {
    ++out.offsets[rank[nearest.cells[i * nearest.num]] + 1];
  }
  std::partial_sum(out.offsets.begin(), out.offsets.end(), out.offsets.begin());
  std::vector<uint32_t> next(out.offsets.begin(), out.offsets.end() - 1);
  std::vector<Place> places(n);
  for (size_t i = 0; i < n; ++i) {
    const RowId row = order[i].second;
    const uint32_t* const cells = &nearest.cells[row * nearest.num];
    places[next[rank[cells[0]]]++] = {rank[cells[nearest.num - 1]],
                                      nearest.distances[row * nearest.num],
                                      static_cast<uint32_t>(i), row};
  }
  out.order.resize(n);
  workers->For(num_cells, 1, [&](size_t cell, size_t, size_t) {
    const auto begin = places.begin() + out.offsets[cell];
    const auto end = places.begin() + out.offsets[cell + 1];
    std::sort(begin, end, [](const Place& a, const Place& b) {
      return std::tie(a.neighbour, a.distance, a.position) <
             std::tie(b.neighbour, b.distance, b.position);
    });
    std::transform(begin, end, out.order.begin() + out.offsets[cell],
                   [](const Place& place) { return place.row; });
  });
  out.centroids.resize(num_cells * dim);
  for (size_t c = 0; c < num_cells; ++c) {
    std::copy_n(centroids.row(c).data(), dim, &out.centroids[rank[c] * dim]);
  }
  return out;
}

}  // namespace

absl::StatusOr<Cells> FindCells(VectorSetView vectors, Metric metric,
                                const CellOptions& options, size_t num_threads,
                                const CancelToken* cancel,
                                DistanceBackend* backend) {
  const size_t n = vectors.num_rows;
  const size_t dim = vectors.dim;
  if (n == 0) return Cells{.offsets = {0}};
  Workers workers(num_threads);
  const std::vector<std::pair<uint64_t, RowId>> order =
      HashOrder(vectors, options.seed, &workers);
  const size_t num_cells =
      std::min(n, options.num_cells > 0 ? options.num_cells : NumCells(n));
  const size_t num_samples = std::min(n, num_cells * options.sample_per_cell);
  std::vector<float> sample =
      SampleOf(vectors, metric, order, num_samples, &workers);
  const MatrixView points{sample.data(), num_samples, dim, dim};
  CellDevice device(backend, workers.size(), cancel);
  device.UseSample(points, num_cells, options.iterations);
  VICINAL_ASSIGN_OR_RETURN(const std::vector<float> centroid_values,
                           TrainKMeans(points, num_cells, options.iterations,
                                       &workers, cancel, &device));
  device.Forget();
  sample = {};
  const MatrixView centroids{centroid_values.data(), num_cells, dim, dim};
  VICINAL_ASSIGN_OR_RETURN(
      const NearestCells nearest,
      FindNearest(vectors, metric, centroids, &device, &workers, cancel));
  return Arrange(order, nearest, centroids, &device, &workers);
}

absl::StatusOr<std::vector<RowId>> CellOrder(VectorSetView vectors,
                                             Metric metric, uint64_t seed,
                                             size_t num_threads,
                                             const CancelToken* cancel,
                                             DistanceBackend* backend) {
  VICINAL_ASSIGN_OR_RETURN(
      Cells cells,
      FindCells(vectors, metric, {.seed = seed}, num_threads, cancel, backend));
  return std::move(cells.order);
}

}  // namespace vicinal
