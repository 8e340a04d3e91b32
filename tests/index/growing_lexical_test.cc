// A growing field is small until it is used, scores few rows one by one, and is
// searched while it grows.
#include "index/growing_lexical.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "index/index.h"
#include "index/lexical_field.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "tests/index/lexical_testing.h"

namespace vicinal {
namespace {

TEST(GrowingLexicalTest, TakesNextToNoMemoryUntilItHasRows) {
  Random random = SeededRandom(9);
  for (const LexicalWeights weights :
       {LexicalWeights::kPositive, LexicalWeights::kCounts}) {
    const LexicalCorpus corpus =
        MakeLexicalCorpus(weights, 20'000, 5'000, false, random);
    GrowingLexicalField field(corpus.kind, false, corpus.rows.size());
    EXPECT_LE(field.memory_bytes(), 600u);
    size_t entries = 0, last = 0;
    for (size_t row = 0; row < corpus.rows.size(); ++row) {
      corpus.AppendTo(row, &field);
      entries += corpus.rows[row].size();
      EXPECT_GE(field.memory_bytes(), last);
      last = field.memory_bytes();
      if (row == 0) {
        EXPECT_LE(last, 16'384u);
      }
    }
    // A posting and an entry, and the words with what is held in reserve.
    EXPECT_GE(last, entries * (corpus.is_text() ? 13 : 16));
    EXPECT_LE(last, entries * 32 + 5'000 * 160 + (size_t{1} << 20));
  }
}

TEST(GrowingLexicalTest, ScoresRowsOneByOneWhereFewAreAccepted) {
  Random random = SeededRandom(11);
  for (const LexicalWeights weights :
       {LexicalWeights::kPositive, LexicalWeights::kCounts}) {
    const LexicalCorpus corpus =
        MakeLexicalCorpus(weights, 5'000, 50, false, random);
    const auto field = corpus.Grow(0, corpus.rows.size());
    Bitmap few(corpus.rows.size());
    for (RowId row = 0; row < 20; ++row) few.Set(9 * row);
    const LexicalTerm terms[] = {{corpus.TermOf(*field, 0), 1.0f},
                                 {corpus.TermOf(*field, 1), 1.0f}};
    const auto plan_of = [&](const Filter& filter, bool scan) {
      TopK top(10);
      SearchStats stats;
      EXPECT_TRUE(field
                      ->Search(terms, {.scan = scan}, filter, 0, 5'000, {},
                               &top, &stats)
                      .ok());
      EXPECT_EQ(top.size(), 10u);
      if (stats.plan == SearchPlan::kPostings) {
        EXPECT_LT(stats.distance_computations, 1'000u);
      }
      return stats.plan;
    };
    EXPECT_EQ(plan_of({}, false), SearchPlan::kPostings);
    EXPECT_EQ(plan_of({}, true), SearchPlan::kScan);
    EXPECT_EQ(plan_of({.allowed = &few, .num_allowed = 20}, false),
              SearchPlan::kScan);
    EXPECT_EQ(plan_of({.begin = 100, .end = 150}, false), SearchPlan::kScan);
  }
}

// Readers are told of rows by a release store, as of a segment's; what they
// read of those is what they read alone.
TEST(GrowingLexicalTest, ReadersSearchWhileRowsAreAppendedAndKilled) {
  Random random = SeededRandom(10);
  for (const LexicalWeights weights :
       {LexicalWeights::kSigned, LexicalWeights::kCounts}) {
    const bool is_text = weights == LexicalWeights::kCounts;
    const LexicalCorpus corpus =
        MakeLexicalCorpus(weights, 3'000, 2'000, is_text, random);
    GrowingLexicalField field(corpus.kind, is_text, corpus.rows.size());
    std::atomic<RowId> num_visible = 0;
    std::vector<std::thread> readers;
    for (uint64_t seed = 0; seed < 2; ++seed) {
      readers.emplace_back([&, seed] {
        Random choices(seed);
        std::vector<uint32_t> positions;
        for (RowId end = 0; end < corpus.rows.size();) {
          end = num_visible.load(std::memory_order_acquire);
          const RowId begin = end / 2;
          const LexicalEntries query = RandomLexicalEntries(
              LexicalWeights::kPositive, 6, 2'000, choices);
          const SparseParams params{.k = 5, .scan = choices.Uniform(8) == 0};
          ASSERT_EQ(
              FindLexical(field, corpus, query, params, {}, begin, end,
                          choices),
              FindLexicalByBruteForce(corpus, query, params, {}, begin, end));
          for (const auto& [dim, weight] : query) {
            const uint32_t term = corpus.TermOf(field, dim);
            if (term == kNoTerm) continue;
            ASSERT_LE(field.NumLive(term), corpus.rows.size());
            ASSERT_LE(field.totals().num_rows, corpus.rows.size());
            if (end == 0 || !is_text) continue;
            field.PositionsOf(end - 1, term, &positions);
            ASSERT_EQ(positions.empty(), !corpus.rows[end - 1].contains(dim));
          }
          size_t num_words = 0;
          field.ForEachWordFrom("c", [&](absl::string_view word, uint32_t) {
            num_words += word.empty() ? 0 : 1;
          });
          ASSERT_LE(num_words, 2'000u);
        }
      });
    }
    for (RowId row = 0; row < corpus.rows.size(); ++row) {
      corpus.AppendTo(row, &field);
      num_visible.store(row + 1, std::memory_order_release);
      if (row % 3 == 2) field.Kill(row - 1);
    }
    for (std::thread& reader : readers) reader.join();
  }
}

}  // namespace
}  // namespace vicinal
