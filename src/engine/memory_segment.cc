#include "src/engine/memory_segment.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/flat.h"
#include "src/base/bitmap.h"
#include "src/base/check.h"
#include "src/base/mapped_buffer.h"
#include "src/base/point_id.h"
#include "src/base/stable_chunks.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/engine/layout.h"
#include "src/engine/lexical_query.h"
#include "src/engine/multi_rows.h"
#include "src/engine/row_filter.h"

namespace vicinal {

MemorySegment::MemorySegment(
    std::shared_ptr<const Layout> layout, size_t capacity_rows,
    std::shared_ptr<std::atomic<size_t>> unindexed_bytes)
    : layout_(std::move(layout)),
      capacity_rows_(capacity_rows),
      unindexed_bytes_(std::move(unindexed_bytes)),
      ids_(capacity_rows),
      ordinals_(capacity_rows),
      dead_(capacity_rows) {
  fields_.resize(layout_->fields.size());
  for (Field& field : fields_) {
    field.chunks.resize(stable_chunks::NumChunks(capacity_rows));
    field.hidden = std::make_unique<AtomicBitmap>(capacity_rows);
    field.absent = std::make_unique<AtomicBitmap>(capacity_rows);
  }
  for (const LexicalLayout& lexical : layout_->lexical) {
    lexical_.push_back(std::make_unique<GrowingLexicalField>(
        lexical.kind, lexical.positions, capacity_rows));
  }
  for (const MultiSpec& spec : layout_->multi) {
    multi_.push_back(std::make_unique<GrowingMultiField>(spec, capacity_rows));
  }
}

MemorySegment::~MemorySegment() {
  unindexed_bytes_->fetch_sub(published_bytes_, std::memory_order_relaxed);
}

size_t MemorySegment::memory_bytes() const {
  size_t bytes = num_rows() * layout_->memory_per_row;
  if (bytes == 0) return 0;
  for (const auto& field : lexical_) bytes += field->memory_bytes();
  return bytes + multi_bytes_.load(std::memory_order_relaxed);
}

RowId MemorySegment::Append(PointId id, uint64_t hash, Ordinal ordinal,
                            const std::byte* const* vectors,
                            const LexicalRows& lexical, size_t lexical_row,
                            std::span<const absl::string_view> tokens) {
  const auto row = static_cast<RowId>(num_appended());
  VICINAL_CHECK_LT(row, capacity_rows_);
  const size_t chunk = stable_chunks::ChunkOf(row);
  if (row == stable_chunks::Begin(chunk)) AddChunk(chunk);
  for (size_t f = 0; f < fields_.size(); ++f) {
    if (vectors[f] == nullptr) {
      fields_[f].absent->Set(row);
      fields_[f].hidden->Set(row);
      continue;
    }
    std::memcpy(RowAt(f, row), vectors[f], layout_->fields[f].row_bytes);
  }
  for (size_t l = 0; l < lexical_.size(); ++l) {
    lexical.AppendTo(lexical_row, l, lexical_[l].get());
  }
  for (size_t m = 0; m < multi_.size(); ++m) multi_[m]->Append(tokens[m]);
  ids_.PushBack(std::move(id));
  ordinals_.PushBack(ordinal);
  hashes_.push_back(hash);
  id_table_.Put(
      hash, row, [&](RowId other) { return ids_[other] == ids_[row]; },
      [&](RowId other) { return hashes_[other]; });
  return row;
}

void MemorySegment::AddChunk(size_t chunk) {
  const size_t num_rows = std::min(stable_chunks::End(chunk), capacity_rows_) -
                          stable_chunks::Begin(chunk);
  for (size_t f = 0; f < fields_.size(); ++f) {
    fields_[f].chunks[chunk] = MappedBuffer(
        num_rows * layout_->fields[f].stride_bytes, MappedBuffer::Small::kHeap);
  }
}

std::byte* MemorySegment::RowAt(size_t field, RowId row) const {
  const size_t chunk = stable_chunks::ChunkOf(row);
  return fields_[field].chunks[chunk].data() +
         (row - stable_chunks::Begin(chunk)) *
             layout_->fields[field].stride_bytes;
}

void MemorySegment::Publish() {
  size_t multi_bytes = 0;
  for (const auto& field : multi_) multi_bytes += field->memory_bytes();
  multi_bytes_.store(multi_bytes, std::memory_order_relaxed);
  num_visible_.store(num_appended(), std::memory_order_release);
  const size_t bytes = memory_bytes();
  unindexed_bytes_->fetch_add(bytes - published_bytes_,
                              std::memory_order_relaxed);
  published_bytes_ = bytes;
}

void MemorySegment::SetNext(std::shared_ptr<const MemorySegment> next) {
  VICINAL_CHECK(next_owner_ == nullptr);
  next_owner_ = std::move(next);
  next_.store(next_owner_.get(), std::memory_order_release);
}

const std::byte* MemorySegment::VectorOf(size_t field, RowId row) const {
  if (fields_[field].absent->Test(row)) return nullptr;
  return RowAt(field, row);
}

std::optional<RowId> MemorySegment::FindOrdinal(Ordinal ordinal) const {
  const auto rows = std::views::iota(RowId{0}, static_cast<RowId>(num_rows()));
  const auto found = std::ranges::lower_bound(
      rows, ordinal, {}, [&](RowId row) { return ordinals_[row]; });
  if (found == rows.end() || ordinals_[*found] != ordinal) return std::nullopt;
  return *found;
}

std::optional<RowId> MemorySegment::FindId(const PointId& id,
                                           uint64_t hash) const {
  return id_table_.Find(
      hash, [&](RowId row) { return ids_[row] == id && !dead_.Test(row); });
}

bool MemorySegment::Kill(RowId row) {
  for (Field& field : fields_) field.hidden->Set(row);
  if (!dead_.Set(row)) return false;
  for (const auto& field : lexical_) field->Kill(row);
  for (const auto& field : multi_) field->Kill(row);
  return true;
}

absl::Status MemorySegment::SearchRows(const SegmentQuery& query, size_t begin,
                                       size_t end, const StopCondition& stop,
                                       TopK* out, SearchStats* stats) const {
  if (query.lexical != nullptr) {
    return query.lexical->Search(*this, static_cast<RowId>(begin),
                                 static_cast<RowId>(end), query, stop, out,
                                 stats);
  }
  if (query.multi != nullptr) {
    return SearchTokens(query, *multi_[query.multi->m],
                        static_cast<RowId>(begin), static_cast<RowId>(end),
                        stop, out, stats);
  }
  const FieldLayout& layout = layout_->fields[query.field];
  const AtomicBitmap* hidden = fields_[query.field].hidden.get();
  const Filter filter = query.rows != nullptr ? query.rows->AsFilter(hidden)
                                              : Filter{.deleted = hidden};
  while (begin < end) {
    const auto first = static_cast<RowId>(begin);
    const size_t chunk_end =
        std::min(end, stable_chunks::End(stable_chunks::ChunkOf(begin)));
    const VectorSetView block{RowAt(query.field, first), chunk_end - begin,
                              layout.dim, layout.stride_bytes, layout.type};
    VICINAL_RETURN_IF_ERROR(ScanBlock(block, first, layout.search_metric,
                                      query.vector, filter, stop, out, stats));
    begin = chunk_end;
  }
  return absl::OkStatus();
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
  for (const auto& field : multi_) {
    stats.vector_bytes += field->token_bytes();
    stats.index_bytes += field->index_bytes();
  }
  return stats;
}

}  // namespace vicinal
