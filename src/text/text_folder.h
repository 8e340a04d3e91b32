// NFKC and case folding that know where each character came from.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "unicode/edits.h"
#include "unicode/normalizer2.h"

namespace vicinal {

// Serves one thread at a time; no allocation in the steady state.
class TextFolder {
 public:
  // fold_case: NFKC_Casefold (full folding; invisible characters, such as soft
  // hyphens, are removed), else NFKC. turkish: with I and dotless i as one.
  TextFolder(bool fold_case, bool turkish);

  struct Range {
    size_t begin = 0;
    size_t end = 0;
  };

  // The folded text, valid until the next call. At most 2^27 bytes.
  absl::string_view Fold(absl::string_view text);
  // The bytes that a range of the folded text, which is not empty, came from.
  // Fast where ranges ascend.
  Range SourceOf(Range folded);

 private:
  const icu::Normalizer2* const normalizer_;
  const bool turkish_;
  std::string folded_;
  std::string composed_;  // of Turkish: NFC, then with its own folding
  std::string lowered_;
  icu::Edits edits_;
  icu::Edits steps_[3];
  icu::Edits::Iterator at_;
};

}  // namespace vicinal
