// Searches among ranges of rows.
#include <algorithm>
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
constexpr ElementType kTypes[] = {ElementType::kFloat32, ElementType::kFloat16,
                                  ElementType::kInt8, ElementType::kUint8};

// The ranges of some queries.
struct Ranges {
  std::vector<uint32_t> offsets = {0};
  std::vector<RowRange> ranges;

  void Add(const std::vector<RowRange>& of_query) {
    ranges.insert(ranges.end(), of_query.begin(), of_query.end());
    offsets.push_back(static_cast<uint32_t>(ranges.size()));
  }
};

RowRange RangeOf(size_t begin, size_t end) {
  return {static_cast<RowId>(begin), static_cast<RowId>(end)};
}

// Up to `most` ranges; some are empty, some touch.
std::vector<RowRange> RandomRanges(Random& random, size_t num_rows,
                                   size_t most) {
  std::vector<size_t> edges(2 * random.Uniform(most + 1));
  for (size_t& edge : edges) edge = random.Uniform(num_rows + 1);
  std::sort(edges.begin(), edges.end());
  std::vector<RowRange> ranges;
  for (size_t i = 0; i < edges.size(); i += 2) {
    const bool touches = i > 0 && random.Uniform(4) == 0;
    ranges.push_back(RangeOf(touches ? edges[i - 1] : edges[i], edges[i + 1]));
  }
  return ranges;
}

std::string EachItsOwn(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    for (const ElementType type : kTypes) {
      const size_t num_rows = 1 + random.Uniform(3000);
      const size_t dim = 1 + random.Uniform(150);
      const Vectors rows(num_rows, dim, type, NoiseFill(random),
                         random.Uniform(2));
      Comparison comparison(tested, reference);
      VICINAL_CHECK_CASE(comparison.Load(rows, metric));
      for (const size_t num_queries : {1, 9, 70}) {
        const Vectors queries(num_queries, dim, type, NoiseFill(random));
        Ranges lists;
        for (size_t q = 0; q < num_queries; ++q) {
          lists.Add(RandomRanges(random, num_rows, 6));
        }
        const RowSet half = RowSet::Sample(random, num_rows, 0.5);
        for (const size_t k : {1, 10, 1024}) {
          VICINAL_CHECK_CASE(
              comparison.SearchRanges(queries, lists.offsets, lists.ranges, k));
          VICINAL_CHECK_CASE(comparison.SearchRanges(queries, lists.offsets,
                                                     lists.ranges, k, &half));
        }
      }
    }
  }
  return "";
}

// Edges about those of words and tiles; one row; all rows; none.
std::string Edges(DistanceBackend& tested, DistanceBackend& reference,
                  uint64_t seed) {
  Random random(seed);
  constexpr size_t kRows = 2003;
  const Vectors rows(kRows, 24, ElementType::kFloat32, NoiseFill(random));
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kL2));
  Ranges lists;
  for (const size_t begin : {0, 1, 63, 64, 65, 255, 256, 1024}) {
    for (const size_t end :
         {begin, begin + 1, begin + 64, begin + 300, kRows}) {
      lists.Add({RangeOf(begin, std::min(end, kRows))});
    }
  }
  lists.Add({});
  lists.Add({RangeOf(kRows - 1, kRows)});
  lists.Add({RangeOf(0, 1), RangeOf(kRows - 1, kRows)});
  lists.Add({RangeOf(0, 700), RangeOf(700, 700), RangeOf(700, kRows)});
  const Vectors queries(lists.offsets.size() - 1, 24, ElementType::kFloat32,
                        NoiseFill(random));
  for (const size_t k : {1, 10, 500}) {
    VICINAL_CHECK_CASE(
        comparison.SearchRanges(queries, lists.offsets, lists.ranges, k));
  }
  const Vectors none(0, 24, ElementType::kFloat32, NoiseFill(random));
  return comparison.SearchRanges(none, std::vector<uint32_t>{0}, {}, 10);
}

// Ties go to the smaller row, whichever range has it.
std::string Copies(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    for (const size_t distinct : {1, 3, 200}) {
      const Vectors::Fill fill = RepeatFill(random, distinct);
      const Vectors rows(4000, 40, ElementType::kFloat32, fill);
      const Vectors queries(20, 40, ElementType::kFloat32, fill);
      Comparison comparison(tested, reference);
      VICINAL_CHECK_CASE(comparison.Load(rows, metric));
      Ranges lists;
      for (size_t q = 0; q < queries.num(); ++q) {
        lists.Add(RandomRanges(random, rows.num(), 4));
      }
      for (const size_t k : {1, 20, 1000}) {
        VICINAL_CHECK_CASE(
            comparison.SearchRanges(queries, lists.offsets, lists.ranges, k));
      }
    }
  }
  return "";
}

// Ranges with too many rows to compare each, alone and shared by many queries,
// among others; as bits of a filter, too.
std::string ManyRows(DistanceBackend& tested, DistanceBackend& reference,
                     uint64_t seed) {
  Random random(seed);
  constexpr size_t kRows = 90'000;
  for (const Metric metric : kMetrics) {
    const ElementType type = kTypes[random.Uniform(4)];
    const Vectors rows(kRows, 96, type, ClusterFill(random, kRows, 96, 300));
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, metric));
    const std::vector<std::vector<RowRange>> kinds = {
        {RangeOf(33, 40'001)},
        {RangeOf(40'000, kRows)},
        {RangeOf(100, 20'000), RangeOf(60'000, 75'000)},
        {RangeOf(50'000, 50'900)},
        {RangeOf(0, 30), RangeOf(80'000, 81'000)}};
    const RowSet most = RowSet::Sample(random, kRows, 0.9);
    const RowSet some = RowSet::Sample(random, kRows, 0.02);
    for (const size_t num_queries : {1, 5, 200}) {
      const Vectors queries(num_queries, 96, type, NoiseFill(random));
      Ranges mixed;
      for (size_t q = 0; q < num_queries; ++q) {
        mixed.Add(kinds[random.Uniform(kinds.size())]);
      }
      for (const RowSet* accepted :
           std::initializer_list<const RowSet*>{nullptr, &most, &some}) {
        VICINAL_CHECK_CASE(comparison.SearchRanges(queries, mixed.offsets,
                                                   mixed.ranges, 10, accepted));
      }
      for (const auto& kind : kinds) {
        Ranges same;
        for (size_t q = 0; q < num_queries; ++q) same.Add(kind);
        VICINAL_CHECK_CASE(
            comparison.SearchRanges(queries, same.offsets, same.ranges, 100));
        RowSet bits(kRows);
        for (const RowRange& range : kind) {
          for (size_t row = range.begin; row < range.end; ++row) bits.Add(row);
        }
        VICINAL_CHECK_CASE(comparison.Search(queries, 10, &bits));
      }
    }
  }
  return "";
}

constexpr ConformanceCase kCases[] = {
    {"ranges_each_its_own", EachItsOwn},
    {"ranges_edges", Edges},
    {"ranges_copies", Copies},
    {"ranges_many_rows", ManyRows, true},
};

}  // namespace

std::span<const ConformanceCase> RangeCases() { return kCases; }

}  // namespace vicinal::backend_tests
