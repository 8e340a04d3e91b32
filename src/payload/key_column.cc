#include "src/payload/key_column.h"

#include <algorithm>
#include <cstddef>
#include <span>

namespace vicinal {

void KeyColumn::Add(RowId row, absl::string_view key) {
  keys_.append(key.data(), key.size());
  ends_.push_back(keys_.size());
  rows_.push_back(row);
}

template <typename Accepts>
void KeyColumn::Scan(RowId first, const Accepts& accepts, Bitmap* rows) const {
  const absl::string_view keys = keys_;
  size_t i =
      std::lower_bound(rows_.begin(), rows_.end(), first) - rows_.begin();
  size_t begin = i == 0 ? 0 : ends_[i - 1];
  for (; i < rows_.size() && rows_[i] < rows->num_bits(); ++i) {
    if (accepts(keys.substr(begin, ends_[i] - begin))) rows->Set(rows_[i]);
    begin = ends_[i];
  }
}

void KeyColumn::AddRows(std::span<const KeyRange> ranges, RowId first,
                        Bitmap* rows) const {
  Scan(
      first, [&](absl::string_view key) { return IsInRanges(ranges, key); },
      rows);
}

void KeyColumn::AddRowsIn(const FilterNode& area, RowId first,
                          Bitmap* rows) const {
  const bool anywhere = area.kind == FilterNode::Kind::kTrue;
  Scan(
      first,
      [&](absl::string_view key) {
        return anywhere || IsInArea(area, PlaceOfKey(key));
      },
      rows);
}

}  // namespace vicinal
