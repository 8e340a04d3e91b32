#include "index/flat.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "index/index.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/check.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

// Rows scored per kernel call: their distances stay in the first-level cache.
constexpr size_t kBatchRows = 256;

// Bytes scored between two looks at the StopCondition: about 1 ms.
constexpr size_t kBytesPerCheck = size_t{16} << 20;

size_t RowsPerCheck(const VectorSetView& block) {
  const size_t rows =
      kBytesPerCheck / std::max<size_t>(block.stride_bytes, 1024);
  return std::max(rows, kBatchRows) / kBatchRows * kBatchRows;
}

// One pass over a block; lives on the stack of ScanBlock.
class Scanner {
 public:
  Scanner(const VectorSetView& block, RowId first_row, Metric metric,
          const void* query, const Filter& filter, TopK* out)
      : block_(block),
        first_row_(first_row),
        ops_(OpsFor(metric, block.type)),
        query_(query),
        filter_(filter),
        accepts_all_(filter.AcceptsAllInRange()),
        out_(out) {}

  // Scores rows [begin, begin + n), n <= kBatchRows; returns how many
  // distances that took.
  size_t Batch(size_t begin, size_t n) {
    if (filter_.allowed == nullptr) return ScanAll(begin, n);
    const size_t num_accepted = CollectAccepted(begin, n);
    // Reading a few unwanted rows in a stream costs less than jumping.
    if (num_accepted * 4 > n * 3) return ScanAll(begin, n);
    ops_.gather(query_, block_.data, block_.stride_bytes, accepted_,
                num_accepted, block_.dim, distances_);
    for (size_t i = 0; i < num_accepted; ++i) {
      if (distances_[i] <= out_->threshold()) {
        out_->Push({distances_[i], first_row_ + accepted_[i]});
      }
    }
    return num_accepted;
  }

 private:
  size_t ScanAll(size_t begin, size_t n) {
    ops_.scan(query_, block_.row(begin), block_.stride_bytes, n, block_.dim,
              distances_);
    for (size_t i = 0; i < n; ++i) {
      if (distances_[i] > out_->threshold()) continue;
      const RowId row = first_row_ + static_cast<RowId>(begin + i);
      if (accepts_all_ || filter_.Accepts(row)) {
        out_->Push({distances_[i], row});
      }
    }
    return n;
  }

  // Writes the accepted rows, counted from the start of the block.
  size_t CollectAccepted(size_t begin, size_t n) {
    size_t num_accepted = 0;
    filter_.allowed->ForEachIn(
        first_row_ + begin, first_row_ + begin + n, [&](RowId row) {
          accepted_[num_accepted] = row - first_row_;
          num_accepted +=
              filter_.deleted == nullptr || !filter_.deleted->Test(row) ? 1 : 0;
        });
    return num_accepted;
  }

  const VectorSetView& block_;
  const RowId first_row_;
  const DistanceOps& ops_;
  const void* const query_;
  const Filter& filter_;
  const bool accepts_all_;
  TopK* const out_;
  RowId accepted_[kBatchRows];
  float distances_[kBatchRows];
};

}  // namespace

absl::Status ScanBlock(VectorSetView block, RowId first_row, Metric metric,
                       const void* query, const Filter& filter,
                       const StopCondition& stop, TopK* out,
                       SearchStats* stats) {
  // What of the block is in the filter's range.
  const size_t before = filter.begin - std::min(first_row, filter.begin);
  const size_t until = filter.end - std::min(first_row, filter.end);
  block.num_rows = std::min(block.num_rows, until);
  const size_t skipped = std::min(block.num_rows, before);
  block.num_rows -= skipped;
  block.data = block.row(skipped);
  first_row += static_cast<RowId>(skipped);
  Scanner scanner(block, first_row, metric, query, filter, out);
  const size_t rows_per_check = RowsPerCheck(block);
  size_t num_scored = 0;
  absl::Status status;
  for (size_t begin = 0; begin < block.num_rows; begin += kBatchRows) {
    if (begin % rows_per_check == 0) {
      status = stop.Check();
      if (!status.ok()) break;
    }
    num_scored +=
        scanner.Batch(begin, std::min(kBatchRows, block.num_rows - begin));
  }
  if (stats != nullptr) stats->distance_computations += num_scored;
  return status;
}

absl::Status FlatIndex::Search(const void* query, const SearchParams& params,
                               const Filter& filter, const StopCondition& stop,
                               TopK* out, SearchStats* stats) const {
  VICINAL_DCHECK(params.k == out->k());
  if (stats != nullptr) stats->plan = SearchPlan::kScan;
  return ScanBlock(vectors_, 0, metric_, query, filter, stop, out, stats);
}

}  // namespace vicinal
