// The k nearest rows seen so far.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "src/base/types.h"

namespace vicinal {

// Smaller is closer; ties go to the smaller row, so results are deterministic.
struct Neighbor {
  float distance = 0;
  RowId row = kInvalidRow;

  friend bool operator<(const Neighbor& a, const Neighbor& b) {
    return a.distance < b.distance ||
           (a.distance == b.distance && a.row < b.row);
  }
  friend bool operator==(const Neighbor&, const Neighbor&) = default;
};

// A bounded max-heap of the k smallest Neighbors. Not thread-safe.
class TopK {
 public:
  explicit TopK(size_t k) : k_(k) { heap_.reserve(k); }

  size_t k() const { return k_; }
  size_t size() const { return heap_.size(); }
  // The distance a candidate must not exceed to enter; +inf until full.
  float threshold() const {
    return heap_.size() < k_ ? std::numeric_limits<float>::infinity()
           : k_ == 0         ? -std::numeric_limits<float>::infinity()
                             : heap_.front().distance;
  }
  void Push(Neighbor candidate) {
    if (heap_.size() < k_) {
      heap_.push_back(candidate);
      std::push_heap(heap_.begin(), heap_.end());
    } else if (k_ > 0 && candidate < heap_.front()) {
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.back() = candidate;
      std::push_heap(heap_.begin(), heap_.end());
    }
  }
  // Nearest first; leaves the collector empty.
  std::vector<Neighbor> TakeSorted() {
    std::sort_heap(heap_.begin(), heap_.end());
    std::vector<Neighbor> out;
    out.swap(heap_);
    return out;
  }

 private:
  size_t k_;
  std::vector<Neighbor> heap_;
};

}  // namespace vicinal
