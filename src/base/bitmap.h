// Bitmaps over the RowIds of one segment.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/types.h"

namespace vicinal {

class AtomicBitmap;

// A fixed-size bitmap that one thread fills; const and thread-safe afterwards.
class Bitmap {
 public:
  explicit Bitmap(size_t num_bits)
      : num_bits_(num_bits), words_((num_bits + 63) / 64) {}

  // Begins with the bits of `head`, which is not longer; the rest is clear.
  Bitmap(size_t num_bits, const Bitmap& head) : Bitmap(num_bits) {
    std::copy(head.words_.begin(), head.words_.end(), words_.begin());
  }

  size_t num_bits() const { return num_bits_; }
  // Bit r of word r / 64 is row r's.
  const uint64_t* words() const { return words_.data(); }
  // Calls visit(row) for each bit that is set, ascending; of begin .. end only.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    ForEachIn(0, num_bits_, visit);
  }
  template <typename Visit>
  void ForEachIn(size_t begin, size_t end, const Visit& visit) const {
    for (size_t first = begin / 64 * 64; first < end; first += 64) {
      uint64_t word = words_[first / 64];
      if (first < begin) word &= ~uint64_t{0} << (begin - first);
      if (end - first < 64) word &= (uint64_t{1} << (end - first)) - 1;
      for (; word != 0; word &= word - 1) {
        visit(static_cast<RowId>(first + std::countr_zero(word)));
      }
    }
  }
  // Bits row .. row + 15, the lowest first; row is a multiple of 16, and bits
  // past the end are clear.
  uint16_t Sixteen(size_t row) const {
    return static_cast<uint16_t>(words_[row / 64] >> (row % 64));
  }
  void Set(RowId row) { words_[row / 64] |= uint64_t{1} << (row % 64); }
  bool Test(RowId row) const { return (words_[row / 64] >> (row % 64)) & 1; }
  size_t Count() const {
    size_t count = 0;
    for (uint64_t word : words_) count += std::popcount(word);
    return count;
  }
  // Sets those of 64 bits, from a multiple of 64 on, that `word` has.
  void SetWord(size_t first, uint64_t word) { words_[first / 64] |= word; }
  // Sets bits begin .. end of this one that `other` has, whose bit 0 is bit
  // `first` of this one, a multiple of 64.
  void OrIn(size_t begin, size_t end, size_t first, const Bitmap& other) {
    for (size_t at = begin / 64 * 64; at < end; at += 64) {
      uint64_t word = other.words_[(at - first) / 64];
      if (at < begin) word &= ~uint64_t{0} << (begin - at);
      if (end - at < 64) word &= (uint64_t{1} << (end - at)) - 1;
      words_[at / 64] |= word;
    }
  }
  // Of bits begin .. end.
  size_t CountIn(size_t begin, size_t end) const {
    size_t count = 0;
    for (size_t first = begin / 64 * 64; first < end; first += 64) {
      uint64_t word = words_[first / 64];
      if (first < begin) word &= ~uint64_t{0} << (begin - first);
      if (end - first < 64) word &= (uint64_t{1} << (end - first)) - 1;
      count += std::popcount(word);
    }
    return count;
  }
  // With another of as many bits.
  void And(const Bitmap& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }
  void AndNot(const Bitmap& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
  }
  // With another of as many bits or more.
  void AndNot(const AtomicBitmap& other);
  void Or(const Bitmap& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  void Flip() {
    for (uint64_t& word : words_) word = ~word;
    if (num_bits_ % 64 != 0) words_.back() &= ~uint64_t{0} >> (-num_bits_ % 64);
  }

 private:
  size_t num_bits_;
  std::vector<uint64_t> words_;
};

// Tombstones: one writer sets bits while any number of readers test them.
// A bit is never cleared. Has no memory until the first is set: most segments
// of small collections lose no row.
class AtomicBitmap {
 public:
  explicit AtomicBitmap(size_t num_bits) : num_bits_(num_bits) {}
  ~AtomicBitmap() { delete[] words_.load(std::memory_order_relaxed); }
  AtomicBitmap(const AtomicBitmap&) = delete;
  AtomicBitmap& operator=(const AtomicBitmap&) = delete;

  size_t num_bits() const { return num_bits_; }
  // Returns true when the bit was clear before.
  bool Set(RowId row) {
    Words* words = words_.load(std::memory_order_acquire);
    if (words == nullptr) words = Allocate();
    const uint64_t bit = uint64_t{1} << (row % 64);
    const bool was_clear =
        (words[row / 64].fetch_or(bit, std::memory_order_release) & bit) == 0;
    if (was_clear) count_.fetch_add(1, std::memory_order_release);
    return was_clear;
  }
  bool Test(RowId row) const {
    const Words* words = words_.load(std::memory_order_acquire);
    return words != nullptr &&
           ((words[row / 64].load(std::memory_order_acquire) >> (row % 64)) &
            1) != 0;
  }
  // Whoever sees a count sees as many bits.
  size_t Count() const { return count_.load(std::memory_order_acquire); }

 private:
  friend class Bitmap;
  using Words = std::atomic<uint64_t>;

  Words* Allocate() {
    auto fresh = std::make_unique<Words[]>((num_bits_ + 63) / 64);
    Words* words = nullptr;
    if (words_.compare_exchange_strong(words, fresh.get(),
                                       std::memory_order_acq_rel)) {
      return fresh.release();
    }
    return words;  // another thread was faster
  }

  size_t num_bits_;
  // Owned; a unique_ptr cannot be swapped in while others read.
  std::atomic<Words*> words_ = nullptr;
  std::atomic<size_t> count_ = 0;
};

inline void Bitmap::AndNot(const AtomicBitmap& other) {
  const AtomicBitmap::Words* words =
      other.words_.load(std::memory_order_acquire);
  if (words == nullptr) return;
  for (size_t i = 0; i < words_.size(); ++i) {
    words_[i] &= ~words[i].load(std::memory_order_acquire);
  }
}

// Which rows of a segment a search may return. An index never sees payloads.
struct Filter {
  const Bitmap* allowed = nullptr;        // null: every row of the range
  size_t num_allowed = 0;                 // exact cardinality when allowed set
  const AtomicBitmap* deleted = nullptr;  // null: nothing was deleted
  // Rows begin .. end only: where `allowed` has no bits outside, or a partition
  // whose rows lie together. `end` may be past the last row.
  RowId begin = 0;
  RowId end = kInvalidRow;

  bool Accepts(RowId row) const {
    return row >= begin && row < end &&
           (allowed == nullptr || allowed->Test(row)) &&
           (deleted == nullptr || !deleted->Test(row));
  }
  bool AcceptsAllInRange() const {
    return allowed == nullptr && (deleted == nullptr || deleted->Count() == 0);
  }
  bool HasRange() const { return begin > 0 || end != kInvalidRow; }
  bool AcceptsAll() const { return AcceptsAllInRange() && !HasRange(); }
  // The rows of the range, of num_rows rows.
  size_t RangeRows(size_t num_rows) const {
    return std::min<size_t>(end, num_rows) - std::min<size_t>(begin, num_rows);
  }
  // Of num_rows rows. An upper bound when some are deleted: they may be allowed
  // or not.
  size_t NumAccepted(size_t num_rows) const {
    const size_t accepted =
        allowed != nullptr ? num_allowed : RangeRows(num_rows);
    if (deleted == nullptr) return accepted;
    return std::min(accepted, num_rows - std::min(num_rows, deleted->Count()));
  }
};

}  // namespace vicinal
