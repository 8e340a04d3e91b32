// Walks over pinned rows in an order of their points: each segment brings its
// first rows behind the last one that was taken, and these are merged. Nothing
// is sorted but what is read.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/engine/first_places.h"
#include "src/engine/pinned_rows.h"
#include "src/payload/field_index.h"
#include "src/payload/payload_key.h"
#include "storage/collection_store.h"

namespace vicinal {

// By what rows are ordered: of several keys of a row, the first in the order
// counts. Rows without a key are left out.
struct FieldOrder {
  PayloadField field;
  bool descending = false;
};

// Rows of one segment. Const; borrows the part.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // Offers its rows, or just the first ones behind places->after(), so many
  // that the others need not be offered.
  virtual absl::Status Fill(const StopCondition& stop,
                            FirstPlaces* places) const = 0;
};

// By id alone, each time with a look at every row.
std::unique_ptr<RowSource> RowsById(const PinnedPart& part);
// By the index of the field. Keys that many rows have are read in the order of
// ids, of which the collection has num_points, from storage.
std::unique_ptr<RowSource> RowsByIndex(const PinnedPart& part,
                                       std::shared_ptr<const FieldIndex> index,
                                       const FieldOrder& order,
                                       const CollectionStore& store,
                                       const StoreSnapshot& snapshot,
                                       size_t num_points);
// By the column of the field, each time with a look at every key of the rows
// below num_rows. FailedPrecondition: the field was dropped.
std::unique_ptr<RowSource> RowsByColumn(const PinnedPart& part,
                                        const FieldOrder& order,
                                        size_t num_rows);
// By the payloads of the rows from first_row on, each time read from storage.
std::unique_ptr<RowSource> RowsByPayload(const PinnedPart& part,
                                         const FieldOrder& order,
                                         size_t first_row,
                                         const CollectionStore& store,
                                         const StoreSnapshot& snapshot);

// Not thread-safe.
class RowMerger {
 public:
  // first_size: rows to ask a source for at first; it is more and more then.
  RowMerger(std::vector<std::unique_ptr<RowSource>> sources, PlaceOrder order,
            const std::optional<Place>& after, size_t first_size);

  // The next `count` rows, fewer at the end. Errors: of the sources.
  absl::StatusOr<std::vector<Place>> Next(size_t count,
                                          const StopCondition& stop);

 private:
  struct Head {
    std::unique_ptr<RowSource> source;
    std::optional<Place> after;
    std::vector<Place> places;
    size_t next = 0;
    size_t size = 0;   // of the next fill
    bool more = true;  // whether the source has rows behind `places`
  };
  absl::Status Refill(const StopCondition& stop, Head* head) const;
  // The one whose row comes next; null: there is none.
  absl::StatusOr<Head*> FindFirst(const StopCondition& stop);

  const PlaceOrder order_;
  std::vector<Head> heads_;
};

}  // namespace vicinal
