// Lists, little-endian:
//
//   num_lists (u32), dim (u32)
//   offsets (u32, one more than lists): list i has rows offsets[i] to
//     offsets[i + 1]
//   zero bytes up to a multiple of 64
//   centroids (f32, num_lists x dim); unit rows were averaged under the cosine
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "index/build_distance.h"
#include "index/cell_order.h"
#include "index/ivf.h"
#include "index/ivf_search.h"
#include "src/base/cancel.h"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {
namespace {

// Centroids decide which rows are found, so they are learned with more care
// than the cells of a graph's order.
constexpr size_t kSamplePerList = 64;
constexpr size_t kMinSample = 4'096;  // where few lists were asked for
constexpr size_t kIterations = 12;
// Small partitions share a list of this many rows or more: what a list costs
// beside its rows is then less than these.
constexpr size_t kSharedListRows = 256;
// Of the lists that an index may have, so that all partitions find room.
constexpr size_t kMaxPartitionedLists = kMaxIvfLists / 2;
// With lists of their own: each has one or more, and before each the list of
// the small ones ends, so that there are at most half as many again.
constexpr size_t kMaxLargePartitions = kMaxIvfLists / 8;

absl::StatusOr<Cells> FindLists(VectorSetView vectors, Metric metric,
                                const IvfParams& params, size_t num_threads,
                                const CancelToken* cancel,
                                DistanceBackend* backend) {
  const size_t sample_per_list =
      params.num_lists == 0
          ? kSamplePerList
          : std::max(kSamplePerList, kMinSample / params.num_lists);
  return FindCells(vectors, metric,
                   {.num_cells = params.num_lists,
                    .sample_per_cell = sample_per_list,
                    .iterations = kIterations,
                    .seed = params.seed},
                   num_threads, cancel, backend);
}

IvfLists ListsOf(Cells cells, size_t dim) {
  const size_t num_lists = cells.offsets.size() - 1;
  IvfLists lists;
  lists.order = std::move(cells.order);
  PutFixed<uint32_t>(&lists.bytes, num_lists);
  PutFixed<uint32_t>(&lists.bytes, dim);
  for (const uint32_t offset : cells.offsets) PutFixed(&lists.bytes, offset);
  lists.bytes.resize(ivf_bytes::CentroidsOffset(num_lists));
  lists.bytes.append(reinterpret_cast<const char*>(cells.centroids.data()),
                     cells.centroids.size() * sizeof(float));
  return lists;
}

// Takes partitions in their order.
class PartitionedLists {
 public:
  PartitionedLists(VectorSetView vectors, Metric metric, uint64_t seed,
                   DistanceBackend* backend)
      : vectors_(vectors),
        metric_(metric),
        seed_(seed),
        backend_(backend),
        shared_rows_(std::max(kSharedListRows,
                              vectors.num_rows / kMaxPartitionedLists)) {}

  // Rows begin .. end stay in their order, in one list.
  void AddWhole(size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      cells_.order.push_back(static_cast<RowId>(row));
    }
    if (cells_.order.size() - cells_.offsets.back() >= shared_rows_) Close();
  }
  absl::Status AddCells(size_t begin, size_t end, size_t num_threads,
                        const CancelToken* cancel);
  // The rows since the last list are one.
  void Close();
  Cells Finish() {
    Close();
    return std::move(cells_);
  }

 private:
  const VectorSetView vectors_;
  const Metric metric_;
  const uint64_t seed_;
  DistanceBackend* const backend_;
  const size_t shared_rows_;
  Cells cells_{.offsets = {0}};
};

void PartitionedLists::Close() {
  const size_t begin = cells_.offsets.back();
  const size_t end = cells_.order.size();
  if (begin == end) return;
  std::vector<float> row(vectors_.dim);
  std::vector<double> sum(vectors_.dim);
  for (size_t i = begin; i < end; ++i) {
    RowToFloats(vectors_, metric_, cells_.order[i], row.data());
    for (size_t j = 0; j < row.size(); ++j) sum[j] += row[j];
  }
  for (const double value : sum) {
    cells_.centroids.push_back(
        static_cast<float>(value / static_cast<double>(end - begin)));
  }
  cells_.offsets.push_back(static_cast<uint32_t>(end));
}

absl::Status PartitionedLists::AddCells(size_t begin, size_t end,
                                        size_t num_threads,
                                        const CancelToken* cancel) {
  Close();
  VectorSetView rows = vectors_;
  rows.data = rows.row(begin);
  rows.num_rows = end - begin;
  const size_t most = std::max<size_t>(
      1, kMaxPartitionedLists * rows.num_rows / vectors_.num_rows);
  IvfParams params{.seed = seed_};
  VICINAL_ASSIGN_OR_RETURN(
      Cells cells,
      FindLists(rows, metric_, params, num_threads, cancel, backend_));
  if (cells.offsets.size() - 1 > most) {
    params.num_lists = static_cast<uint32_t>(most);
    VICINAL_ASSIGN_OR_RETURN(
        cells, FindLists(rows, metric_, params, num_threads, cancel, backend_));
  }
  for (const RowId row : cells.order) {
    cells_.order.push_back(static_cast<RowId>(begin + row));
  }
  for (size_t i = 1; i < cells.offsets.size(); ++i) {
    cells_.offsets.push_back(static_cast<uint32_t>(begin + cells.offsets[i]));
  }
  cells_.centroids.insert(cells_.centroids.end(), cells.centroids.begin(),
                          cells.centroids.end());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<IvfLists> BuildIvfLists(VectorSetView vectors, Metric metric,
                                       const IvfParams& params,
                                       size_t num_threads,
                                       const CancelToken* cancel,
                                       DistanceBackend* backend) {
  if (params.num_lists > kMaxIvfLists) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_lists is ", params.num_lists, "; at most ",
                     kMaxIvfLists, " are possible"));
  }
  VICINAL_ASSIGN_OR_RETURN(
      Cells cells,
      FindLists(vectors, metric, params, num_threads, cancel, backend));
  return ListsOf(std::move(cells), vectors.dim);
}

absl::StatusOr<IvfLists> BuildCellLists(VectorSetView vectors, Metric metric,
                                        uint64_t seed, size_t num_threads,
                                        const CancelToken* cancel,
                                        DistanceBackend* backend) {
  VICINAL_ASSIGN_OR_RETURN(
      Cells cells,
      FindCells(vectors, metric, {.seed = seed}, num_threads, cancel, backend));
  return ListsOf(std::move(cells), vectors.dim);
}

absl::StatusOr<IvfLists> BuildPartitionedLists(
    VectorSetView vectors, Metric metric, const IvfParams& params,
    std::span<const uint32_t> ends, size_t num_threads,
    const CancelToken* cancel, DistanceBackend* backend) {
  PartitionedLists lists(vectors, metric, params.seed, backend);
  if (params.num_lists == 1) {
    lists.AddWhole(0, vectors.num_rows);
    return ListsOf(lists.Finish(), vectors.dim);
  }
  const size_t one_list_rows =
      std::max(kOneListRows, vectors.num_rows / kMaxLargePartitions);
  size_t begin = 0;
  for (const uint32_t end : ends) {
    VICINAL_CHECK_LE(begin, end);
    if (cancel != nullptr && cancel->cancelled()) {
      return absl::CancelledError("the lists were cancelled");
    }
    if (end - begin <= one_list_rows) {
      lists.AddWhole(begin, end);
    } else {
      VICINAL_RETURN_IF_ERROR(lists.AddCells(begin, end, num_threads, cancel));
    }
    begin = end;
  }
  VICINAL_CHECK_EQ(begin, vectors.num_rows);
  return ListsOf(lists.Finish(), vectors.dim);
}

}  // namespace vicinal
