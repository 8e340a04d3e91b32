// Fields of multi-vectors that grow and that are sealed: the same answers, and
// the right ones. Approximate search by encodings: multi_recall_test.cc.
#include "index/multi_field.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/growing_multi.h"
#include "index/sealed_multi.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/random.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "tests/index/multi_testing.h"

namespace vicinal {
namespace {

constexpr ElementType kTypes[] = {ElementType::kFloat32, ElementType::kFloat16,
                                  ElementType::kBfloat16, ElementType::kInt8};
constexpr TokenCodecKind kCodecs[] = {
    TokenCodecKind::kInt8, TokenCodecKind::kInt4, TokenCodecKind::kInt2,
    TokenCodecKind::kBinary};

constexpr auto kAllRows = [](RowId) { return true; };

MultiSearchParams Exact(size_t k) { return {.k = k, .exact = true}; }

// The same documents in both kinds of field.
struct Fields {
  explicit Fields(Documents rows)
      : documents(std::move(rows)),
        growing(documents.Grow()),
        sealed(
            Seal(documents.spec, SourcesOf(*growing, documents.rows.size()))),
        both{growing.get(), sealed == nullptr ? nullptr : sealed->field.get()} {
  }

  MultiQuery Query(size_t n, Random* random) const {
    return MultiQuery(documents.spec, GaussianTokens(documents.spec, n, random),
                      {});
  }
  size_t num_rows() const { return documents.rows.size(); }

  const Documents documents;
  const std::unique_ptr<GrowingMultiField> growing;
  const std::unique_ptr<SealedFiles> sealed;
  const std::vector<MultiField*> both;
};

Documents Gaussian(const MultiSpec& spec, size_t num_rows, Random* random) {
  return MakeDocuments(spec, num_rows, 12, 7, random);
}

MultiSpec HalfSpec() { return {.dim = 20, .type = ElementType::kFloat16}; }

class MultiFieldTest
    : public ::testing::TestWithParam<std::tuple<ElementType, bool>> {
 protected:
  MultiSpec Spec(size_t dim) const {
    return {.dim = dim,
            .type = std::get<0>(GetParam()),
            .cosine = std::get<1>(GetParam())};
  }
};

TEST_P(MultiFieldTest, BothKindsHaveTheSameTokensAndExactAnswers) {
  Random random = SeededTokens(1);
  for (const size_t dim : {1, 3, 33, 128}) {
    const Fields fields(Gaussian(Spec(dim), 150, &random));
    for (const MultiField* field : fields.both) {
      ASSERT_NE(field, nullptr);
      size_t bytes = 0;
      for (RowId row = 0; row < 150; ++row) {
        const std::string& expected = fields.documents.rows[row];
        const TokenRows tokens = field->TokensOf(row);
        ASSERT_EQ(tokens.num_tokens * fields.documents.spec.token_bytes(),
                  expected.size());
        ASSERT_TRUE(
            expected.empty() ||
            std::memcmp(tokens.data, expected.data(), expected.size()) == 0);
        bytes += expected.size();
      }
      EXPECT_EQ(field->token_bytes(), bytes);
      EXPECT_GT(field->index_bytes(), 0u);
      EXPECT_TRUE(field->IsExact(Exact(1)));
      for (const size_t n : {1, 5, 20}) {
        const MultiQuery query = fields.Query(n, &random);
        SearchStats stats;
        MultiStats work;
        EXPECT_EQ(Find(*field, query, Exact(10), {}, 0, 150, &work, &stats),
                  FindNaively(fields.documents, query, 10, kAllRows));
        EXPECT_EQ(stats.plan, SearchPlan::kScan);
        EXPECT_EQ(work.num_exact, 128u);  // rows with tokens
        EXPECT_EQ(work.num_candidates, 0u);
      }
    }
  }
}

// By codes and then exactly: what is found has its exact score, and enough rows
// are compared for the best to be among them.
TEST_P(MultiFieldTest, ScansByCodesGiveExactScores) {
  Random random = SeededTokens(2);
  const Fields fields(Gaussian(Spec(33), 300, &random));
  for (const MultiField* field : fields.both) {
    ASSERT_NE(field, nullptr);
    EXPECT_FALSE(field->IsExact({}));
    double recall = 0;
    for (int i = 0; i < 20; ++i) {
      const MultiQuery query = fields.Query(8, &random);
      SearchStats stats;
      MultiStats work;
      const std::vector<Neighbor> found =
          Find(*field, query, {.k = 10}, {}, 0, 300, &work, &stats);
      ASSERT_EQ(found.size(), 10u);
      recall +=
          RecallOf(found, FindNaively(fields.documents, query, 10, kAllRows)) /
          20;
      EXPECT_EQ(stats.plan, SearchPlan::kCodes);
      EXPECT_EQ(work.num_candidates, 257u);
      EXPECT_GE(work.num_exact, kMinExactCandidates);
      EXPECT_LE(work.num_exact, 257u);
    }
    EXPECT_GE(recall, 0.98);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MultiFieldTest,
                         ::testing::Combine(::testing::ValuesIn(kTypes),
                                            ::testing::Bool()));

TEST(MultiFieldRowsTest, FieldsWithoutRowsFindNothing) {
  Random random = SeededTokens(3);
  const Fields fields({HalfSpec(), {}});
  const MultiQuery query = fields.Query(4, &random);
  for (const MultiField* field : fields.both) {
    ASSERT_NE(field, nullptr);
    for (const MultiSearchParams& params : {Exact(5), MultiSearchParams{}}) {
      EXPECT_TRUE(Find(*field, query, params, {}, 0, 0).empty());
    }
    EXPECT_EQ(field->token_bytes(), 0u);
    EXPECT_EQ(field->index_bytes(), 0u);
  }
}

TEST(MultiFieldRowsTest, FieldsOfRowsWithoutTokensFindNothing) {
  Random random = SeededTokens(4);
  const Fields fields({HalfSpec(), std::vector<std::string>(40)});
  const MultiQuery query = fields.Query(4, &random);
  Bitmap some(40);
  some.Set(3);
  for (MultiField* field : fields.both) {
    ASSERT_NE(field, nullptr);
    field->Kill(7);
    for (const MultiSearchParams& params : {Exact(5), MultiSearchParams{}}) {
      EXPECT_TRUE(Find(*field, query, params, {}, 0, 40).empty());
      EXPECT_TRUE(Find(*field, query, params,
                       {.allowed = &some, .num_allowed = 1}, 0, 40)
                      .empty());
    }
    for (RowId row = 0; row < 40; ++row) {
      EXPECT_EQ(field->TokensOf(row).num_tokens, 0u);
    }
    EXPECT_EQ(field->token_bytes(), 0u);
    EXPECT_EQ(field->index_bytes(), 0u);
    EXPECT_EQ(field->encoder_params(), std::nullopt);
  }
}

TEST(MultiFieldRowsTest, KilledRowsAreNotFound) {
  Random random = SeededTokens(5);
  const Fields fields(Gaussian(HalfSpec(), 200, &random));
  for (RowId row = 0; row < 200; row += 3) {
    for (MultiField* field : fields.both) field->Kill(row);
  }
  fields.both[0]->Kill(0);  // again, and one without tokens
  fields.both[1]->Kill(0);
  const auto lives = [](RowId row) { return row % 3 != 0; };
  for (const MultiField* field : fields.both) {
    const MultiQuery query = fields.Query(6, &random);
    EXPECT_EQ(Find(*field, query, Exact(300), {}, 0, 200),
              FindNaively(fields.documents, query, 300, lives));
    // All of them, so that codes lose none.
    EXPECT_EQ(Find(*field, query, {.k = 300}, {}, 0, 200),
              FindNaively(fields.documents, query, 300, lives));
  }
}

TEST(MultiFieldRowsTest, FiltersAndRangesAreKept) {
  Random random = SeededTokens(6);
  const Fields fields(Gaussian(HalfSpec(), 200, &random));
  for (MultiField* field : fields.both) field->Kill(50);
  for (int trial = 0; trial < 60; ++trial) {
    const size_t share = 1 + random.Uniform(10);
    Bitmap allowed(200);
    for (RowId row = 0; row < 200; ++row) {
      if (random.Uniform(share) == 0) allowed.Set(row);
    }
    Filter filter;
    if (trial % 3 != 0) {
      filter.allowed = &allowed;
      filter.num_allowed = allowed.Count();
    }
    if (trial % 2 != 0) {
      filter.begin = static_cast<RowId>(random.Uniform(120));
      filter.end = filter.begin + static_cast<RowId>(random.Uniform(120));
    }
    const auto begin = static_cast<RowId>(random.Uniform(100));
    const auto end = static_cast<RowId>(begin + random.Uniform(201 - begin));
    const auto accepts = [&](RowId row) {
      return filter.Accepts(row) && row >= begin && row < end && row != 50;
    };
    const MultiQuery query = fields.Query(4, &random);
    for (const size_t k : {3, 250}) {
      const std::vector<Neighbor> expected =
          FindNaively(fields.documents, query, k, accepts);
      for (const MultiField* field : fields.both) {
        EXPECT_EQ(Find(*field, query, Exact(k), filter, begin, end), expected);
        // 3 k, and 32 at least, of so few.
        EXPECT_EQ(Find(*field, query, {.k = k, .exact_candidates = 250}, filter,
                       begin, end),
                  expected);
      }
    }
  }
}

// By both the first and the last step.
TEST(MultiFieldRowsTest, AllRowsAreFoundWhereKIsLarger) {
  Random random = SeededTokens(7);
  const Fields fields(Gaussian(HalfSpec(), 100, &random));
  const MultiQuery query = fields.Query(4, &random);
  const std::vector<Neighbor> expected =
      FindNaively(fields.documents, query, 1'000, kAllRows);
  ASSERT_EQ(expected.size(), 85u);
  for (const MultiField* field : fields.both) {
    for (const size_t few : {0, 1, 20}) {
      const MultiSearchParams params{.k = 1'000,
                                     .rescore = few,
                                     .candidates = few,
                                     .exact_candidates = few};
      EXPECT_EQ(Find(*field, query, params, {}, 0, 100), expected);
    }
    EXPECT_EQ(Find(*field, query, Exact(1'000), {}, 0, 100), expected);
  }
}

TEST(MultiFieldRowsTest, OfEqualRowsTheFirstAreFound) {
  Random random = SeededTokens(8);
  Documents documents = Gaussian(HalfSpec(), 20, &random);
  for (int i = 0; i < 7; ++i) {
    for (size_t row = 0; row < 20; ++row) {
      documents.rows.push_back(documents.rows[row]);
    }
  }
  const Fields fields(std::move(documents));
  for (int trial = 0; trial < 10; ++trial) {
    const MultiQuery query = fields.Query(4, &random);
    for (const size_t k : {1, 5, 11}) {
      const std::vector<Neighbor> expected =
          FindNaively(fields.documents, query, k, kAllRows);
      for (const MultiField* field : fields.both) {
        EXPECT_EQ(Find(*field, query, Exact(k), {}, 0, 160), expected);
        EXPECT_EQ(Find(*field, query, {.k = k}, {}, 0, 160), expected);
      }
    }
  }
}

TEST(MultiFieldRowsTest, SearchesStopWhenTold) {
  Random random = SeededTokens(9);
  // Tokens enough for a check.
  const Fields fields(
      MakeDocuments(HalfSpec(), 300, 2 * kTokensPerCheck / 100, 7, &random));
  const MultiQuery query = fields.Query(4, &random);
  const StopCondition cancelled{.cancelled = [] { return true; }};
  const StopCondition late{.deadline = std::chrono::steady_clock::now() -
                                       std::chrono::seconds(1)};
  for (const MultiField* field : fields.both) {
    for (const MultiSearchParams& params : {Exact(5), MultiSearchParams{}}) {
      TopK top(params.k);
      EXPECT_TRUE(absl::IsCancelled(field->Search(
          query, params, {}, 0, 300, cancelled, &top, nullptr, nullptr)));
      EXPECT_TRUE(absl::IsDeadlineExceeded(field->Search(
          query, params, {}, 0, 300, late, &top, nullptr, nullptr)));
    }
  }
}

// The exact comparison of what codes have found is most of the work for a large
// k.
TEST(MultiFieldRowsTest, TheLastStepStopsWhenTold) {
  Random random = SeededTokens(10);
  const Fields fields(MakeDocuments(HalfSpec(), 400, 80, 0, &random));
  const MultiQuery query = fields.Query(4, &random);
  for (const MultiField* field : fields.both) {
    // As many checks as the scan of codes makes, and one more.
    size_t checks = 0;
    const StopCondition counting{.cancelled = [&] {
      ++checks;
      return false;
    }};
    TopK top(1);
    ASSERT_TRUE(field
                    ->Search(query, {.k = 1}, {}, 0, 400, counting, &top,
                             nullptr, nullptr)
                    .ok());
    size_t left = checks + 1;
    const StopCondition later{.cancelled = [&] { return --left == 0; }};
    TopK all(400);
    EXPECT_TRUE(absl::IsCancelled(field->Search(query, {.k = 400}, {}, 0, 400,
                                                later, &all, nullptr, nullptr)))
        << checks << " checks";
  }
}

// What searches do not tell is not asked for.
TEST(MultiFieldRowsTest, WorkIsAdded) {
  Random random = SeededTokens(11);
  const Fields fields(Gaussian(HalfSpec(), 100, &random));
  const MultiQuery query = fields.Query(4, &random);
  for (const MultiField* field : fields.both) {
    SearchStats stats;
    MultiStats work;
    Find(*field, query, {.k = 50}, {}, 0, 100, &work, &stats);
    const MultiStats once = work;
    const uint64_t distances = stats.distance_computations;
    EXPECT_EQ(once.num_candidates, 85u);
    EXPECT_GE(once.num_exact, 50u);
    EXPECT_GT(distances, 0u);
    Find(*field, query, {.k = 50}, {}, 0, 100, &work, &stats);
    EXPECT_EQ(work.num_candidates, 2 * once.num_candidates);
    EXPECT_EQ(work.num_exact, 2 * once.num_exact);
    EXPECT_EQ(stats.distance_computations, 2 * distances);
  }
}

// Elements at the limit of what the engine takes, and far above it.
TEST(MultiFieldRowsTest, HugeElementsAreFoundByTheirScores) {
  Random random = SeededTokens(12);
  for (const bool cosine : {false, true}) {
    for (const float huge : {1e15f, 1e30f}) {
      const MultiSpec spec{
          .dim = 8, .type = ElementType::kFloat32, .cosine = cosine};
      Documents documents = MakeDocuments(spec, 60, 6, 0, &random);
      for (size_t row = 0; row < 60; row += 10) {
        Floats tokens = GaussianTokens(spec, 3, &random);
        for (float& value : tokens) value = std::copysign(huge, value);
        documents.rows[row] = TokenBytes(tokens, spec.type);
      }
      const Fields fields(std::move(documents));
      for (const float length : {1.0f, huge}) {
        Floats tokens = GaussianTokens(spec, 4, &random);
        for (float& value : tokens) value = std::copysign(length, value);
        const MultiQuery query(spec, tokens, {});
        const std::vector<Neighbor> expected =
            FindNaively(fields.documents, query, 60, kAllRows);
        for (const MultiField* field : fields.both) {
          ASSERT_NE(field, nullptr);
          for (const MultiSearchParams& params :
               {Exact(60), MultiSearchParams{.k = 60}}) {
            EXPECT_EQ(Find(*field, query, params, {}, 0, 60), expected);
          }
        }
      }
    }
  }
}

// Rows of both kinds of field, in another order, killed ones left out.
TEST(MultiFieldRowsTest, MergedFieldsHaveTheRowsOfTheirSources) {
  Random random = SeededTokens(13);
  const Fields a(Gaussian(HalfSpec(), 90, &random));
  const Fields b(Gaussian(HalfSpec(), 70, &random));
  Documents expected{HalfSpec(), {}};
  std::vector<MultiSource> sources;
  for (RowId row = 0; row < 90; ++row) {
    if (row % 4 == 1) continue;
    sources.push_back({a.both[1], row});
    expected.rows.push_back(a.documents.rows[row]);
    if (row >= 70) continue;
    sources.push_back({b.both[row % 2], row});
    expected.rows.push_back(b.documents.rows[row]);
  }
  const auto merged = Seal(HalfSpec(), sources);
  ASSERT_NE(merged, nullptr);
  const size_t n = expected.rows.size();
  for (int trial = 0; trial < 10; ++trial) {
    const MultiQuery query = a.Query(5, &random);
    EXPECT_EQ(Find(*merged->field, query, Exact(n), {}, 0, n),
              FindNaively(expected, query, n, kAllRows));
  }
  for (RowId row = 0; row < n; ++row) {
    const TokenRows tokens = merged->field->TokensOf(row);
    const TokenRows wanted = expected.row(row);
    ASSERT_EQ(tokens.num_tokens, wanted.num_tokens);
    ASSERT_TRUE(
        wanted.num_tokens == 0 ||
        std::memcmp(tokens.data, wanted.data, expected.rows[row].size()) == 0);
  }
}

TEST(MultiFieldRowsTest, CancelledBuildsSaySo) {
  Random random = SeededTokens(14);
  const auto growing = Gaussian(HalfSpec(), 100, &random).Grow();
  CancelToken cancel;
  cancel.Cancel();
  SealedFiles files;
  EXPECT_TRUE(absl::IsCancelled(WriteField(HalfSpec(), SourcesOf(*growing, 100),
                                           {.cancel = &cancel}, &files)));
}

// Few documents have no encodings: all their codes are scanned. How many are
// then compared exactly was measured, more where codes are coarse.
TEST(MultiFieldCodecTest, EachKindOfCodeFindsTheBest) {
  constexpr size_t kRows = 1'500;
  constexpr int kQueries = 40;
  MultiSpec spec{.dim = 32, .type = ElementType::kFloat16};
  Topics topics(spec.dim, 15);
  std::vector<Floats> texts;
  Documents documents{spec, {}};
  for (size_t i = 0; i < kRows; ++i) {
    texts.push_back(topics.Document(15));
    documents.rows.push_back(TokenBytes(texts.back(), spec.type));
  }
  const auto growing = documents.Grow();
  std::vector<MultiQuery> queries;
  for (int i = 0; i < kQueries; ++i) {
    queries.emplace_back(spec, topics.QueryFor(texts[i * 30], 12), Floats());
  }
  for (const TokenCodecKind kind : kCodecs) {
    spec.token_codec = kind;
    const auto sealed = Seal(spec, SourcesOf(*growing, kRows));
    ASSERT_NE(sealed, nullptr);
    EXPECT_FALSE(sealed->field->has_encodings());
    double recall = 0;
    MultiStats work;
    for (const MultiQuery& query : queries) {
      recall +=
          RecallOf(Find(*sealed->field, query, {.k = 10}, {}, 0, kRows, &work),
                   FindNaively(documents, query, 10, kAllRows)) /
          kQueries;
    }
    std::printf("kind %d: recall %.4f, %zu compared exactly\n",
                static_cast<int>(kind), recall,
                static_cast<size_t>(work.num_exact / kQueries));
    EXPECT_GE(recall, 0.95) << static_cast<int>(kind);
    EXPECT_EQ(work.num_candidates, kQueries * kRows);
  }
}

}  // namespace
}  // namespace vicinal
