#include "bench/check/lexical_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "bench/check/report.h"
#include "bench/check/sparse_data.h"
#include "bench/machine.h"
#include "index/growing_lexical.h"
#include "index/lexical_field.h"
#include "index/sealed_lexical.h"
#include "index/sparse.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"

namespace vicinal::bench {
namespace {

constexpr size_t kMaxDocuments = 100'000;
constexpr size_t kK = 10;

// A document as a growing field takes it: its dimensions, or its words by their
// bytes.
class Document {
 public:
  // Counts of words are added up, of weights the largest stays.
  Document(const SparseMatrix& rows, size_t first, size_t count,
           const std::vector<std::string>* words) {
    if (words == nullptr) {
      std::map<uint32_t, float> entries;
      Visit(rows, first, count, [&](uint32_t dim, float weight) {
        entries[dim] = std::max(entries[dim], weight);
      });
      for (const auto& [dim, weight] : entries) {
        dims_.push_back(dim);
        weights_.push_back(weight);
      }
      return;
    }
    std::map<absl::string_view, uint32_t> counts;
    Visit(rows, first, count, [&](uint32_t dim, float weight) {
      counts[(*words)[dim]] += static_cast<uint32_t>(weight);
    });
    uint32_t position = 0;
    for (const auto& [word, n] : counts) {
      const size_t begin = positions_.size();
      for (uint32_t i = 0; i < n; ++i) positions_.push_back(position += 3);
      begins_.push_back(begin);
      text_.terms.push_back({word, n, {}});
    }
    begins_.push_back(positions_.size());
    for (size_t i = 0; i < text_.terms.size(); ++i) {
      text_.terms[i].positions =
          std::span(positions_)
              .subspan(begins_[i], begins_[i + 1] - begins_[i]);
    }
  }
  void AppendTo(GrowingLexicalField* field, bool is_text) const {
    if (is_text) {
      field->AppendText(text_);
    } else {
      field->Append({dims_, weights_});
    }
  }
  size_t num_entries() const { return dims_.size() + text_.terms.size(); }

 private:
  template <typename Visitor>
  static void Visit(const SparseMatrix& rows, size_t first, size_t count,
                    const Visitor& visit) {
    for (size_t row = first; row < first + count; ++row) {
      const SparseRow from = rows.row(row);
      for (size_t i = 0; i < from.dims.size(); ++i) {
        visit(from.dims[i], from.weights[i]);
      }
    }
  }

  std::vector<uint32_t> dims_;
  std::vector<float> weights_;
  TextRow text_;
  std::vector<uint32_t> positions_;
  std::vector<size_t> begins_;
};

// A sealed field with its bytes.
struct Sealed {
  LexicalBytes bytes;
  std::unique_ptr<SealedLexicalField> field;
  double build_seconds = 0;
  double open_seconds = 0;
};

class LexicalBench {
 public:
  LexicalBench(const SparseMatrix& queries,
               const std::vector<std::string>* words)
      : queries_(queries), words_(words) {}

  // Seconds that it took; documents are made beside the clock.
  double Grow(const SparseMatrix& rows, size_t per_document, size_t begin,
              size_t end, GrowingLexicalField* field);
  absl::StatusOr<Sealed> Seal(const std::vector<LexicalSource>& sources) const;
  // Microseconds a query.
  absl::StatusOr<double> Search(const LexicalField& field, size_t num_rows,
                                std::vector<std::vector<Neighbor>>* answers);
  LexicalKind kind() const {
    return words_ == nullptr ? LexicalKind::kSparse : LexicalKind::kText;
  }
  bool is_text() const { return words_ != nullptr; }
  size_t num_entries() const { return num_entries_; }

 private:
  const SparseMatrix& queries_;
  const std::vector<std::string>* const words_;
  size_t num_entries_ = 0;
};

double LexicalBench::Grow(const SparseMatrix& rows, size_t per_document,
                          size_t begin, size_t end,
                          GrowingLexicalField* field) {
  constexpr size_t kBatch = 2'000;
  double seconds = 0;
  for (size_t first = begin; first < end; first += kBatch) {
    // Documents do not move: their spans are into themselves.
    std::vector<std::unique_ptr<Document>> documents;
    for (size_t i = first; i < std::min(end, first + kBatch); ++i) {
      documents.push_back(std::make_unique<Document>(rows, i * per_document,
                                                     per_document, words_));
      num_entries_ += documents.back()->num_entries();
    }
    const double start = ThreadSeconds();
    for (const auto& document : documents) {
      document->AppendTo(field, is_text());
    }
    seconds += ThreadSeconds() - start;
  }
  return seconds;
}

absl::StatusOr<Sealed> LexicalBench::Seal(
    const std::vector<LexicalSource>& sources) const {
  Sealed out;
  double start = ThreadSeconds();
  VICINAL_ASSIGN_OR_RETURN(
      out.bytes, BuildLexicalField(
                     sources, kind(),
                     is_text() ? SparseWeight::kCount : SparseWeight::kFloat32,
                     is_text(), nullptr));
  out.build_seconds = ThreadSeconds() - start;
  start = ThreadSeconds();
  VICINAL_ASSIGN_OR_RETURN(
      out.field, SealedLexicalField::Open(
                     {out.bytes.index, out.bytes.words, out.bytes.positions},
                     kind(), is_text(), sources.size()));
  out.open_seconds = ThreadSeconds() - start;
  return out;
}

absl::StatusOr<double> LexicalBench::Search(
    const LexicalField& field, size_t num_rows,
    std::vector<std::vector<Neighbor>>* answers) {
  constexpr size_t kPasses = 3;
  double best = 1e30;
  for (size_t pass = 0; pass < kPasses; ++pass) {
    answers->clear();
    const double start = ThreadSeconds();
    for (size_t q = 0; q < queries_.num_rows(); ++q) {
      const SparseRow query = queries_.row(q);
      std::vector<LexicalTerm> terms;
      for (size_t i = 0; i < query.dims.size(); ++i) {
        const uint32_t term = is_text()
                                  ? field.FindWord((*words_)[query.dims[i]])
                                  : field.FindDim(query.dims[i]);
        if (term != kNoTerm) terms.push_back({term, query.weights[i]});
      }
      TopK top(kK);
      SparseParams params{.k = kK};
      params.bm25.mean_length = static_cast<double>(field.totals().length) /
                                static_cast<double>(num_rows);
      VICINAL_RETURN_IF_ERROR(field.Search(terms, params, {}, 0,
                                           static_cast<RowId>(num_rows), {},
                                           &top, nullptr));
      answers->push_back(top.TakeSorted());
    }
    best = std::min(best, ThreadSeconds() - start);
  }
  return 1e6 * best / static_cast<double>(queries_.num_rows());
}

std::vector<LexicalSource> RowsOf(const LexicalField& field, size_t num_rows) {
  std::vector<LexicalSource> rows;
  for (RowId row = 0; row < num_rows; ++row) rows.push_back({&field, row});
  return rows;
}

}  // namespace

absl::Status MeasureLexicalFields(const std::string& name,
                                  const SparseMatrix& rows, size_t per_document,
                                  const SparseMatrix& queries,
                                  const std::vector<std::string>* words,
                                  CheckReport* report) {
  const size_t n = std::min(kMaxDocuments, rows.num_rows() / per_document);
  LexicalBench bench(queries, words);
  GrowingLexicalField growing(bench.kind(), bench.is_text(), n);
  const double seconds = bench.Grow(rows, per_document, 0, n, &growing);
  const auto documents = static_cast<double>(n);
  const auto entries = static_cast<double>(bench.num_entries());
  VICINAL_ASSIGN_OR_RETURN(const Sealed sealed, bench.Seal(RowsOf(growing, n)));
  std::vector<std::vector<Neighbor>> by_growing, by_sealed;
  VICINAL_ASSIGN_OR_RETURN(const double growing_us,
                           bench.Search(growing, n, &by_growing));
  VICINAL_ASSIGN_OR_RETURN(const double sealed_us,
                           bench.Search(*sealed.field, n, &by_sealed));
  if (by_growing != by_sealed) {
    return absl::InternalError("a growing and a sealed field differ");
  }
  report->Add({.key = absl::StrCat(name, "_growing"),
               .what = absl::StrCat("growing insert, ", name,
                                    ", of 20,000 documents/s"),
               .bound = Bound::kAtLeast,
               .limit = 1,
               .measured = documents / seconds / 20'000,
               .raw = {{"documents_per_s", documents / seconds},
                       {"documents", documents},
                       {"entries_per_document", entries / documents},
                       {"bytes_per_entry",
                        static_cast<double>(growing.memory_bytes()) / entries},
                       {"search_us", growing_us},
                       {"sealed_search_us", sealed_us}}});
  // Every other row is of a field that is sealed.
  std::vector<LexicalSource> sources = RowsOf(growing, n);
  for (RowId row = 0; row < n; row += 2) {
    sources[row].field = sealed.field.get();
  }
  VICINAL_ASSIGN_OR_RETURN(const Sealed merged, bench.Seal(sources));
  report->Add(
      {.key = absl::StrCat(name, "_merge"),
       .what = absl::StrCat("fields merged, ", name, ", of 1M postings/s"),
       .bound = Bound::kAtLeast,
       .limit = 1,
       .measured = entries / merged.build_seconds / 1e6,
       .raw = {{"postings_per_s", entries / merged.build_seconds},
               {"of_growing_postings_per_s", entries / sealed.build_seconds},
               {"open_postings_per_s", entries / merged.open_seconds}}});
  return absl::OkStatus();
}

}  // namespace vicinal::bench
