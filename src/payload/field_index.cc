#include "src/payload/field_index.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"
#include "src/payload/geo_cells.h"

namespace vicinal {
namespace {

constexpr absl::string_view kKind = "FIDX";
constexpr uint32_t kVersion = 1;
constexpr size_t kMaxSections = 5;
// A part of the rows is small, and worth a look at each of them, where the
// index has so many times as many.
constexpr size_t kRowsOfPart = 4;

struct Meta {
  uint64_t segment = 0;
  uint64_t num_rows = 0;
  uint64_t num_keys = 0;
  uint64_t num_entries = 0;
  uint8_t type = 0;
  uint8_t zero[7] = {};
};
static_assert(sizeof(Meta) == 40);

template <typename T>
absl::string_view AsBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(T)};
}

}  // namespace

void FieldIndexBuilder::Add(RowId row, absl::string_view key) {
  entries_.push_back({keys_.size(), static_cast<uint32_t>(key.size()), row});
  keys_.append(key.data(), key.size());
}

absl::Status FieldIndexBuilder::Write(const std::string& path, uint64_t segment,
                                      size_t num_rows,
                                      FileFaultHook fault_hook) {
  if (entries_.size() > std::numeric_limits<uint32_t>::max()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "payload field \"", field_.path, "\" has ", entries_.size(),
        " values in one segment; an index takes "
        "2^32"));
  }
  std::sort(entries_.begin(), entries_.end(),
            [&](const Entry& a, const Entry& b) {
              const int order = KeyOf(a).compare(KeyOf(b));
              return order != 0 ? order < 0 : a.row < b.row;
            });
  std::string keys;
  std::vector<uint64_t> key_offsets;
  std::vector<uint32_t> starts;
  std::vector<RowId> rows;
  rows.reserve(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    const absl::string_view key = KeyOf(entries_[i]);
    if (i == 0 || key != KeyOf(entries_[i - 1])) {
      key_offsets.push_back(keys.size());
      starts.push_back(static_cast<uint32_t>(rows.size()));
      keys.append(key.data(), key.size());
    } else if (entries_[i].row == rows.back()) {
      continue;  // the same value twice in an array
    }
    rows.push_back(entries_[i].row);
  }
  key_offsets.push_back(keys.size());
  starts.push_back(static_cast<uint32_t>(rows.size()));

  std::string meta;
  PutFixed(&meta, Meta{.segment = segment,
                       .num_rows = num_rows,
                       .num_keys = starts.size() - 1,
                       .num_entries = rows.size(),
                       .type = static_cast<uint8_t>(field_.type)});
  meta += field_.path;
  VICINAL_ASSIGN_OR_RETURN(auto writer, SectionFileWriter::Create(
                                            path, kKind, kVersion, kMaxSections,
                                            std::move(fault_hook)));
  const auto write = [&](absl::string_view name, absl::string_view bytes) {
    const absl::Status status = writer->BeginSection(name);
    return status.ok() ? writer->Append(bytes) : status;
  };
  VICINAL_RETURN_IF_ERROR(write("META", meta));
  VICINAL_RETURN_IF_ERROR(write("KEYS", keys));
  if (KeyBytes(field_.type) == 0) {
    VICINAL_RETURN_IF_ERROR(write("KEYOFFS", AsBytes(key_offsets)));
  }
  VICINAL_RETURN_IF_ERROR(write("STARTS", AsBytes(starts)));
  VICINAL_RETURN_IF_ERROR(write("ROWS", AsBytes(rows)));
  return writer->Finish();
}

absl::StatusOr<std::unique_ptr<const FieldIndex>> FieldIndex::Open(
    const std::string& path, const PayloadField& field, uint64_t segment,
    size_t num_rows) {
  const auto damaged = [&](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path, ": ", what));
  };
  std::unique_ptr<FieldIndex> index(new FieldIndex());
  VICINAL_ASSIGN_OR_RETURN(
      index->file_,
      SectionFile::Open(path, kKind, kVersion, SectionFile::Verify::kAll));
  const SectionFile& file = *index->file_;
  VICINAL_ASSIGN_OR_RETURN(absl::string_view meta_bytes, file.Section("META"));
  Meta meta;
  if (!ConsumeFixed(&meta_bytes, &meta)) return damaged("META is cut short");
  if (meta.segment != segment || meta.num_rows != num_rows ||
      meta.type != static_cast<uint8_t>(field.type) ||
      meta_bytes != field.path) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is the index of another segment or field"));
  }
  // The spans that META speaks of.
  const auto section = [&]<typename T>(absl::string_view name, size_t count,
                                       std::span<const T>* out) {
    const auto bytes = file.Section(name);
    if (!bytes.ok()) return bytes.status();
    if (bytes->size() / sizeof(T) != count || bytes->size() % sizeof(T) != 0) {
      return damaged(absl::StrCat(name, " has another size than META says"));
    }
    *out = {reinterpret_cast<const T*>(bytes->data()), count};
    return absl::OkStatus();
  };
  if (meta.num_keys >= std::numeric_limits<uint32_t>::max()) {
    return damaged("META has too many keys");
  }
  VICINAL_ASSIGN_OR_RETURN(index->keys_, file.Section("KEYS"));
  VICINAL_RETURN_IF_ERROR(
      section("STARTS", meta.num_keys + 1, &index->starts_));
  VICINAL_RETURN_IF_ERROR(section("ROWS", meta.num_entries, &index->rows_));
  index->key_bytes_ = KeyBytes(field.type);
  if (index->key_bytes_ == 0) {
    VICINAL_RETURN_IF_ERROR(
        section("KEYOFFS", meta.num_keys + 1, &index->key_offsets_));
    if (index->key_offsets_.front() != 0 ||
        index->key_offsets_.back() != index->keys_.size() ||
        !std::is_sorted(index->key_offsets_.begin(),
                        index->key_offsets_.end())) {
      return damaged("KEYOFFS does not span KEYS");
    }
  } else if (index->keys_.size() != meta.num_keys * index->key_bytes_) {
    return damaged("KEYS has another size than META says");
  }
  if (index->starts_.front() != 0 ||
      index->starts_.back() != meta.num_entries ||
      !std::is_sorted(index->starts_.begin(), index->starts_.end())) {
    return damaged("STARTS does not span ROWS");
  }
  if (std::any_of(index->rows_.begin(), index->rows_.end(),
                  [&](RowId row) { return row >= num_rows; })) {
    return damaged("ROWS has a row that the segment does not have");
  }
  for (size_t i = 0; i < meta.num_keys; ++i) {
    const std::span<const RowId> rows = index->rows(i);
    if (rows.empty() ||
        std::adjacent_find(rows.begin(), rows.end(),
                           std::greater_equal<RowId>()) != rows.end()) {
      return damaged("ROWS does not ascend within a key");
    }
  }
  for (size_t i = 1; i < meta.num_keys; ++i) {
    if (!(index->key(i - 1) < index->key(i))) {
      return damaged("KEYS is not ascending");
    }
  }
  index->field_ = field;
  index->num_rows_ = num_rows;
  return index;
}

const FieldIndex::Extremes* FieldIndex::extremes() const {
  absl::call_once(extremes_once_, [this] {
    Extremes found{Bitmap(rows_.size()), Bitmap(rows_.size())};
    Bitmap seen(num_rows_);
    size_t num_seen = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (seen.Test(rows_[i])) continue;
      seen.Set(rows_[i]);
      found.smallest.Set(static_cast<RowId>(i));
      ++num_seen;
    }
    if (num_seen == rows_.size()) return;
    seen = Bitmap(num_rows_);
    for (size_t i = rows_.size(); i-- > 0;) {
      if (seen.Test(rows_[i])) continue;
      seen.Set(rows_[i]);
      found.largest.Set(static_cast<RowId>(i));
    }
    extremes_ = std::make_unique<const Extremes>(std::move(found));
  });
  return extremes_.get();
}

absl::string_view FieldIndex::key(size_t i) const {
  if (key_bytes_ > 0) return keys_.substr(i * key_bytes_, key_bytes_);
  return keys_.substr(key_offsets_[i], key_offsets_[i + 1] - key_offsets_[i]);
}

size_t FieldIndex::LowerBound(absl::string_view wanted, size_t begin,
                              size_t end) const {
  while (begin < end) {
    const size_t middle = begin + (end - begin) / 2;
    if (key(middle) < wanted) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

void FieldIndex::AddKeys(size_t begin, size_t end, RowId base,
                         Bitmap* rows) const {
  const size_t num_bits = rows->num_bits();
  const bool is_part = num_bits * kRowsOfPart < num_rows_;
  if (is_part && starts_[end] - starts_[begin] > num_bits) {
    AddKeysByRow(begin, end, base, rows);
    return;
  }
  for (size_t i = starts_[begin]; i < starts_[end]; ++i) {
    // Rows below the base become large ones.
    const RowId bit = rows_[i] - base;
    if (bit < num_bits) rows->Set(bit);
  }
}

void FieldIndex::AddKeysByRow(size_t begin, size_t end, RowId base,
                              Bitmap* rows) const {
  absl::call_once(listed_, [this] { ListKeysByRow(); });
  const size_t num_bits =
      base < num_rows_ ? std::min(rows->num_bits(), num_rows_ - base) : 0;
  const size_t count = end - begin;
  for (size_t first = 0; first < num_bits; first += 64) {
    const size_t n = std::min<size_t>(64, num_bits - first);
    // Without branches, which nobody could predict.
    uint64_t word = 0;
    if (row_starts_.empty()) {
      const uint32_t* keys = &row_keys_[base + first];
      for (size_t i = 0; i < n; ++i) {
        word |= uint64_t{keys[i] - begin < count} << i;
      }
    } else {
      const uint32_t* starts = &row_starts_[base + first];
      for (size_t i = 0; i < n; ++i) {
        for (size_t k = starts[i]; k < starts[i + 1]; ++k) {
          word |= uint64_t{row_keys_[k] - begin < count} << i;
        }
      }
    }
    rows->SetWord(first, word);
  }
}

void FieldIndex::ListKeysByRow() const {
  constexpr auto kNoKey = std::numeric_limits<uint32_t>::max();
  row_keys_.assign(num_rows_, kNoKey);
  bool is_single = true;
  for (uint32_t key = 0; key < num_keys(); ++key) {
    for (const RowId row : rows(key)) {
      is_single &= row_keys_[row] == kNoKey;
      row_keys_[row] = key;
    }
  }
  if (is_single) return;
  // Counted, then summed up, then each start moves on to the next one's.
  row_starts_.assign(num_rows_ + 2, 0);
  for (const RowId row : rows_) ++row_starts_[row + 2];
  for (size_t row = 2; row < row_starts_.size(); ++row) {
    row_starts_[row] += row_starts_[row - 1];
  }
  row_keys_.resize(rows_.size());
  for (uint32_t key = 0; key < num_keys(); ++key) {
    for (const RowId row : rows(key)) row_keys_[row_starts_[row + 1]++] = key;
  }
}

void FieldIndex::AddRows(std::span<const KeyRange> ranges, RowId base,
                         Bitmap* rows) const {
  size_t from = 0;  // ranges ascend
  for (const KeyRange& range : ranges) {
    const size_t begin = LowerBound(range.begin, from, num_keys());
    const size_t end = range.end.has_value()
                           ? LowerBound(*range.end, begin, num_keys())
                           : num_keys();
    AddKeys(begin, end, base, rows);
    from = end;
  }
}

void FieldIndex::AddRowsIn(const FilterNode& area, RowId base,
                           Bitmap* rows) const {
  if (area.kind == FilterNode::Kind::kTrue) {
    AddKeys(0, num_keys(), base, rows);
    return;
  }
  ForEachCellIn(
      area, num_keys(),
      [&](uint64_t morton, size_t begin, size_t end) {
        std::array<char, 8> bytes;
        for (int i = 0; i < 8; ++i) {
          bytes[i] = static_cast<char>(morton >> (56 - 8 * i));
        }
        return LowerBound({bytes.data(), bytes.size()}, begin, end);
      },
      [&](size_t begin, size_t end, bool all_inside) {
        if (all_inside) {
          AddKeys(begin, end, base, rows);
          return;
        }
        for (size_t i = begin; i < end; ++i) {
          if (IsInArea(area, PlaceOfKey(key(i)))) AddKeys(i, i + 1, base, rows);
        }
      });
}

}  // namespace vicinal
