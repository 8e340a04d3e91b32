// Terms of the rows of a sealed segment: a sparse index, and of texts the words
// and, where they are kept, their positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/growing_lexical.h"
#include "index/lexical_field.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal {

// The parts of one field, as they are written to a file and read back.
struct LexicalBytes {
  std::string index;      // of BuildSparseIndex
  std::string words;      // of texts: see sealed_lexical.cc
  std::string positions;  // of texts that keep them
};
struct LexicalView {
  absl::string_view index, words, positions;
};

// A row of a field that is merged.
struct LexicalSource {
  const LexicalField* field = nullptr;
  RowId row = 0;
};

// Row i of the result is rows[i]. weight: kCount of texts. InvalidArgument: as
// BuildSparseIndex. Cancelled: the token was set; it may be null.
absl::StatusOr<LexicalBytes> BuildLexicalField(
    std::span<const LexicalSource> rows, LexicalKind kind, SparseWeight weight,
    bool with_positions, const CancelToken* cancel);

// Const and thread-safe but for Kill.
class SealedLexicalField final : public LexicalField {
 public:
  // Borrows the bytes, which may be anything: DataLoss: they are not such a
  // field of num_rows rows; every count, offset and order is checked.
  static absl::StatusOr<std::unique_ptr<SealedLexicalField>> Open(
      LexicalView bytes, LexicalKind kind, bool with_positions,
      size_t num_rows);
  ~SealedLexicalField() override;

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

 private:
  struct State;
  explicit SealedLexicalField(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace vicinal
