// Overlapping leaves of near rows, inside which a build compares all pairs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/cancel.h"
#include "src/base/workers.h"

namespace vicinal {

// Rows that are loaded by number: load(i, out) writes `dim` floats.
struct RowSource {
  size_t num_rows = 0;
  size_t dim = 0;
  std::function<void(uint32_t, float*)> load;
};

inline constexpr size_t kMaxLeafFanout = 8;

struct LeafParams {
  // Measured: 400 with fanout 4 gives better neighbours than 750 with 3 in
  // the same time; larger leaves cost more, smaller ones miss more.
  size_t mean_rows = 400;
  // Larger leaves are split. Bounds the room of a thread that compares pairs.
  size_t max_rows = 1536;
  size_t fanout = 4;  // leaves that a row lies in, 1..kMaxLeafFanout
  size_t iterations =
      4;  // of k-means; 2 cost 1.04x the distances on word vectors
};

// members[starts[i] .. starts[i + 1]) are the rows of leaf i, ascending.
struct Leaves {
  std::vector<uint32_t> members;
  std::vector<size_t> starts = {0};

  size_t size() const { return starts.size() - 1; }
  std::span<const uint32_t> leaf(size_t i) const {
    return {members.data() + starts[i], starts[i + 1] - starts[i]};
  }
};

// One leaf when all rows fit it. Otherwise every row goes to the leaves of its
// `fanout` nearest centroids, and leaves that are too large are split anew.
// Does not depend on the number of threads. cancel may be null. Cancelled: the
// token was set.
absl::StatusOr<Leaves> PartitionIntoLeaves(const RowSource& rows,
                                           const LeafParams& params,
                                           Workers* workers,
                                           const CancelToken* cancel);

}  // namespace vicinal
