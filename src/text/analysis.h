// One text's way through an analyzer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "src/text/analyzer.h"
#include "src/text/analyzer_spec.h"
#include "src/text/text_folder.h"
#include "src/text/word_breaker.h"
#include "src/text/word_filter.h"

namespace vicinal {

// What an analysis works with, used again for the next. Borrows the plan.
struct AnalysisScratch {
  explicit AnalysisScratch(const AnalyzerPlan* analyzer_plan)
      : plan(*analyzer_plan),
        folder(plan.fold_case, plan.turkish_case),
        filter(&plan.rules) {}

  const AnalyzerPlan& plan;
  TextFolder folder;
  WordBreaker breaker;
  WordFilter filter;
  std::array<char, kMaxTokenBytes> word;
};

class Analysis {
 public:
  Analysis(AnalysisScratch* scratch, Analyzer::Sink sink)
      : scratch_(*scratch), sink_(sink) {}

  // shortcuts: what is ASCII goes without ICU.
  void Run(absl::string_view text, bool shortcuts);

 private:
  void RunWords(absl::string_view text, bool shortcuts);
  void RunWhitespace(absl::string_view text, bool shortcuts);
  // Part of the text, which begins at `offset` of it.
  void AsciiWords(absl::string_view part, size_t offset);
  void FoldedWords(absl::string_view part, size_t offset);
  void FoldedPiece(absl::string_view piece, size_t offset);
  // Words of the folded piece.
  void AddPairs(absl::string_view folded, Word word, size_t offset);
  void EndPairs();
  void AddFolded(absl::string_view folded, Word word, size_t offset);
  void AddWhole(absl::string_view part, size_t offset, bool shortcuts);
  void AddAscii(absl::string_view word, size_t offset);
  void Add(absl::string_view folded_word, size_t begin, size_t end);

  // A letter of Chinese, Japanese or Korean that waits for the next.
  struct Letter {
    absl::string_view folded;  // the piece it is in
    Word at;
    size_t offset = 0;
    bool waits = false;
    bool is_paired = false;  // with the one before it
  };

  AnalysisScratch& scratch_;
  const Analyzer::Sink sink_;
  uint32_t position_ = 0;
  Letter letter_;
};

}  // namespace vicinal
