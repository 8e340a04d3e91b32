#include "src/engine/text_tree.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/engine/lexical_rows.h"

namespace vicinal {
namespace {

using Kind = TextNode::Kind;
using Occur = TextClause::Occur;

struct Word {
  std::string text;
  uint32_t position = 0;
};

std::vector<Word> WordsOf(const Analyzer& analyzer, absl::string_view text) {
  std::vector<Word> words;
  analyzer.Analyze(text, [&](const Token& token) {
    words.push_back({std::string(token.term), token.position});
  });
  return words;
}

TextNode WordNode(std::string word, Occur occur, float boost) {
  return {.kind = Kind::kWord,
          .occur = occur,
          .boost = boost,
          .word = std::move(word)};
}

class TreeBuilder {
 public:
  TreeBuilder(const Layout& layout, std::span<const size_t> fields, bool all,
              bool of_index)
      : layout_(layout),
        text_(layout.lexical[fields[0]]),
        fields_(fields),
        all_(all),
        of_index_(of_index) {}

  absl::StatusOr<TextNode> Group(const std::vector<TextClause>& clauses) {
    TextNode group;
    for (const TextClause& clause : clauses) {
      VICINAL_RETURN_IF_ERROR(Add(clause, &group));
    }
    SetMinimum(&group);
    return group;
  }
  TextNode Words(absl::string_view text) const {
    TextNode group;
    for (Word& word : WordsOf(*text_.analyzer, text)) {
      group.children.push_back(
          WordNode(std::move(word.text), OccurOf(Occur::kShould), 1));
    }
    SetMinimum(&group);
    return group;
  }

 private:
  Occur OccurOf(Occur occur) const {
    return all_ && occur == Occur::kShould ? Occur::kMust : occur;
  }
  static void SetMinimum(TextNode* group) {
    group->min_should =
        std::any_of(
            group->children.begin(), group->children.end(),
            [](const TextNode& node) { return node.occur == Occur::kMust; })
            ? 0
            : 1;
  }

  absl::Status Add(const TextClause& clause, TextNode* group) {
    const Occur occur = OccurOf(clause.occur);
    switch (clause.kind) {
      case TextClause::Kind::kGroup: {
        VICINAL_ASSIGN_OR_RETURN(TextNode node, Group(clause.children));
        if (node.children.empty()) return absl::OkStatus();
        node.occur = occur;
        node.boost = clause.boost;
        group->children.push_back(std::move(node));
        return absl::OkStatus();
      }
      case TextClause::Kind::kPhrase:
        return AddPhrase(clause, occur, group);
      case TextClause::Kind::kPrefix:
        AddAll(WordsOf(*text_.prefix_analyzer, clause.text), clause, occur,
               /*last_is_prefix=*/true, group);
        return absl::OkStatus();
      case TextClause::Kind::kWords:
        break;
    }
    std::vector<Word> words = WordsOf(*text_.analyzer, clause.text);
    if (occur != Occur::kShould) {
      AddAll(std::move(words), clause, occur, /*last_is_prefix=*/false, group);
      return absl::OkStatus();
    }
    for (Word& word : words) {
      group->children.push_back(
          WordNode(std::move(word.text), occur, clause.boost));
    }
    return absl::OkStatus();
  }

  // All of the words, as one part.
  static void AddAll(std::vector<Word> words, const TextClause& clause,
                     Occur occur, bool last_is_prefix, TextNode* group) {
    if (words.empty()) return;
    TextNode all{.occur = occur, .boost = clause.boost};
    for (Word& word : words) {
      all.children.push_back(WordNode(std::move(word.text), Occur::kMust, 1));
    }
    if (last_is_prefix) all.children.back().kind = Kind::kPrefix;
    if (all.children.size() > 1) {
      group->children.push_back(std::move(all));
      return;
    }
    TextNode only = std::move(all.children[0]);
    only.occur = occur;
    only.boost = clause.boost;
    group->children.push_back(std::move(only));
  }

  absl::Status AddPhrase(const TextClause& clause, Occur occur,
                         TextNode* group) {
    std::vector<Word> words = WordsOf(*text_.analyzer, clause.text);
    if (words.size() < 2) {
      AddAll(std::move(words), clause, occur, /*last_is_prefix=*/false, group);
      return absl::OkStatus();
    }
    if (words.size() > kMaxTextClauses) {
      return absl::InvalidArgumentError(
          absl::StrCat("a phrase has ", words.size(), " words; the limit is ",
                       kMaxTextClauses));
    }
    for (const size_t field : fields_) {
      if (!of_index_ || layout_.lexical[field].positions) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "the phrase \"", clause.text,
          "\" needs the positions of words, "
          "which text \"",
          layout_.lexical[field].path,
          "\" does not keep (TextConfig.positions); ask for +words instead"));
    }
    TextNode phrase{
        .kind = Kind::kPhrase, .occur = occur, .boost = clause.boost};
    const uint32_t first = words[0].position;
    for (Word& word : words) {
      phrase.phrase.push_back({std::move(word.text), word.position - first});
    }
    group->children.push_back(std::move(phrase));
    return absl::OkStatus();
  }

  const Layout& layout_;
  const LexicalLayout& text_;
  const std::span<const size_t> fields_;
  const bool all_;
  const bool of_index_;
};

size_t NumShould(const TextNode& group) {
  return static_cast<size_t>(std::count_if(
      group.children.begin(), group.children.end(),
      [](const TextNode& node) { return node.occur == Occur::kShould; }));
}

}  // namespace

absl::StatusOr<TextNode> AnalyzeDemand(const TextDemand& demand,
                                       const Layout& layout,
                                       std::span<const size_t> fields,
                                       bool of_index) {
  TreeBuilder builder(layout, fields, demand.all, of_index);
  TextNode root;
  if (demand.expression.empty()) {
    root = builder.Words(demand.text);
  } else {
    VICINAL_ASSIGN_OR_RETURN(const std::vector<TextClause> clauses,
                             ParseTextExpression(demand.expression));
    VICINAL_ASSIGN_OR_RETURN(root, builder.Group(clauses));
  }
  const size_t num_should = NumShould(root);
  if (demand.min_should > 0) {
    root.min_should = std::min(demand.min_should, num_should);
  } else if (demand.min_share > 0) {
    // 0.57 of 100 is 57, which the product is a little less than.
    root.min_should = static_cast<size_t>(
        std::floor(demand.min_share * static_cast<double>(num_should) + 1e-9));
  }
  // Nothing is asked for: no row has it.
  const bool has_must = std::any_of(
      root.children.begin(), root.children.end(),
      [](const TextNode& node) { return node.occur == Occur::kMust; });
  if (!has_must) root.min_should = std::max<size_t>(root.min_should, 1);
  return root;
}

bool IsBagOfWords(const TextNode& root) {
  return root.min_should <= 1 &&
         std::all_of(root.children.begin(), root.children.end(),
                     [](const TextNode& node) {
                       return node.kind == Kind::kWord &&
                              node.occur == Occur::kShould;
                     });
}

// Scores of nested boosts stay far from what a float ends at.
constexpr float kMostBoost = 1e12F;

void ForEachPositive(
    const TextNode& root,
    absl::FunctionRef<void(const TextNode& leaf, float boost)> visit) {
  if (root.kind != Kind::kGroup) {
    visit(root, root.boost);
    return;
  }
  for (const TextNode& child : root.children) {
    if (child.occur == Occur::kMustNot) continue;
    ForEachPositive(child, [&](const TextNode& leaf, float boost) {
      visit(leaf, std::min(boost * root.boost, kMostBoost));
    });
  }
}

namespace {

// Finds rows of one segment.
class RowFinder {
 public:
  RowFinder(const Segment& segment, std::span<const size_t> fields, RowId begin,
            RowId end, const StopCondition& stop)
      : segment_(segment),
        fields_(fields),
        begin_(begin),
        end_(end),
        stop_(stop) {}

  // Whether what was found is all of it.
  const absl::Status& status() const { return status_; }

  Bitmap Find(const TextNode& node) const {
    if (!GoesOn()) return Bitmap(end_);
    switch (node.kind) {
      case Kind::kWord: {
        Bitmap rows(end_);
        AddWord(node.word, &rows);
        return rows;
      }
      case Kind::kPrefix:
        return FindPrefix(node);
      case Kind::kPhrase:
        return FindPhrase(node);
      case Kind::kGroup:
        break;
    }
    return FindGroup(node);
  }

 private:
  // Phrases look at positions of so many words, and prefixes at rows of so
  // many, without a look at the clock.
  static constexpr size_t kWordsPerCheck = 1024;

  bool GoesOn() const {
    if (status_.ok()) status_ = stop_.Check();
    return status_.ok();
  }

  void AddWord(absl::string_view word, Bitmap* rows) const {
    for (const size_t f : fields_) AddWordOf(segment_.lexical(f), word, rows);
  }
  void AddWordOf(const LexicalField& field, absl::string_view word,
                 Bitmap* rows) const {
    const uint32_t term = field.FindWord(word);
    if (term != kNoTerm) AddTerm(field, term, rows);
  }
  void AddTerm(const LexicalField& field, uint32_t term, Bitmap* rows) const {
    field.ForEachPosting(term, begin_, end_,
                         [&](RowId row, float) { rows->Set(row); });
  }

  Bitmap FindPrefix(const TextNode& node) const {
    Bitmap rows(end_);
    if (node.expansions.has_value()) {
      for (const std::string& word : *node.expansions) AddWord(word, &rows);
      return rows;
    }
    for (const size_t f : fields_) {
      const LexicalField& field = segment_.lexical(f);
      std::vector<uint32_t> terms;
      field.ForEachWordFrom(node.word, [&](absl::string_view, uint32_t term) {
        terms.push_back(term);
      });
      for (size_t i = 0; i < terms.size(); ++i) {
        if (i % kWordsPerCheck == 0 && !GoesOn()) return rows;
        AddTerm(field, terms[i], &rows);
      }
    }
    return rows;
  }

  Bitmap FindPhrase(const TextNode& node) const {
    Bitmap found(end_);
    for (const size_t f : fields_) {
      const LexicalField& field = segment_.lexical(f);
      std::vector<uint32_t> terms;
      absl::flat_hash_set<uint32_t> seen;
      Bitmap rows(end_);
      for (size_t i = 0; i < node.phrase.size(); ++i) {
        terms.push_back(field.FindWord(node.phrase[i].word));
        if (terms.back() == kNoTerm) break;
        if (!seen.insert(terms.back()).second) continue;
        if (!GoesOn()) return found;
        Bitmap with(end_);
        AddTerm(field, terms.back(), &with);
        if (i == 0) {
          rows = std::move(with);
        } else {
          rows.And(with);
        }
      }
      if (terms.back() == kNoTerm) continue;
      size_t num_words = 0;
      rows.ForEach([&](RowId row) {
        num_words += terms.size();
        if (num_words >= kWordsPerCheck) {
          num_words = 0;
          GoesOn();
        }
        if (status_.ok() && HasPhrase(field, row, terms, node)) found.Set(row);
      });
    }
    return found;
  }

  static bool HasPhrase(const LexicalField& field, RowId row,
                        std::span<const uint32_t> terms, const TextNode& node) {
    std::vector<uint32_t> starts;
    field.PositionsOf(row, terms[0], &starts);
    std::vector<uint32_t> positions;
    for (size_t i = 1; i < terms.size() && !starts.empty(); ++i) {
      field.PositionsOf(row, terms[i], &positions);
      std::erase_if(starts, [&](uint32_t start) {
        return !std::binary_search(positions.begin(), positions.end(),
                                   start + node.phrase[i].offset);
      });
    }
    return !starts.empty();
  }

  Bitmap FindGroup(const TextNode& node) const {
    std::optional<Bitmap> rows;
    const auto keep = [&](const Bitmap& others) {
      if (rows.has_value()) {
        rows->And(others);
      } else {
        rows = others;
      }
    };
    for (const TextNode& child : node.children) {
      if (child.occur == Occur::kMust) keep(Find(child));
    }
    if (node.min_should > 0) keep(FindShould(node));
    if (!rows.has_value()) return Bitmap(end_);
    for (const TextNode& child : node.children) {
      if (child.occur == Occur::kMustNot) rows->AndNot(Find(child));
    }
    return *std::move(rows);
  }

  // Rows with min_should of the children that should be there.
  Bitmap FindShould(const TextNode& node) const {
    Bitmap found(end_);
    std::vector<uint16_t> counts(node.min_should > 1 ? end_ : 0);
    for (const TextNode& child : node.children) {
      if (child.occur != Occur::kShould) continue;
      const Bitmap rows = Find(child);
      if (node.min_should == 1) {
        found.Or(rows);
        continue;
      }
      rows.ForEach([&](RowId row) {
        if (++counts[row] == node.min_should) found.Set(row);
      });
    }
    return found;
  }

  const Segment& segment_;
  const std::span<const size_t> fields_;
  const RowId begin_;
  const RowId end_;
  const StopCondition& stop_;
  mutable absl::Status status_;
};

bool TextHas(const TextNode& node, const TextRow& text) {
  const auto find = [&](absl::string_view word) -> const TextRow::Term* {
    const auto found = std::lower_bound(
        text.terms.begin(), text.terms.end(), word,
        [](const TextRow::Term& a, absl::string_view b) { return a.text < b; });
    return found != text.terms.end() && found->text == word ? &*found : nullptr;
  };
  switch (node.kind) {
    case Kind::kWord:
      return find(node.word) != nullptr;
    case Kind::kPrefix:
      return std::any_of(text.terms.begin(), text.terms.end(),
                         [&](const TextRow::Term& term) {
                           return absl::StartsWith(term.text, node.word);
                         });
    case Kind::kPhrase: {
      const TextRow::Term* first = find(node.phrase[0].word);
      if (first == nullptr) return false;
      return std::any_of(first->positions.begin(), first->positions.end(),
                         [&](uint32_t start) {
                           return std::all_of(
                               node.phrase.begin() + 1, node.phrase.end(),
                               [&](const TextNode::PhraseWord& word) {
                                 const TextRow::Term* term = find(word.word);
                                 return term != nullptr &&
                                        std::binary_search(
                                            term->positions.begin(),
                                            term->positions.end(),
                                            start + word.offset);
                               });
                         });
    }
    case Kind::kGroup:
      break;
  }
  size_t num_should = 0;
  bool has_must = false;
  for (const TextNode& child : node.children) {
    const bool has = TextHas(child, text);
    if (child.occur == Occur::kMust && !has) return false;
    if (child.occur == Occur::kMustNot && has) return false;
    has_must = has_must || child.occur == Occur::kMust;
    num_should += child.occur == Occur::kShould && has;
  }
  return num_should >= node.min_should && (has_must || node.min_should > 0);
}

}  // namespace

absl::StatusOr<Bitmap> RowsWith(const TextNode& root, const Segment& segment,
                                std::span<const size_t> fields, RowId begin,
                                RowId end, const StopCondition& stop) {
  const RowFinder finder(segment, fields, begin, end, stop);
  Bitmap rows = finder.Find(root);
  VICINAL_RETURN_IF_ERROR(finder.status());
  return rows;
}

bool TextMatch::Matches(std::span<const absl::string_view> strings) const {
  WordCounter counter;
  for (const absl::string_view text : strings) counter.Add(*analyzer_, text);
  return TextHas(root_, counter.Count(/*with_positions=*/true));
}

}  // namespace vicinal
