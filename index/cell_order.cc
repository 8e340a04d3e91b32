#include "index/cell_order.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <tuple>

#include "absl/status/status.h"
#include "index/build_distance.h"
#include "quant/kmeans.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr size_t kMinCells = 1;
constexpr size_t kMaxCells = 1024;
constexpr size_t kRowBlock = 64;

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
// left.
std::vector<uint32_t> ChainRanks(MatrixView centroids) {
  const DistanceOps& ops = OpsFor(Metric::kL2, ElementType::kFloat32);
  const size_t n = centroids.num_rows;
  std::vector<uint32_t> rank(n);
  std::vector<bool> used(n);
  std::vector<float> distances(n);
  size_t at = 0;
  for (size_t i = 0; i < n; ++i) {
    rank[at] = i;
    used[at] = true;
    ops.scan(centroids.row(at).data(), centroids.data,
             centroids.stride * sizeof(float), n, centroids.dim,
             distances.data());
    float best = std::numeric_limits<float>::infinity();
    size_t next = at;
    for (size_t j = 0; j < n; ++j) {
      if (used[j] || (next != at && distances[j] >= best)) continue;
      best = distances[j];
      next = j;
    }
    at = next;
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

}  // namespace

absl::StatusOr<Cells> FindCells(VectorSetView vectors, Metric metric,
                                const CellOptions& options, size_t num_threads,
                                const CancelToken* cancel) {
  const size_t n = vectors.num_rows;
  const size_t dim = vectors.dim;
  if (n == 0) return Cells{.offsets = {0}};
  Workers workers(num_threads);
  const std::vector<std::pair<uint64_t, RowId>> order =
      HashOrder(vectors, options.seed, &workers);
  const size_t num_cells =
      std::min(n, options.num_cells > 0 ? options.num_cells : NumCells(n));
  const size_t num_samples = std::min(n, num_cells * options.sample_per_cell);
  std::vector<float> sample(num_samples * dim);
  for (size_t i = 0; i < num_samples; ++i) {
    RowToFloats(vectors, metric, order[i].second, &sample[i * dim]);
  }
  VICINAL_ASSIGN_OR_RETURN(
      const std::vector<float> centroid_values,
      TrainKMeans({sample.data(), num_samples, dim, dim}, num_cells,
                  options.iterations, &workers, cancel));
  const MatrixView centroids{centroid_values.data(), num_cells, dim, dim};

  const CentroidPanels panels(centroids);
  const size_t num_nearest = std::min<size_t>(2, num_cells);
  std::vector<uint32_t> cells(n * num_nearest);
  std::vector<float> distances(n * num_nearest);
  std::vector<std::vector<float>> buffers(workers.size());
  workers.For(n, kRowBlock, [&](size_t begin, size_t end, size_t worker) {
    if (cancel != nullptr && cancel->cancelled()) return;
    std::vector<float>& rows = buffers[worker];
    rows.resize(kRowBlock * dim);
    for (size_t i = begin; i < end; ++i) {
      RowToFloats(vectors, metric, i, &rows[(i - begin) * dim]);
    }
    panels.Nearest(rows.data(), end - begin, num_nearest,
                   &cells[begin * num_nearest],
                   &distances[begin * num_nearest]);
  });
  if (cancel != nullptr && cancel->cancelled()) {
    return absl::CancelledError("cell order cancelled");
  }

  // Within a cell, rows that lean to the same neighbour cell lie together.
  const std::vector<uint32_t> rank = ChainRanks(centroids);
  Cells out;
  std::vector<RowId>& rows = out.order;
  rows.resize(n);
  std::vector<uint32_t> position(n);
  for (size_t i = 0; i < n; ++i) {
    rows[i] = order[i].second;
    position[order[i].second] = i;
  }
  const auto key = [&](RowId row) {
    const uint32_t* nearest = &cells[row * num_nearest];
    return std::make_tuple(rank[nearest[0]], rank[nearest[num_nearest - 1]],
                           distances[row * num_nearest], position[row]);
  };
  std::sort(rows.begin(), rows.end(),
            [&](RowId a, RowId b) { return key(a) < key(b); });
  out.offsets.assign(num_cells + 1, 0);
  for (size_t i = 0; i < n; ++i) {
    ++out.offsets[rank[cells[i * num_nearest]] + 1];
  }
  std::partial_sum(out.offsets.begin(), out.offsets.end(), out.offsets.begin());
  out.centroids.resize(num_cells * dim);
  for (size_t c = 0; c < num_cells; ++c) {
    std::copy_n(centroids.row(c).data(), dim, &out.centroids[rank[c] * dim]);
  }
  return out;
}

absl::StatusOr<std::vector<RowId>> CellOrder(VectorSetView vectors,
                                             Metric metric, uint64_t seed,
                                             size_t num_threads,
                                             const CancelToken* cancel) {
  VICINAL_ASSIGN_OR_RETURN(
      Cells cells,
      FindCells(vectors, metric, {.seed = seed}, num_threads, cancel));
  return std::move(cells.order);
}

}  // namespace vicinal
