// The index of one payload field over the rows of a segment: its keys, each
// once, ascending, and the rows that have each. A condition is a set of ranges
// of keys, so it is answered by slices of the rows; an area on the earth by
// ranges of Morton codes. One structure for all types, and arrays are rows with
// several keys.
//
// File, kind "FIDX", version 1, little-endian; container: base/section_file.h.
//   META     segment (u64), num_rows (u64), num_keys (u64), num_entries (u64),
//            type (u8), 7 zero bytes, and the path
//   KEYS     the keys, one after the other
//   KEYOFFS  u64 per key and one more: where keys begin in KEYS; keywords only,
//            keys of other types are as long as each other
//   STARTS   u32 per key and one more: where its rows begin in ROWS
//   ROWS     u32 per entry: rows, ascending within a key
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/bitmap.h"
#include "src/base/section_file.h"
#include "src/base/types.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter.h"
#include "src/payload/payload_key.h"

namespace vicinal {

// Collects keys row by row, in any order, in memory: 12 bytes and the key each.
// Not thread-safe.
class FieldIndexBuilder {
 public:
  explicit FieldIndexBuilder(PayloadField field) : field_(std::move(field)) {}

  void Add(RowId row, absl::string_view key);
  // Writes the index of what was added, durably. Errors: of SectionFileWriter;
  // ResourceExhausted: more than 2^32 entries.
  absl::Status Write(const std::string& path, uint64_t segment, size_t num_rows,
                     FileFaultHook fault_hook = {});

 private:
  struct Entry {
    uint64_t offset = 0;
    uint32_t size = 0;
    RowId row = 0;
  };
  absl::string_view KeyOf(const Entry& entry) const {
    return absl::string_view(keys_).substr(entry.offset, entry.size);
  }

  PayloadField field_;
  std::string keys_;
  std::vector<Entry> entries_;
};

// A mapped index. Const and thread-safe.
class FieldIndex {
 public:
  // Every byte is verified, and every count and offset. NotFound: no such file.
  // DataLoss: it is damaged. FailedPrecondition: it is of another field or
  // segment, or of a newer version.
  static absl::StatusOr<std::unique_ptr<const FieldIndex>> Open(
      const std::string& path, const PayloadField& field, uint64_t segment,
      size_t num_rows);

  const PayloadField& field() const { return field_; }
  size_t num_keys() const { return starts_.size() - 1; }
  size_t file_bytes() const { return file_->size_bytes(); }
  absl::string_view key(size_t i) const;
  // The first key that is not below `wanted`; num_keys(): there is none.
  size_t LowerBound(absl::string_view wanted) const {
    return LowerBound(wanted, 0, num_keys());
  }
  // The rows of key i, ascending; never none.
  std::span<const RowId> rows(size_t i) const {
    return rows_.subspan(starts_[i], starts_[i + 1] - starts_[i]);
  }
  // Number of the first of rows(i) among the entries of all keys.
  size_t first_entry(size_t i) const { return starts_[i]; }
  // Of each entry, whether its key is the smallest or the largest of its row.
  struct Extremes {
    Bitmap smallest;
    Bitmap largest;
  };
  // Null: every row has one key at most. Made when it is first asked for: 2 to
  // 5 ms and, where rows have several, 250 KB for a million entries.
  const Extremes* extremes() const;
  // Sets the bits of the rows that have a key in one of the ranges, bit 0 being
  // row `base`. Of a small part of the rows in a time that does not depend on
  // the others, but for the first time, which lists the keys by row.
  void AddRows(std::span<const KeyRange> ranges, RowId base,
               Bitmap* rows) const;
  // Of the rows that have a place in an area as of IsInArea.
  void AddRowsIn(const FilterNode& area, RowId base, Bitmap* rows) const;

 private:
  FieldIndex() = default;
  // The first key from `begin` on that is not below `wanted`.
  size_t LowerBound(absl::string_view wanted, size_t begin, size_t end) const;
  void AddKeys(size_t begin, size_t end, RowId base, Bitmap* rows) const;
  void AddKeysByRow(size_t begin, size_t end, RowId base, Bitmap* rows) const;
  void ListKeysByRow() const;

  PayloadField field_;
  std::unique_ptr<const SectionFile> file_;
  absl::string_view keys_;
  size_t key_bytes_ = 0;  // of each; 0: see key_offsets_
  std::span<const uint64_t> key_offsets_;
  std::span<const uint32_t> starts_;
  std::span<const RowId> rows_;
  size_t num_rows_ = 0;  // of the segment
  // The numbers of each row's keys, made when first asked for: 4 bytes a row,
  // or 8 where some have several.
  mutable absl::once_flag listed_;
  // In row_keys_, and more; empty: row i has row_keys_[i], which may be none.
  mutable std::vector<uint32_t> row_starts_;
  mutable std::vector<uint32_t> row_keys_;
  mutable absl::once_flag extremes_once_;
  mutable std::unique_ptr<const Extremes> extremes_;
};

}  // namespace vicinal
