// Bytes of sealed fields that are not what was written are refused, or answer
// without harm.
#include "index/sealed_lexical.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "index/growing_lexical.h"
#include "index/lexical_field.h"
#include "src/base/random.h"
#include "tests/index/lexical_testing.h"

namespace vicinal {
namespace {

constexpr size_t kRows = 60;

struct Written {
  Written(LexicalWeights weights, uint64_t seed, uint32_t num_dims = 90)
      : random(SeededRandom(seed)) {
    const bool is_text = weights == LexicalWeights::kCounts;
    corpus = MakeLexicalCorpus(weights, kRows, num_dims, is_text, random);
    bytes = BuildLexical(corpus,
                         SourcesOf(*corpus.Grow(0, kRows), corpus.rows.size()));
  }
  absl::Status Open(const LexicalBytes& damaged) const {
    const SealedBytes aligned(damaged);
    return SealedLexicalField::Open(aligned.view(), corpus.kind,
                                    corpus.has_positions, kRows)
        .status();
  }

  Random random;
  LexicalCorpus corpus;
  LexicalBytes bytes;
};

// Everything that a field does, with whatever comes of it.
void UseAll(SealedLexicalField* field, const LexicalCorpus& corpus,
            Random& random) {
  std::vector<uint32_t> positions;
  uint64_t sum = field->totals().num_rows + field->totals().length;
  std::vector<LexicalTerm> query;
  for (uint32_t dim = 0; dim < 90; ++dim) {
    const uint32_t term = corpus.TermOf(*field, dim);
    if (term == kNoTerm) continue;
    if (dim % 7 == 0) query.push_back({term, 1.0f});
    sum += field->NumLive(term);
    field->ForEachPosting(term, 0, kRows, [&](RowId row, float) {
      ASSERT_LT(row, kRows);
      field->PositionsOf(row, term, &positions);
    });
  }
  field->ForEachWordFrom(
      "comm", [&](absl::string_view word, uint32_t) { sum += word.size(); });
  for (RowId row = 0; row < kRows; ++row) {
    if (corpus.is_text()) sum += field->LengthOf(row);
    if (random.Uniform(4) == 0) field->Kill(row);
  }
  for (const bool scan : {false, true}) {
    TopK top(10);
    EXPECT_TRUE(
        field->Search(query, {.scan = scan}, {}, 0, kRows, {}, &top, nullptr)
            .ok());
  }
  for (const LexicalTerm& term : query) {
    EXPECT_LE(field->NumLive(term.term), kRows);
  }
  EXPECT_LE(field->totals().num_rows, kRows);
  (void)sum;
}

void OpenAndUse(const Written& written, const LexicalBytes& damaged,
                Random& random) {
  const SealedBytes aligned(damaged);
  auto field = SealedLexicalField::Open(aligned.view(), written.corpus.kind,
                                        written.corpus.has_positions, kRows);
  if (field.ok()) {
    UseAll(field->get(), written.corpus, random);
  } else {
    EXPECT_TRUE(absl::IsDataLoss(field.status())) << field.status();
  }
}

TEST(SealedLexicalTest, RefusesBytesThatAreCutShort) {
  for (const LexicalWeights weights :
       {LexicalWeights::kPositive, LexicalWeights::kCounts}) {
    const Written written(weights, 1);
    ASSERT_TRUE(written.Open(written.bytes).ok());
    for (std::string LexicalBytes::* part :
         {&LexicalBytes::index, &LexicalBytes::words,
          &LexicalBytes::positions}) {
      for (size_t size = 0; size < (written.bytes.*part).size(); ++size) {
        LexicalBytes damaged = written.bytes;
        (damaged.*part).resize(size);
        ASSERT_TRUE(absl::IsDataLoss(written.Open(damaged))) << size;
      }
    }
  }
}

TEST(SealedLexicalTest, DamagedBytesAreRefusedOrHarmless) {
  for (const LexicalWeights weights :
       {LexicalWeights::kSigned, LexicalWeights::kCounts}) {
    Written written(weights, 2);
    for (std::string LexicalBytes::* part :
         {&LexicalBytes::index, &LexicalBytes::words,
          &LexicalBytes::positions}) {
      const size_t size = (written.bytes.*part).size();
      for (int trial = 0; size > 0 && trial < 1'000; ++trial) {
        LexicalBytes damaged = written.bytes;
        std::string& bytes = damaged.*part;
        const size_t count = 1 + written.random.Uniform(3);
        for (size_t i = 0; i < count; ++i) {
          const size_t at = written.random.Uniform(
              written.random.Uniform(3) == 0 ? std::min<size_t>(size, 600)
                                             : size);
          bytes[at] =
              static_cast<char>(bytes[at] ^ (1 << written.random.Uniform(8)));
        }
        OpenAndUse(written, damaged, written.random);
        if (::testing::Test::HasFailure()) FAIL() << "trial " << trial;
      }
    }
  }
}

TEST(SealedLexicalTest, RefusesPartsOfOtherFields) {
  const Written text(LexicalWeights::kCounts, 3);
  const Written other(LexicalWeights::kCounts, 4, 70);
  const Written sparse(LexicalWeights::kPositive, 5);
  for (std::string LexicalBytes::* part :
       {&LexicalBytes::index, &LexicalBytes::words, &LexicalBytes::positions}) {
    LexicalBytes mixed = text.bytes;
    mixed.*part = other.bytes.*part;
    EXPECT_TRUE(absl::IsDataLoss(text.Open(mixed)));
    mixed.*part = sparse.bytes.*part;
    EXPECT_TRUE(absl::IsDataLoss(text.Open(mixed)));
  }
  EXPECT_TRUE(absl::IsDataLoss(sparse.Open(text.bytes)));
  const SealedBytes aligned(text.bytes);
  EXPECT_TRUE(
      absl::IsDataLoss(SealedLexicalField::Open(
                           aligned.view(), LexicalKind::kText, true, kRows + 1)
                           .status()));
}

TEST(SealedLexicalTest, RefusesWordsThatDoNotAscend) {
  const Written written(LexicalWeights::kCounts, 6);
  LexicalBytes damaged = written.bytes;
  uint32_t num_words = 0;
  std::memcpy(&num_words, damaged.words.data(), sizeof(num_words));
  damaged.words[(num_words + 2) * sizeof(uint32_t)] = '\xFF';
  const absl::Status status = written.Open(damaged);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

// A field that keeps positions may be merged from one that has none.
TEST(SealedLexicalTest, TakesRowsWhosePositionsWereNotKept) {
  Written written(LexicalWeights::kCounts, 7);
  LexicalCorpus without = written.corpus;
  without.has_positions = false;
  const auto kept = written.corpus.Grow(0, kRows);
  const auto not_kept = without.Grow(0, kRows);
  std::vector<LexicalSource> sources;
  for (RowId row = 0; row < kRows; ++row) {
    sources.push_back({row % 2 == 0 ? kept.get() : not_kept.get(), row});
  }
  const OwnedSealed merged = SealLexical(written.corpus, sources);
  ASSERT_NE(merged.field, nullptr);
  std::vector<uint32_t> positions;
  for (RowId row = 0; row < kRows; ++row) {
    for (const auto& [word, count] : written.corpus.rows[row]) {
      merged.field->PositionsOf(row, written.corpus.TermOf(*merged.field, word),
                                &positions);
      EXPECT_EQ(positions.size(), row % 2 == 0 ? count : 0);
    }
  }
}

}  // namespace
}  // namespace vicinal
