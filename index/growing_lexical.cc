#include "index/growing_lexical.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "index/growing_lexical_state.h"
#include "index/lexical_field.h"
#include "index/sparse_state.h"
#include "src/base/mutex.h"

namespace vicinal {
namespace {

// Entries ahead of which memory is asked for: each is of another list.
constexpr size_t kAhead = 8;

// With a byte of its own for every slot.
template <typename Table>
size_t BytesOf(const Table& table) {
  return table.capacity() * (sizeof(typename Table::value_type) + 1);
}

// What StableVector has reserved.
template <typename T>
size_t BytesOf(const StableVector<T>& values) {
  if (values.size() == 0) return 0;
  return stable_chunks::End(stable_chunks::ChunkOf(values.size() - 1)) *
         sizeof(T);
}

}  // namespace

char* GrowingArena::Allocate(size_t size) {
  size = (size + 7) / 8 * 8;
  if (size > left_) {
    // What is large gets its own block, and the current one stays in use.
    const bool is_large = size > next_block_ / 4;
    const size_t block = is_large ? size : next_block_;
    char* begin = blocks_.emplace_back(new char[block]).get();
    bytes_ += block;
    next_block_ = std::min(2 * next_block_, kMaxBlock);
    if (is_large) return begin;
    at_ = begin;
    left_ = block;
  }
  char* out = at_;
  at_ += size;
  left_ -= size;
  return out;
}

GrowingContent& GrowingLexicalField::State::BeginRow() {
  if (content == nullptr) content = std::make_unique<GrowingContent>(max_rows);
  content->terms.clear();
  content->bits.clear();
  content->tail.clear();
  return *content;
}

uint32_t GrowingLexicalField::State::AddList(uint32_t dim_or_size,
                                             const char* word_bytes) {
  const uint32_t term = num_terms.load(std::memory_order_relaxed);
  if (term % GrowingContent::kGroup == 0) {
    char* memory =
        content->arena.Allocate(GrowingContent::kGroup * sizeof(GrowingList));
    auto* group = reinterpret_cast<GrowingList*>(memory);
    std::uninitialized_value_construct_n(group, GrowingContent::kGroup);
    content->groups.PushBack(group);
  }
  GrowingList& list = content->list(term);
  list.dim_or_size = dim_or_size;
  list.word_bytes = word_bytes;
  num_terms.store(term + 1, std::memory_order_release);
  return term;
}

uint32_t GrowingLexicalField::State::TermFor(uint32_t dim) {
  if (const auto found = by_dim.find(dim); found != by_dim.end()) {
    return found->second;
  }
  const uint32_t term = AddList(dim, nullptr);
  MutexLock lock(mu);
  by_dim.emplace(dim, term);
  return term;
}

uint32_t GrowingLexicalField::State::TermFor(absl::string_view word) {
  if (const auto found = by_word.find(word); found != by_word.end()) {
    return found->second;
  }
  char* copy = content->arena.Allocate(word.size());
  std::copy(word.begin(), word.end(), copy);
  const uint32_t term = AddList(static_cast<uint32_t>(word.size()), copy);
  MutexLock lock(mu);
  by_word.emplace(absl::string_view(copy, word.size()), term);
  return term;
}

void GrowingLexicalField::State::AddPosting(GrowingList* list,
                                            GrowingPosting posting) {
  if (list->num_in_last == list->last_capacity) {
    list->last_capacity = GrowingChunk::CapacityAfter(list->last_capacity);
    char* memory = content->arena.Allocate(
        sizeof(GrowingChunk) + list->last_capacity * sizeof(GrowingPosting));
    auto* chunk = new (memory) GrowingChunk();
    (list->last == nullptr ? list->first : list->last->next) = chunk;
    list->last = chunk;
    list->num_in_last = 0;
  }
  list->last->postings()[list->num_in_last++] = posting;
  list->count.store(list->count.load(std::memory_order_relaxed) + 1,
                    std::memory_order_release);
}

void GrowingLexicalField::State::EndRow(uint64_t length) {
  const std::vector<uint32_t>& terms = content->terms;
  const std::vector<uint32_t>& bits = content->bits;
  const std::string& tail = content->tail;
  const size_t n = terms.size();
  GrowingRow row{.num_entries = static_cast<uint32_t>(n),
                 .length = static_cast<uint32_t>(length)};
  if (n > 0) {
    const size_t terms_size = n * sizeof(uint32_t);
    char* data = content->arena.Allocate(terms_size + tail.size());
    std::memcpy(data, terms.data(), terms_size);
    std::memcpy(data + terms_size, tail.data(), tail.size());
    row.data = data;
    if (is_text) row.positions_size = static_cast<uint32_t>(tail.size() - n);
  }
  const auto id = static_cast<RowId>(content->rows.size());
  content->rows.PushBack(row);
  for (size_t i = 0; i < n; ++i) {
    if (i + kAhead < n) {
      const GrowingList& ahead = content->list(terms[i + kAhead]);
      if (ahead.last != nullptr) {
        __builtin_prefetch(ahead.last->postings() + ahead.num_in_last, 1);
      }
    }
    AddPosting(&content->list(terms[i]), {id, bits[i]});
  }
  num_rows.store(id + 1, std::memory_order_relaxed);
  num_entries.fetch_add(n, std::memory_order_relaxed);
  if (n > 0) num_live.fetch_add(1, std::memory_order_relaxed);
  live_length.fetch_add(length, std::memory_order_relaxed);
  CountMemory();
}

void GrowingLexicalField::State::CountMemory() {
  bytes.store(sizeof(GrowingContent) + content->arena.bytes() +
                  BytesOf(content->groups) + BytesOf(content->rows) +
                  BytesOf(by_dim) + BytesOf(by_word),
              std::memory_order_relaxed);
}

GrowingLexicalField::GrowingLexicalField(LexicalKind kind, bool with_positions,
                                         size_t max_rows)
    : state_(std::make_unique<State>(kind, with_positions, max_rows)) {}

GrowingLexicalField::~GrowingLexicalField() = default;

void GrowingLexicalField::Append(SparseRow row) {
  GrowingContent& content = state_->BeginRow();
  for (size_t i = 0; i < row.dims.size(); ++i) {
    content.terms.push_back(state_->TermFor(row.dims[i]));
    __builtin_prefetch(&content.list(content.terms.back()), 1);
    content.bits.push_back(GrowingPosting::BitsOf(row.weights[i]));
  }
  content.tail.assign(reinterpret_cast<const char*>(row.weights.data()),
                      row.weights.size_bytes());
  for (size_t i = 0; i < row.dims.size(); ++i) {
    // Before the posting, so that searches which see it see a bound of it.
    GrowingList& list = content.list(content.terms[i]);
    const float size = std::abs(row.weights[i]);
    if (size > list.most.load(std::memory_order_relaxed)) {
      list.most.store(size, std::memory_order_relaxed);
    }
  }
  state_->EndRow(0);
}

void GrowingLexicalField::AppendText(const TextRow& row) {
  GrowingContent& content = state_->BeginRow();
  uint64_t length = 0;
  for (size_t i = 0; i < row.terms.size(); ++i) {
    if (i + kAhead < row.terms.size()) {
      state_->by_word.prefetch(row.terms[i + kAhead].text);
    }
    const TextRow::Term& term = row.terms[i];
    content.terms.push_back(state_->TermFor(term.text));
    __builtin_prefetch(&content.list(content.terms.back()), 1);
    const uint32_t count = std::min(term.count, kMaxCount);
    content.tail.push_back(static_cast<char>(count));
    length += count;
  }
  for (const char count : content.tail) {
    content.bits.push_back(GrowingPosting::BitsOf(
        static_cast<uint8_t>(count), static_cast<uint32_t>(length)));
  }
  if (state_->with_positions) {
    for (const TextRow::Term& term : row.terms) {
      AppendPositions(term.positions, &content.tail);
    }
  }
  state_->EndRow(length);
}

uint32_t GrowingLexicalField::FindDim(uint32_t dim) const {
  MutexLock lock(state_->mu);
  const auto found = state_->by_dim.find(dim);
  return found == state_->by_dim.end() ? kNoTerm : found->second;
}

uint32_t GrowingLexicalField::FindWord(absl::string_view word) const {
  MutexLock lock(state_->mu);
  const auto found = state_->by_word.find(word);
  return found == state_->by_word.end() ? kNoTerm : found->second;
}

void GrowingLexicalField::ForEachWordFrom(
    absl::string_view prefix,
    absl::FunctionRef<void(absl::string_view, uint32_t)> visit) const {
  const uint32_t n = state_->num_terms.load(std::memory_order_acquire);
  for (uint32_t term = 0; term < n; ++term) {
    const absl::string_view word = WordOf(term);
    if (absl::StartsWith(word, prefix)) visit(word, term);
  }
}

uint32_t GrowingLexicalField::DimOf(uint32_t term) const {
  return state_->content->list(term).dim_or_size;
}

absl::string_view GrowingLexicalField::WordOf(uint32_t term) const {
  return state_->content->list(term).word();
}

uint64_t GrowingLexicalField::NumLive(uint32_t term) const {
  const GrowingList& list = state_->content->list(term);
  // In this order: no row is dead that is not yet counted.
  const uint32_t num_dead = list.num_dead.load(std::memory_order_acquire);
  return list.count.load(std::memory_order_acquire) - num_dead;
}

LexicalTotals GrowingLexicalField::totals() const {
  return {state_->num_live.load(std::memory_order_relaxed),
          state_->live_length.load(std::memory_order_relaxed)};
}

void GrowingLexicalField::ForEachPosting(
    uint32_t term, RowId begin, RowId end,
    absl::FunctionRef<void(RowId, float)> visit) const {
  const bool is_text = state_->is_text;
  state_->ForEach(term, begin, end, [&](GrowingPosting posting) {
    visit(posting.row, is_text ? posting.count() : posting.weight());
  });
}

void GrowingLexicalField::ForEachEntry(
    RowId row, absl::FunctionRef<void(uint32_t, float)> visit) const {
  const GrowingRow& at = state_->content->rows[row];
  for (size_t i = 0; i < at.num_entries; ++i) {
    visit(at.terms()[i], state_->is_text ? static_cast<float>(at.counts()[i])
                                         : at.weights()[i]);
  }
}

uint64_t GrowingLexicalField::LengthOf(RowId row) const {
  return state_->content->rows[row].length;
}

absl::string_view GrowingLexicalField::PositionBytesOf(RowId row) const {
  return state_->content->rows[row].positions();
}

size_t GrowingLexicalField::memory_bytes() const {
  return sizeof(*this) + sizeof(State) +
         state_->bytes.load(std::memory_order_relaxed);
}

void GrowingLexicalField::Kill(RowId row) {
  const GrowingRow& at = state_->content->rows[row];
  if (at.num_entries == 0) return;
  for (const uint32_t term : at.terms()) {
    state_->content->list(term).num_dead.fetch_add(1,
                                                   std::memory_order_release);
  }
  state_->num_live.fetch_sub(1, std::memory_order_relaxed);
  state_->live_length.fetch_sub(at.length, std::memory_order_relaxed);
}

}  // namespace vicinal
