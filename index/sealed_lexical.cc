// The parts of a field: a sparse index, whose dimensions are those of the
// sparse vectors, or the places of words in lexical_words.h's bytes. The
// positions: where those of each row begin behind these numbers (u64, and one
// more), then of each row those of its entries, as AppendPositions has them.
#include "index/sealed_lexical.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "index/lexical_field.h"
#include "index/lexical_words.h"
#include "index/sparse.h"
#include "index/sparse_state.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal {
namespace {

// Of a posting's count, the classes that stand for one number.
constexpr uint8_t kExactClasses = 7;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the index of a text ", what));
}

}  // namespace

struct SealedLexicalField::State {
  using DeadCount = std::atomic<uint32_t>;

  const SparseState& sparse() const { return index->state(); }
  bool has_positions() const { return position_begins != nullptr; }
  absl::string_view positions_of(size_t row) const {
    const char* at = position_begins + row * sizeof(uint64_t);
    const auto begin = GetFixed<uint64_t>(at);
    const auto end = GetFixed<uint64_t>(at + sizeof(uint64_t));
    return positions.substr(begin, end - begin);
  }
  // The row's entries.
  std::pair<uint64_t, uint64_t> EntriesOf(RowId row) const {
    const uint32_t position = sparse().positions[row];
    return {sparse().entry_begin[position], sparse().entry_begin[position + 1]};
  }
  // What the position has of the term: 0 if nothing.
  float WeightAt(size_t position, uint32_t term) const;
  absl::Status CheckRows();
  absl::Status LoadWords(absl::string_view bytes);
  absl::Status LoadPositions(absl::string_view bytes);
  absl::Status CheckPositions(RowId row) const;

  std::unique_ptr<SparseIndex> index;
  size_t num_bytes = 0;
  LexicalWords words;  // of texts
  // Of texts with positions.
  const char* position_begins = nullptr;
  absl::string_view positions;

  LexicalTotals all;  // dead ones too
  std::atomic<uint64_t> num_dead = 0;
  std::atomic<uint64_t> dead_length = 0;
  // By term; null until the first row dies. A unique_ptr cannot be swapped in
  // while others read.
  std::atomic<DeadCount*> dead = nullptr;
  std::unique_ptr<DeadCount[]> dead_owner;
};

float SealedLexicalField::State::WeightAt(size_t position,
                                          uint32_t term) const {
  // A row's entries ascend by their terms.
  uint64_t low = sparse().entry_begin[position];
  const uint64_t end = sparse().entry_begin[position + 1];
  for (uint64_t high = end; low < high;) {
    const uint64_t middle = (low + high) / 2;
    if (sparse().TermOf(middle) < term) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < end && sparse().TermOf(low) == term ? sparse().WeightOf(low) : 0;
}

absl::Status SealedLexicalField::State::CheckRows() {
  const bool is_text = sparse().has_counts();
  std::vector<uint32_t> num_rows_of(sparse().header.num_terms);
  for (size_t position = 0; position < index->num_rows(); ++position) {
    const uint64_t begin = sparse().entry_begin[position];
    const uint64_t end = sparse().entry_begin[position + 1];
    uint64_t length = 0;
    uint32_t last = 0;
    for (uint64_t entry = begin; entry < end; ++entry) {
      const uint32_t term = sparse().TermOf(entry);
      if (entry > begin && term <= last) {
        return Damaged("has a row whose terms do not ascend");
      }
      last = term;
      ++num_rows_of[term];
      if (is_text) length += static_cast<uint64_t>(sparse().WeightOf(entry));
    }
    all.num_rows += begin < end ? 1 : 0;
    if (!is_text) continue;
    if (length != sparse().lengths[position]) {
      return Damaged("has a row of another length than its words have");
    }
    all.length += length;
  }
  // So no term has more dead rows than rows.
  for (uint32_t term = 0; term < num_rows_of.size(); ++term) {
    if (num_rows_of[term] != sparse().NumPostings(term)) {
      return Damaged("has other postings than rows");
    }
  }
  return absl::OkStatus();
}

absl::Status SealedLexicalField::State::LoadWords(absl::string_view bytes) {
  VICINAL_ASSIGN_OR_RETURN(words, LexicalWords::Open(bytes));
  // Ascending, so that they are 0, 1, 2, and so on.
  const std::span<const uint32_t> dims = sparse().dims;
  if (dims.size() != words.size() ||
      (!dims.empty() && dims.back() != words.size() - 1)) {
    return Damaged("has other words than terms");
  }
  return absl::OkStatus();
}

absl::Status SealedLexicalField::State::LoadPositions(absl::string_view bytes) {
  const size_t num_rows = index->num_rows();
  if (bytes.size() / sizeof(uint64_t) < num_rows + 1) {
    return Damaged("has positions that are cut short");
  }
  position_begins = bytes.data();
  positions = bytes.substr((num_rows + 1) * sizeof(uint64_t));
  uint64_t last = 0;
  for (size_t row = 0; row <= num_rows; ++row) {
    const auto begin =
        GetFixed<uint64_t>(position_begins + row * sizeof(uint64_t));
    if (begin < last || (row == 0 && begin != 0)) {
      return Damaged("has positions that do not follow one another");
    }
    last = begin;
  }
  if (last != positions.size()) return Damaged("has positions of no row");
  for (RowId row = 0; row < num_rows; ++row) {
    VICINAL_RETURN_IF_ERROR(CheckPositions(row));
  }
  return absl::OkStatus();
}

absl::Status SealedLexicalField::State::CheckPositions(RowId row) const {
  absl::string_view rest = positions_of(row);
  const auto [begin, end] = EntriesOf(row);
  for (uint64_t entry = begin; entry < end; ++entry) {
    absl::string_view copy = rest;
    uint64_t count = 0;
    if (!ConsumeVarint64(&copy, &count) || !ConsumePositions(&rest, nullptr)) {
      return Damaged("has positions that do not ascend");
    }
    // 0: they were not kept.
    const auto capped =
        static_cast<float>(std::min<uint64_t>(count, kMaxCount));
    if (count > 0 && capped != sparse().WeightOf(entry)) {
      return Damaged("has more or fewer positions than words");
    }
  }
  return rest.empty() ? absl::OkStatus() : Damaged("has positions of no word");
}

SealedLexicalField::SealedLexicalField(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

SealedLexicalField::~SealedLexicalField() = default;

absl::StatusOr<std::unique_ptr<SealedLexicalField>> SealedLexicalField::Open(
    LexicalView bytes, LexicalKind kind, bool with_positions, size_t num_rows) {
  auto state = std::make_unique<State>();
  state->num_bytes =
      bytes.index.size() + bytes.words.size() + bytes.positions.size();
  VICINAL_ASSIGN_OR_RETURN(state->index, SparseIndex::Open(bytes.index));
  const bool is_text = kind == LexicalKind::kText;
  if (state->index->num_rows() != num_rows ||
      state->sparse().has_counts() != is_text) {
    return Damaged("is another field's");
  }
  VICINAL_RETURN_IF_ERROR(state->CheckRows());
  if (is_text) VICINAL_RETURN_IF_ERROR(state->LoadWords(bytes.words));
  if (with_positions) {
    VICINAL_RETURN_IF_ERROR(state->LoadPositions(bytes.positions));
  }
  return std::unique_ptr<SealedLexicalField>(
      new SealedLexicalField(std::move(state)));
}

uint32_t SealedLexicalField::FindDim(uint32_t dim) const {
  const std::span<const uint32_t> dims = state_->sparse().dims;
  const auto found = std::lower_bound(dims.begin(), dims.end(), dim);
  return found != dims.end() && *found == dim
             ? static_cast<uint32_t>(found - dims.begin())
             : kNoTerm;
}

uint32_t SealedLexicalField::FindWord(absl::string_view word) const {
  const size_t at = state_->words.LowerBound(word);
  return at < state_->words.size() && state_->words[at] == word
             ? static_cast<uint32_t>(at)
             : kNoTerm;
}

void SealedLexicalField::ForEachWordFrom(
    absl::string_view prefix,
    absl::FunctionRef<void(absl::string_view, uint32_t)> visit) const {
  const LexicalWords& words = state_->words;
  for (size_t at = words.LowerBound(prefix);
       at < words.size() && absl::StartsWith(words[at], prefix); ++at) {
    visit(words[at], static_cast<uint32_t>(at));
  }
}

uint32_t SealedLexicalField::DimOf(uint32_t term) const {
  return state_->sparse().dims[term];
}

absl::string_view SealedLexicalField::WordOf(uint32_t term) const {
  return state_->words[term];
}

uint64_t SealedLexicalField::NumLive(uint32_t term) const {
  const State::DeadCount* dead = state_->dead.load(std::memory_order_acquire);
  const uint32_t num_dead =
      dead == nullptr ? 0 : dead[term].load(std::memory_order_relaxed);
  return state_->sparse().NumPostings(term) - num_dead;
}

LexicalTotals SealedLexicalField::totals() const {
  return {
      state_->all.num_rows - state_->num_dead.load(std::memory_order_relaxed),
      state_->all.length - state_->dead_length.load(std::memory_order_relaxed)};
}

void SealedLexicalField::ForEachPosting(
    uint32_t term, RowId begin, RowId end,
    absl::FunctionRef<void(RowId, float)> visit) const {
  const SparseState& sparse = state_->sparse();
  for (uint32_t pair = sparse.pair_begin[term];
       pair < sparse.pair_begin[term + 1]; ++pair) {
    const size_t first = size_t{sparse.windows[pair]} * kSparseWindowRows;
    for (uint32_t i = sparse.begins[pair]; i < sparse.begins[pair + 1]; ++i) {
      const size_t position = first + sparse.ids[i];
      const RowId row = sparse.rows[position];
      if (row < begin || row >= end) continue;
      const uint8_t count_class = sparse.impacts[i] / 16;
      visit(row, sparse.has_counts() && count_class < kExactClasses
                     ? static_cast<float>(kCountEdges[count_class])
                     : state_->WeightAt(position, term));
    }
  }
}

void SealedLexicalField::ForEachEntry(
    RowId row, absl::FunctionRef<void(uint32_t, float)> visit) const {
  const SparseState& sparse = state_->sparse();
  const auto [begin, end] = state_->EntriesOf(row);
  for (uint64_t entry = begin; entry < end; ++entry) {
    visit(sparse.TermOf(entry), sparse.WeightOf(entry));
  }
}

uint64_t SealedLexicalField::LengthOf(RowId row) const {
  const SparseState& sparse = state_->sparse();
  return sparse.lengths[sparse.positions[row]];
}

absl::string_view SealedLexicalField::PositionBytesOf(RowId row) const {
  return state_->has_positions() ? state_->positions_of(row)
                                 : absl::string_view();
}

absl::Status SealedLexicalField::Search(std::span<const LexicalTerm> query,
                                        const SparseParams& params,
                                        const Filter& filter, RowId begin,
                                        RowId end, const StopCondition& stop,
                                        TopK* out, SearchStats* stats) const {
  std::vector<LexicalTerm> terms(query.begin(), query.end());
  std::sort(terms.begin(), terms.end(),
            [](const LexicalTerm& a, const LexicalTerm& b) {
              return a.term < b.term;
            });
  std::vector<uint32_t> dims;
  std::vector<float> weights;
  for (const LexicalTerm& term : terms) {
    dims.push_back(state_->sparse().dims[term.term]);
    weights.push_back(term.weight);
  }
  Filter within = filter;
  // Left alone where that changes nothing: what has no range is searched
  // faster.
  if (begin > 0) within.begin = std::max(within.begin, begin);
  if (end < state_->index->num_rows()) within.end = std::min(within.end, end);
  return state_->index->Search({dims, weights}, params, within, stop, out,
                               stats);
}

size_t SealedLexicalField::memory_bytes() const {
  const bool has_dead = state_->dead.load(std::memory_order_relaxed) != nullptr;
  return sizeof(*this) + sizeof(State) + state_->num_bytes +
         state_->words.memory_bytes() + state_->index->memory_bytes() +
         (has_dead
              ? state_->sparse().header.num_terms * sizeof(State::DeadCount)
              : 0);
}

void SealedLexicalField::Kill(RowId row) {
  const SparseState& sparse = state_->sparse();
  const auto [begin, end] = state_->EntriesOf(row);
  if (begin == end) return;
  if (state_->dead_owner == nullptr) {
    state_->dead_owner =
        std::make_unique<State::DeadCount[]>(sparse.header.num_terms);
    state_->dead.store(state_->dead_owner.get(), std::memory_order_release);
  }
  for (uint64_t entry = begin; entry < end; ++entry) {
    state_->dead_owner[sparse.TermOf(entry)].fetch_add(
        1, std::memory_order_relaxed);
  }
  state_->num_dead.fetch_add(1, std::memory_order_relaxed);
  if (sparse.has_counts()) {
    state_->dead_length.fetch_add(LengthOf(row), std::memory_order_relaxed);
  }
}

}  // namespace vicinal
