// Searches where selecting is hard (ties, orders, filters) or comparing is
// (magnitudes, cancellation, zeros).
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
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

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};
constexpr ElementType kF32 = ElementType::kFloat32;
constexpr ElementType kTypes[] = {kF32, ElementType::kFloat16};

// What a case varies: the first problem of body(metric, type) over all.
template <typename Body>
std::string ForEachKind(const Body& body) {
  for (const Metric metric : kMetrics) {
    for (const ElementType type : kTypes) {
      VICINAL_CHECK_CASE(body(metric, type));
    }
  }
  return "";
}

// Searches of several batches and k over one segment.
std::string SearchAll(DistanceBackend& tested, DistanceBackend& reference,
                      Metric metric, const Vectors& rows,
                      const Vectors::Fill& query,
                      std::initializer_list<size_t> batches,
                      std::initializer_list<size_t> ks) {
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, metric));
  for (const size_t num_queries : batches) {
    const Vectors queries(num_queries, rows.dim(), rows.type(), query);
    for (const size_t k : ks) {
      VICINAL_CHECK_CASE(comparison.Search(queries, k));
    }
  }
  return "";
}

std::string FewerRowsThanK(DistanceBackend& tested, DistanceBackend& reference,
                           uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const size_t num_rows : {1, 5, 300}) {
      const Vectors rows(num_rows, 40, type, NoiseFill(random));
      VICINAL_CHECK_CASE(SearchAll(tested, reference, metric, rows,
                                   NoiseFill(random), {1, 10},
                                   {num_rows + 1, 400, 1024}));
    }
    return std::string();
  });
}

std::string EveryK(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed) {
  Random random(seed);
  const Vectors rows(3000, 16, kF32, NoiseFill(random));
  return SearchAll(tested, reference, Metric::kL2, rows, NoiseFill(random),
                   {3, 12},
                   {1,   2,   3,   5,   8,   31,  32,  33,  63,  64,   65,
                    127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024});
}

std::string AllRowsEqual(DistanceBackend& tested, DistanceBackend& reference,
                         uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const Vectors::Fill same = RepeatFill(random, 1);
    const Vectors rows(3000, 72, type, same);
    // Every second query is that vector, too.
    return SearchAll(tested, reference, metric, rows,
                     [&](size_t index, std::span<float> out) {
                       index % 2 == 0 ? same(index, out)
                                      : NoiseFill(random)(index, out);
                     },
                     {1, 9, 40}, {1, 10, 1024});
  });
}

std::string FewDistinctRows(DistanceBackend& tested, DistanceBackend& reference,
                            uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const size_t distinct : {2, 7, 500}) {
      const Vectors::Fill fill = RepeatFill(random, distinct);
      const Vectors rows(5000, 33, type, fill);
      VICINAL_CHECK_CASE(SearchAll(tested, reference, metric, rows,
                                   [&](size_t, std::span<float> out) {
                                     fill(random.Next() % 5000, out);
                                   },
                                   {2, 30}, {1, 100, 1000}));
    }
    return std::string();
  });
}

// Rows that come nearer, or go, one by one.
std::string InOrder(DistanceBackend& tested, DistanceBackend& reference,
                    uint64_t seed, size_t num_rows, bool nearer,
                    std::initializer_list<size_t> batches) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const auto row = [&](size_t index, std::span<float> out) {
      for (float& value : out) value = 1e-4f * Noise(random);
      const double t = static_cast<double>(nearer ? index : num_rows - index) /
                       static_cast<double>(num_rows);
      if (metric == Metric::kL2) {
        out[0] += static_cast<float>(10 * (1 - t));
      } else if (metric == Metric::kInnerProduct) {
        out[0] += static_cast<float>(10 * t);
      } else {
        out[0] += static_cast<float>(std::sin(1.5 * t));
        out[1] += static_cast<float>(std::cos(1.5 * t));
      }
    };
    const Vectors rows(num_rows, 32, type, row);
    return SearchAll(tested, reference, metric, rows,
                     [&](size_t, std::span<float> out) {
                       for (float& value : out) value = 1e-3f * Noise(random);
                       if (metric != Metric::kL2) out[0] += 1;
                     },
                     batches, {10, 1000});
  });
}

std::string ComingNearer(DistanceBackend& tested, DistanceBackend& reference,
                         uint64_t seed) {
  return InOrder(tested, reference, seed, 12'000, true, {2, 20});
}
std::string GoingAway(DistanceBackend& tested, DistanceBackend& reference,
                      uint64_t seed) {
  return InOrder(tested, reference, seed, 12'000, false, {2, 20});
}
std::string LargeComingNearer(DistanceBackend& tested,
                              DistanceBackend& reference, uint64_t seed) {
  return InOrder(tested, reference, seed, 300'000, true, {1, 200});
}

std::string ClustersInRowOrder(DistanceBackend& tested,
                               DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    constexpr size_t kRows = 12'000;
    const Vectors::Fill fill = ClusterFill(random, kRows, 64, 30);
    const Vectors rows(kRows, 64, type, fill);
    // First spread over all clusters, then all in the last one.
    VICINAL_CHECK_CASE(SearchAll(
        tested, reference, metric, rows,
        [&](size_t, std::span<float> out) { fill(random.Uniform(kRows), out); },
        {1, 20}, {10, 1000}));
    return SearchAll(
        tested, reference, metric, rows,
        [&](size_t, std::span<float> out) { fill(kRows - 1, out); }, {20},
        {10, 600});
  });
}

std::string ZeroVectors(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const size_t one_in : {1, 3, 100}) {
      const Vectors::Fill some_zero = [&](size_t index, std::span<float> out) {
        if (random.Uniform(one_in) != 0) NoiseFill(random)(index, out);
      };
      const Vectors rows(2000, 70, type, some_zero);
      VICINAL_CHECK_CASE(SearchAll(tested, reference, metric, rows, some_zero,
                                   {1, 10, 20}, {10, 1000}));
    }
    return std::string();
  });
}

std::string NegativeInnerProducts(DistanceBackend& tested,
                                  DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const auto signed_fill = [&](float sign) {
      return [&random, sign](size_t, std::span<float> out) {
        for (float& value : out) value = sign * std::abs(Noise(random));
      };
    };
    const Vectors rows(3000, 100, type, signed_fill(1));
    return SearchAll(tested, reference, metric, rows, signed_fill(-1), {1, 30},
                     {10, 1000});
  });
}

std::string Magnitudes(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const std::vector<float> scales =
        type == kF32 ? std::vector{1e15f, 1e-15f, 1e18f, 1e-19f, 3e-23f, 1e-40f}
                     : std::vector{2e4f, 1e-3f, 1e-7f};
    for (const float scale : scales) {
      const Vectors rows(1500, 100, type, NoiseFill(random, scale));
      for (const float query_scale : {scale, 1.0f}) {
        VICINAL_CHECK_CASE(SearchAll(tested, reference, metric, rows,
                                     NoiseFill(random, query_scale), {3, 12},
                                     {10, 1024}));
      }
    }
    // Each row of its own magnitude.
    const Vectors::Fill mixed = [&](size_t index, std::span<float> out) {
      const double range = type == kF32 ? 18 : 3;
      const double exponent = (2 * random.UniformDouble() - 1) * range;
      NoiseFill(random, static_cast<float>(std::pow(10, exponent)))(index, out);
    };
    const Vectors rows(1500, 100, type, mixed);
    return SearchAll(tested, reference, metric, rows, mixed, {3, 12},
                     {10, 1024});
  });
}

// One row much longer than the others, which loosens every bound.
std::string OneLongRow(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const Vectors rows(4000, 64, type, [&](size_t index, std::span<float> out) {
      const float length = type == kF32 ? 1e12f : 2e4f;
      NoiseFill(random, index == 1234 ? length : 1)(index, out);
    });
    return SearchAll(tested, reference, metric, rows, NoiseFill(random),
                     {2, 20}, {10, 100});
  });
}

// Sums that overflow, and infinities that cancel: still an order.
std::string Overflow(DistanceBackend& tested, DistanceBackend& reference,
                     uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    for (const float largest : {1e19f, 1e20f, 3.4028234e38f}) {
      const Vectors::Fill fill = [&](size_t, std::span<float> out) {
        const bool is_large = random.Uniform(3) != 0;
        for (float& value : out) {
          const float magnitude = is_large ? largest : 1.0f;
          value = (random.Uniform(2) == 0 ? magnitude : -magnitude) *
                  (random.Uniform(4) == 0 ? 1.0f : 0.25f);
        }
      };
      for (const size_t dim : {3, 96}) {
        const Vectors rows(1200, dim, kF32, fill);
        VICINAL_CHECK_CASE(SearchAll(tested, reference, metric, rows, fill,
                                     {2, 12}, {10, 1000}));
      }
    }
  }
  return "";
}

// Differences below what rounding to few bits keeps.
std::string NearTies(DistanceBackend& tested, DistanceBackend& reference,
                     uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const Vectors::Fill base = RepeatFill(random, 1);
    const Vectors::Fill fill = [&](size_t index, std::span<float> out) {
      base(index, out);
      for (float& value : out) value += 2e-6f * Noise(random);
    };
    const Vectors rows(5000, 96, type, fill);
    VICINAL_CHECK_CASE(
        SearchAll(tested, reference, metric, rows, fill, {2, 20}, {10, 1000}));
    return SearchAll(tested, reference, metric, rows, NoiseFill(random), {20},
                     {10});
  });
}

std::string LargeNearTies(DistanceBackend& tested, DistanceBackend& reference,
                          uint64_t seed) {
  Random random(seed);
  const Vectors::Fill base = RepeatFill(random, 1);
  const Vectors::Fill fill = [&](size_t index, std::span<float> out) {
    base(index, out);
    for (float& value : out) value += 2e-6f * Noise(random);
  };
  for (const Metric metric : kMetrics) {
    const Vectors rows(100'000, 128, kF32, fill);
    VICINAL_CHECK_CASE(
        SearchAll(tested, reference, metric, rows, fill, {3, 150}, {10, 1000}));
  }
  return "";
}

// |x|^2 - 2 <q, x> + |q|^2 would lose all there is to know.
std::string FarFromTheOrigin(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    const Vectors::Fill fill = [&](size_t, std::span<float> out) {
      for (float& value : out) value = 1000 + Noise(random);
    };
    const Vectors rows(4000, 128, type, fill);
    return SearchAll(tested, reference, metric, rows, fill, {2, 20},
                     {10, 1000});
  });
}

// Minus an inner product of zero is -0, of one that underflows from below +0:
// both are the same distance, and each is returned as it is.
std::string SignedZeros(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const size_t dim : {5, 64, 192}) {
      const Vectors::Fill fill = [&](size_t, std::span<float> out) {
        const uint64_t kind = random.Uniform(4);
        for (float& value : out) {
          value = kind == 0                ? -0.0f
                  : kind == 1              ? 1e-30f
                  : kind == 2              ? -1e-30f
                  : random.Uniform(2) == 0 ? 0.0f
                                           : -0.0f;
        }
      };
      const Vectors rows(1500, dim, type, fill);
      VICINAL_CHECK_CASE(SearchAll(tested, reference, metric, rows, fill,
                                   {4, 24}, {10, 1000}));
    }
    return std::string();
  });
}

std::string Filters(DistanceBackend& tested, DistanceBackend& reference,
                    uint64_t seed) {
  Random random(seed);
  constexpr size_t kRows = 5003;  // ends inside a word
  return ForEachKind([&](Metric metric, ElementType type) {
    const Vectors rows(kRows, 50, type, NoiseFill(random));
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, metric));
    RowSet first_and_last(kRows);
    first_and_last.Add(0);
    first_and_last.Add(kRows - 1);
    RowSet range(kRows);
    for (size_t row = 1000; row < 1300; ++row) range.Add(row);
    RowSet one(kRows);
    one.Add(random.Uniform(kRows));
    for (const size_t num_queries : {1, 8, 9, 40}) {
      const Vectors queries(num_queries, 50, type, NoiseFill(random));
      for (const size_t k : {1, 10, 1000}) {
        for (const RowSet* set : std::initializer_list<const RowSet*>{
                 &first_and_last, &range, &one}) {
          VICINAL_CHECK_CASE(comparison.Search(queries, k, set));
        }
        const RowSet all(kRows, true);
        const RowSet none(kRows);
        VICINAL_CHECK_CASE(comparison.Search(queries, k, &all));
        VICINAL_CHECK_CASE(comparison.Search(queries, k, &none));
        for (const double fraction : {0.01, 0.25, 0.9}) {
          const RowSet some = RowSet::Sample(random, kRows, fraction);
          VICINAL_CHECK_CASE(comparison.Search(queries, k, &some));
        }
      }
    }
    return std::string();
  });
}

// The accepted rows are the farthest: thresholds from others would lose them.
std::string FilterAgainstTheOrder(DistanceBackend& tested,
                                  DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  constexpr size_t kRows = 9000;
  for (const Metric metric : kMetrics) {
    const Vectors rows(kRows, 40, kF32,
                       [&](size_t index, std::span<float> out) {
                         NoiseFill(random, 1e-2f)(index, out);
                         out[index % 3 == 0 ? 1 : 0] += 1;
                       });
    RowSet far(kRows);
    for (size_t row = 0; row < kRows; row += 3) far.Add(row);
    const Vectors queries(20, 40, kF32,
                          [&](size_t index, std::span<float> out) {
                            NoiseFill(random, 1e-2f)(index, out);
                            out[0] += 1;
                          });
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, metric));
    for (const size_t k : {10, 1000}) {
      VICINAL_CHECK_CASE(comparison.Search(queries, k, &far));
    }
  }
  return "";
}

std::string Gaps(DistanceBackend& tested, DistanceBackend& reference,
                 uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](Metric metric, ElementType type) {
    for (const auto& [dim, gap] : {std::pair<size_t, size_t>{64, 1},
                                   {63, 1},
                                   {7, 100},
                                   {100, 3},
                                   {768, 13}}) {
      const Vectors rows(700, dim, type, NoiseFill(random), gap);
      VICINAL_CHECK_CASE(SearchAll(tested, reference, metric, rows,
                                   NoiseFill(random), {1, 9}, {10}));
    }
    return std::string();
  });
}

constexpr ConformanceCase kCases[] = {
    {"fewer_rows_than_k", FewerRowsThanK},
    {"every_k", EveryK},
    {"all_rows_equal", AllRowsEqual},
    {"few_distinct_rows", FewDistinctRows},
    {"coming_nearer", ComingNearer},
    {"going_away", GoingAway},
    {"clusters_in_row_order", ClustersInRowOrder},
    {"zero_vectors", ZeroVectors},
    {"negative_inner_products", NegativeInnerProducts},
    {"magnitudes", Magnitudes},
    {"one_long_row", OneLongRow},
    {"overflow", Overflow},
    {"near_ties", NearTies},
    {"far_from_the_origin", FarFromTheOrigin},
    {"signed_zeros", SignedZeros},
    {"filters", Filters},
    {"filter_against_the_order", FilterAgainstTheOrder},
    {"gaps", Gaps},
    {"large_coming_nearer", LargeComingNearer, true},
    {"large_near_ties", LargeNearTies, true},
};

}  // namespace

std::span<const ConformanceCase> SearchCases() { return kCases; }

}  // namespace vicinal::backend_tests
