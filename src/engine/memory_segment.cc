#include "src/engine/memory_segment.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "index/flat.h"
#include "src/base/bitmap.h"
#include "src/base/check.h"
#include "src/base/mapped_buffer.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/engine/layout.h"
#include "src/engine/row_filter.h"

namespace vicinal {

MemorySegment::MemorySegment(
    std::shared_ptr<const Layout> layout, size_t capacity_rows,
    std::shared_ptr<std::atomic<size_t>> unindexed_bytes)
    : layout_(std::move(layout)),
      capacity_rows_(capacity_rows),
      unindexed_bytes_(std::move(unindexed_bytes)),
      dead_(capacity_rows) {
  for (const FieldLayout& field : layout_->fields) {
    fields_.push_back({MappedBuffer(capacity_rows * field.stride_bytes),
                       std::make_unique<AtomicBitmap>(capacity_rows),
                       std::make_unique<AtomicBitmap>(capacity_rows)});
  }
  ids_.reserve(capacity_rows);
  ordinals_.reserve(capacity_rows);
  hashes_.reserve(capacity_rows);
  ids_data_ = ids_.data();
  ordinals_data_ = ordinals_.data();
}

MemorySegment::~MemorySegment() {
  unindexed_bytes_->fetch_sub(memory_bytes(), std::memory_order_relaxed);
}

RowId MemorySegment::Append(PointId id, uint64_t hash, Ordinal ordinal,
                            const std::byte* const* vectors) {
  const auto row = static_cast<RowId>(ordinals_.size());
  VICINAL_CHECK_LT(row, capacity_rows_);
  for (size_t f = 0; f < fields_.size(); ++f) {
    if (vectors[f] == nullptr) {
      fields_[f].absent->Set(row);
      fields_[f].hidden->Set(row);
      continue;
    }
    const FieldLayout& field = layout_->fields[f];
    std::memcpy(fields_[f].rows.data() + row * field.stride_bytes, vectors[f],
                field.row_bytes);
  }
  ids_.push_back(std::move(id));
  ordinals_.push_back(ordinal);
  hashes_.push_back(hash);
  id_table_.Put(
      hash, row,
      [&](RowId other) { return ids_data_[other] == ids_data_[row]; },
      [&](RowId other) { return hashes_[other]; });
  return row;
}

void MemorySegment::Publish() {
  const size_t added = ordinals_.size() - num_rows();
  unindexed_bytes_->fetch_add(added * layout_->memory_per_row,
                              std::memory_order_relaxed);
  num_visible_.store(ordinals_.size(), std::memory_order_release);
}

void MemorySegment::SetNext(std::shared_ptr<const MemorySegment> next) {
  VICINAL_CHECK(next_owner_ == nullptr);
  next_owner_ = std::move(next);
  next_.store(next_owner_.get(), std::memory_order_release);
}

const std::byte* MemorySegment::VectorOf(size_t field, RowId row) const {
  if (fields_[field].absent->Test(row)) return nullptr;
  return fields_[field].rows.data() + row * layout_->fields[field].stride_bytes;
}

std::optional<RowId> MemorySegment::FindOrdinal(Ordinal ordinal) const {
  const Ordinal* end = ordinals_data_ + num_rows();
  const Ordinal* found = std::lower_bound(ordinals_data_, end, ordinal);
  if (found == end || *found != ordinal) return std::nullopt;
  return static_cast<RowId>(found - ordinals_data_);
}

std::optional<RowId> MemorySegment::FindId(const PointId& id,
                                           uint64_t hash) const {
  return id_table_.Find(hash, [&](RowId row) {
    return ids_data_[row] == id && !dead_.Test(row);
  });
}

bool MemorySegment::Kill(RowId row) {
  for (Field& field : fields_) field.hidden->Set(row);
  return dead_.Set(row);
}

absl::Status MemorySegment::SearchRows(const SegmentQuery& query, size_t begin,
                                       size_t end, const StopCondition& stop,
                                       TopK* out, SearchStats* stats) const {
  if (begin >= end) return absl::OkStatus();
  const FieldLayout& layout = layout_->fields[query.field];
  const Field& field = fields_[query.field];
  const VectorSetView block{field.rows.data() + begin * layout.stride_bytes,
                            end - begin, layout.dim, layout.stride_bytes,
                            layout.type};
  const Filter filter = query.rows != nullptr
                            ? query.rows->AsFilter(field.hidden.get())
                            : Filter{.deleted = field.hidden.get()};
  return ScanBlock(block, static_cast<RowId>(begin), layout.search_metric,
                   query.vector, filter, stop, out, stats);
}

SegmentStats MemorySegment::stats() const {
  SegmentStats stats;
  stats.state = sealing_.load(std::memory_order_relaxed)
                    ? SegmentState::kSealing
                    : SegmentState::kGrowing;
  stats.num_rows = num_rows();
  stats.num_deleted = num_deleted();
  for (size_t f = 0; f < fields_.size(); ++f) {
    stats.vector_bytes += (stats.num_rows - fields_[f].absent->Count()) *
                          layout_->fields[f].row_bytes;
  }
  return stats;
}

}  // namespace vicinal
