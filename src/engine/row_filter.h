// Which rows of a collection's segments a filter accepts.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/mutex.h"
#include "src/base/types.h"
#include "src/engine/segment.h"
#include "src/payload/bound_filter.h"
#include "storage/collection_store.h"

namespace vicinal {

// The accepted of a segment's first rows. Rows that died since are in it.
struct RowSet {
  explicit RowSet(size_t num_rows) : accepted(num_rows) {}

  Bitmap accepted;
  std::vector<RowId> rows;  // the same, ascending
};

// Lives for one call; evaluates a segment when it is first asked about, from
// the payloads in storage (4 us and the parsing of each). Thread-safe.
class RowFilter {
 public:
  // Borrows all but the filter.
  RowFilter(BoundFilter filter, const CollectionStore& store,
            const StopCondition& stop)
      : filter_(std::move(filter)), store_(store), stop_(stop) {}

  // Of the rows below num_rows, which are published. A row that a commit is
  // just replacing is left out once it is dead: whoever reads the growing
  // segment afterwards meets the new one.
  absl::StatusOr<std::shared_ptr<const RowSet>> RowsOf(const Segment& segment,
                                                       size_t num_rows);

 private:
  // Appends the accepted of rows begin .. end.
  absl::Status Evaluate(const Segment& segment, size_t begin, size_t end,
                        std::vector<RowId>* accepted) const;
  absl::Status EvaluatePayloads(const Segment& segment,
                                const std::vector<RowId>& rows,
                                std::vector<RowId>* accepted) const;

  const BoundFilter filter_;
  const CollectionStore& store_;
  const StopCondition& stop_;
  // Whoever comes second waits for the first.
  Mutex mu_;
  absl::flat_hash_map<const Segment*, std::shared_ptr<const RowSet>> known_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
