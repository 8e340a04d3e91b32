// Every pair of sizes, types and filters occurs in some search.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "src/base/random.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/cases.h"
#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/conformance.h"
#include "tests/distance/gpu/test_vectors.h"

namespace vicinal::backend_tests {
namespace {

// One search, by the positions of its values in kValues.
enum Factor { kKind, kDim, kRows, kBatch, kK, kData, kAccepted, kGap };
constexpr size_t kNumFactors = 8;
using Shape = std::array<size_t, kNumFactors>;

enum Data : size_t { kNoise, kClusters, kRepeats };
constexpr size_t kAllRows = 1000;  // per mille
constexpr size_t kOneRow = 0;

const std::array<std::vector<size_t>, kNumFactors>& Values() {
  static const auto* const kValues =
      new std::array<std::vector<size_t>, kNumFactors>{{
          {0, 1, 2, 3, 4, 5},  // metric - 1 + 3 * second type
          {1, 3, 31, 64, 100, 128, 200, 768, 1000, 1536, 2048},
          {1, 7, 255, 256, 257, 1000, 5000, 20000, 40000},
          {1, 2, 7, 8, 9, 100, 129, 300},
          {1, 10, 100, 1000, 1024},
          {kNoise, kClusters, kRepeats},
          {kAllRows, 900, 250, 10, kOneRow},
          {0, 5},
      }};
  return *kValues;
}

size_t ValueOf(const Shape& shape, Factor factor) {
  return Values()[factor][shape[factor]];
}

// Keeps the slow reference below a second.
bool IsAffordable(const Shape& shape) {
  const size_t num_pairs = ValueOf(shape, kRows) * ValueOf(shape, kBatch);
  return num_pairs * (ValueOf(shape, kDim) + 50) <= 50'000'000;
}

using Pair = std::tuple<size_t, size_t, size_t, size_t>;

std::vector<Pair> PairsOf(const Shape& shape) {
  std::vector<Pair> pairs;
  for (size_t a = 0; a < kNumFactors; ++a) {
    for (size_t b = a + 1; b < kNumFactors; ++b) {
      pairs.emplace_back(a, shape[a], b, shape[b]);
    }
  }
  return pairs;
}

// The best of some random shapes that contain `pair`; none: too expensive.
std::optional<Shape> Complete(Random& random, const Pair& pair,
                              const std::set<Pair>& uncovered) {
  std::optional<Shape> best;
  size_t best_gain = 0;
  for (int attempt = 0; attempt < 60; ++attempt) {
    Shape shape;
    for (size_t factor = 0; factor < kNumFactors; ++factor) {
      shape[factor] = random.Uniform(Values()[factor].size());
    }
    shape[std::get<0>(pair)] = std::get<1>(pair);
    shape[std::get<2>(pair)] = std::get<3>(pair);
    if (!IsAffordable(shape)) {
      shape[kBatch] = 0;  // rather than never: big segments, one query
      shape[std::get<0>(pair)] = std::get<1>(pair);
      shape[std::get<2>(pair)] = std::get<3>(pair);
      if (!IsAffordable(shape)) continue;
    }
    const std::vector<Pair> pairs = PairsOf(shape);
    const size_t gain =
        std::count_if(pairs.begin(), pairs.end(),
                      [&](const Pair& p) { return uncovered.contains(p); });
    if (gain > best_gain) {
      best_gain = gain;
      best = shape;
    }
  }
  return best;
}

// Shapes in which every affordable pair of values occurs.
std::vector<Shape> CoveringShapes(uint64_t seed) {
  Random random(seed);
  std::set<Pair> uncovered;
  std::vector<Pair> order;
  for (size_t a = 0; a < kNumFactors; ++a) {
    for (size_t b = a + 1; b < kNumFactors; ++b) {
      for (size_t i = 0; i < Values()[a].size(); ++i) {
        for (size_t j = 0; j < Values()[b].size(); ++j) {
          order.emplace_back(a, i, b, j);
        }
      }
    }
  }
  uncovered.insert(order.begin(), order.end());
  for (size_t i = order.size() - 1; i > 0; --i) {
    std::swap(order[i], order[random.Uniform(i + 1)]);
  }
  std::vector<Shape> shapes;
  for (const Pair& pair : order) {
    if (!uncovered.contains(pair)) continue;
    const std::optional<Shape> shape = Complete(random, pair, uncovered);
    if (!shape.has_value()) continue;
    for (const Pair& covered : PairsOf(*shape)) uncovered.erase(covered);
    shapes.push_back(*shape);
  }
  return shapes;
}

struct SearchShape {
  size_t dim;
  size_t num_rows;
  size_t num_queries;
  size_t k;
  size_t data = kNoise;
  size_t accepted = kAllRows;
  size_t gap = 0;
};

std::string RunSearch(DistanceBackend& tested, DistanceBackend& reference,
                      Metric metric, ElementType type, const SearchShape& shape,
                      Random& random) {
  const Vectors::Fill fill =
      shape.data == kNoise ? NoiseFill(random)
      : shape.data == kClusters
          ? ClusterFill(random, shape.num_rows, shape.dim, 16)
          : RepeatFill(random, shape.num_rows / 3 + 1);
  const Vectors rows(shape.num_rows, shape.dim, type, fill, shape.gap);
  // From the same clusters or repeated vectors.
  const Vectors queries(shape.num_queries, shape.dim, type,
                        [&](size_t, std::span<float> out) {
                          fill(random.Uniform(shape.num_rows), out);
                        });
  std::optional<RowSet> accepted;
  if (shape.accepted == kOneRow) {
    accepted.emplace(shape.num_rows);
    accepted->Add(random.Uniform(shape.num_rows));
  } else if (shape.accepted != kAllRows) {
    accepted = RowSet::Sample(random, shape.num_rows,
                              static_cast<double>(shape.accepted) / 1000);
  }
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, metric));
  return comparison.Search(queries, shape.k,
                           accepted.has_value() ? &*accepted : nullptr);
}

// The shapes of one metric and type.
template <Metric kMetric, ElementType kType>
std::string CoveredShapes(DistanceBackend& tested, DistanceBackend& reference,
                          uint64_t seed) {
  const auto type = static_cast<size_t>(kType) - 1;
  const size_t kind = static_cast<size_t>(kMetric) - 1 + 3 * (type % 2);
  Random random(seed + 16 * type + kind);
  // Types that a backend may decline have a cover of their own.
  for (const Shape& shape : CoveringShapes(seed + type / 2)) {
    if (shape[kKind] != kind) continue;
    VICINAL_CHECK_CASE(RunSearch(
        tested, reference, kMetric, kType,
        {ValueOf(shape, kDim), ValueOf(shape, kRows), ValueOf(shape, kBatch),
         ValueOf(shape, kK), ValueOf(shape, kData), ValueOf(shape, kAccepted),
         ValueOf(shape, kGap)},
        random));
  }
  return "";
}

// More than a device's buffers or a round of work may hold at once.
template <Metric kMetric, ElementType kType>
std::string LargeShapes(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  for (const SearchShape& shape : std::initializer_list<SearchShape>{
           {768, 40'000, 300, 10},
           {768, 40'000, 1025, 100, kClusters},
           {128, 100'000, 1500, 10, kNoise, 250},
           {96, 200'000, 129, 1000},
           {200, 100'000, 129, 1024, kClusters, 900},
           {64, 300'000, 5, 10, kClusters},
           {2048, 40'000, 64, 100, kNoise, 10},
           {1536, 5000, 2000, 10, kClusters},
           {31, 200'000, 300, 100, kRepeats},
       }) {
    VICINAL_CHECK_CASE(
        RunSearch(tested, reference, kMetric, kType, shape, random));
  }
  return "";
}

template <Metric kMetric>
std::string EmptyInputs(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  for (const size_t dim : {3, 128}) {
    const Vectors queries(9, dim, ElementType::kFloat32, NoiseFill(random));
    const Vectors none(0, dim, ElementType::kFloat32, NoiseFill(random));
    Comparison no_rows(tested, reference);
    VICINAL_CHECK_CASE(no_rows.Load(none, kMetric));
    VICINAL_CHECK_CASE(no_rows.Search(queries, 10));
    VICINAL_CHECK_CASE(no_rows.KnnGraph(4));
    VICINAL_CHECK_CASE(no_rows.Assign(queries, true));
    Comparison no_queries(tested, reference);
    VICINAL_CHECK_CASE(no_queries.Load(queries, kMetric));
    VICINAL_CHECK_CASE(no_queries.Search(none, 10));
  }
  return "";
}

// Every size about those that kernels work in steps of.
std::string EverySmallSize(DistanceBackend& tested, DistanceBackend& reference,
                           uint64_t seed) {
  Random random(seed);
  for (size_t dim = 1; dim <= 140; ++dim) {
    const auto metric = static_cast<Metric>(1 + dim % 3);
    const auto type = static_cast<ElementType>(1 + dim / 3 % 2);
    VICINAL_CHECK_CASE(RunSearch(
        tested, reference, metric, type,
        {dim, 1 + random.Uniform(600), 1 + random.Uniform(20), 12}, random));
  }
  for (size_t num_rows = 1; num_rows <= 70; ++num_rows) {
    const auto metric = static_cast<Metric>(1 + num_rows % 3);
    VICINAL_CHECK_CASE(RunSearch(
        tested, reference, metric, ElementType::kFloat32,
        {48, num_rows * 5, num_rows, 1 + random.Uniform(num_rows * 6)},
        random));
  }
  return "";
}

constexpr Metric kL2 = Metric::kL2;
constexpr Metric kIp = Metric::kInnerProduct;
constexpr Metric kCosine = Metric::kCosine;
constexpr ElementType kF32 = ElementType::kFloat32;
constexpr ElementType kF16 = ElementType::kFloat16;
constexpr ElementType kI8 = ElementType::kInt8;
constexpr ElementType kU8 = ElementType::kUint8;

constexpr ConformanceCase kCases[] = {
    {"shapes_l2_f32", CoveredShapes<kL2, kF32>},
    {"shapes_ip_f32", CoveredShapes<kIp, kF32>},
    {"shapes_cosine_f32", CoveredShapes<kCosine, kF32>},
    {"shapes_l2_f16", CoveredShapes<kL2, kF16>},
    {"shapes_ip_f16", CoveredShapes<kIp, kF16>},
    {"shapes_cosine_f16", CoveredShapes<kCosine, kF16>},
    {"shapes_l2_int8", CoveredShapes<kL2, kI8>},
    {"shapes_ip_int8", CoveredShapes<kIp, kI8>},
    {"shapes_cosine_int8", CoveredShapes<kCosine, kI8>},
    {"shapes_l2_uint8", CoveredShapes<kL2, kU8>},
    {"shapes_ip_uint8", CoveredShapes<kIp, kU8>},
    {"shapes_cosine_uint8", CoveredShapes<kCosine, kU8>},
    {"every_small_size", EverySmallSize},
    {"empty_l2", EmptyInputs<kL2>},
    {"empty_ip", EmptyInputs<kIp>},
    {"empty_cosine", EmptyInputs<kCosine>},
    {"large_l2_f32", LargeShapes<kL2, kF32>, true},
    {"large_ip_f32", LargeShapes<kIp, kF32>, true},
    {"large_cosine_f32", LargeShapes<kCosine, kF32>, true},
    {"large_l2_f16", LargeShapes<kL2, kF16>, true},
    {"large_cosine_f16", LargeShapes<kCosine, kF16>, true},
};

}  // namespace

std::span<const ConformanceCase> ShapeCases() { return kCases; }

}  // namespace vicinal::backend_tests
