#include "tests/index/lexical_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/base/half.h"

namespace vicinal {
namespace {

// SparseRow borrows.
struct Row {
  explicit Row(const LexicalEntries& entries) {
    for (const auto& [dim, weight] : entries) {
      dims.push_back(dim);
      weights.push_back(weight);
    }
  }
  SparseRow view() const { return {dims, weights}; }

  std::vector<uint32_t> dims;
  std::vector<float> weights;
};

float RandomWeight(LexicalWeights weights, Random& random) {
  if (weights == LexicalWeights::kCounts) {
    const uint64_t most = random.Uniform(8) == 0 ? 400 : 4;
    return static_cast<float>(1 + random.Uniform(most));
  }
  if (weights == LexicalWeights::kIntegers) {
    return static_cast<float>(1 + random.Uniform(3));
  }
  const bool is_negative =
      weights == LexicalWeights::kSigned && random.Uniform(3) == 0;
  const double weight = std::exp(random.Gaussian()) * (is_negative ? -1 : 1);
  return HalfToFloat(FloatToHalf(static_cast<float>(weight)));
}

// Of many lengths, with much in common, and with bytes of every kind.
std::vector<std::string> RandomWords(size_t count, Random& random) {
  constexpr absl::string_view kLetters("ab\0\x80\xFF", 5);
  std::set<std::string> words;
  while (words.size() < count) {
    std::string word = random.Uniform(2) == 0 ? "commonly" : "";
    const size_t size = 1 + random.Uniform(12);
    for (size_t i = 0; i < size; ++i) {
      word += kLetters[random.Uniform(kLetters.size())];
    }
    words.insert(word);
  }
  return {words.begin(), words.end()};
}

}  // namespace

Random SeededRandom(uint64_t seed) {
  std::printf("seed %d\n", static_cast<int>(seed));
  return Random(seed);
}

uint32_t LexicalCorpus::TermOf(const LexicalField& field, uint32_t dim) const {
  if (!is_text()) return field.FindDim(dim);
  return dim < words.size() ? field.FindWord(words[dim]) : kNoTerm;
}

void LexicalCorpus::AppendTo(size_t row, GrowingLexicalField* field) const {
  const Row entries(rows[row]);
  if (!is_text()) {
    field->Append(entries.view());
    return;
  }
  TextRow text;
  for (const auto& [word, count] : rows[row]) {
    TextRow::Term& term = text.terms.emplace_back();
    term.text = words[word];
    term.count = static_cast<uint32_t>(count);
    if (has_positions) term.positions = positions.at({row, word});
  }
  field->AppendText(text);
}

std::unique_ptr<GrowingLexicalField> LexicalCorpus::Grow(size_t begin,
                                                         size_t end) const {
  auto field =
      std::make_unique<GrowingLexicalField>(kind, has_positions, rows.size());
  for (size_t row = begin; row < end; ++row) AppendTo(row, field.get());
  return field;
}

LexicalEntries RandomLexicalEntries(LexicalWeights weights, size_t count,
                                    uint32_t num_dims, Random& random) {
  LexicalEntries entries;
  for (size_t i = 0; i < count; ++i) {
    const double skewed = std::pow(random.UniformDouble(), 4);
    entries[static_cast<uint32_t>(skewed * num_dims)] =
        RandomWeight(weights, random);
  }
  return entries;
}

LexicalCorpus MakeLexicalCorpus(LexicalWeights weights, size_t num_rows,
                                uint32_t num_dims, bool has_positions,
                                Random& random) {
  LexicalCorpus corpus;
  if (weights == LexicalWeights::kCounts) {
    corpus.kind = LexicalKind::kText;
    corpus.has_positions = has_positions;
    corpus.words = RandomWords(num_dims, random);
  }
  for (size_t row = 0; row < num_rows; ++row) {
    corpus.rows.push_back(
        RandomLexicalEntries(weights, random.Uniform(40), num_dims, random));
    if (!has_positions) continue;
    for (const auto& [word, count] : corpus.rows.back()) {
      auto& positions = corpus.positions[{row, word}];
      auto position = static_cast<uint32_t>(random.Uniform(300));
      for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
        positions.push_back(position);
        position += 1 + static_cast<uint32_t>(random.Uniform(200));
      }
    }
  }
  return corpus;
}

SealedBytes::SealedBytes(const LexicalBytes& bytes) {
  const auto copy = [&](size_t i, const std::string& from) {
    parts_[i].reset(new char[from.size()]);
    std::copy(from.begin(), from.end(), parts_[i].get());
    return absl::string_view(parts_[i].get(), from.size());
  };
  view_ = {copy(0, bytes.index), copy(1, bytes.words),
           copy(2, bytes.positions)};
}

LexicalBytes BuildLexical(const LexicalCorpus& corpus,
                          const std::vector<LexicalSource>& sources) {
  auto bytes = BuildLexicalField(sources, corpus.kind, corpus.weight(),
                                 corpus.has_positions, nullptr);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.ok() ? *std::move(bytes) : LexicalBytes();
}

OwnedSealed SealLexical(const LexicalCorpus& corpus,
                        const std::vector<LexicalSource>& sources) {
  OwnedSealed out;
  out.bytes = std::make_unique<SealedBytes>(BuildLexical(corpus, sources));
  auto field = SealedLexicalField::Open(out.bytes->view(), corpus.kind,
                                        corpus.has_positions, sources.size());
  EXPECT_TRUE(field.ok()) << field.status();
  if (field.ok()) out.field = *std::move(field);
  return out;
}

std::vector<LexicalSource> SourcesOf(const LexicalField& field,
                                     size_t num_rows) {
  std::vector<LexicalSource> sources;
  for (RowId row = 0; row < num_rows; ++row) sources.push_back({&field, row});
  return sources;
}

std::vector<Neighbor> FindLexicalByBruteForce(const LexicalCorpus& corpus,
                                              const LexicalEntries& query,
                                              const SparseParams& params,
                                              const Filter& filter, RowId begin,
                                              RowId end) {
  const Row asked(query);
  TopK top(params.k);
  for (RowId row = begin; row < end; ++row) {
    if (!filter.Accepts(row)) continue;
    Row entries(corpus.rows[row]);
    bool overlap = false;
    float score = 0;
    if (corpus.is_text()) {
      for (float& count : entries.weights) count = std::min(count, 255.0f);
      score = Bm25Score(entries.view(), asked.view(), params.bm25, &overlap);
    } else {
      score = SparseDot(entries.view(), asked.view(), &overlap);
    }
    if (overlap) top.Push({-score, row});
  }
  return top.TakeSorted();
}

std::vector<Neighbor> FindLexical(const LexicalField& field,
                                  const LexicalCorpus& corpus,
                                  const LexicalEntries& query,
                                  const SparseParams& params,
                                  const Filter& filter, RowId begin, RowId end,
                                  Random& random) {
  std::vector<LexicalTerm> terms;
  for (const auto& [dim, weight] : query) {
    const uint32_t term = corpus.TermOf(field, dim);
    if (term != kNoTerm) terms.push_back({term, weight});
  }
  for (size_t i = terms.size(); i > 1; --i) {
    std::swap(terms[i - 1], terms[random.Uniform(i)]);
  }
  TopK top(params.k);
  const absl::Status status =
      field.Search(terms, params, filter, begin, end, {}, &top, nullptr);
  EXPECT_TRUE(status.ok()) << status;
  return top.TakeSorted();
}

void ExpectCounts(const LexicalField& field, const LexicalCorpus& corpus,
                  const std::vector<bool>& dead) {
  std::map<uint32_t, uint64_t> live;
  LexicalTotals totals;
  for (size_t row = 0; row < corpus.rows.size(); ++row) {
    // Of those too that only dead rows have.
    for (const auto& [dim, weight] : corpus.rows[row]) live[dim] += 0;
    if (dead[row] || corpus.rows[row].empty()) continue;
    ++totals.num_rows;
    for (const auto& [dim, weight] : corpus.rows[row]) {
      ++live[dim];
      if (!corpus.is_text()) continue;
      totals.length += static_cast<uint64_t>(std::min(weight, 255.0f));
    }
  }
  EXPECT_EQ(field.totals().num_rows, totals.num_rows);
  EXPECT_EQ(field.totals().length, totals.length);
  for (const auto& [dim, count] : live) {
    ASSERT_EQ(field.NumLive(corpus.TermOf(field, dim)), count) << dim;
  }
}

void ExpectHolds(const LexicalField& field, const LexicalCorpus& corpus) {
  std::map<uint32_t, std::map<RowId, float>> postings;
  std::vector<uint32_t> positions;
  for (RowId row = 0; row < corpus.rows.size(); ++row) {
    std::vector<std::pair<uint32_t, float>> wanted, found;
    uint64_t length = 0;
    for (const auto& [dim, weight] : corpus.rows[row]) {
      const float stored = corpus.is_text() ? std::min(weight, 255.0f) : weight;
      const uint32_t term = corpus.TermOf(field, dim);
      ASSERT_NE(term, kNoTerm);
      if (corpus.is_text()) {
        ASSERT_EQ(field.WordOf(term), corpus.words[dim]);
        length += static_cast<uint64_t>(stored);
      } else {
        ASSERT_EQ(field.DimOf(term), dim);
      }
      wanted.emplace_back(term, stored);
      postings[term][row] = stored;
      if (!corpus.has_positions) continue;
      field.PositionsOf(row, term, &positions);
      ASSERT_EQ(positions, corpus.positions.at({row, dim}));
    }
    field.ForEachEntry(row, [&](uint32_t term, float weight) {
      found.emplace_back(term, weight);
    });
    ASSERT_EQ(found, wanted) << "row " << row;
    if (corpus.is_text()) {
      ASSERT_EQ(field.LengthOf(row), length);
    }
  }
  const auto n = static_cast<RowId>(corpus.rows.size());
  for (const auto& [term, rows] : postings) {
    for (const auto& [begin, end] : {std::pair<RowId, RowId>{0, n},
                                     std::pair<RowId, RowId>{n / 3, n / 2}}) {
      std::map<RowId, float> found;
      field.ForEachPosting(term, begin, end, [&](RowId row, float weight) {
        EXPECT_TRUE(found.emplace(row, weight).second) << "row twice";
      });
      ASSERT_EQ(found, (std::map<RowId, float>(rows.lower_bound(begin),
                                               rows.lower_bound(end))));
    }
  }
}

}  // namespace vicinal
