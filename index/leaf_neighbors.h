// Near neighbours of every row, found by comparing all pairs inside leaves.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "index/leaf_partition.h"
#include "src/base/cancel.h"
#include "src/base/mutex.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"

namespace vicinal {

// For each row the `capacity` nearest others offered to it, whatever the order
// of the offers: 8 capacity + 4 bytes per row. Offer is thread-safe; reading
// is for when all offers are in.
class NeighborLists {
 public:
  NeighborLists(size_t num_rows, size_t capacity);

  // Distance bits above the row: same order as (distance, row), as distances
  // are not negative.
  static uint64_t Key(float distance, uint32_t row);
  static Neighbor FromKey(uint64_t key);

  size_t capacity() const { return capacity_; }
  // Keys in ascending order. A row offered twice must have the same distance.
  void Offer(uint32_t row, std::span<const uint64_t> keys);
  // What is farther cannot enter the list. Thread-safe.
  float Limit(uint32_t row);
  std::span<const uint64_t> Of(uint32_t row) const {
    return {&keys_[row * capacity_], counts_[row]};
  }

 private:
  static constexpr size_t kNumLocks = 256;

  const size_t capacity_;
  std::vector<uint64_t> keys_;
  std::vector<uint32_t> counts_;
  std::unique_ptr<std::array<Mutex, kNumLocks>> locks_;
};

inline constexpr size_t kMaxLeafDuplicates = 8;

// Offers to every row of every leaf the other rows of the leaf that are
// nearest to it; at most kMaxLeafDuplicates of those at distance 0. Distances
// are scaled by `scale`. Room per thread: 4 s (2 dim + s) bytes for leaves of
// up to s rows. on_leaf is told, from any thread, the size of each leaf done.
// cancel may be null. Cancelled: the token was set.
absl::Status CompareInsideLeaves(const RowSource& rows, const Leaves& leaves,
                                 float scale, Workers* workers,
                                 const CancelToken* cancel,
                                 const std::function<void(size_t)>& on_leaf,
                                 NeighborLists* lists);

}  // namespace vicinal
