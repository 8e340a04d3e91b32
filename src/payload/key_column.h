// The keys of one payload field over rows that still come: what a growing
// segment has instead of a FieldIndex. Ranges are scanned for, about a
// nanosecond per key of a number and a few per keyword; single keys are looked
// up, from the second time on in a time that does not depend on the rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "src/base/bitmap.h"
#include "src/base/types.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter.h"
#include "src/payload/payload_key.h"

namespace vicinal {

// Not thread-safe.
class KeyColumn {
 public:
  explicit KeyColumn(PayloadField field) : field_(std::move(field)) {}

  const PayloadField& field() const { return field_; }
  // Rows below this were added, if they had keys.
  size_t num_rows() const { return num_rows_; }
  void set_num_rows(size_t num_rows) { num_rows_ = num_rows; }
  // A key of row >= num_rows(), and not below the last row that was added.
  void Add(RowId row, absl::string_view key);

  // Calls visit(row, key) for the keys of rows below num_rows, rows ascending.
  template <typename Visit>
  void ForEach(size_t num_rows, const Visit& visit) const {
    size_t begin = 0;
    for (size_t i = 0; i < rows_.size() && rows_[i] < num_rows; ++i) {
      visit(rows_[i], absl::string_view(keys_).substr(begin, ends_[i] - begin));
      begin = ends_[i];
    }
  }
  // Sets the bits of rows from `first` on that have a key in one of the ranges.
  void AddRows(std::span<const KeyRange> ranges, RowId first, Bitmap* rows);
  // Of those that have a place in an area as of IsInArea (kTrue: anywhere).
  void AddRowsIn(const FilterNode& area, RowId first, Bitmap* rows) const;

 private:
  absl::string_view KeyOf(size_t entry) const;
  // Brings last_of_hash_ up to date.
  void IndexKeys();
  template <typename Accepts>
  void Scan(RowId first, const Accepts& accepts, Bitmap* rows) const;

  PayloadField field_;
  size_t num_rows_ = 0;
  std::string keys_;
  std::vector<uint64_t> ends_;  // of each key in keys_
  std::vector<RowId> rows_;     // of each key, ascending
  // Once somebody asked for a single key: by the hash of a key one more than
  // the last entry that has it, and of each entry the same of the one before it
  // (0: none). Some 30 bytes per entry; rows listed by key took five times that
  // where every row has a key of its own.
  absl::flat_hash_map<size_t, uint32_t> last_of_hash_;
  std::vector<uint32_t> previous_;
};

}  // namespace vicinal
