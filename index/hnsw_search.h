// The walks of an HNSW graph, shared by search and construction.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "index/hnsw.h"
#include "index/hnsw_graph.h"
#include "index/scratch_pool.h"
#include "quant/codec.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"

namespace vicinal {

// The slots seen by one walk. One bit each, so that tens of thousands fit the
// first-level cache; Clear undoes what was set, not the whole table.
class VisitedSet {
 public:
  void Reserve(size_t num_slots) {
    if (words_.size() * 64 < num_slots) words_.resize((num_slots + 63) / 64);
  }
  void Insert(uint32_t slot) { InsertNew(&slot, 1, &slot); }

  // Inserts n slots and writes those that were new to fresh (room for n; may
  // be `slots`); returns their number. No branch depends on what is found: it
  // could not be predicted.
  size_t InsertNew(const uint32_t* slots, size_t n, uint32_t* fresh) {
    if (touched_.size() < num_touched_ + n) {
      touched_.resize(2 * num_touched_ + n);
    }
    uint32_t* touched = touched_.data() + num_touched_;
    size_t num_fresh = 0;
    for (size_t i = 0; i < n; ++i) {
      const uint32_t slot = slots[i];
      uint64_t& word = words_[slot / 64];
      const uint64_t bit = uint64_t{1} << (slot % 64);
      const bool is_new = (word & bit) == 0;
      word |= bit;
      fresh[num_fresh] = slot;
      touched[num_fresh] = slot / 64;
      num_fresh += is_new;
    }
    num_touched_ += num_fresh;
    return num_fresh;
  }
  void Clear() {
    for (size_t i = 0; i < num_touched_; ++i) words_[touched_[i]] = 0;
    num_touched_ = 0;
  }

 private:
  std::vector<uint64_t> words_;
  std::vector<uint32_t> touched_;
  size_t num_touched_ = 0;
};

// The ef nearest candidates in ascending order, with a mark on those already
// expanded. One array: at usual sizes a move of a few cache lines is cheaper
// than two heaps.
class CandidatePool {
 public:
  // capacity: at least 1.
  void Reset(size_t capacity) {
    if (keys_.size() < capacity + 1) keys_.resize(capacity + 1);
    capacity_ = capacity;
    size_ = 0;
    cursor_ = 0;
  }
  size_t size() const { return size_; }
  bool full() const { return size_ == capacity_; }
  float worst_distance() const { return Distance(keys_[size_ - 1]); }

  // The slot must not be in the pool.
  void Insert(float distance, uint32_t slot) {
    const uint64_t key = Key(distance, slot);
    if (size_ == capacity_ && key >= keys_[size_ - 1]) return;
    const size_t pos = LowerBound(key);
    std::memmove(&keys_[pos + 1], &keys_[pos], (size_ - pos) * sizeof(key));
    keys_[pos] = key;
    if (size_ < capacity_) ++size_;
    cursor_ = std::min(cursor_, pos);
  }
  bool HasNext() const { return cursor_ < size_; }
  // The nearest candidate not yet expanded; marks it.
  uint32_t Next() {
    const uint32_t slot = Slot(keys_[cursor_]);
    keys_[cursor_] |= 1;
    do {
      ++cursor_;
    } while (cursor_ < size_ && (keys_[cursor_] & 1) != 0);
    return slot;
  }
  // What Next would return now; call only when HasNext.
  uint32_t Peek() const { return Slot(keys_[cursor_]); }

  float distance(size_t i) const { return Distance(keys_[i]); }
  uint32_t slot(size_t i) const { return Slot(keys_[i]); }

 private:
  // Distance in the upper half, as an integer in the same order; below it the
  // slot, so that ties go to the smaller one; the mark in the lowest bit.
  static uint64_t Key(float distance, uint32_t slot) {
    const uint32_t bits = std::bit_cast<uint32_t>(distance + 0.0f);
    const uint32_t flip = (bits >> 31) != 0 ? ~uint32_t{0} : uint32_t{1} << 31;
    return uint64_t{bits ^ flip} << 32 | uint64_t{slot} << 1;
  }
  static float Distance(uint64_t key) {
    const uint32_t bits = key >> 32;
    const uint32_t flip = (bits >> 31) != 0 ? uint32_t{1} << 31 : ~uint32_t{0};
    return std::bit_cast<float>(bits ^ flip);
  }
  static uint32_t Slot(uint64_t key) { return static_cast<uint32_t>(key) >> 1; }

  // Position of the first key that is not smaller. Halves the range without
  // branches that depend on the keys.
  size_t LowerBound(uint64_t key) const {
    const uint64_t* base = keys_.data();
    size_t length = size_;
    while (length > 1) {
      const size_t half = length / 2;
      base = base[half - 1] < key ? base + half : base;
      length -= half;
    }
    return (base - keys_.data()) + (length == 1 && *base < key ? 1 : 0);
  }

  std::vector<uint64_t> keys_;
  size_t capacity_ = 0;
  size_t size_ = 0;
  size_t cursor_ = 0;  // the first unmarked key, or size_
};

// What one walk needs; reused, so that a search in the steady state does not
// allocate. One thread at a time.
struct HnswScratch {
  VisitedSet visited;
  CandidatePool pool;
  std::vector<uint32_t> slots;
  std::vector<RowId> rows;
  std::vector<float> distances;
  std::vector<Neighbor> heap;
  PreparedQuery query;          // of walks over codes
  std::vector<RowId> reranked;  // candidates to compare exactly
  std::vector<float> exact;     // and their distances

  void Reserve(size_t num_slots, size_t max_degree) {
    visited.Clear();  // of the walk before
    visited.Reserve(num_slots);
    if (slots.size() < max_degree) {
      slots.resize(max_degree);
      rows.resize(max_degree);
      distances.resize(max_degree);
    }
  }
};

// gather, with the rows after the ones being scored on their way from memory:
// measured 1.1-1.2x on the 100-d and 784-d sets of docs/BENCHMARKS.md. Of a
// long row the first KiB; the processor's own prefetcher follows from there.
inline void GatherAhead(const DistanceOps& ops, const void* query,
                        VectorSetView vectors, const RowId* rows, size_t n,
                        float* out) {
  constexpr size_t kStep = 4;
  constexpr size_t kLineBytes = 64;
  constexpr size_t kMaxRowBytes = 1024;
  constexpr size_t kBytesAhead = 8192;
  const size_t bytes =
      std::min(vectors.dim * ElementSize(vectors.type), kMaxRowBytes);
  const size_t ahead = std::clamp<size_t>(kBytesAhead / bytes, kStep, 32);
  const auto prefetch = [&](size_t i) {
    const std::byte* row = vectors.row(rows[i]);
    for (size_t at = 0; at < bytes; at += kLineBytes) {
      __builtin_prefetch(row + at);
    }
  };
  for (size_t i = 0; i < std::min(n, ahead); ++i) prefetch(i);
  for (size_t i = 0; i < n; i += kStep) {
    for (size_t j = i + ahead; j < std::min(n, i + ahead + kStep); ++j) {
      prefetch(j);
    }
    ops.gather(query, vectors.data, vectors.stride_bytes, rows + i,
               std::min(kStep, n - i), vectors.dim, out + i);
  }
}

// Keeps the `depth` nearest, in no order; *limit becomes the farthest of them
// where some were dropped.
inline void KeepNearest(size_t depth, std::vector<Neighbor>* pool,
                        float* limit) {
  if (pool->size() <= depth) return;
  const auto last = pool->begin() + static_cast<ptrdiff_t>(depth) - 1;
  std::nth_element(pool->begin(), last, pool->end());
  *limit = last->distance;
  pool->resize(depth);
}

// Distances from one query to rows: one call per expanded node.
struct QueryScorer {
  const DistanceOps* ops = nullptr;
  VectorSetView vectors;
  const void* query = nullptr;

  void operator()(const RowId* rows, size_t n, float* out) const {
    GatherAhead(*ops, query, vectors, rows, n, out);
  }
};

// Estimates from one query to rows by their codes.
struct CodeScorer {
  const CodeKernels* kernels = nullptr;
  const CodeLayout* layout = nullptr;
  const CodeQuery* query = nullptr;
  const uint8_t* records = nullptr;

  void operator()(const RowId* rows, size_t n, float* out) const {
    constexpr size_t kStep = 4;
    constexpr size_t kLineBytes = 64;
    constexpr size_t kBytesAhead = 4096;
    const size_t bytes = layout->record_bytes;
    const size_t ahead = std::clamp<size_t>(kBytesAhead / bytes, kStep, 32);
    const auto prefetch = [&](size_t i) {
      const uint8_t* record = records + size_t{rows[i]} * bytes;
      for (size_t at = 0; at < bytes; at += kLineBytes) {
        __builtin_prefetch(record + at);
      }
      __builtin_prefetch(record + bytes - 1);
    };
    for (size_t i = 0; i < std::min(n, ahead); ++i) prefetch(i);
    for (size_t i = 0; i < n; i += kStep) {
      for (size_t j = i + ahead; j < std::min(n, i + ahead + kStep); ++j) {
        prefetch(j);
      }
      kernels->gather(*layout, *query, records, bytes, rows + i,
                      std::min(kStep, n - i), out + i);
    }
  }
};

// A node found by a walk: slots of one level.
struct HnswStep {
  uint32_t slot = 0;
  float distance = 0;
};

// From `at`, whose distance is known, to a node none of whose links is nearer.
template <typename Scorer>
HnswStep GreedyWalk(const HnswLevel& level, const Scorer& score, HnswStep at,
                    HnswScratch* scratch, uint64_t* num_distances) {
  for (;;) {
    const uint32_t* links = level.LinksOf(at.slot);
    size_t n = 0;
    while (n < level.stride && links[n] != kNoLink) {
      scratch->rows[n] = level.RowOf(links[n]);
      ++n;
    }
    score(scratch->rows.data(), n, scratch->distances.data());
    *num_distances += n;
    HnswStep best = at;
    for (size_t i = 0; i < n; ++i) {
      const float distance = scratch->distances[i];
      if (distance < best.distance ||
          (distance == best.distance && links[i] < best.slot)) {
        best = {links[i], distance};
      }
    }
    if (best.slot == at.slot) return at;
    at = best;
  }
}

// From the entry down to `target_level`, greedily on every level above it.
template <typename Scorer>
HnswStep Descend(const HnswGraph& graph, size_t target_level,
                 const Scorer& score, HnswScratch* scratch,
                 uint64_t* num_distances) {
  size_t l = graph.levels.size() - 1;
  HnswStep at{.slot = graph.entry};
  const RowId row = graph.levels[l].RowOf(at.slot);
  score(&row, 1, &at.distance);
  ++*num_distances;
  for (; l > target_level; --l) {
    at = GreedyWalk(graph.levels[l], score, at, scratch, num_distances);
    at.slot = graph.levels[l].down[at.slot];
  }
  return at;
}

// Links in a row; kNoLink fills its end.
inline size_t CountLinks(const uint32_t* links, size_t stride) {
  size_t n = stride;
  while (n > 0 && links[n - 1] == kNoLink) --n;
  return n;
}

// The linked nodes not seen before, into scratch->slots and rows.
inline size_t CollectUnseen(const HnswLevel& level, const uint32_t* links,
                            HnswScratch* scratch) {
  const size_t n = scratch->visited.InsertNew(
      links, CountLinks(links, level.stride), scratch->slots.data());
  for (size_t i = 0; i < n; ++i) {
    scratch->rows[i] = level.RowOf(scratch->slots[i]);
  }
  return n;
}

// Best-first walk of one level from `start`; leaves the ef nearest nodes in
// scratch->pool and the nodes seen in scratch->visited (the caller clears it).
// keep_going() is asked before every expansion; false ends the walk.
template <typename Scorer, typename KeepGoing>
void PoolWalk(const HnswLevel& level, const Scorer& score, HnswStep start,
              size_t ef, HnswScratch* scratch, uint64_t* num_distances,
              const KeepGoing& keep_going) {
  CandidatePool& pool = scratch->pool;
  VisitedSet& visited = scratch->visited;
  pool.Reset(ef);
  visited.Insert(start.slot);
  pool.Insert(start.distance, start.slot);
  while (pool.HasNext() && keep_going()) {
    const uint32_t* links = level.LinksOf(pool.Next());
    if (pool.HasNext()) {
      const uint32_t* next = level.LinksOf(pool.Peek());
      for (size_t i = 0; i < level.stride; i += 16) {
        __builtin_prefetch(next + i);
      }
    }
    const size_t n = CollectUnseen(level, links, scratch);
    score(scratch->rows.data(), n, scratch->distances.data());
    *num_distances += n;
    for (size_t i = 0; i < n; ++i) {
      pool.Insert(scratch->distances[i], scratch->slots[i]);
    }
  }
}

// The same for a filter: walks through every node, leaves the ef nearest
// accepted ones in scratch->pool. Waiting nodes lie in a heap, as there may be
// any number of them before ef accepted ones are found.
template <typename Scorer, typename Accepts, typename KeepGoing>
void FilteredPoolWalk(const HnswLevel& level, const Scorer& score,
                      HnswStep start, size_t ef, HnswScratch* scratch,
                      uint64_t* num_distances, const Accepts& accepts,
                      const KeepGoing& keep_going) {
  CandidatePool& pool = scratch->pool;
  VisitedSet& visited = scratch->visited;
  std::vector<Neighbor>& heap = scratch->heap;
  const auto farther = [](const Neighbor& a, const Neighbor& b) {
    return b < a;
  };
  const auto add = [&](float distance, uint32_t slot) {
    if (pool.full() && distance > pool.worst_distance()) return;
    if (accepts(slot)) pool.Insert(distance, slot);
    heap.push_back({distance, slot});
    std::push_heap(heap.begin(), heap.end(), farther);
  };
  pool.Reset(ef);
  heap.clear();
  visited.Insert(start.slot);
  add(start.distance, start.slot);
  while (!heap.empty() &&
         !(pool.full() && heap.front().distance > pool.worst_distance()) &&
         keep_going()) {
    std::pop_heap(heap.begin(), heap.end(), farther);
    const uint32_t* links = level.LinksOf(heap.back().row);
    heap.pop_back();
    const size_t n = CollectUnseen(level, links, scratch);
    score(scratch->rows.data(), n, scratch->distances.data());
    *num_distances += n;
    for (size_t i = 0; i < n; ++i) {
      add(scratch->distances[i], scratch->slots[i]);
    }
  }
}

// A graph that is searched, and the room that its searches reuse.
struct HnswState {
  HnswGraph graph;
  size_t graph_bytes = 0;
  const DistanceOps* ops = nullptr;
  CodedRows codes;
  mutable ScratchPool<HnswScratch> scratches;
};

// Exact distances of the first `depth` candidates of scratch->pool into
// scratch->exact, their rows in scratch->reranked; returns how many.
inline size_t ScoreExactly(const QueryScorer& score, size_t depth,
                           HnswScratch* scratch) {
  const CandidatePool& pool = scratch->pool;
  depth = std::min(depth, pool.size());
  if (scratch->exact.size() < depth) {
    scratch->exact.resize(depth);
    scratch->reranked.resize(depth);
  }
  for (size_t i = 0; i < depth; ++i) scratch->reranked[i] = pool.slot(i);
  score(scratch->reranked.data(), depth, scratch->exact.data());
  return depth;
}

}  // namespace vicinal
