// Exact searches give what scoring every row gives, ties included, whatever is
// passed over on the way; approximate ones most of it.
#include "index/sparse.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/half.h"
#include "src/base/random.h"

namespace vicinal {
namespace {

using Entries = std::map<uint32_t, float>;

struct Rows {
  std::vector<uint64_t> offsets = {0};
  std::vector<uint32_t> dims;
  std::vector<float> weights;

  void Add(const Entries& entries) {
    for (const auto& [dim, weight] : entries) {
      dims.push_back(dim);
      weights.push_back(weight);
    }
    offsets.push_back(dims.size());
  }
  SparseMatrixView view() const { return {offsets, dims, weights}; }
  size_t size() const { return offsets.size() - 1; }
};

enum class Kind { kPositive, kSigned, kIntegers };

float WeightOf(Kind kind, Random& random) {
  if (kind == Kind::kIntegers) {
    return static_cast<float>(1 + random.Uniform(3));
  }
  const auto weight = static_cast<float>(
      std::exp(random.Gaussian()) *
      (kind == Kind::kSigned && random.Uniform(3) == 0 ? -1 : 1));
  return HalfToFloat(FloatToHalf(weight));
}

// Few dimensions are in most rows, most in few.
Entries RandomEntries(Kind kind, size_t count, uint32_t num_dims,
                      Random& random) {
  Entries entries;
  for (size_t i = 0; i < count; ++i) {
    const double skewed = std::pow(random.UniformDouble(), 4);
    entries[3 * static_cast<uint32_t>(skewed * num_dims)] =
        WeightOf(kind, random);
  }
  return entries;
}

Rows RandomRows(Kind kind, size_t count, uint32_t num_dims, Random& random) {
  Rows rows;
  for (size_t i = 0; i < count; ++i) {
    rows.Add(RandomEntries(kind, random.Uniform(40), num_dims, random));
  }
  return rows;
}

// Strings need not begin where arrays may.
class Aligned {
 public:
  explicit Aligned(const std::string& bytes) : words_(bytes.size() / 8 + 1) {
    std::memcpy(words_.data(), bytes.data(), bytes.size());
    view_ = {reinterpret_cast<const char*>(words_.data()), bytes.size()};
  }
  absl::string_view view() const { return view_; }

 private:
  std::vector<uint64_t> words_;
  absl::string_view view_;
};

std::vector<Neighbor> BruteForce(const Rows& rows, SparseRow query, size_t k,
                                 const Filter& filter) {
  TopK top(k);
  for (size_t row = 0; row < rows.size(); ++row) {
    if (!filter.Accepts(static_cast<RowId>(row))) continue;
    bool overlap = false;
    const float score = SparseDot(rows.view().row(row), query, &overlap);
    if (overlap) top.Push({-score, static_cast<RowId>(row)});
  }
  return top.TakeSorted();
}

std::vector<Neighbor> Search(const SparseIndex& index, SparseRow query,
                             const SparseParams& params,
                             const Filter& filter = {},
                             SearchStats* stats = nullptr) {
  TopK top(params.k);
  EXPECT_TRUE(index.Search(query, params, filter, {}, &top, stats).ok());
  return top.TakeSorted();
}

void ExpectExact(const Rows& rows, SparseWeight type, Kind kind, size_t queries,
                 Random& random) {
  const Aligned bytes(*BuildSparseIndex(rows.view(), type, nullptr));
  const auto index = SparseIndex::Open(bytes.view());
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ((*index)->num_rows(), rows.size());
  AtomicBitmap deleted(rows.size());
  for (RowId row = 0; row < rows.size(); row += 7) deleted.Set(row);
  for (size_t q = 0; q < queries; ++q) {
    Rows query;
    query.Add(RandomEntries(kind, 1 + random.Uniform(30), 3'000, random));
    const SparseRow row = query.view().row(0);
    for (const size_t k : {1, 10, 100}) {
      Bitmap allowed(rows.size());
      const size_t one_in = 1 + random.Uniform(20);
      for (RowId r = 0; r < rows.size(); ++r) {
        if (random.Uniform(one_in) == 0) allowed.Set(r);
      }
      const Filter filters[] = {{},
                                {.deleted = &deleted},
                                {.allowed = &allowed,
                                 .num_allowed = allowed.Count(),
                                 .deleted = &deleted},
                                {.begin = static_cast<RowId>(rows.size() / 3),
                                 .end = static_cast<RowId>(rows.size() / 2)}};
      for (const Filter& filter : filters) {
        const auto truth = BruteForce(rows, row, k, filter);
        EXPECT_EQ(Search(**index, row, {.k = k}, filter), truth);
        EXPECT_EQ(Search(**index, row, {.k = k, .scan = true}, filter), truth);
      }
    }
  }
}

TEST(SparseIndexTest, FindsWhatScoringAllRowsFinds) {
  Random random(1);
  for (const Kind kind : {Kind::kPositive, Kind::kSigned, Kind::kIntegers}) {
    for (const SparseWeight type :
         {SparseWeight::kFloat32, SparseWeight::kFloat16}) {
      ExpectExact(RandomRows(kind, 3'000, 3'000, random), type, kind, 8,
                  random);
    }
  }
}

// Several windows, long lists, and thresholds that let most be passed over.
TEST(SparseIndexTest, PassesOverWhatCannotBeAmongTheBest) {
  Random random(2);
  for (const Kind kind : {Kind::kPositive, Kind::kSigned, Kind::kIntegers}) {
    const Rows rows = RandomRows(kind, 150'000, 400, random);
    const Aligned bytes(
        *BuildSparseIndex(rows.view(), SparseWeight::kFloat32, nullptr));
    const auto index = *SparseIndex::Open(bytes.view());
    for (size_t q = 0; q < 12; ++q) {
      Rows query;
      query.Add(RandomEntries(kind, 3 + 2 * q, 400, random));
      const SparseRow row = query.view().row(0);
      SearchStats stats;
      EXPECT_EQ(Search(*index, row, {.k = 10}, {}, &stats),
                BruteForce(rows, row, 10, {}));
      EXPECT_EQ(stats.plan, SearchPlan::kLists);
      if (kind == Kind::kPositive) {
        EXPECT_LT(stats.distance_computations, rows.size() / 20);
      }
    }
  }
}

Entries RandomCounts(size_t count, uint32_t num_dims, Random& random) {
  Entries counts = RandomEntries(Kind::kIntegers, count, num_dims, random);
  for (auto& [dim, weight] : counts) {
    if (random.Uniform(5) == 0) {
      weight = static_cast<float>(1 + random.Uniform(400));
    }
  }
  return counts;
}

TEST(SparseIndexTest, ScoresTextByBm25) {
  Random random(9);
  for (const size_t num_rows : {3'000, 140'000}) {
    Rows rows;
    double length = 0;
    for (size_t i = 0; i < num_rows; ++i) {
      rows.Add(RandomCounts(random.Uniform(20), 2'000, random));
    }
    for (const float count : rows.weights) length += count;
    const Aligned bytes(
        *BuildSparseIndex(rows.view(), SparseWeight::kCount, nullptr));
    const auto opened = SparseIndex::Open(bytes.view());
    ASSERT_TRUE(opened.ok()) << opened.status();
    const SparseIndex& index = **opened;
    Bitmap allowed(num_rows);
    for (RowId row = 0; row < num_rows; row += 3) allowed.Set(row);
    const Filter filters[] = {
        {}, {.allowed = &allowed, .num_allowed = allowed.Count()}};
    for (size_t q = 0; q < 10; ++q) {
      Rows query;
      query.Add(RandomEntries(Kind::kPositive, 1 + q, 2'000, random));
      const SparseRow row = query.view().row(0);
      SparseParams params;
      params.bm25 = {.k1 = q % 3 == 0 ? 0.0f : 1.2f,
                     .b = q % 2 == 0 ? 0.75f : 1.0f,
                     .mean_length = length / static_cast<double>(num_rows)};
      for (const Filter& filter : filters) {
        TopK top(10);
        for (RowId r = 0; r < num_rows; ++r) {
          if (!filter.Accepts(r)) continue;
          bool overlap = false;
          const float score =
              Bm25Score(rows.view().row(r), row, params.bm25, &overlap);
          if (overlap) top.Push({-score, r});
        }
        const auto truth = top.TakeSorted();
        SearchStats stats;
        EXPECT_EQ(Search(index, row, params, filter, &stats), truth);
        params.scan = true;
        EXPECT_EQ(Search(index, row, params, filter), truth);
        params.scan = false;
      }
    }
  }
}

TEST(SparseIndexTest, KnowsTheEdges) {
  Rows rows;
  for (int i = 0; i < 300; ++i) {
    if (i % 3 == 0) {
      rows.Add({});
    } else {
      rows.Add({{5, 1.0f}, {4'000'000'000, i % 2 == 0 ? 2.0f : -2.0f}});
    }
  }
  const Aligned bytes(
      *BuildSparseIndex(rows.view(), SparseWeight::kFloat32, nullptr));
  const auto index = *SparseIndex::Open(bytes.view());
  const auto ask = [&](const Entries& entries, size_t k) {
    Rows query;
    query.Add(entries);
    const auto found = Search(*index, query.view().row(0), {.k = k});
    EXPECT_EQ(found, BruteForce(rows, query.view().row(0), k, {}));
    return found.size();
  };
  EXPECT_EQ(ask({}, 10), 0u);
  EXPECT_EQ(ask({{6, 1.0f}}, 10), 0u) << "a dimension that no row has";
  EXPECT_EQ(ask({{5, 1.0f}}, 1'000), 200u) << "ties, and k above the matches";
  EXPECT_EQ(ask({{5, 2.0f}, {4'000'000'000, 1.0f}}, 1'000), 200u)
      << "rows whose score is 0 are among them";
  EXPECT_EQ(ask({{5, -1.0f}}, 3), 3u);
  EXPECT_EQ(ask({{5, 0.0f}}, 3), 0u) << "a weight of 0 is none";
  EXPECT_EQ(ask({{4'000'000'000, 3e38f}}, 5), 5u) << "sums beyond f32";
  const Rows none;
  const Aligned empty(
      *BuildSparseIndex(none.view(), SparseWeight::kFloat16, nullptr));
  const auto nothing = SparseIndex::Open(empty.view());
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  Rows query;
  query.Add({{1, 1.0f}});
  EXPECT_TRUE(Search(**nothing, query.view().row(0), {}).empty());
}

TEST(SparseIndexTest, ApproximateSearchesFindMostAndMoreWithMoreEffort) {
  Random random(4);
  const Rows rows = RandomRows(Kind::kPositive, 60'000, 2'000, random);
  const Aligned bytes(
      *BuildSparseIndex(rows.view(), SparseWeight::kFloat16, nullptr));
  const auto index = *SparseIndex::Open(bytes.view());
  double last = 0;
  for (const double mass : {0.3, 0.6, 0.9}) {
    size_t found = 0, wanted = 0;
    Random queries(5);
    for (size_t q = 0; q < 40; ++q) {
      Rows query;
      query.Add(RandomEntries(Kind::kPositive, 20, 2'000, queries));
      const SparseRow row = query.view().row(0);
      const auto truth = Search(*index, row, {.k = 10});
      wanted += truth.size();
      for (const Neighbor& hit : Search(
               *index, row, {.k = 10, .query_mass = mass, .candidates = 200})) {
        found += hit.distance <= truth.back().distance;
      }
    }
    const double recall =
        static_cast<double>(found) / static_cast<double>(wanted);
    EXPECT_GE(recall, last - 0.01) << mass;
    last = recall;
  }
  EXPECT_GE(last, 0.95);
}

TEST(SparseIndexTest, DoesNotDependOnTheOrderOfRows) {
  Random random(6);
  const Rows rows = RandomRows(Kind::kPositive, 2'000, 500, random);
  Rows reversed;
  for (size_t row = rows.size(); row-- > 0;) {
    Entries entries;
    const SparseRow from = rows.view().row(row);
    for (size_t i = 0; i < from.dims.size(); ++i) {
      entries[from.dims[i]] = from.weights[i];
    }
    reversed.Add(entries);
  }
  const Aligned a(
      *BuildSparseIndex(rows.view(), SparseWeight::kFloat32, nullptr));
  const Aligned b(
      *BuildSparseIndex(reversed.view(), SparseWeight::kFloat32, nullptr));
  const auto one = *SparseIndex::Open(a.view());
  const auto two = *SparseIndex::Open(b.view());
  for (size_t q = 0; q < 20; ++q) {
    Rows query;
    query.Add(RandomEntries(Kind::kPositive, 10, 500, random));
    const auto first = Search(*one, query.view().row(0), {.k = 20});
    const auto second = Search(*two, query.view().row(0), {.k = 20});
    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(first[i].distance, second[i].distance) << "the same bits";
    }
  }
}

TEST(SparseIndexTest, DamagedBytesAreRefusedOrHarmless) {
  Random random(7);
  for (const SparseWeight type :
       {SparseWeight::kFloat16, SparseWeight::kCount}) {
    const Rows rows = RandomRows(Kind::kIntegers, 700, 300, random);
    const std::string bytes = *BuildSparseIndex(rows.view(), type, nullptr);
    Rows query;
    query.Add(RandomEntries(Kind::kPositive, 20, 300, random));
    for (size_t size = 0; size < bytes.size(); size += 97) {
      const Aligned cut(bytes.substr(0, size));
      EXPECT_TRUE(absl::IsDataLoss(SparseIndex::Open(cut.view()).status()));
    }
    for (int trial = 0; trial < 3'000; ++trial) {
      std::string damaged = bytes;
      const size_t at =
          trial < 500 ? random.Uniform(64 + 512) : random.Uniform(bytes.size());
      damaged[at] = static_cast<char>(random.Uniform(256));
      const Aligned aligned(damaged);
      const auto index = SparseIndex::Open(aligned.view());
      if (!index.ok()) continue;
      Search(**index, query.view().row(0), {.k = 10});
      Search(**index, query.view().row(0), {.k = 10, .query_mass = 0.5});
    }
  }
}

TEST(SparseIndexTest, StopsWhenTold) {
  Random random(8);
  const Rows rows = RandomRows(Kind::kPositive, 2'000, 300, random);
  const Aligned bytes(
      *BuildSparseIndex(rows.view(), SparseWeight::kFloat32, nullptr));
  const auto index = *SparseIndex::Open(bytes.view());
  StopCondition stop;
  stop.cancelled = [] { return true; };
  Rows query;
  query.Add(RandomEntries(Kind::kPositive, 20, 300, random));
  for (const double mass : {1.0, 0.5}) {
    for (const bool scan : {false, true}) {
      TopK top(10);
      EXPECT_TRUE(absl::IsCancelled(index->Search(
          query.view().row(0), {.k = 10, .query_mass = mass, .scan = scan}, {},
          stop, &top, nullptr)));
    }
  }
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      BuildSparseIndex(rows.view(), SparseWeight::kFloat32, &cancel).status()));
}

}  // namespace
}  // namespace vicinal
