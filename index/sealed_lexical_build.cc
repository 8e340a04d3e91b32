// Rows of fields, each with its own numbers for terms, become rows of one
// sparse index. Their entries are read once; a table per field then says what
// its terms become.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/lexical_field.h"
#include "index/lexical_words.h"
#include "index/sealed_lexical.h"
#include "index/sparse.h"
#include "src/base/cancel.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

class LexicalMerge {
 public:
  LexicalMerge(std::span<const LexicalSource> rows, LexicalKind kind,
               const CancelToken* cancel)
      : rows_(rows), is_text_(kind == LexicalKind::kText), cancel_(cancel) {}

  absl::StatusOr<LexicalBytes> Run(SparseWeight weight, bool with_positions);

 private:
  struct Source {
    const LexicalField* field = nullptr;
    // By the field's term; kNoTerm: no row has it, 0 until it is numbered.
    std::vector<uint32_t> dims;
  };
  struct Word {
    bool operator<(const Word& other) const {
      return head != other.head ? head < other.head : text < other.text;
    }
    uint64_t head = 0;
    absl::string_view text;
    uint32_t source = 0;
    uint32_t term = 0;
  };

  absl::Status CheckCancelled() const {
    return cancel_ != nullptr && cancel_->cancelled()
               ? absl::CancelledError("the index build was cancelled")
               : absl::OkStatus();
  }
  uint32_t SourceOf(const LexicalField* field);
  // Entries of all rows, with the terms of their fields.
  absl::Status ReadRows();
  // Calls visit(source's number, term) for the terms that rows have.
  template <typename Visit>
  void ForEachTerm(const Visit& visit) const;
  // What terms become: their dimensions, or the places of words among all,
  // which are returned in their order.
  void NumberDims();
  std::vector<absl::string_view> NumberWords();
  std::string EncodePositions() const;

  const std::span<const LexicalSource> rows_;
  const bool is_text_;
  const CancelToken* const cancel_;
  std::vector<Source> sources_;
  absl::flat_hash_map<const LexicalField*, uint32_t> source_numbers_;
  uint32_t last_source_ = 0;
  std::vector<uint64_t> offsets_ = {0};
  std::vector<uint32_t> dims_;
  std::vector<float> weights_;
};

uint32_t LexicalMerge::SourceOf(const LexicalField* field) {
  // Mostly that of the row before.
  if (last_source_ < sources_.size() && sources_[last_source_].field == field) {
    return last_source_;
  }
  const auto [known, is_new] = source_numbers_.try_emplace(
      field, static_cast<uint32_t>(sources_.size()));
  if (is_new) sources_.push_back({field, {}});
  last_source_ = known->second;
  return last_source_;
}

absl::Status LexicalMerge::ReadRows() {
  constexpr size_t kCheckRows = 4'096;
  offsets_.reserve(rows_.size() + 1);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (i % kCheckRows == 0) VICINAL_RETURN_IF_ERROR(CheckCancelled());
    std::vector<uint32_t>& known = sources_[SourceOf(rows_[i].field)].dims;
    rows_[i].field->ForEachEntry(rows_[i].row,
                                 [&](uint32_t term, float weight) {
                                   if (term >= known.size())
                                     known.resize(size_t{term} + 1, kNoTerm);
                                   known[term] = 0;
                                   dims_.push_back(term);
                                   weights_.push_back(weight);
                                 });
    offsets_.push_back(dims_.size());
  }
  return absl::OkStatus();
}

template <typename Visit>
void LexicalMerge::ForEachTerm(const Visit& visit) const {
  for (uint32_t source = 0; source < sources_.size(); ++source) {
    const std::vector<uint32_t>& dims = sources_[source].dims;
    for (uint32_t term = 0; term < dims.size(); ++term) {
      if (dims[term] != kNoTerm) visit(source, term);
    }
  }
}

void LexicalMerge::NumberDims() {
  ForEachTerm([&](uint32_t source, uint32_t term) {
    sources_[source].dims[term] = sources_[source].field->DimOf(term);
  });
}

std::vector<absl::string_view> LexicalMerge::NumberWords() {
  std::vector<Word> words;
  ForEachTerm([&](uint32_t source, uint32_t term) {
    const absl::string_view text = sources_[source].field->WordOf(term);
    words.push_back({HeadOfWord(text), text, source, term});
  });
  std::sort(words.begin(), words.end());
  std::vector<absl::string_view> distinct;
  for (const Word& word : words) {
    if (distinct.empty() || distinct.back() != word.text) {
      distinct.push_back(word.text);
    }
    sources_[word.source].dims[word.term] =
        static_cast<uint32_t>(distinct.size() - 1);
  }
  return distinct;
}

std::string LexicalMerge::EncodePositions() const {
  std::string out;
  const auto bytes_of = [&](size_t i) {
    return rows_[i].field->PositionBytesOf(rows_[i].row);
  };
  // A field that kept none says nothing at all: then each entry has none.
  const auto missing_of = [&](size_t i) {
    return bytes_of(i).empty() ? offsets_[i + 1] - offsets_[i] : 0;
  };
  uint64_t begin = 0;
  for (size_t i = 0; i < rows_.size(); ++i) {
    PutFixed(&out, begin);
    begin += bytes_of(i).size() + missing_of(i);
  }
  PutFixed(&out, begin);
  out.reserve(out.size() + begin);
  for (size_t i = 0; i < rows_.size(); ++i) {
    const absl::string_view bytes = bytes_of(i);
    out.append(bytes.data(), bytes.size());
    for (uint64_t n = missing_of(i); n > 0; --n) AppendPositions({}, &out);
  }
  return out;
}

absl::StatusOr<LexicalBytes> LexicalMerge::Run(SparseWeight weight,
                                               bool with_positions) {
  LexicalBytes out;
  VICINAL_RETURN_IF_ERROR(ReadRows());
  if (is_text_) {
    VICINAL_ASSIGN_OR_RETURN(out.words, EncodeLexicalWords(NumberWords()));
  } else {
    NumberDims();
  }
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  for (size_t i = 0; i < rows_.size(); ++i) {
    const std::vector<uint32_t>& dims = sources_[SourceOf(rows_[i].field)].dims;
    for (uint64_t at = offsets_[i]; at < offsets_[i + 1]; ++at) {
      dims_[at] = dims[dims_[at]];
    }
  }
  VICINAL_ASSIGN_OR_RETURN(
      out.index,
      BuildSparseIndex({offsets_, dims_, weights_}, weight, cancel_));
  if (with_positions) out.positions = EncodePositions();
  return out;
}

}  // namespace

absl::StatusOr<LexicalBytes> BuildLexicalField(
    std::span<const LexicalSource> rows, LexicalKind kind, SparseWeight weight,
    bool with_positions, const CancelToken* cancel) {
  return LexicalMerge(rows, kind, cancel).Run(weight, with_positions);
}

}  // namespace vicinal
