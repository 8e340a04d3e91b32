#include "src/payload/key_column.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

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

void KeyColumn::IndexKeys() {
  const absl::string_view keys = keys_;
  for (; num_indexed_ < rows_.size(); ++num_indexed_) {
    const size_t begin = num_indexed_ == 0 ? 0 : ends_[num_indexed_ - 1];
    by_key_[keys.substr(begin, ends_[num_indexed_] - begin)].push_back(
        rows_[num_indexed_]);
  }
}

void KeyColumn::AddRows(std::span<const KeyRange> ranges, RowId first,
                        Bitmap* rows) {
  if (std::all_of(ranges.begin(), ranges.end(), IsOneKey)) {
    IndexKeys();
    for (const KeyRange& range : ranges) {
      const auto found = by_key_.find(range.begin);
      if (found == by_key_.end()) continue;
      for (auto row = std::lower_bound(found->second.begin(),
                                       found->second.end(), first);
           row != found->second.end() && *row < rows->num_bits(); ++row) {
        rows->Set(*row);
      }
    }
    return;
  }
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
