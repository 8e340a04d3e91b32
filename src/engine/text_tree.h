// What is asked of texts, analyzed: which rows have it, whether a text has it,
// and which words count for a score.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/lexical_field.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/types.h"
#include "src/engine/layout.h"
#include "src/engine/segment.h"
#include "src/engine/text_demand.h"
#include "src/payload/text_condition.h"
#include "src/text/text_query.h"

namespace vicinal {

// Words of a query may stand in any of the fields, numbers of Layout::lexical,
// which have one analyzer.
struct TextNode {
  enum class Kind : uint8_t { kWord, kPrefix, kPhrase, kGroup };
  struct PhraseWord {
    std::string word;
    uint32_t offset = 0;  // from the phrase's first
  };

  Kind kind = Kind::kGroup;
  TextClause::Occur occur = TextClause::Occur::kShould;
  float boost = 1;
  std::string word;                // or prefix
  std::vector<PhraseWord> phrase;  // two or more
  // Of a prefix: the words that stand for it. Not set: all that begin so.
  std::optional<std::vector<std::string>> expansions;
  std::vector<TextNode> children;
  size_t min_should = 0;  // of the children that are kShould
};

// InvalidArgument: the expression is none, or a phrase is asked of a field
// without positions. of_index: false where texts themselves are looked at,
// which have them.
absl::StatusOr<TextNode> AnalyzeDemand(const TextDemand& demand,
                                       const Layout& layout,
                                       std::span<const size_t> fields,
                                       bool of_index = true);

// Whether every row that has any of the words will do.
bool IsBagOfWords(const TextNode& root);

// Calls visit for the words, prefixes and phrases that are not excluded, with
// the product of the boosts above them.
void ForEachPositive(
    const TextNode& root,
    absl::FunctionRef<void(const TextNode& leaf, float boost)> visit);

// The rows of begin .. end, dead ones too, that have what is asked for: bits of
// a bitmap of `end`. Errors: `stop` said so.
absl::StatusOr<Bitmap> RowsWith(const TextNode& root, const Segment& segment,
                                std::span<const size_t> fields, RowId begin,
                                RowId end, const StopCondition& stop);

// A MATCH of a filter.
class TextMatch final : public TextCondition {
 public:
  TextMatch(const Layout& layout, size_t field, TextNode root)
      : analyzer_(layout.lexical[field].analyzer),
        field_(field),
        root_(std::move(root)) {}

  bool Matches(std::span<const absl::string_view> strings) const override;
  // As RowsWith.
  absl::StatusOr<Bitmap> RowsOf(const Segment& segment, RowId begin, RowId end,
                                const StopCondition& stop) const {
    return RowsWith(root_, segment, {&field_, 1}, begin, end, stop);
  }

 private:
  const std::shared_ptr<const Analyzer> analyzer_;
  const size_t field_;
  const TextNode root_;
};

}  // namespace vicinal
