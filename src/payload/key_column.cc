#include "src/payload/key_column.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/hash/hash.h"

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

absl::string_view KeyColumn::KeyOf(size_t entry) const {
  const size_t begin = entry == 0 ? 0 : ends_[entry - 1];
  return absl::string_view(keys_).substr(begin, ends_[entry] - begin);
}

void KeyColumn::IndexKeys() {
  while (previous_.size() < rows_.size()) {
    const size_t entry = previous_.size();
    uint32_t& last = last_of_hash_[absl::HashOf(KeyOf(entry))];
    previous_.push_back(last);
    last = static_cast<uint32_t>(entry + 1);
  }
}

void KeyColumn::AddRows(std::span<const KeyRange> ranges, RowId first,
                        Bitmap* rows) {
  if (std::all_of(ranges.begin(), ranges.end(), IsOneKey)) {
    IndexKeys();
    for (const KeyRange& range : ranges) {
      const absl::string_view key = range.begin;
      const auto found = last_of_hash_.find(absl::HashOf(key));
      uint32_t next = found == last_of_hash_.end() ? 0 : found->second;
      // From the newest row back.
      for (; next > 0 && rows_[next - 1] >= first; next = previous_[next - 1]) {
        const RowId row = rows_[next - 1];
        if (row < rows->num_bits() && KeyOf(next - 1) == key) rows->Set(row);
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
