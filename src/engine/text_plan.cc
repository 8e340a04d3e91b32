#include "src/engine/text_plan.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/lexical_field.h"
#include "src/base/mapped_buffer.h"
#include "src/base/status_macros.h"
#include "src/engine/row_filter.h"

namespace vicinal {
namespace {

// Weighed without a look at the clock.
constexpr size_t kWordsPerCheck = 1'024;

}  // namespace

TextPlan::TextPlan(std::string name, TextScope scope, TextNode root,
                   std::span<const Segment* const> segments,
                   const StopCondition& stop)
    : name_(std::move(name)),
      scope_(std::move(scope)),
      root_(std::move(root)),
      is_bag_(IsBagOfWords(root_)) {
  for (const TextScope::Field& field : scope_.fields) {
    fields_.push_back(field.l);
    LexicalTotals totals;
    for (const Segment* segment : segments) {
      const LexicalTotals own = segment->lexical(field.l).totals();
      totals.num_rows += own.num_rows;
      totals.length += own.length;
    }
    num_rows_ = std::max(num_rows_, totals.num_rows);
    mean_lengths_.push_back(totals.length == 0
                                ? 1
                                : static_cast<double>(totals.length) /
                                      static_cast<double>(totals.num_rows));
  }
  Expansions known;
  ExpandPrefixes(&root_, segments, stop, &known);
  CollectWords();
  Weigh(segments, stop);
}

void TextPlan::ExpandPrefixes(TextNode* node,
                              std::span<const Segment* const> segments,
                              const StopCondition& stop,
                              Expansions* known) const {
  for (TextNode& child : node->children) {
    // Words that are left out of an expansion would not be excluded.
    if (child.occur == TextClause::Occur::kMustNot) continue;
    ExpandPrefixes(&child, segments, stop, known);
  }
  if (node->kind != TextNode::Kind::kPrefix) return;
  const auto [place, is_new] = known->try_emplace(node->word);
  node->expansions = place->second;
  if (!is_new || !stop.Check().ok()) return;
  absl::flat_hash_map<std::string, uint64_t> counts;
  for (const Segment* segment : segments) {
    for (const size_t f : fields_) {
      const LexicalField& field = segment->lexical(f);
      field.ForEachWordFrom(node->word,
                            [&](absl::string_view word, uint32_t term) {
                              counts[word] += field.NumLive(term);
                            });
    }
  }
  std::vector<std::pair<uint64_t, std::string>> words;
  for (auto& [word, count] : counts) {
    if (count > 0) words.emplace_back(count, word);
  }
  const size_t kept = std::min(words.size(), kMaxExpansions);
  std::partial_sort(
      words.begin(), words.begin() + static_cast<std::ptrdiff_t>(kept),
      words.end(), [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first > b.first : a.second < b.second;
      });
  for (size_t i = 0; i < kept; ++i) {
    place->second.push_back(std::move(words[i].second));
  }
  node->expansions = place->second;
}

void TextPlan::CollectWords() {
  std::map<std::string, double> asked;
  ForEachPositive(root_, [&](const TextNode& leaf, float boost) {
    switch (leaf.kind) {
      case TextNode::Kind::kWord:
        asked[leaf.word] += boost;
        break;
      case TextNode::Kind::kPhrase:
        for (const TextNode::PhraseWord& word : leaf.phrase) {
          asked[word.word] += boost;
        }
        break;
      case TextNode::Kind::kPrefix:
        for (const std::string& word : *leaf.expansions) asked[word] += boost;
        break;
      case TextNode::Kind::kGroup:
        break;
    }
  });
  for (auto& [text, times] : asked) words_.push_back({text, times, 0});
}

uint64_t TextPlan::CountOf(absl::string_view word,
                           std::span<const Segment* const> segments) const {
  uint64_t most = 0;
  for (const size_t f : fields_) {
    uint64_t count = 0;
    for (const Segment* segment : segments) {
      const LexicalField& field = segment->lexical(f);
      const uint32_t term = field.FindWord(word);
      if (term != kNoTerm) count += field.NumLive(term);
    }
    most = std::max(most, count);
  }
  return most;
}

void TextPlan::Weigh(std::span<const Segment* const> segments,
                     const StopCondition& stop) {
  for (size_t i = 0; i < words_.size(); ++i) {
    if (i % kWordsPerCheck == 0 && !stop.Check().ok()) return;
    Word& word = words_[i];
    word.weight = word.asked * Idf(num_rows_, CountOf(word.text, segments));
  }
}

void TextPlan::LearnFrom(std::span<const SegmentRow> rows, size_t num_words,
                         double alpha, double beta,
                         std::span<const Segment* const> segments,
                         const StopCondition& stop) {
  constexpr double kMaxShare = 0.1;
  std::map<std::string, double> mean;
  absl::flat_hash_map<std::string, bool> says_something;
  for (const SegmentRow& place : rows) {
    if (!stop.Check().ok()) return;
    std::map<std::string, double> counts;
    for (const size_t f : fields_) {
      const LexicalField& field = place.segment->lexical(f);
      field.ForEachEntry(place.row, [&](uint32_t term, float count) {
        std::string word(field.WordOf(term));
        const auto [it, is_new] = says_something.try_emplace(word, false);
        if (is_new) {
          it->second =
              static_cast<double>(CountOf(word, segments)) <=
              kMaxShare * static_cast<double>(std::max<uint64_t>(num_rows_, 1));
        }
        if (it->second) counts[std::move(word)] += count;
      });
    }
    double squares = 0;
    for (const auto& [word, count] : counts) squares += count * count;
    if (squares == 0) continue;
    for (const auto& [word, count] : counts) {
      mean[word] +=
          count / std::sqrt(squares) / static_cast<double>(rows.size());
    }
  }
  std::vector<std::pair<double, std::string>> heaviest;
  for (const auto& [word, weight] : mean) heaviest.emplace_back(weight, word);
  std::sort(heaviest.begin(), heaviest.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (heaviest.size() > num_words) heaviest.resize(num_words);
  double squares = 0;
  for (const Word& word : words_) squares += word.asked * word.asked;
  std::map<std::string, double> asked;
  for (const Word& word : words_) {
    asked[word.text] += alpha * word.asked / std::sqrt(squares);
  }
  for (const auto& [weight, word] : heaviest) asked[word] += beta * weight;
  words_.clear();
  for (auto& [text, times] : asked) words_.push_back({text, times, 0});
  Weigh(segments, stop);
}

absl::Status TextPlan::Search(const Segment& segment, RowId begin, RowId end,
                              const SegmentQuery& query,
                              const StopCondition& stop, TopK* out,
                              SearchStats* stats) const {
  Filter filter = query.rows != nullptr ? query.rows->AsFilter(&segment.dead())
                                        : Filter{.deleted = &segment.dead()};
  std::optional<Bitmap> rows;
  if (!is_bag_) {
    VICINAL_ASSIGN_OR_RETURN(
        rows, RowsWith(root_, segment, fields_, begin, end, stop));
    if (filter.allowed != nullptr) {
      // Of as many rows or more.
      Bitmap both(end);
      rows->ForEach([&](RowId row) {
        if (filter.allowed->Test(row)) both.Set(row);
      });
      rows = std::move(both);
    }
    filter.allowed = &*rows;
    filter.num_allowed = rows->Count();
    if (filter.num_allowed == 0) return absl::OkStatus();
  }
  if (stats != nullptr) stats->plan = SearchPlan::kPostings;
  if (scope_.fields.size() == 1 && scope_.fields[0].boost == 1) {
    return SearchOne(segment, begin, end, query.k, filter, stop, out, stats);
  }
  return SearchSeveral(segment, begin, end, filter, stop, out, stats);
}

absl::Status TextPlan::SearchOne(const Segment& segment, RowId begin, RowId end,
                                 size_t k, const Filter& filter,
                                 const StopCondition& stop, TopK* out,
                                 SearchStats* stats) const {
  const LexicalField& field = segment.lexical(fields_[0]);
  std::vector<LexicalTerm> terms;
  for (const Word& word : words_) {
    const uint32_t term = field.FindWord(word.text);
    if (term == kNoTerm) continue;
    terms.push_back({term, static_cast<float>(word.weight)});
  }
  if (terms.empty()) return absl::OkStatus();
  SparseParams params;
  params.k = k;
  params.bm25 = {.k1 = scope_.k1,
                 .b = scope_.fields[0].b,
                 .mean_length = mean_lengths_[0]};
  return field.Search(terms, params, filter, begin, end, stop, out, stats);
}

// Word by word over all postings: fields differ in what bounds their impacts.
absl::Status TextPlan::SearchSeveral(const Segment& segment, RowId begin,
                                     RowId end, const Filter& filter,
                                     const StopCondition& stop, TopK* out,
                                     SearchStats* stats) const {
  const size_t num_rows = end - begin;
  // Zero pages until they are touched.
  const MappedBuffer counts_memory(num_rows * sizeof(float));
  const MappedBuffer scores_memory(num_rows * sizeof(double));
  auto* counts = reinterpret_cast<float*>(counts_memory.data());
  auto* scores = reinterpret_cast<double*>(scores_memory.data());
  std::vector<RowId> touched;
  std::vector<RowId> found;
  for (const Word& word : words_) {
    if (word.weight == 0) continue;
    VICINAL_RETURN_IF_ERROR(stop.Check());
    touched.clear();
    for (size_t f = 0; f < fields_.size(); ++f) {
      const LexicalField& field = segment.lexical(fields_[f]);
      const uint32_t term = field.FindWord(word.text);
      if (term == kNoTerm) continue;
      const TextScope::Field& scope = scope_.fields[f];
      field.ForEachPosting(term, begin, end, [&](RowId row, float count) {
        const double length = static_cast<double>(field.LengthOf(row));
        const double norm = 1 - scope.b + scope.b * length / mean_lengths_[f];
        float& sum = counts[row - begin];
        if (sum == 0) touched.push_back(row);
        sum += static_cast<float>(scope.boost * count / norm);
      });
    }
    for (const RowId row : touched) {
      float& count = counts[row - begin];
      double& score = scores[row - begin];
      if (score == 0) found.push_back(row);
      score += word.weight * count / (count + scope_.k1);
      count = 0;
    }
    if (stats != nullptr) stats->distance_computations += touched.size();
  }
  for (const RowId row : found) {
    if (!filter.Accepts(row)) continue;
    out->Push({static_cast<float>(-scores[row - begin]), row});
  }
  return absl::OkStatus();
}

}  // namespace vicinal
