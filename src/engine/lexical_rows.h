// What points have for the sparse vectors and texts of a collection, on its way
// from requests or storage to a growing segment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/growing_lexical.h"
#include "index/lexical_field.h"
#include "index/sparse.h"
#include "src/engine/layout.h"
#include "src/engine/point_batch.h"
#include "src/text/analyzer.h"
#include "storage/collection_store.h"

namespace vicinal {

// Positions between two strings of one text, so that no phrase spans them.
inline constexpr uint32_t kPositionGap = 100;

// A text's words, each once, ascending by their bytes. Used again for the next
// text; belongs to one thread.
class WordCounter {
 public:
  void Clear();
  // More of the same text.
  void Add(const Analyzer& analyzer, absl::string_view text);
  // As an index takes it. Borrows from this, until Clear.
  const TextRow& Count(bool with_positions);

 private:
  struct Token {
    uint32_t begin = 0;  // in words_
    uint32_t size = 0;
    uint32_t position = 0;
  };
  std::string words_;
  std::vector<Token> tokens_;
  std::vector<uint32_t> positions_;
  uint32_t next_position_ = 0;
  TextRow row_;
};

// Points are added, then appended in the same order. Movable; borrows nothing.
class LexicalRows {
 public:
  // The next point: its sparse vectors, one element for each of the layout's,
  // and its payload, whose texts are analyzed here.
  void Add(const Layout& layout, std::span<const SparseRow> sparse,
           absl::string_view payload);
  // What point i has for the layout's lexical field l.
  void AppendTo(size_t i, size_t l, GrowingLexicalField* field) const;

 private:
  struct Word {
    uint32_t begin = 0;  // in words_
    uint32_t size = 0;
    uint32_t count = 0;
    uint32_t first_position = 0;  // in positions_
    uint32_t num_positions = 0;
  };
  void AddTexts(const Layout& layout, absl::string_view payload);
  void AddText(const TextRow& row);

  size_t num_fields_ = 0;
  size_t num_sparse_ = 0;
  // By point and field: where the entries of the next begin, of dims_ for
  // sparse vectors and of entries_ for texts.
  std::vector<size_t> ends_;
  std::vector<uint32_t> dims_;
  std::vector<float> weights_;
  std::vector<Word> entries_;
  std::string words_;
  std::vector<uint32_t> positions_;
  std::vector<WordCounter> counters_;  // scratch
};

// A sparse vector in a record: number of entries (varint), of each the
// difference of its dimension to the one before it (varint), then the weights,
// f32 or f16.
void EncodeSparse(SparseRow row, SparseWeight type, std::string* out);
// False: the bytes are no such vector.
bool DecodeSparse(absl::string_view bytes, SparseWeight type,
                  SparseEntries* out);

// A sparse vector of a record into its place in *out, which has one element for
// each of the layout's. DataLoss: it does not fit the layout.
absl::Status DecodeRecordSparse(const Layout& layout,
                                const RecordView::Vector& vector,
                                std::vector<SparseEntries>* out);
// LexicalRows::Add.
void AddLexical(const Layout& layout, const std::vector<SparseEntries>& sparse,
                absl::string_view payload, LexicalRows* out);

}  // namespace vicinal
