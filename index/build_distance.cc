#include "index/build_distance.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/distance/load_row.h"

namespace vicinal {

BuildDistance::BuildDistance(VectorSetView vectors, Metric metric,
                             Workers* workers)
    : vectors_(vectors),
      metric_(metric),
      ops_(OpsFor(metric == Metric::kCosine ? Metric::kCosine : Metric::kL2,
                  vectors.type)) {
  if (metric == Metric::kInnerProduct) ComputeLift(workers);
}

void BuildDistance::ComputeLift(Workers* workers) {
  const DistanceOps& ip = OpsFor(Metric::kInnerProduct, vectors_.type);
  lift_.resize(vectors_.num_rows);
  workers->For(vectors_.num_rows, 1024, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      lift_[i] = -ip.one(vectors_.row(i), vectors_.row(i), vectors_.dim);
    }
  });
  if (lift_.empty()) return;
  // A norm whose square is no float must not make NaNs of all differences:
  // such a row is far from all others anyway.
  constexpr float kMax = std::numeric_limits<float>::max();
  float largest = 0;
  for (const float value : lift_) {
    if (value <= kMax) largest = std::max(largest, value);
  }
  for (float& value : lift_) {
    value = std::sqrt(std::max(largest - value, 0.0f));
  }
}

void BuildDistance::Load(RowId row, float* out) const {
  RowToFloats(vectors_, metric_, row, out);
  if (!lift_.empty()) out[vectors_.dim] = lift_[row];
}

void RowToFloats(VectorSetView vectors, Metric metric, size_t row, float* out) {
  LoadFloats(vectors.row(row), vectors.type, vectors.dim, out);
  if (metric == Metric::kCosine) NormalizeInto(out, vectors.dim, out);
}

}  // namespace vicinal
