// Distances between the rows of a graph that is being built.
#pragma once

#include <cstddef>
#include <vector>

#include "index/hnsw_search.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {

// A metric that link selection may use: its triangle inequality is what makes
// "a is nearer to b than to me" mean "b leads to a". For the inner product
// that is L2 after a lift to one more dimension where all rows have the same
// norm, sqrt(max - |x|^2): the order of inner products is kept and rows of
// large norm do not become hubs (Bachrach et al., RecSys 2014). Borrows the
// vectors; const and thread-safe once made.
class BuildDistance {
 public:
  BuildDistance(VectorSetView vectors, Metric metric, Workers* workers);

  // Distances from one row to n others.
  void Gather(RowId from, const RowId* rows, size_t n, float* out) const {
    GatherAhead(ops_, vectors_.row(from), vectors_, rows, n, out);
    if (lift_.empty()) return;
    for (size_t i = 0; i < n; ++i) {
      const float difference = lift_[from] - lift_[rows[i]];
      out[i] += difference * difference;
    }
  }

  // The row as pair_dim() floats, whose squared L2 times pair_scale() is the
  // distance but for rounding.
  void Load(RowId row, float* out) const;
  size_t pair_dim() const { return vectors_.dim + (lift_.empty() ? 0 : 1); }
  float pair_scale() const { return metric_ == Metric::kCosine ? 0.5f : 1.0f; }

 private:
  void ComputeLift(Workers* workers);

  const VectorSetView vectors_;
  const Metric metric_;
  const DistanceOps& ops_;
  std::vector<float> lift_;  // empty unless the metric is the inner product
};

// The row as floats, of unit length under the cosine.
void RowToFloats(VectorSetView vectors, Metric metric, size_t row, float* out);

}  // namespace vicinal
