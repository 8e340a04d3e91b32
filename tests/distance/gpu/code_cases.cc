// Searches by codes: layouts, lists, filters, exact comparisons of what was
// found, ties.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/cases.h"
#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/conformance.h"
#include "tests/distance/gpu/test_codes.h"
#include "tests/distance/gpu/test_vectors.h"

namespace vicinal::backend_tests {
namespace {

std::string Wrong(const char* what, BackendStatus status) {
  return std::string(what) + ": " + BackendStatusName(status);
}

// What differs between two answers, of k each.
std::string Compare(const std::vector<Neighbor>& tested,
                    const std::vector<Neighbor>& reference, size_t k) {
  for (size_t i = 0; i < tested.size(); ++i) {
    if (tested[i].row == reference[i].row &&
        tested[i].distance == reference[i].distance) {
      continue;
    }
    char text[160];
    std::snprintf(text, sizeof(text),
                  "query %zu, result %zu: row %u at %.9g instead of %u at %.9g",
                  i / k, i % k, tested[i].row,
                  static_cast<double>(tested[i].distance), reference[i].row,
                  static_cast<double>(reference[i].distance));
    return text;
  }
  return "";
}

// Codes in both backends.
class Pair {
 public:
  Pair(DistanceBackend& tested, DistanceBackend& reference)
      : tested_(tested), reference_(reference) {}

  std::string Load(const TestCodes& codes) {
    codes_ = &codes;
    const BackendStatus loaded = tested_.LoadCodes(codes.view(), &in_tested_);
    if (loaded != BackendStatus::kOk) return Wrong("load", loaded);
    if (in_tested_->num_rows() != codes.num_rows()) return "load: rows";
    const BackendStatus known =
        reference_.LoadCodes(codes.view(), &in_reference_);
    return known == BackendStatus::kOk ? "" : Wrong("reference", known);
  }

  // Vectors of the same rows.
  std::string LoadRows(const Vectors& rows, Metric metric) {
    const SegmentRows segment = {rows.view(), metric};
    const BackendStatus loaded = tested_.Load(segment, &rows_in_tested_);
    if (loaded != BackendStatus::kOk) return Wrong("load of rows", loaded);
    const BackendStatus known = reference_.Load(segment, &rows_in_reference_);
    return known == BackendStatus::kOk ? "" : Wrong("reference", known);
  }

  // question without rows.
  std::string Search(CodeQuestion question, const std::string& name) const {
    std::vector<Neighbor> tested(question.num_queries * question.k,
                                 Neighbor{-7, 7});
    std::vector<Neighbor> reference = tested;
    BackendReport report;
    question.rows = rows_in_tested_.get();
    const BackendStatus status =
        tested_.SearchCodes(*in_tested_, question, tested.data(), &report);
    if (status != BackendStatus::kOk) return Wrong(name.c_str(), status);
    question.rows = rows_in_reference_.get();
    const BackendStatus known = reference_.SearchCodes(
        *in_reference_, question, reference.data(), nullptr);
    if (known != BackendStatus::kOk) return Wrong("reference", known);
    const std::string difference = Compare(tested, reference, question.k);
    return difference.empty() ? "" : name + ": " + difference;
  }

 private:
  DistanceBackend& tested_;
  DistanceBackend& reference_;
  const TestCodes* codes_ = nullptr;
  std::shared_ptr<const LoadedSegment> in_tested_;
  std::shared_ptr<const LoadedSegment> in_reference_;
  std::shared_ptr<const LoadedSegment> rows_in_tested_;
  std::shared_ptr<const LoadedSegment> rows_in_reference_;
};

// Every query among all rows; vectors: of queries, which are compared with
// those of the rows then.
std::string SearchFlat(const Pair& pair, const TestCodes& codes,
                       size_t num_queries, size_t k, size_t depth,
                       const uint64_t* accepted, Random& random,
                       const Vectors* vectors = nullptr) {
  TestCodeQueries queries(codes, num_queries, random);
  for (size_t q = 0; q < num_queries; ++q) queries.AddProbe(q, 0, random);
  const uint32_t offsets[2] = {0, static_cast<uint32_t>(codes.num_rows())};
  CodeQuestion question;
  queries.Fill(&question);
  question.list_offsets = offsets;
  question.num_lists = 1;
  question.accepted = accepted;
  question.k = k;
  question.depth = depth;
  if (vectors != nullptr) {
    question.queries = vectors->data();
    question.query_bytes = vectors->dim() * ElementSize(vectors->type());
  }
  return pair.Search(question, std::to_string(codes.num_rows()) + " rows, " +
                                   std::to_string(num_queries) +
                                   " queries, k " + std::to_string(k) +
                                   ", depth " + std::to_string(depth));
}

struct NamedLayout {
  const char* name;
  std::vector<SegmentShape> shapes;
  bool rescale_is_f16 = true;
};

std::vector<NamedLayout> Layouts() {
  return {
      {"1 bit x 64", {{.bits = 1, .num_dims = 64}}},
      {"1 bit x 768", {{.bits = 1, .num_dims = 768}}, false},
      {"1 bit x 1024", {{.bits = 1, .num_dims = 1024}}},
      {"1 bit x 208", {{.bits = 1, .num_dims = 208}}},
      {"1 bit x 1536", {{.bits = 1, .num_dims = 1536}}},
      {"1 bit and a factor",
       {{.bits = 1, .num_dims = 384}, {.bits = 0}},
       false},
      {"2 bits x 128", {{.bits = 2, .num_dims = 128}}},
      {"2 bits with levels", {{.bits = 2, .num_dims = 80, .has_levels = true}}},
      {"4 bits x 96", {{.bits = 4, .num_dims = 96, .has_levels = true}}},
      {"4 bits without levels", {{.bits = 4, .num_dims = 48}}, false},
      {"8 bits x 64", {{.bits = 8, .num_dims = 64, .has_low = true}}},
      {"8 bits x 16", {{.bits = 8, .num_dims = 16}}, false},
      {"8, 4, 2, 1 and 0 bits",
       {{.bits = 8, .num_dims = 64, .has_low = true},
        {.bits = 4, .num_dims = 128, .has_levels = true},
        {.bits = 2, .num_dims = 64},
        {.bits = 1, .num_dims = 192},
        {.bits = 0}}},
      {"8 bits x 2048",
       {{.bits = 8, .num_dims = 2048, .has_low = true}},
       false},
      {"4 bits x 4096", {{.bits = 4, .num_dims = 4096, .has_levels = true}}},
  };
}

std::string CodesOfAnyLayout(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const NamedLayout& layout : Layouts()) {
    for (const size_t num_rows : {1, 15, 64, 777, 3000}) {
      const TestCodes codes(layout.shapes, layout.rescale_is_f16, num_rows,
                            random);
      Pair pair(tested, reference);
      VICINAL_CHECK_CASE(pair.Load(codes));
      for (const size_t num_queries : {1, 9, 70}) {
        const std::string wrong =
            SearchFlat(pair, codes, num_queries, 10, 20, nullptr, random);
        if (!wrong.empty()) return std::string(layout.name) + ", " + wrong;
      }
    }
  }
  return "";
}

std::string CodesOfManyRows(DistanceBackend& tested, DistanceBackend& reference,
                            uint64_t seed) {
  Random random(seed);
  for (const uint32_t bits : {1, 4}) {
    const TestCodes codes({{.bits = bits, .num_dims = 128}}, true, 150'000,
                          random);
    Pair pair(tested, reference);
    VICINAL_CHECK_CASE(pair.Load(codes));
    const RowSet some = RowSet::Sample(random, codes.num_rows(), 0.3);
    const RowSet few = RowSet::Sample(random, codes.num_rows(), 0.0001);
    for (const size_t num_queries : {1, 30, 200}) {
      VICINAL_CHECK_CASE(
          SearchFlat(pair, codes, num_queries, 10, 256, nullptr, random));
      VICINAL_CHECK_CASE(
          SearchFlat(pair, codes, num_queries, 100, 100, some.words(), random));
      VICINAL_CHECK_CASE(
          SearchFlat(pair, codes, num_queries, 50, 60, few.words(), random));
    }
    VICINAL_CHECK_CASE(SearchFlat(pair, codes, 3, kMaxBackendK, kMaxBackendK,
                                  nullptr, random));
  }
  return "";
}

// Rows in lists, of which each query reads some.
std::string CodesInLists(DistanceBackend& tested, DistanceBackend& reference,
                         uint64_t seed) {
  Random random(seed);
  const std::vector<SegmentShape> all[] = {
      {{.bits = 1, .num_dims = 256}},
      {{.bits = 1, .num_dims = 384}, {.bits = 0}},
      {{.bits = 4, .num_dims = 64, .has_levels = true}, {.bits = 0}}};
  for (const std::vector<SegmentShape>& shapes : all) {
    const TestCodes codes(shapes, true, 60'000, random);
    Pair pair(tested, reference);
    VICINAL_CHECK_CASE(pair.Load(codes));
    // Lists of any size, empty ones and one of 20,000 rows.
    std::vector<uint32_t> offsets = {0};
    while (offsets.back() < codes.num_rows()) {
      const size_t size = offsets.size() == 5 ? 20'000 : random.Uniform(900);
      offsets.push_back(static_cast<uint32_t>(
          std::min<size_t>(offsets.back() + size, codes.num_rows())));
    }
    const size_t num_lists = offsets.size() - 1;
    const RowSet some = RowSet::Sample(random, codes.num_rows(), 0.5);
    for (const size_t num_queries : {1, 11, 300}) {
      TestCodeQueries queries(codes, num_queries, random);
      for (size_t q = 0; q < num_queries; ++q) {
        if (q % 7 == 3) continue;  // asks for nothing
        std::vector<uint32_t> lists(num_lists);
        std::iota(lists.begin(), lists.end(), 0);
        for (size_t i = 0; i < std::min<size_t>(q % 40 + 1, num_lists); ++i) {
          std::swap(lists[i], lists[i + random.Uniform(num_lists - i)]);
          queries.AddProbe(q, lists[i], random);
        }
      }
      CodeQuestion question;
      queries.Fill(&question);
      question.list_offsets = offsets.data();
      question.num_lists = num_lists;
      question.k = 10;
      question.depth = 40;
      VICINAL_CHECK_CASE(pair.Search(question, "lists"));
      question.accepted = some.words();
      VICINAL_CHECK_CASE(pair.Search(question, "lists with a filter"));
    }
  }
  return "";
}

std::string CodesThenVectors(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat16,
                                 ElementType::kInt8, ElementType::kUint8}) {
    for (const Metric metric :
         {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      const TestCodes codes({{.bits = 1, .num_dims = 64}}, true, 5000, random);
      const Vectors rows(5000, 60, type, NoiseFill(random));
      const Vectors vectors(40, 60, type, NoiseFill(random));
      Pair pair(tested, reference);
      VICINAL_CHECK_CASE(pair.Load(codes));
      VICINAL_CHECK_CASE(pair.LoadRows(rows, metric));
      for (const size_t depth : {10, 200, 1000}) {
        const std::string wrong = SearchFlat(pair, codes, vectors.num(), 10,
                                             depth, nullptr, random, &vectors);
        if (wrong.empty()) continue;
        return "then " + MetricName(metric) + " " + TypeName(type) + ", " +
               wrong;
      }
    }
  }
  return "";
}

// So many rows that not all of their estimates are kept, and from one to a few
// queries; with vectors of a size that is no multiple of anything.
std::string CodesOfFewQueries(DistanceBackend& tested,
                              DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  constexpr size_t kRows = 20'001;
  const std::vector<NamedLayout> layouts = {
      {"1 bit x 64", {{.bits = 1, .num_dims = 64}}},
      {"1 bit x 768", {{.bits = 1, .num_dims = 768}}, false},
      {"1 bit x 1024", {{.bits = 1, .num_dims = 1024}}},
      {"1 bit and a factor", {{.bits = 1, .num_dims = 384}, {.bits = 0}}},
      {"4 bits x 96", {{.bits = 4, .num_dims = 96, .has_levels = true}}},
      {"8 bits x 64", {{.bits = 8, .num_dims = 64, .has_low = true}}},
  };
  for (const NamedLayout& layout : layouts) {
    const TestCodes codes(layout.shapes, layout.rescale_is_f16, kRows, random);
    Pair pair(tested, reference);
    VICINAL_CHECK_CASE(pair.Load(codes));
    const RowSet some = RowSet::Sample(random, kRows, 0.3);
    const RowSet few = RowSet::Sample(random, kRows, 0.001);
    const RowSet none(kRows);
    const auto search = [&](size_t num_queries, size_t k, size_t depth,
                            const uint64_t* accepted) {
      const std::string wrong =
          SearchFlat(pair, codes, num_queries, k, depth, accepted, random);
      return wrong.empty() ? wrong : std::string(layout.name) + ", " + wrong;
    };
    for (const size_t num_queries : {1, 4, 5, 8}) {
      VICINAL_CHECK_CASE(search(num_queries, 1, 1, nullptr));
      VICINAL_CHECK_CASE(search(num_queries, 100, 150, some.words()));
      VICINAL_CHECK_CASE(search(num_queries, 50, 60, few.words()));
    }
    // As many as there are groups of rows.
    VICINAL_CHECK_CASE(search(2, 313, 313, nullptr));
    VICINAL_CHECK_CASE(search(1, 1024, 1024, nullptr));
    VICINAL_CHECK_CASE(search(2, 10, 10, none.words()));
  }
  const TestCodes codes({{.bits = 1, .num_dims = 64}}, true, kRows, random);
  const Vectors rows(kRows, 15, ElementType::kFloat16, NoiseFill(random));
  const Vectors vectors(3, 15, ElementType::kFloat16, NoiseFill(random));
  Pair pair(tested, reference);
  VICINAL_CHECK_CASE(pair.Load(codes));
  VICINAL_CHECK_CASE(pair.LoadRows(rows, Metric::kL2));
  return SearchFlat(pair, codes, vectors.num(), 10, 120, nullptr, random,
                    &vectors);
}

// More rows than there are groups of tiles, and items of as many tiles as can
// be, for one query and for sets of them.
std::string LargeCodes(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  for (const uint32_t bits : {1, 4}) {
    const TestCodes codes({{.bits = bits, .num_dims = 64}}, true, 1'100'000,
                          random);
    Pair pair(tested, reference);
    VICINAL_CHECK_CASE(pair.Load(codes));
    const RowSet some = RowSet::Sample(random, codes.num_rows(), 0.5);
    for (const size_t num_queries : {1, 6}) {
      VICINAL_CHECK_CASE(
          SearchFlat(pair, codes, num_queries, 10, 256, nullptr, random));
      VICINAL_CHECK_CASE(
          SearchFlat(pair, codes, num_queries, 100, 100, some.words(), random));
      VICINAL_CHECK_CASE(SearchFlat(pair, codes, num_queries, kMaxBackendK,
                                    kMaxBackendK, nullptr, random));
    }
    VICINAL_CHECK_CASE(
        SearchFlat(pair, codes, 700, 10, 20, some.words(), random));
    VICINAL_CHECK_CASE(SearchFlat(pair, codes, 130, kMaxBackendK, kMaxBackendK,
                                  nullptr, random));
  }
  return "";
}

// Few different records: more rows than are wanted have one estimate.
std::string CodesThatRepeat(DistanceBackend& tested, DistanceBackend& reference,
                            uint64_t seed) {
  Random random(seed);
  for (const uint32_t bits : {1, 4}) {
    // Of 500 each lies in 40 tiles, which a few queries can look at again; of
    // 100 in more.
    for (const size_t num_different : {500, 100}) {
      TestCodes codes({{.bits = bits, .num_dims = 128}}, true, 20'000, random);
      for (size_t row = num_different; row < codes.num_rows(); ++row) {
        codes.Copy(row % num_different, row);
      }
      Pair pair(tested, reference);
      VICINAL_CHECK_CASE(pair.Load(codes));
      for (const size_t num_queries : {1, 7, 50}) {
        VICINAL_CHECK_CASE(
            SearchFlat(pair, codes, num_queries, 10, 30, nullptr, random));
      }
    }
  }
  return "";
}

// Short calls of every kind that hand results over as they come, one upon the
// other: what is still ending must not answer the next. One segment's products
// have no bound, so that each query is compared with all rows; of another, no
// row can be ruled out.
std::string FewInTurn(DistanceBackend& tested, DistanceBackend& reference,
                      uint64_t seed) {
  Random random(seed);
  constexpr size_t kRows = 3000;
  const TestCodes codes({{.bits = 1, .num_dims = 128}}, true, kRows, random);
  const TestCodes more({{.bits = 1, .num_dims = 64}}, true, 20'000, random);
  const Vectors rows(kRows, 96, ElementType::kFloat32, NoiseFill(random));
  const Vectors long_rows(kRows, 5, ElementType::kFloat32,
                          NoiseFill(random, 1e17f));
  const Vectors alike_rows(kRows, 96, ElementType::kFloat32,
                           [&](size_t index, std::span<float> out) {
                             NoiseFill(random, 1e-6f)(index, out);
                             for (float& value : out) value += 1;
                           });
  Pair pair(tested, reference);
  Pair large(tested, reference);
  Pair with_rows(tested, reference);
  Comparison bounded(tested, reference);
  Comparison unbounded(tested, reference);
  Comparison alike(tested, reference);
  VICINAL_CHECK_CASE(pair.Load(codes));
  VICINAL_CHECK_CASE(large.Load(more));
  VICINAL_CHECK_CASE(with_rows.Load(codes));
  VICINAL_CHECK_CASE(with_rows.LoadRows(rows, Metric::kCosine));
  VICINAL_CHECK_CASE(bounded.Load(rows, Metric::kInnerProduct));
  VICINAL_CHECK_CASE(unbounded.Load(long_rows, Metric::kL2));
  VICINAL_CHECK_CASE(alike.Load(alike_rows, Metric::kInnerProduct));
  return InThreads(3, [&](size_t thread) -> std::string {
    Random own(seed + 1 + thread);
    for (size_t round = 0; round < 20; ++round) {
      const size_t n = 1 + own.Uniform(8);
      const Vectors vectors(n, 96, ElementType::kFloat32, NoiseFill(own));
      const Vectors long_vectors(n, 5, ElementType::kFloat32,
                                 NoiseFill(own, 1e17f));
      VICINAL_CHECK_CASE(bounded.Search(vectors, 10));
      VICINAL_CHECK_CASE(SearchFlat(pair, codes, n, 10, 30, nullptr, own));
      VICINAL_CHECK_CASE(unbounded.Search(long_vectors, 10));
      VICINAL_CHECK_CASE(SearchFlat(large, more, n, 10, 30, nullptr, own));
      VICINAL_CHECK_CASE(
          SearchFlat(with_rows, codes, n, 10, 20, nullptr, own, &vectors));
      VICINAL_CHECK_CASE(alike.Search(vectors, 10));
    }
    return "";
  });
}

// No rows, no queries, no more than there are.
std::string CodesOfNothing(DistanceBackend& tested, DistanceBackend& reference,
                           uint64_t seed) {
  Random random(seed);
  const TestCodes none({{.bits = 2, .num_dims = 64}}, true, 0, random);
  Pair pair(tested, reference);
  VICINAL_CHECK_CASE(pair.Load(none));
  VICINAL_CHECK_CASE(SearchFlat(pair, none, 3, 10, 10, nullptr, random));
  VICINAL_CHECK_CASE(SearchFlat(pair, none, 0, 10, 10, nullptr, random));
  const TestCodes few({{.bits = 2, .num_dims = 64}}, true, 5, random);
  Pair other(tested, reference);
  VICINAL_CHECK_CASE(other.Load(few));
  const RowSet nothing(5);
  VICINAL_CHECK_CASE(SearchFlat(other, few, 3, 10, 10, nullptr, random));
  return SearchFlat(other, few, 20, 10, 10, nothing.words(), random);
}

constexpr ConformanceCase kCases[] = {
    {"codes_of_any_layout", CodesOfAnyLayout},
    {"codes_of_many_rows", CodesOfManyRows, true},
    {"codes_of_few_queries", CodesOfFewQueries},
    {"large_codes", LargeCodes, true},
    {"codes_in_lists", CodesInLists},
    {"codes_then_vectors", CodesThenVectors},
    {"codes_that_repeat", CodesThatRepeat},
    {"few_in_turn", FewInTurn},
    {"codes_of_nothing", CodesOfNothing},
};

}  // namespace

std::span<const ConformanceCase> CodeCases() { return kCases; }

}  // namespace vicinal::backend_tests
