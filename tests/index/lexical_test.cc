// Growing fields, sealed ones and ones that were merged answer as if every row
// was scored, to the bit, and count what is alive.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "index/growing_lexical.h"
#include "index/lexical_field.h"
#include "index/sealed_lexical.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/random.h"
#include "tests/index/lexical_testing.h"

namespace vicinal {
namespace {

constexpr LexicalWeights kAllWeights[] = {
    LexicalWeights::kPositive, LexicalWeights::kSigned,
    LexicalWeights::kIntegers, LexicalWeights::kCounts};

// One corpus in each shape that a field may have.
struct Shapes {
  explicit Shapes(const LexicalCorpus& corpus, Random& random)
      : growing(corpus.Grow(0, corpus.rows.size())),
        sealed(SealLexical(corpus, SourcesOf(*growing, corpus.rows.size()))) {
    // Rows come from three fields, in turns.
    const size_t n = corpus.rows.size();
    parts.push_back(corpus.Grow(0, n / 2));
    parts.push_back(corpus.Grow(n / 2, n));
    std::vector<LexicalSource> sources;
    for (RowId row = 0; row < n; ++row) {
      if (random.Uniform(3) == 0) {
        sources.push_back({sealed.field.get(), row});
      } else if (row < n / 2) {
        sources.push_back({parts[0].get(), row});
      } else {
        sources.push_back({parts[1].get(), static_cast<RowId>(row - n / 2)});
      }
    }
    merged = SealLexical(corpus, sources);
  }
  std::vector<LexicalField*> fields() const {
    return {growing.get(), sealed.field.get(), merged.field.get()};
  }

  std::unique_ptr<GrowingLexicalField> growing;
  OwnedSealed sealed;
  std::vector<std::unique_ptr<GrowingLexicalField>> parts;
  OwnedSealed merged;
};

SparseParams RandomParams(Random& random) {
  constexpr size_t kKs[] = {1, 10, 100, 100'000};
  SparseParams params;
  params.k = kKs[random.Uniform(4)];
  params.scan = random.Uniform(5) == 0;
  params.bm25 = {.k1 = random.Uniform(4) == 0 ? 0.0f : 1.2f,
                 .b = static_cast<float>(random.UniformDouble()),
                 .mean_length = 1 + 100 * random.UniformDouble()};
  return params;
}

// Of few rows and of many, sometimes in a range of them, sometimes with dead
// ones.
void ExpectExact(const LexicalCorpus& corpus, const Shapes& shapes,
                 const LexicalEntries& query, Random& random) {
  const size_t n = corpus.rows.size();
  AtomicBitmap deleted(n);
  for (RowId row = 0; row < n; row += 7) deleted.Set(row);
  for (const size_t one_in : {0, 1, 2, 100, 1'000'000}) {
    Bitmap allowed(n);
    for (RowId row = 0; row < n; ++row) {
      if (one_in > 0 && random.Uniform(one_in) == 0) allowed.Set(row);
    }
    if (one_in > n) allowed.Set(static_cast<RowId>(random.Uniform(n)));
    Filter filter;
    if (random.Uniform(4) > 0) {
      filter.allowed = &allowed;
      filter.num_allowed = allowed.Count();
    }
    if (random.Uniform(2) == 0) filter.deleted = &deleted;
    RowId begin = 0, end = static_cast<RowId>(n);
    if (random.Uniform(3) == 0) {
      begin = static_cast<RowId>(random.Uniform(n + 1));
      end = begin + static_cast<RowId>(random.Uniform(n + 1 - begin));
    }
    if (random.Uniform(4) == 0) {
      filter.begin = static_cast<RowId>(n / 4);
      filter.end = static_cast<RowId>(n / 2);
    }
    const SparseParams params = RandomParams(random);
    const auto truth =
        FindLexicalByBruteForce(corpus, query, params, filter, begin, end);
    for (const LexicalField* field : shapes.fields()) {
      ASSERT_EQ(FindLexical(*field, corpus, query, params, filter, begin, end,
                            random),
                truth);
    }
  }
}

TEST(LexicalFieldTest, FindsWhatScoringAllRowsFinds) {
  Random random = SeededRandom(1);
  for (const LexicalWeights weights : kAllWeights) {
    for (const uint32_t num_dims : {60, 3'000}) {
      const LexicalCorpus corpus =
          MakeLexicalCorpus(weights, 2'000, num_dims, false, random);
      const Shapes shapes(corpus, random);
      for (size_t q = 0; q < 25; ++q) {
        // Words that no row has are among them; BM25 is asked by idf, or by
        // what a query demotes.
        const auto of_query = weights == LexicalWeights::kCounts
                                  ? LexicalWeights::kSigned
                                  : weights;
        LexicalEntries query = RandomLexicalEntries(
            of_query, 1 + random.Uniform(20), num_dims, random);
        query[num_dims + 5] = 1.5f;
        if (random.Uniform(4) == 0) query.begin()->second = 0;
        ExpectExact(corpus, shapes, query, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(LexicalFieldTest, HoldsWhatWasAppended) {
  Random random = SeededRandom(2);
  for (const LexicalWeights weights : kAllWeights) {
    const bool is_text = weights == LexicalWeights::kCounts;
    const LexicalCorpus corpus =
        MakeLexicalCorpus(weights, 500, 400, is_text, random);
    const Shapes shapes(corpus, random);
    for (const LexicalField* field : shapes.fields()) {
      ExpectHolds(*field, corpus);
      if (is_text) {
        EXPECT_EQ(field->FindWord("unheard"), kNoTerm);
        EXPECT_EQ(field->FindWord(""), kNoTerm);
        EXPECT_EQ(field->FindWord(std::string(20, '\xFF')), kNoTerm);
      } else {
        EXPECT_EQ(field->FindDim(400), kNoTerm);
        EXPECT_EQ(field->FindDim(kNoTerm), kNoTerm);
      }
    }
  }
}

TEST(LexicalFieldTest, CountsWhatIsAliveAsIfTheDeadWereNeverThere) {
  Random random = SeededRandom(3);
  for (const LexicalWeights weights : kAllWeights) {
    const LexicalCorpus corpus =
        MakeLexicalCorpus(weights, 800, 300, false, random);
    const Shapes shapes(corpus, random);
    std::vector<bool> dead(corpus.rows.size());
    for (const LexicalField* field : shapes.fields()) {
      ExpectCounts(*field, corpus, dead);
    }
    for (const size_t one_in : {50, 2, 1}) {
      for (RowId row = 0; row < corpus.rows.size(); ++row) {
        if (dead[row] || random.Uniform(one_in) > 0) continue;
        dead[row] = true;
        for (LexicalField* field : shapes.fields()) field->Kill(row);
      }
      for (const LexicalField* field : shapes.fields()) {
        ExpectCounts(*field, corpus, dead);
      }
      std::vector<LexicalSource> live;
      LexicalCorpus rest = corpus;
      rest.rows.clear();
      for (RowId row = 0; row < corpus.rows.size(); ++row) {
        if (dead[row]) continue;
        live.push_back({shapes.growing.get(), row});
        rest.rows.push_back(corpus.rows[row]);
      }
      const OwnedSealed rebuilt = SealLexical(corpus, live);
      ExpectHolds(*rebuilt.field, rest);
      ExpectCounts(*rebuilt.field, rest, std::vector<bool>(live.size()));
    }
  }
}

TEST(LexicalFieldTest, FindsWordsByTheirBeginning) {
  Random random = SeededRandom(4);
  const LexicalCorpus corpus =
      MakeLexicalCorpus(LexicalWeights::kCounts, 300, 700, false, random);
  std::set<std::string> used;
  for (const LexicalEntries& row : corpus.rows) {
    for (const auto& [word, count] : row) used.insert(corpus.words[word]);
  }
  const Shapes shapes(corpus, random);
  std::vector<std::string> prefixes = {"",          "common", "commonly", "b",
                                       "commonlyb", "zebra",  "\xFF"};
  prefixes.push_back(std::string("\0", 1));
  for (const std::string& word : used) {
    if (random.Uniform(10) == 0) {
      prefixes.push_back(word.substr(0, 1 + random.Uniform(word.size())));
    }
  }
  for (const LexicalField* field : shapes.fields()) {
    for (const std::string& prefix : prefixes) {
      std::set<std::string> wanted, found;
      for (const std::string& word : used) {
        if (absl::StartsWith(word, prefix)) wanted.insert(word);
      }
      field->ForEachWordFrom(prefix,
                             [&](absl::string_view word, uint32_t term) {
                               EXPECT_EQ(field->WordOf(term), word);
                               EXPECT_TRUE(found.emplace(word).second);
                             });
      EXPECT_EQ(found, wanted);
    }
  }
}

TEST(LexicalFieldTest, KnowsTheEdges) {
  Random random = SeededRandom(5);
  LexicalCorpus corpus;
  for (int i = 0; i < 300; ++i) {
    corpus.rows.push_back(
        i % 3 == 0
            ? LexicalEntries()
            : LexicalEntries{{5, 1.0f},
                             {4'000'000'000, i % 2 == 0 ? 2.0f : -2.0f}});
  }
  const Shapes shapes(corpus, random);
  const auto ask = [&](const LexicalEntries& query, size_t k) {
    const auto truth =
        FindLexicalByBruteForce(corpus, query, {.k = k}, {}, 0, 300);
    for (const LexicalField* field : shapes.fields()) {
      EXPECT_EQ(
          FindLexical(*field, corpus, query, {.k = k}, {}, 0, 300, random),
          truth);
    }
    return truth.size();
  };
  EXPECT_EQ(ask({}, 10), 0u);
  EXPECT_EQ(ask({{6, 1.0f}}, 10), 0u) << "a dimension that no row has";
  EXPECT_EQ(ask({{5, 1.0f}}, 0), 0u);
  EXPECT_EQ(ask({{5, 1.0f}}, 1'000), 200u) << "ties, and k above the matches";
  EXPECT_EQ(ask({{5, 2.0f}, {4'000'000'000, 1.0f}}, 1'000), 200u)
      << "rows whose score is 0 are among them";
  EXPECT_EQ(ask({{5, 0.0f}, {4'000'000'000, -1.0f}}, 100), 100u)
      << "a weight of 0 is none";
  EXPECT_EQ(ask({{4'000'000'000, 3e38f}}, 5), 5u) << "sums beyond f32";
  EXPECT_EQ(ask({{5, 1e-44f}}, 5), 5u) << "sums below f32's exact ones";
}

TEST(LexicalFieldTest, FieldsOfNoRowAndOfEmptyRowsAnswer) {
  Random random = SeededRandom(6);
  for (const LexicalKind kind : {LexicalKind::kSparse, LexicalKind::kText}) {
    for (const size_t num_rows : {0, 3}) {
      LexicalCorpus corpus;
      corpus.kind = kind;
      corpus.has_positions = corpus.is_text();
      corpus.words = {"a"};
      corpus.rows.resize(num_rows);
      const Shapes shapes(corpus, random);
      for (LexicalField* field : shapes.fields()) {
        if (num_rows > 0) field->Kill(1);
        ExpectHolds(*field, corpus);
        ExpectCounts(*field, corpus, std::vector<bool>(num_rows));
        EXPECT_EQ(corpus.TermOf(*field, 0), kNoTerm);
        field->ForEachWordFrom("", [](absl::string_view, uint32_t) { FAIL(); });
        EXPECT_TRUE(FindLexical(*field, corpus, {{0, 1.0f}}, {.scan = true}, {},
                                0, static_cast<RowId>(num_rows), random)
                        .empty());
      }
    }
  }
}

// A posting has room for the length of a row, but of few bits.
TEST(LexicalFieldTest, ScoresRowsOfMillionsOfTokens) {
  Random random = SeededRandom(7);
  LexicalCorpus corpus;
  corpus.kind = LexicalKind::kText;
  LexicalEntries large;
  for (uint32_t i = 0; i < 70'000; ++i) {
    char word[16];
    std::snprintf(word, sizeof(word), "w%06d", static_cast<int>(i));
    corpus.words.push_back(word);
    large[i] = 300;
  }
  corpus.rows = {large, {{0, 1.0f}}, {{0, 255.0f}, {5, 1.0f}}, {{5, 7.0f}}};
  const Shapes shapes(corpus, random);
  const SparseParams params{.k = 3, .bm25 = {.mean_length = 5'000'000}};
  for (const LexicalEntries& query :
       {LexicalEntries{{0, 1.0f}}, LexicalEntries{{0, 1.0f}, {5, -0.5f}}}) {
    const auto truth = FindLexicalByBruteForce(corpus, query, params, {}, 0, 4);
    for (const LexicalField* field : shapes.fields()) {
      EXPECT_EQ(field->LengthOf(0), 70'000u * 255);
      EXPECT_EQ(FindLexical(*field, corpus, query, params, {}, 0, 4, random),
                truth);
    }
  }
}

TEST(LexicalFieldTest, StopsWhenTold) {
  Random random = SeededRandom(8);
  const LexicalCorpus corpus =
      MakeLexicalCorpus(LexicalWeights::kPositive, 500, 50, false, random);
  const Shapes shapes(corpus, random);
  StopCondition stop;
  stop.cancelled = [] { return true; };
  for (const LexicalField* field : shapes.fields()) {
    for (const bool scan : {false, true}) {
      TopK top(10);
      const LexicalTerm term{corpus.TermOf(*field, 0), 1};
      EXPECT_TRUE(absl::IsCancelled(field->Search(
          {&term, 1}, {.scan = scan}, {}, 0, 500, stop, &top, nullptr)));
    }
  }
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      BuildLexicalField(SourcesOf(*shapes.growing, 500), corpus.kind,
                        corpus.weight(), false, &cancel)
          .status()));
}

}  // namespace
}  // namespace vicinal
