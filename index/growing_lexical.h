// Terms of the rows of a segment that grows: postings and rows, appended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/lexical_field.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal {

enum class LexicalKind : uint8_t { kSparse = 1, kText = 2 };

// One thread appends. A row may be read by others once they were told that it
// is there (MemorySegment::Publish): they pass an `end` up to it.
class GrowingLexicalField final : public LexicalField {
 public:
  // with_positions: of texts.
  GrowingLexicalField(LexicalKind kind, bool with_positions, size_t max_rows);
  ~GrowingLexicalField() override;

  // The next row. Rows are appended without gaps: one that has no such vector
  // is appended with no entry.
  void Append(SparseRow row);
  void AppendText(const TextRow& row);

  uint32_t FindDim(uint32_t dim) const override;
  uint32_t FindWord(absl::string_view word) const override;
  void ForEachWordFrom(absl::string_view prefix,
                       absl::FunctionRef<void(absl::string_view, uint32_t)>
                           visit) const override;
  uint32_t DimOf(uint32_t term) const override;
  absl::string_view WordOf(uint32_t term) const override;
  uint64_t NumLive(uint32_t term) const override;
  LexicalTotals totals() const override;
  void ForEachPosting(
      uint32_t term, RowId begin, RowId end,
      absl::FunctionRef<void(RowId, float)> visit) const override;
  void ForEachEntry(
      RowId row, absl::FunctionRef<void(uint32_t, float)> visit) const override;
  uint64_t LengthOf(RowId row) const override;
  absl::string_view PositionBytesOf(RowId row) const override;
  absl::Status Search(std::span<const LexicalTerm> query,
                      const SparseParams& params, const Filter& filter,
                      RowId begin, RowId end, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override;
  size_t memory_bytes() const override;
  void Kill(RowId row) override;

  struct State;

 private:
  const std::unique_ptr<State> state_;
};

}  // namespace vicinal
