// The order in which a sealed segment numbers its rows: k-means cells, cells
// chained by nearest centroid. Neighbours in space become neighbours in
// memory (measured with hnswlib otherwise unchanged: searches 1.1-1.4x,
// builds 2-3x faster).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/cancel.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {

class DistanceBackend;

struct CellOptions {
  size_t num_cells = 0;         // 0: about the square root of the rows
  size_t sample_per_cell = 32;  // rows that centroids are learned from
  size_t iterations = 8;        // of k-means
  uint64_t seed = 1;
};

// Rows by cell: those of cell c are order[offsets[c]] to order[offsets[c + 1]]
// (cells can be empty), old rows in their new order.
struct Cells {
  std::vector<RowId> order;
  std::vector<uint32_t> offsets;  // one more than cells
  std::vector<float> centroids;   // cells x dim; of unit rows under the cosine
};

// Depends on the set of vectors and the options only, not on their order
// beyond ties, and not on num_threads. cancel may be null. Cancelled: the token
// was set.
//
// backend: a device that does the k-means and compares all rows with the
// centroids where that takes less time than num_threads take, which then have a
// say in the result; null or a device that fails: the CPU does. The sample and
// its first centroids are the same. The device compares k-means' rows rounded,
// so that its centroids are others, which serve as well. Of given centroids it
// finds the two nearest to each row by canonical distances, and the CPU by sums
// in the order of the dimensions, which may differ in their last bits: so may
// cells where two are as near. Device memory is given back.
absl::StatusOr<Cells> FindCells(VectorSetView vectors, Metric metric,
                                const CellOptions& options, size_t num_threads,
                                const CancelToken* cancel,
                                DistanceBackend* backend = nullptr);

// The same with the defaults. A permutation: element i is the old row
// that becomes row i.
absl::StatusOr<std::vector<RowId>> CellOrder(
    VectorSetView vectors, Metric metric, uint64_t seed, size_t num_threads,
    const CancelToken* cancel, DistanceBackend* backend = nullptr);

}  // namespace vicinal
