#include "src/engine/lexical_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/half.h"
#include "src/payload/payload_strings.h"

namespace vicinal {

void WordCounter::Clear() {
  words_.clear();
  tokens_.clear();
  next_position_ = 0;
}

void WordCounter::Add(const Analyzer& analyzer, absl::string_view text) {
  const uint32_t first =
      next_position_ == 0 ? 0 : next_position_ + kPositionGap;
  next_position_ = first + 1;
  analyzer.Analyze(text, [&](const ::vicinal::Token& token) {
    tokens_.push_back({static_cast<uint32_t>(words_.size()),
                       static_cast<uint32_t>(token.term.size()),
                       first + token.position});
    words_.append(token.term.data(), token.term.size());
    next_position_ = first + token.position + 1;
  });
}

const TextRow& WordCounter::Count(bool with_positions) {
  const auto word_of = [&](const Token& token) {
    return absl::string_view(words_.data() + token.begin, token.size);
  };
  std::sort(tokens_.begin(), tokens_.end(),
            [&](const Token& a, const Token& b) {
              const int order = word_of(a).compare(word_of(b));
              return order != 0 ? order < 0 : a.position < b.position;
            });
  row_.terms.clear();
  positions_.clear();
  for (const Token& token : tokens_) positions_.push_back(token.position);
  for (size_t begin = 0; begin < tokens_.size();) {
    const absl::string_view word = word_of(tokens_[begin]);
    size_t end = begin + 1;
    while (end < tokens_.size() && word_of(tokens_[end]) == word) ++end;
    TextRow::Term& term = row_.terms.emplace_back();
    term.text = word;
    term.count = static_cast<uint32_t>(end - begin);
    if (with_positions) {
      term.positions = std::span(positions_).subspan(begin, end - begin);
    }
    begin = end;
  }
  return row_;
}

void LexicalRows::Add(const Layout& layout, std::span<const SparseRow> sparse,
                      absl::string_view payload) {
  num_fields_ = layout.lexical.size();
  num_sparse_ = layout.num_sparse;
  for (const SparseRow& row : sparse) {
    dims_.insert(dims_.end(), row.dims.begin(), row.dims.end());
    weights_.insert(weights_.end(), row.weights.begin(), row.weights.end());
    ends_.push_back(dims_.size());
  }
  if (layout.has_texts()) AddTexts(layout, payload);
}

void LexicalRows::AddTexts(const Layout& layout, absl::string_view payload) {
  const std::span texts = std::span(layout.lexical).subspan(layout.num_sparse);
  std::vector<std::string> paths;
  paths.reserve(texts.size());
  for (const LexicalLayout& text : texts) paths.push_back(text.path);
  counters_.resize(texts.size());
  for (WordCounter& counter : counters_) counter.Clear();
  VisitStrings(payload, paths, [&](size_t i, absl::string_view text) {
    counters_[i].Add(*texts[i].analyzer, text);
  });
  for (size_t i = 0; i < texts.size(); ++i) {
    AddText(counters_[i].Count(texts[i].positions));
    ends_.push_back(entries_.size());
  }
}

void LexicalRows::AddText(const TextRow& row) {
  for (const TextRow::Term& term : row.terms) {
    entries_.push_back({static_cast<uint32_t>(words_.size()),
                        static_cast<uint32_t>(term.text.size()), term.count,
                        static_cast<uint32_t>(positions_.size()),
                        static_cast<uint32_t>(term.positions.size())});
    words_.append(term.text.data(), term.text.size());
    positions_.insert(positions_.end(), term.positions.begin(),
                      term.positions.end());
  }
}

void LexicalRows::AppendTo(size_t i, size_t l,
                           GrowingLexicalField* field) const {
  // What was before it of the same kind: the last field of that kind of the
  // point before, or the field before.
  const size_t at = i * num_fields_ + l;
  const bool is_sparse = l < num_sparse_;
  const size_t first_of_kind = is_sparse ? 0 : num_sparse_;
  const size_t last_of_kind = (is_sparse ? num_sparse_ : num_fields_) - 1;
  size_t begin = 0;
  if (l > first_of_kind) {
    begin = ends_[at - 1];
  } else if (i > 0) {
    begin = ends_[(i - 1) * num_fields_ + last_of_kind];
  }
  const size_t count = ends_[at] - begin;
  if (is_sparse) {
    field->Append({std::span(dims_).subspan(begin, count),
                   std::span(weights_).subspan(begin, count)});
    return;
  }
  TextRow row;
  row.terms.reserve(count);
  for (const Word& word : std::span(entries_).subspan(begin, count)) {
    row.terms.push_back(
        {absl::string_view(words_.data() + word.begin, word.size), word.count,
         std::span(positions_)
             .subspan(word.first_position, word.num_positions)});
  }
  field->AppendText(row);
}

void EncodeSparse(SparseRow row, SparseWeight type, std::string* out) {
  PutVarint64(out, row.dims.size());
  uint32_t last = 0;
  for (const uint32_t dim : row.dims) {
    PutVarint64(out, dim - last);
    last = dim;
  }
  for (const float weight : row.weights) {
    if (type == SparseWeight::kFloat16) {
      PutFixed<uint16_t>(out, FloatToHalf(weight));
    } else {
      PutFixed<float>(out, weight);
    }
  }
}

bool DecodeSparse(absl::string_view bytes, SparseWeight type,
                  SparseEntries* out) {
  out->dims.clear();
  out->weights.clear();
  uint64_t count = 0;
  if (!ConsumeVarint64(&bytes, &count) || count > bytes.size()) return false;
  uint64_t dim = 0;
  for (uint64_t i = 0; i < count; ++i) {
    constexpr uint64_t kMax = std::numeric_limits<uint32_t>::max();
    uint64_t delta = 0;
    if (!ConsumeVarint64(&bytes, &delta) || (i > 0 && delta == 0) ||
        delta > kMax || (dim += delta) > kMax) {
      return false;
    }
    out->dims.push_back(static_cast<uint32_t>(dim));
  }
  const bool is_half = type == SparseWeight::kFloat16;
  const size_t size = is_half ? 2 : 4;
  if (bytes.size() != count * size) return false;
  for (uint64_t i = 0; i < count; ++i) {
    const char* at = bytes.data() + i * size;
    out->weights.push_back(is_half ? HalfToFloat(GetFixed<uint16_t>(at))
                                   : GetFixed<float>(at));
  }
  return true;
}

absl::Status DecodeRecordSparse(const Layout& layout,
                                const RecordView::Vector& vector,
                                std::vector<SparseEntries>* out) {
  const size_t s = vector.field - size_t{kFirstSparseRecordField};
  if (s >= layout.num_sparse ||
      !DecodeSparse(vector.bytes, layout.lexical[s].weight, &(*out)[s])) {
    return absl::DataLossError(absl::StrCat("the sparse vector ", vector.field,
                                            " of a record does not fit the "
                                            "schema"));
  }
  return absl::OkStatus();
}

void AddLexical(const Layout& layout, const std::vector<SparseEntries>& sparse,
                absl::string_view payload, LexicalRows* out) {
  std::vector<SparseRow> rows;
  rows.reserve(sparse.size());
  for (const SparseEntries& entries : sparse) {
    rows.push_back({entries.dims, entries.weights});
  }
  out->Add(layout, rows, payload);
}

}  // namespace vicinal
