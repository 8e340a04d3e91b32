// Rows of a collection's segments as of one commit, with what storage held
// then: both together are a consistent snapshot.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/types.h"
#include "src/engine/segment.h"
#include "storage/collection_store.h"

namespace vicinal {

// The rows of one segment.
struct PinnedPart {
  std::shared_ptr<const Segment> segment;
  Bitmap rows;  // of as many bits as it had rows
  size_t count = 0;
};

// A value; what it holds stays as it is while it lives.
struct PinnedRows {
  std::shared_ptr<const StoreSnapshot> snapshot;
  std::vector<PinnedPart> parts;

  size_t count() const;
  // Whether the version is one of the rows.
  bool Contains(Ordinal ordinal) const;
};

// Calls visit(row, payload) for the rows in their order; none of them was dead
// when the snapshot was taken. Errors: of the store, and `stop` said so.
absl::Status VisitPayloadsAt(
    const CollectionStore& store, const StoreSnapshot& snapshot,
    const Segment& segment, std::span<const RowId> rows,
    const StopCondition& stop,
    absl::FunctionRef<void(RowId, absl::string_view)> visit);

}  // namespace vicinal
