// What the parts of a Searcher know of stages; for its .cc files.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include "src/engine/fusion.h"
#include "src/engine/layout.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"

namespace vicinal {

// Sums of huge products can end in NaN, which no order can hold.
inline float Ordered(float distance) {
  return std::isnan(distance) ? std::numeric_limits<float>::infinity()
                              : distance;
}

template <typename T>
void SortNearestFirst(std::vector<T>* candidates, size_t k) {
  std::sort(candidates->begin(), candidates->end(), [](const T& a, const T& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.id < b.id;
  });
  if (candidates->size() > k) candidates->resize(k);
}

size_t KOf(const Query& query);
// Whether a rescoring reads what its inputs' stages said.
bool WantsLegs(const Query& query);

// The dense field whose distances the stage's are; nullopt: they are minus
// scores.
std::optional<size_t> DenseFieldOf(const Query& query,
                                   const CollectionSchema& schema);
// What Hit::distance is more than the distance of a search: users see
// 1 - cosine; unit vectors are searched by minus the product.
inline float ShiftOf(const FieldLayout& field) {
  return field.normalized ? 1 : 0;
}
float ShiftOf(const Query& query, const CollectionSchema& schema,
              const Layout& layout);

// Of a stage's hits, larger is better, from Hit::distance.
double FusionScore(const Query& query, const CollectionSchema& schema,
                   float distance);
ScoreBounds FusionBounds(const Query& query, const CollectionSchema& schema);

}  // namespace vicinal
