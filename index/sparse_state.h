// What a sparse index holds; of index/sparse*.cc. Little-endian:
//
//   Header
//   dims        u32 per term: the dimensions that occur, ascending
//   scales      per term: least (f32) and step (f32) of its impacts
//   pair_begin  u32 per term and one more: its pairs
//   begins      u32 per pair and one more: where its postings begin
//   kept        u32 per pair: how many of them come first, heavy in their rows
//   windows     u16 per pair
//   tops        u8 per pair: the largest impact
//   ids         u16 per posting: the position in its window
//   impacts     u8 per posting: (weight - least) / step, rounded
//   blocks      u8, kBlocks per pair of kMinBlockedPostings or more: the
//   largest
//               impact of each block of kBlockRows positions
//   rows        u32 per position: its row
//   entry_begin u32 per position and one more: its entries
//   then of weights
//   terms       u16 per entry, ascending; u32 with more than 2^16 terms
//   weights     f32 or f16 per entry
//   or of counts
//   lengths     u32 per position
//   edges       u32 x 16: the least length of each class, ascending
//   entries     u32 per entry, ascending: the term, times 256, and its count
//
// The impact of a count has its class in its upper half (kCountEdges), and in
// the lower one 15 less the class of the row's length; of several the maximum
// of each half counts.
//
// A pair is what a term has in a window. Positions are rows in another order,
// in which rows of the same heavy dimensions lie together. Parts begin at
// multiples of 64 bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "index/scratch_pool.h"
#include "index/sparse.h"
#include "src/base/types.h"

namespace vicinal {

inline constexpr size_t kSparseWindowRows = 65'536;
inline constexpr size_t kSparseBlockRows = 512;
inline constexpr size_t kSparseBlocks = kSparseWindowRows / kSparseBlockRows;
inline constexpr size_t kMinBlockedPostings = 256;
inline constexpr uint32_t kSparseMagic = 0x31535056;  // "VPS1"

inline constexpr size_t kLengthClasses = 16;
inline constexpr uint32_t kMaxCount = 255;
// The least count of each class.
inline constexpr std::array<uint32_t, 16> kCountEdges = {
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 64, 128, 255};

// What bounds both impacts.
inline uint8_t LargerImpact(uint8_t a, uint8_t b, bool are_counts) {
  if (!are_counts) return a > b ? a : b;
  const int high = a / 16 > b / 16 ? a / 16 : b / 16;
  const int low = a % 16 > b % 16 ? a % 16 : b % 16;
  return static_cast<uint8_t>(16 * high + low);
}

struct SparseHeader {
  uint32_t magic = kSparseMagic;
  uint32_t weight_type = 0;
  uint64_t num_rows = 0;
  uint64_t num_terms = 0;
  uint64_t num_pairs = 0;
  uint64_t num_entries = 0;
  uint64_t num_blocked = 0;  // pairs that have blocks
  uint64_t zero[2] = {};
};
static_assert(sizeof(SparseHeader) == 64);

struct SparseScale {
  float least = 0;
  float step = 0;
};

// A query's term in one window.
struct SparseList {
  uint32_t pair = 0;
  uint32_t term = 0;   // of the query's
  int32_t bound = 0;   // the most that it adds to a row
  uint32_t count = 0;  // postings
};

struct SparseScratch {
  std::vector<int16_t> sums;
  std::vector<uint16_t> selected;
  std::vector<float> query;  // by term; zero but while a query uses it
  std::vector<SparseList> lists;
  std::vector<Neighbor> candidates;
};

struct SparseState {
  SparseHeader header;
  std::span<const uint32_t> dims;
  std::span<const SparseScale> scales;
  std::span<const uint32_t> pair_begin;
  std::span<const uint32_t> begins;
  std::span<const uint32_t> kept;
  std::span<const uint16_t> windows;
  std::span<const uint8_t> tops;
  std::span<const uint16_t> ids;
  std::span<const uint8_t> impacts;
  std::span<const uint8_t> blocks;
  std::span<const uint32_t> rows;
  std::span<const uint32_t> entry_begin;
  const std::byte* terms = nullptr;    // or entries of counts
  const std::byte* weights = nullptr;  // null: of counts
  std::span<const uint32_t> lengths;
  std::span<const uint32_t> edges;
  // Of each pair which blocks are its own; kNoBlocks: none.
  std::vector<uint32_t> blocked;
  std::vector<uint32_t> positions;  // of rows
  mutable ScratchPool<SparseScratch> scratches;

  static constexpr uint32_t kNoBlocks = 0xFFFFFFFF;

  bool has_counts() const {
    return header.weight_type == static_cast<uint32_t>(SparseWeight::kCount);
  }
  bool is_wide() const { return header.num_terms > 65'536; }
  size_t num_windows() const {
    return (header.num_rows + kSparseWindowRows - 1) / kSparseWindowRows;
  }
  // The score of a position; query has an element per term.
  float Score(size_t position, const Bm25& bm25, const float* query) const;
  // Where its entries are; the entries, once that is known.
  void PrefetchPlace(size_t position) const {
    __builtin_prefetch(&entry_begin[position]);
    __builtin_prefetch(&rows[position]);
    if (has_counts()) __builtin_prefetch(&lengths[position]);
  }
  void PrefetchEntries(size_t position) const;
  // The entry's term and weight, or count.
  uint32_t TermOf(uint64_t entry) const;
  float WeightOf(uint64_t entry) const;
  uint64_t NumPostings(uint32_t term) const {
    return begins[pair_begin[term + 1]] - begins[pair_begin[term]];
  }
  // Whether the position has an entry of a term that the query has.
  bool Overlaps(size_t position, const float* query) const;
};

}  // namespace vicinal
