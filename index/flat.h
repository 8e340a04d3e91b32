// Exact search: every accepted row is scored.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "index/index.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {

class FlatIndex final : public Index {
 public:
  FlatIndex(VectorSetView vectors, Metric metric)
      : vectors_(vectors), metric_(metric) {}

  // params.ef is ignored.
  absl::Status Search(const void* query, const SearchParams& params,
                      const Filter& filter, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override;
  size_t num_rows() const override { return vectors_.num_rows; }
  size_t memory_bytes() const override { return 0; }

 private:
  VectorSetView vectors_;
  Metric metric_;
};

// The same over a block of rows that lies at first_row in its segment: pushes
// rows first_row + i. For stores that are not one array (growing segments).
absl::Status ScanBlock(VectorSetView block, RowId first_row, Metric metric,
                       const void* query, const Filter& filter,
                       const StopCondition& stop, TopK* out,
                       SearchStats* stats);

}  // namespace vicinal
