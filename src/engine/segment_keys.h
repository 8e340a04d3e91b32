// What a segment knows of its rows' payloads, by declared field: mapped indexes
// where it is sealed, columns of keys where it still grows.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/bitmap.h"
#include "src/base/mutex.h"
#include "src/base/types.h"
#include "src/payload/field_index.h"
#include "src/payload/filter.h"
#include "src/payload/key_column.h"
#include "src/payload/payload_key.h"

namespace vicinal {

// Thread-safe.
class SegmentKeys {
 public:
  // Indexes over all rows of the segment. One of a field that is there already
  // takes its place.
  void Attach(std::shared_ptr<const FieldIndex> index);
  // Forgets all but those of `fields`.
  void KeepOnly(std::span<const PayloadField> fields);
  // Null: there is none.
  std::shared_ptr<const FieldIndex> Find(const PayloadField& field) const;
  // Calls visit(row, payload) for rows begin .. end, ascending.
  using VisitPayload = absl::FunctionRef<void(RowId, absl::string_view)>;
  using ReadPayloads = absl::FunctionRef<absl::Status(size_t begin, size_t end,
                                                      VisitPayload visit)>;
  // Columns of `fields` grow to num_rows rows at least. Errors: of `read`.
  absl::Status GrowColumns(std::span<const PayloadField> fields,
                           size_t num_rows, ReadPayloads read);
  // Sets bits of rows from `first` on as KeyColumn does; false: there is no
  // such column.
  bool AddRows(const PayloadField& field, std::span<const KeyRange> ranges,
               RowId first, Bitmap* rows);
  bool AddRowsIn(const PayloadField& field, const FilterNode& area, RowId first,
                 Bitmap* rows) const;
  // Calls visit(row, key) for the keys of rows below num_rows, rows ascending,
  // holding the lock. False: there is no such column, or it has fewer rows.
  using VisitKey = absl::FunctionRef<void(RowId, absl::string_view)>;
  bool VisitColumn(const PayloadField& field, size_t num_rows,
                   VisitKey visit) const;

 private:
  const KeyColumn* ColumnOf(const PayloadField& field) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  KeyColumn* ColumnOf(const PayloadField& field)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  std::vector<std::shared_ptr<const FieldIndex>> indexes_ ABSL_GUARDED_BY(mu_);
  std::vector<KeyColumn> columns_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
