// One sparse vector, or one text, of the rows of a segment: what searches by
// terms ask of a segment, whether it grows or is sealed.
//
// A term is a dimension of a sparse vector, or a word as its analyzer left it.
// Each segment numbers its terms as it likes; a row's entries are in the order
// of the dimensions, or of the words' bytes, in every segment, so that scores
// are the same sums of the same numbers wherever a row lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal {

inline constexpr uint32_t kNoTerm = 0xFFFFFFFF;

// A term of a query in one segment.
struct LexicalTerm {
  uint32_t term = 0;  // of the segment
  float weight = 0;   // an idf times how often it is asked, or the query's own
};

// Of live rows that have any entry.
struct LexicalTotals {
  uint64_t num_rows = 0;
  uint64_t length = 0;  // of text: the tokens of all
};

// A row's text, analyzed. Terms ascend by their bytes, none twice.
struct TextRow {
  struct Term {
    absl::string_view text;
    uint32_t count = 0;                   // capped at 255 when it is stored
    std::span<const uint32_t> positions;  // ascending; empty: not kept
  };
  std::vector<Term> terms;
};

// Their number and the differences between them, as varints.
void AppendPositions(std::span<const uint32_t> positions, std::string* out);
// Takes those of one entry off the front; false: they are none, or do not
// ascend. out may be null.
bool ConsumePositions(absl::string_view* bytes, std::vector<uint32_t>* out);

// Const members are safe from any thread while one thread appends (to a field
// that grows) and kills.
class LexicalField {
 public:
  virtual ~LexicalField() = default;

  // kNoTerm: no row has it. The first of sparse fields, the second of texts.
  virtual uint32_t FindDim(uint32_t dim) const = 0;
  virtual uint32_t FindWord(absl::string_view word) const = 0;
  // Calls visit(word, term) for the words that begin so, in any order.
  virtual void ForEachWordFrom(
      absl::string_view prefix,
      absl::FunctionRef<void(absl::string_view, uint32_t)> visit) const = 0;
  // What a term of this segment is.
  virtual uint32_t DimOf(uint32_t term) const = 0;
  virtual absl::string_view WordOf(uint32_t term) const = 0;

  // Live rows that have the term: at once without those that died.
  virtual uint64_t NumLive(uint32_t term) const = 0;
  virtual LexicalTotals totals() const = 0;

  // Rows of begin .. end that have the term, dead ones too, in any order.
  // weight: of texts, how often it stands in the row.
  virtual void ForEachPosting(
      uint32_t term, RowId begin, RowId end,
      absl::FunctionRef<void(RowId, float weight)> visit) const = 0;
  // A row's entries, in their order.
  virtual void ForEachEntry(
      RowId row,
      absl::FunctionRef<void(uint32_t term, float weight)> visit) const = 0;
  // Of a text: its tokens, of which more than 255 of a term count as so many.
  virtual uint64_t LengthOf(RowId row) const = 0;
  // Of a text whose positions are kept: those of the row's entries, in their
  // order, of each as AppendPositions has it.
  virtual absl::string_view PositionBytesOf(RowId row) const = 0;
  // Those of the term in the row, into *positions, which is then ascending;
  // empty: it has none.
  void PositionsOf(RowId row, uint32_t term,
                   std::vector<uint32_t>* positions) const;

  // Pushes the k best rows of begin .. end that the filter accepts and that
  // have a term of the query, their distance being minus the score: SparseDot,
  // or Bm25Score of texts, of the row's entries. `query`: each term once, in
  // any order. Cancelled / DeadlineExceeded: `stop` said so. stats may be null.
  virtual absl::Status Search(std::span<const LexicalTerm> query,
                              const SparseParams& params, const Filter& filter,
                              RowId begin, RowId end, const StopCondition& stop,
                              TopK* out, SearchStats* stats) const = 0;

  // Bytes in memory, and in mapped files.
  virtual size_t memory_bytes() const = 0;

  // The row is dead from now on. One thread at a time; once for each row.
  virtual void Kill(RowId row) = 0;
};

}  // namespace vicinal
