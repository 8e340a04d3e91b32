// Rows of int8 and uint8 at the edges of their values, where sums of products
// exceed what a float says exactly and ties are the rule.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
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

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};
constexpr ElementType kTypes[] = {ElementType::kInt8, ElementType::kUint8};

// Elements as Vectors takes them: an integer of the type is 32 times the value,
// that of uint8 128 more.
constexpr float kLeast = -4;
float Most(ElementType type) {
  return (type == ElementType::kInt8 ? 127.0f : 128.0f) / 32;
}
float Zero(ElementType type) { return type == ElementType::kInt8 ? 0.0f : -4; }

// Searches of few and many queries, with and without a filter; scores; a graph.
std::string AskAll(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed, Metric metric, const Vectors& rows,
                   const Vectors::Fill& query) {
  Random random(seed);
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, metric));
  const RowSet some = RowSet::Sample(random, rows.num(), 0.6);
  for (const size_t num_queries : {1, 8, 40}) {
    const Vectors queries(num_queries, rows.dim(), rows.type(), query);
    for (const size_t k : {1, 10, 600}) {
      VICINAL_CHECK_CASE(comparison.Search(queries, k));
      VICINAL_CHECK_CASE(comparison.Search(queries, k, &some));
    }
    std::vector<uint32_t> offsets = {0};
    std::vector<RowId> list;
    for (size_t q = 0; q < num_queries; ++q) {
      for (size_t i = random.Uniform(50); i > 0; --i) {
        list.push_back(static_cast<RowId>(random.Uniform(rows.num())));
      }
      offsets.push_back(static_cast<uint32_t>(list.size()));
    }
    VICINAL_CHECK_CASE(comparison.Score(queries, offsets, list));
  }
  return comparison.KnnGraph(12);
}

template <typename Body>
std::string ForEachKind(const Body& body) {
  for (const Metric metric : kMetrics) {
    for (const ElementType type : kTypes) {
      VICINAL_CHECK_CASE(body(metric, type));
    }
  }
  return "";
}

// Products of extremes: 4,096 of them are 2^28.
std::string Extremes(DistanceBackend& tested, DistanceBackend& reference,
                     uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const size_t dim : {5, 130, 1000, 4096}) {
      // Of one vector mostly one extreme.
      const Vectors::Fill fill = [&](size_t, std::span<float> out) {
        const uint64_t one_in = 1 + random.Uniform(30);
        for (float& value : out) {
          value = random.Uniform(one_in) == 0 ? kLeast : Most(type);
        }
      };
      const Vectors rows(dim == 4096 ? 100 : 400, dim, type, fill);
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, seed + dim, metric, rows, fill));
    }
    return std::string();
  });
}

// All of its values are the least, or the most, or zero.
std::string ConstantVectors(DistanceBackend& tested, DistanceBackend& reference,
                            uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const size_t num_kinds : {1, 2, 3}) {
      const Vectors::Fill fill = [&](size_t, std::span<float> out) {
        const float values[] = {Zero(type), Most(type), kLeast};
        const float value = values[random.Uniform(num_kinds)];
        for (float& element : out) element = value;
      };
      const Vectors rows(600, 70, type, fill);
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, seed + num_kinds, metric, rows, fill));
    }
    return std::string();
  });
}

// Values of one bit or two, so that many rows are at the same distance.
std::string ManyTies(DistanceBackend& tested, DistanceBackend& reference,
                     uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const uint64_t num_values : {2, 4}) {
      const Vectors::Fill fill = [&](size_t, std::span<float> out) {
        for (float& value : out) {
          value =
              Zero(type) + static_cast<float>(random.Uniform(num_values)) / 32;
        }
      };
      const Vectors rows(1200, 48, type, fill);
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, seed + num_values, metric, rows, fill));
    }
    return std::string();
  });
}

// Sums above 2^24 that differ by less than a float tells.
std::string SumsThatRound(DistanceBackend& tested, DistanceBackend& reference,
                          uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const Vectors::Fill fill = [&](size_t index, std::span<float> out) {
      for (float& value : out) value = Most(type);
      for (int i = 0; i < 3; ++i) {
        out[random.Uniform(out.size())] -=
            static_cast<float>(random.Uniform(3)) / 32;
      }
      // Queries, under L2, are at the other end.
      if (metric == Metric::kL2 && index % 2 == 1) {
        for (float& value : out) value -= Most(type) - kLeast;
      }
    };
    const Vectors rows(400, 2000, type, fill);
    return AskAll(tested, reference, seed, metric, rows, fill);
  });
}

std::string LargeClusters(DistanceBackend& tested, DistanceBackend& reference,
                          uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    constexpr size_t kRows = 60'000;
    const Vectors::Fill clusters = ClusterFill(random, kRows, 200, 60);
    const Vectors::Fill fill = [&](size_t index, std::span<float> out) {
      clusters(index, out);
      for (float& value : out) value *= 14;
    };
    const Vectors rows(kRows, 200, type, fill);
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, metric));
    for (const size_t num_queries : {1, 300}) {
      const Vectors queries(num_queries, 200, type,
                            [&](size_t, std::span<float> out) {
                              fill(random.Uniform(kRows), out);
                            });
      VICINAL_CHECK_CASE(comparison.Search(queries, 10));
      VICINAL_CHECK_CASE(comparison.Search(queries, 500));
    }
    return std::string();
  });
}

constexpr ConformanceCase kCases[] = {
    {"bytes_extremes", Extremes},
    {"bytes_constant_vectors", ConstantVectors},
    {"bytes_many_ties", ManyTies},
    {"bytes_sums_that_round", SumsThatRound},
    {"bytes_large_clusters", LargeClusters, true},
};

}  // namespace

std::span<const ConformanceCase> ByteCases() { return kCases; }

}  // namespace vicinal::backend_tests
