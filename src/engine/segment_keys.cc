#include "src/engine/segment_keys.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "src/base/status_macros.h"

namespace vicinal {
namespace {

bool Has(std::span<const PayloadField> fields, const PayloadField& field) {
  return std::find(fields.begin(), fields.end(), field) != fields.end();
}

}  // namespace

void SegmentKeys::Attach(std::shared_ptr<const FieldIndex> index) {
  MutexLock lock(mu_);
  std::erase_if(indexes_, [&](const auto& other) {
    return other->field() == index->field();
  });
  indexes_.push_back(std::move(index));
}

void SegmentKeys::KeepOnly(std::span<const PayloadField> fields) {
  MutexLock lock(mu_);
  std::erase_if(indexes_, [&](const auto& index) {
    return !Has(fields, index->field());
  });
  std::erase_if(columns_, [&](const KeyColumn& column) {
    return !Has(fields, column.field());
  });
}

std::shared_ptr<const FieldIndex> SegmentKeys::Find(
    const PayloadField& field) const {
  MutexLock lock(mu_);
  for (const auto& index : indexes_) {
    if (index->field() == field) return index;
  }
  return nullptr;
}

const KeyColumn* SegmentKeys::ColumnOf(const PayloadField& field) const {
  for (const KeyColumn& column : columns_) {
    if (column.field() == field) return &column;
  }
  return nullptr;
}

KeyColumn* SegmentKeys::ColumnOf(const PayloadField& field) {
  return const_cast<KeyColumn*>(std::as_const(*this).ColumnOf(field));
}

absl::Status SegmentKeys::GrowColumns(std::span<const PayloadField> fields,
                                      size_t num_rows, ReadPayloads read) {
  MutexLock lock(mu_);
  for (const PayloadField& field : fields) {
    if (ColumnOf(field) == nullptr) columns_.emplace_back(field);
  }
  size_t begin = num_rows;
  std::vector<PayloadField> of_columns;
  for (const KeyColumn& column : columns_) {
    begin = std::min(begin, column.num_rows());
    of_columns.push_back(column.field());
  }
  if (begin == num_rows) return absl::OkStatus();
  // What an error leaves is read again: rows count when all were read.
  std::vector<std::vector<std::pair<RowId, std::string>>> keys(columns_.size());
  VICINAL_RETURN_IF_ERROR(
      read(begin, num_rows, [&](RowId row, absl::string_view payload) {
        ForEachKey(payload, of_columns, [&](size_t i, absl::string_view key) {
          if (row >= columns_[i].num_rows()) keys[i].emplace_back(row, key);
        });
      }));
  for (size_t i = 0; i < columns_.size(); ++i) {
    for (const auto& [row, key] : keys[i]) columns_[i].Add(row, key);
    columns_[i].set_num_rows(std::max(columns_[i].num_rows(), num_rows));
  }
  return absl::OkStatus();
}

bool SegmentKeys::AddRows(const PayloadField& field,
                          std::span<const KeyRange> ranges, RowId first,
                          Bitmap* rows) {
  MutexLock lock(mu_);
  KeyColumn* column = ColumnOf(field);
  if (column == nullptr) return false;
  column->AddRows(ranges, first, rows);
  return true;
}

bool SegmentKeys::AddRowsIn(const PayloadField& field, const FilterNode& area,
                            RowId first, Bitmap* rows) const {
  MutexLock lock(mu_);
  const KeyColumn* column = ColumnOf(field);
  if (column == nullptr) return false;
  column->AddRowsIn(area, first, rows);
  return true;
}

bool SegmentKeys::VisitColumn(const PayloadField& field, size_t num_rows,
                              VisitKey visit) const {
  MutexLock lock(mu_);
  const KeyColumn* column = ColumnOf(field);
  if (column == nullptr || column->num_rows() < num_rows) return false;
  column->ForEach(num_rows, visit);
  return true;
}

}  // namespace vicinal
