#include "index/build_distance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/base/half.h"

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
  const std::byte* in = vectors.row(row);
  const size_t dim = vectors.dim;
  switch (vectors.type) {
    case ElementType::kFloat32:
      std::memcpy(out, in, dim * sizeof(float));
      break;
    case ElementType::kFloat16:
      for (size_t i = 0; i < dim; ++i) {
        uint16_t half;
        std::memcpy(&half, in + 2 * i, 2);
        out[i] = HalfToFloat(half);
      }
      break;
    case ElementType::kInt8:
      for (size_t i = 0; i < dim; ++i) out[i] = static_cast<int8_t>(in[i]);
      break;
    case ElementType::kUint8:
      for (size_t i = 0; i < dim; ++i) out[i] = static_cast<uint8_t>(in[i]);
      break;
  }
  if (metric == Metric::kCosine) NormalizeInto(out, dim, out);
}

}  // namespace vicinal
