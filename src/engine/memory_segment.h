// A segment that takes new rows: searchable at once, by exact scan.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/growing_lexical.h"
#include "index/growing_multi.h"
#include "index/lexical_field.h"
#include "index/multi_field.h"
#include "src/base/bitmap.h"
#include "src/base/mapped_buffer.h"
#include "src/base/point_id.h"
#include "src/base/stable_chunks.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/engine/id_table.h"
#include "src/engine/layout.h"
#include "src/engine/lexical_rows.h"
#include "src/engine/segment.h"

namespace vicinal {

// Rows lie in chunks that never move, so readers need no lock; memory is taken
// as rows come, so that an empty segment has next to none. One thread appends
// and then publishes; rows become visible to readers by Publish. Ordinals
// ascend.
class MemorySegment final : public Segment {
 public:
  // unindexed_bytes counts the memory of all such segments; it must outlive
  // this one.
  MemorySegment(std::shared_ptr<const Layout> layout, size_t capacity_rows,
                std::shared_ptr<std::atomic<size_t>> unindexed_bytes);
  ~MemorySegment() override;

  size_t capacity_rows() const { return capacity_rows_; }
  // Appending thread only: rows so far, published or not.
  size_t num_appended() const { return hashes_.size(); }
  // vectors: one pointer per field to row_bytes in the layout's form
  // (normalized where that says so); null where the point has none. lexical:
  // of which point `lexical_row` has the row's sparse vectors and texts.
  // tokens: of each multi-vector the row's, in the field's type; empty: none.
  RowId Append(PointId id, uint64_t hash, Ordinal ordinal,
               const std::byte* const* vectors, const LexicalRows& lexical,
               size_t lexical_row, std::span<const absl::string_view> tokens);
  void Publish();

  // Once, when no more rows come: where later rows go. A search that pinned
  // this segment follows the chain, so that it cannot miss a point whose old
  // version died under it.
  void SetNext(std::shared_ptr<const MemorySegment> next);
  const MemorySegment* next() const {
    return next_.load(std::memory_order_acquire);
  }

  size_t num_rows() const override {
    return num_visible_.load(std::memory_order_acquire);
  }
  size_t num_deleted() const override { return dead_.Count(); }
  PointId IdOf(RowId row) const override { return ids_[row]; }
  Ordinal OrdinalOf(RowId row) const override { return ordinals_[row]; }
  bool IsDead(RowId row) const override { return dead_.Test(row); }
  const AtomicBitmap& dead() const override { return dead_; }
  const std::byte* VectorOf(size_t field, RowId row) const override;
  const LexicalField& lexical(size_t l) const override { return *lexical_[l]; }
  const MultiField& multi(size_t m) const override { return *multi_[m]; }
  std::optional<RowId> FindOrdinal(Ordinal ordinal) const override;
  std::optional<RowId> FindId(const PointId& id, uint64_t hash) const override;
  bool Kill(RowId row) override;
  bool has_columns() const override { return true; }
  absl::Status Search(const SegmentQuery& query, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override {
    return SearchRows(query, 0, num_rows(), stop, out, stats);
  }
  // The same over rows [begin, end) only.
  absl::Status SearchRows(const SegmentQuery& query, size_t begin, size_t end,
                          const StopCondition& stop, TopK* out,
                          SearchStats* stats) const;
  bool IsExact(const SegmentQuery& query) const override {
    return query.multi == nullptr ||
           multi_[query.multi->m]->IsExact(query.multi->params);
  }
  SegmentStats stats() const override;

  // Bytes in use, vectors and bookkeeping.
  size_t memory_bytes() const;
  void MarkSealing() { sealing_.store(true, std::memory_order_relaxed); }

 private:
  struct Field {
    std::vector<MappedBuffer> chunks;  // see stable_chunks
    // Rows that a search of this field must skip: dead, or without vector.
    std::unique_ptr<AtomicBitmap> hidden;
    std::unique_ptr<AtomicBitmap> absent;
  };

  // Memory for the rows of one more chunk.
  void AddChunk(size_t chunk);
  std::byte* RowAt(size_t field, RowId row) const;

  const std::shared_ptr<const Layout> layout_;
  const size_t capacity_rows_;
  const std::shared_ptr<std::atomic<size_t>> unindexed_bytes_;
  std::vector<Field> fields_;
  std::vector<std::unique_ptr<GrowingLexicalField>> lexical_;
  std::vector<std::unique_ptr<GrowingMultiField>> multi_;
  std::atomic<size_t> multi_bytes_ = 0;  // of published rows
  size_t published_bytes_ = 0;           // appending thread only
  StableVector<PointId> ids_;
  StableVector<Ordinal> ordinals_;
  std::vector<uint64_t> hashes_;  // appending thread only
  IdTable id_table_;              // appending thread only
  AtomicBitmap dead_;
  std::atomic<size_t> num_visible_ = 0;
  std::atomic<bool> sealing_ = false;
  std::shared_ptr<const MemorySegment> next_owner_;
  std::atomic<const MemorySegment*> next_ = nullptr;
};

}  // namespace vicinal
