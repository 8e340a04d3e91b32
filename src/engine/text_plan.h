// A search by text: BM25 over one field or several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/sparse.h"
#include "src/engine/layout.h"
#include "src/engine/lexical_query.h"
#include "src/engine/segment.h"
#include "src/engine/text_tree.h"

namespace vicinal {

// Words that stand for a prefix in a score: the most frequent ones.
inline constexpr size_t kMaxExpansions = 1'024;

// Where words are looked for.
struct TextScope {
  struct Field {
    size_t l = 0;  // of Layout::lexical
    float boost = 1;
    float b = 0.75f;
  };
  std::vector<Field> fields;  // one analyzer
  float k1 = 1.2f;
};

// A row of a segment.
struct SegmentRow {
  const Segment* segment = nullptr;
  RowId row = 0;
};

// Several fields are one text to it, whose words count by the boosts of the
// fields (BM25F: Robertson et al., CIKM 2004): with the weight w of a word,
//   w * t / (t + k1), t = sum over fields of
//                         boost * tf / (1 - b + b * length / mean length).
class TextPlan final : public LexicalQuery {
 public:
  // Expands the root's prefixes but those that are excluded, which stand for
  // all of their words. `segments`: all of the view; words weigh what their
  // live rows say. Not all of it where `stop` said so.
  TextPlan(std::string name, TextScope scope, TextNode root,
           std::span<const Segment* const> segments, const StopCondition& stop);

  absl::string_view name() const override { return name_; }
  bool is_exact() const override { return true; }
  absl::Status Search(const Segment& segment, RowId begin, RowId end,
                      const SegmentQuery& query, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override;

  // Adds the words that `rows` have in common (Rocchio): alpha times the query
  // of length 1, and beta times the mean of the rows' words, of length 1 each;
  // of these the num_words heaviest. Words of more than a tenth of all rows say
  // nothing. Not all of it where `stop` said so.
  void LearnFrom(std::span<const SegmentRow> rows, size_t num_words,
                 double alpha, double beta,
                 std::span<const Segment* const> segments,
                 const StopCondition& stop);

  const TextNode& root() const { return root_; }

 private:
  struct Word {
    std::string text;
    double asked = 0;   // how often, by the boosts
    double weight = 0;  // times the idf
  };

  // The words that stand for a prefix, the most frequent ones first.
  using Expansions = std::map<std::string, std::vector<std::string>>;

  void ExpandPrefixes(TextNode* node, std::span<const Segment* const> segments,
                      const StopCondition& stop, Expansions* known) const;
  void CollectWords();
  void Weigh(std::span<const Segment* const> segments,
             const StopCondition& stop);
  uint64_t CountOf(absl::string_view word,
                   std::span<const Segment* const> segments) const;
  absl::Status SearchOne(const Segment& segment, RowId begin, RowId end,
                         size_t k, const Filter& filter,
                         const StopCondition& stop, TopK* out,
                         SearchStats* stats) const;
  absl::Status SearchSeveral(const Segment& segment, RowId begin, RowId end,
                             const Filter& filter, const StopCondition& stop,
                             TopK* out, SearchStats* stats) const;

  const std::string name_;
  const TextScope scope_;
  TextNode root_;
  bool is_bag_ = false;
  std::vector<size_t> fields_;
  std::vector<Word> words_;           // ascending
  std::vector<double> mean_lengths_;  // of each field
  uint64_t num_rows_ = 0;             // of the field with the most
};

}  // namespace vicinal
