// What a growing field of terms holds. Of index/growing_lexical*.cc.
//
// Nothing that a reader was told of moves or changes, but for the atomics:
//   1. a term is told of by num_terms, or by the lock of the look-up;
//   2. a posting by its list's count, a release store after it was written;
//   3. a row by whoever publishes rows, after it was appended.
// So readers take no lock but to look terms up, and the appending thread, which
// alone changes the look-up, takes it for new terms only.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "index/growing_lexical.h"
#include "index/scratch_pool.h"
#include "index/sparse.h"
#include "src/base/mutex.h"
#include "src/base/stable_chunks.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/sparse_kernels.h"

namespace vicinal {

// Memory that is given back all at once. Appending thread only.
class GrowingArena {
 public:
  // Begins at a multiple of 8 bytes.
  char* Allocate(size_t size);
  size_t bytes() const { return bytes_; }

 private:
  // So that a field of a few rows is small, and a large one is few blocks.
  static constexpr size_t kFirstBlock = 1'024, kMaxBlock = size_t{1} << 20;

  std::vector<std::unique_ptr<char[]>> blocks_;
  char* at_ = nullptr;
  size_t left_ = 0;
  size_t next_block_ = kFirstBlock;
  size_t bytes_ = 0;
};

// Of sparse vectors `bits` is the weight. Of texts it is the count in the
// lowest byte, and the row's length above it, so that searches need not go to
// the row: kLongLength says that they must.
struct GrowingPosting {
  static constexpr uint32_t kLongLength = (uint32_t{1} << 24) - 1;

  static uint32_t BitsOf(float weight) {
    return std::bit_cast<uint32_t>(weight);
  }
  static uint32_t BitsOf(uint32_t count, uint32_t length) {
    return std::min(length, kLongLength) << 8 | count;
  }
  float weight() const { return std::bit_cast<float>(bits); }
  float count() const { return static_cast<float>(bits & 0xFF); }
  uint32_t length() const { return bits >> 8; }

  RowId row = 0;
  uint32_t bits = 0;
};

// Postings follow it in memory: kFirstCapacity of the first chunk of a list,
// twice as many of each next one, up to kMaxCapacity.
struct GrowingChunk {
  static constexpr uint32_t kFirstCapacity = 2, kMaxCapacity = 1'024;
  static uint32_t CapacityAfter(uint32_t capacity) {
    return capacity == 0 ? kFirstCapacity
                         : std::min(2 * capacity, kMaxCapacity);
  }
  GrowingPosting* postings() {
    return reinterpret_cast<GrowingPosting*>(this + 1);
  }
  const GrowingPosting* postings() const {
    return reinterpret_cast<const GrowingPosting*>(this + 1);
  }

  GrowingChunk* next = nullptr;
};

struct GrowingList {
  // Of sparse vectors: empty.
  absl::string_view word() const {
    return word_bytes == nullptr ? absl::string_view()
                                 : absl::string_view(word_bytes, dim_or_size);
  }

  const char* word_bytes = nullptr;  // of texts
  uint32_t dim_or_size = 0;          // the dimension, or the word's bytes
  std::atomic<uint32_t> count = 0;
  std::atomic<uint32_t> num_dead = 0;
  std::atomic<float> most = 0;  // of sparse vectors: absolute weight
  GrowingChunk* first = nullptr;
  // Appending thread only.
  GrowingChunk* last = nullptr;
  uint32_t last_capacity = 0;
  uint32_t num_in_last = 0;
};

// `data` has the terms (u32 each), then the weights (f32) of sparse vectors, or
// the counts (u8) and the positions of texts.
struct GrowingRow {
  std::span<const uint32_t> terms() const {
    return {reinterpret_cast<const uint32_t*>(data), num_entries};
  }
  const float* weights() const {
    return reinterpret_cast<const float*>(data +
                                          num_entries * sizeof(uint32_t));
  }
  const uint8_t* counts() const {
    return reinterpret_cast<const uint8_t*>(data +
                                            num_entries * sizeof(uint32_t));
  }
  absl::string_view positions() const {
    return {data + num_entries * (sizeof(uint32_t) + 1), positions_size};
  }

  const char* data = nullptr;  // null: no entries
  uint32_t num_entries = 0;
  uint32_t length = 0;  // of texts
  uint32_t positions_size = 0;
};

// Of one search.
struct GrowingScratch {
  // Of rows; all kUntouched between searches. What is added to them is never
  // -0, so that no sum is.
  static constexpr float kUntouched = -0.0f;
  static bool IsTouched(float sum) { return sum != 0 || !std::signbit(sum); }

  std::vector<float> sums;
  std::vector<float> query;  // by term; all zero between searches
  std::vector<float> norms;  // by length of a text
  std::vector<Neighbor> candidates;
  std::vector<float> shares;  // of a row's entries
};

// What there is from the first row on: ten thousand fields may be idle in one
// process.
struct GrowingContent {
  // More terms than memory has room for.
  static constexpr size_t kMaxTerms = size_t{1} << 31;
  static constexpr size_t kGroup = 16;  // lists in one piece of memory

  explicit GrowingContent(size_t max_rows)
      : groups(kMaxTerms / kGroup), rows(max_rows) {}

  GrowingList& list(uint32_t term) const {
    return groups[term / kGroup][term % kGroup];
  }

  GrowingArena arena;
  StableVector<GrowingList*> groups;
  StableVector<GrowingRow> rows;
  // Of the row that is appended: of its entries the terms, and of their
  // postings the bits; what GrowingRow::data has after the terms.
  std::vector<uint32_t> terms;
  std::vector<uint32_t> bits;
  std::string tail;
};

struct GrowingLexicalField::State {
  State(LexicalKind kind, bool keeps_positions, size_t most_rows)
      : is_text(kind == LexicalKind::kText),
        with_positions(keeps_positions),
        max_rows(most_rows) {}

  // Of the appending thread. The content, with nothing of a row in it.
  GrowingContent& BeginRow();
  uint32_t TermFor(uint32_t dim);
  uint32_t TermFor(absl::string_view word);
  uint32_t AddList(uint32_t dim_or_size, const char* word_bytes);
  // Adds a row of the content's terms, bits and tail.
  void EndRow(uint64_t length);
  void AddPosting(GrowingList* list, GrowingPosting posting);
  void CountMemory();

  // Calls visit(posting) for those of rows begin .. end.
  template <typename Visit>
  void ForEach(uint32_t term, RowId begin, RowId end,
               const Visit& visit) const {
    const GrowingList& list = content->list(term);
    uint32_t left = list.count.load(std::memory_order_acquire);
    if (left == 0) return;
    uint32_t capacity = GrowingChunk::kFirstCapacity;
    for (const GrowingChunk* chunk = list.first;; chunk = chunk->next) {
      const uint32_t n = std::min(left, capacity);
      const GrowingPosting* postings = chunk->postings();
      for (uint32_t i = 0; i < n; ++i) {
        if (postings[i].row >= end) return;  // rows ascend
        if (postings[i].row >= begin) visit(postings[i]);
      }
      left -= n;
      if (left == 0) return;
      capacity = GrowingChunk::CapacityAfter(capacity);
    }
  }

  const bool is_text;
  const bool with_positions;
  const size_t max_rows;
  std::unique_ptr<GrowingContent> content;  // null until the first row
  std::atomic<uint32_t> num_terms = 0;
  std::atomic<uint32_t> num_rows = 0;
  std::atomic<size_t> bytes = 0;
  std::atomic<uint64_t> num_entries = 0;
  std::atomic<uint64_t> num_live = 0;
  std::atomic<uint64_t> live_length = 0;
  // Not ABSL_GUARDED_BY: the appending thread looks terms up without it.
  mutable Mutex mu;
  absl::flat_hash_map<uint32_t, uint32_t> by_dim;
  absl::flat_hash_map<absl::string_view, uint32_t> by_word;
  mutable ScratchPool<GrowingScratch> scratches;
};

}  // namespace vicinal
