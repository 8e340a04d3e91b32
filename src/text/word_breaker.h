// Words of text, by ICU or, where it is ASCII, without.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "unicode/ubrk.h"
#include "unicode/utext.h"

namespace vicinal {

struct Word {
  size_t begin = 0;
  size_t end = 0;
};

// UAX #29 as ICU's root locale has it, but that an @ parts words, as the annex
// and all other versions of ICU than Debian's 72 have it. Serves one thread at
// a time.
class WordBreaker {
 public:
  WordBreaker();

  // Borrows the text, at most 2^31 - 1 bytes. Bad UTF-8 parts words.
  void SetText(absl::string_view text);
  // The next word: letters, numbers, ideographs or kana; what lies between is
  // passed over. False: there is none.
  bool Next(Word* word);

 private:
  struct CloseIterator {
    void operator()(UBreakIterator* iterator) const { ubrk_close(iterator); }
  };
  struct CloseText {
    void operator()(UText* text) const { utext_close(text); }
  };
  std::unique_ptr<UText, CloseText> text_;
  std::unique_ptr<UBreakIterator, CloseIterator> iterator_;
  size_t at_ = 0;
  std::string without_ats_;
};

// The same for text of ASCII bytes only: the first word at or after `at`.
bool NextAsciiWord(absl::string_view text, size_t at, Word* word);

}  // namespace vicinal
