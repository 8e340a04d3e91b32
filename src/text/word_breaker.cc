#include "src/text/word_breaker.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "src/base/check.h"
#include "unicode/ubrk.h"
#include "unicode/utext.h"
#include "unicode/utypes.h"

namespace vicinal {
namespace {

// Word_Break classes of ASCII, as far as they make words. ICU's root locale
// has taken the colon out of them.
enum AsciiClass : uint8_t {
  kOther = 0,
  kLetter = 1,
  kDigit = 2,
  kUnderscore = 4,  // ExtendNumLet
  kMidLetter = 8,   // holds two letters together
  kMidDigit = 16,   // holds two digits together
  kInWord = kLetter | kDigit | kUnderscore,
};

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes = {};
  for (int c = 'a'; c <= 'z'; ++c) classes[c] = classes[c - 32] = kLetter;
  for (int c = '0'; c <= '9'; ++c) classes[c] = kDigit;
  classes['_'] = kUnderscore;
  classes['.'] = classes['\''] = kMidLetter | kMidDigit;
  classes[','] = classes[';'] = kMidDigit;
  return classes;
}
constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

uint8_t ClassOf(char c) { return kClasses[static_cast<uint8_t>(c)]; }

// WB6, WB7, WB11, WB12: whether the byte at i stands between two of a kind.
bool HoldsTogether(absl::string_view text, size_t i) {
  if (i + 1 >= text.size()) return false;
  const uint8_t both = ClassOf(text[i - 1]) & ClassOf(text[i + 1]);
  const uint8_t mid = ClassOf(text[i]);
  return ((mid & kMidLetter) != 0 && (both & kLetter) != 0) ||
         ((mid & kMidDigit) != 0 && (both & kDigit) != 0);
}

}  // namespace

WordBreaker::WordBreaker() {
  UErrorCode error = U_ZERO_ERROR;
  iterator_.reset(ubrk_open(UBRK_WORD, "", nullptr, 0, &error));
  VICINAL_CHECK(U_SUCCESS(error));
}

void WordBreaker::SetText(absl::string_view text) {
  // A space parts words where any other sign would, and is as long.
  if (absl::StrContains(text, '@')) {
    without_ats_.assign(text.data(), text.size());
    std::ranges::replace(without_ats_, '@', ' ');
    text = without_ats_;
  }
  UErrorCode error = U_ZERO_ERROR;
  // Opened anew, the struct is used again.
  UText* const opened = utext_openUTF8(
      text_.get(), text.data(), static_cast<int64_t>(text.size()), &error);
  if (text_ == nullptr) text_.reset(opened);
  ubrk_setUText(iterator_.get(), opened, &error);
  VICINAL_CHECK(U_SUCCESS(error));
  at_ = static_cast<size_t>(ubrk_first(iterator_.get()));
}

bool WordBreaker::Next(Word* word) {
  while (true) {
    const int32_t end = ubrk_next(iterator_.get());
    if (end == UBRK_DONE) return false;
    *word = {at_, static_cast<size_t>(end)};
    at_ = word->end;
    if (ubrk_getRuleStatus(iterator_.get()) >= UBRK_WORD_NUMBER) return true;
  }
}

bool NextAsciiWord(absl::string_view text, size_t at, Word* word) {
  while (true) {
    while (at < text.size() && (ClassOf(text[at]) & kInWord) == 0) ++at;
    if (at == text.size()) return false;
    word->begin = at;
    do {
      ++at;
      while (at < text.size() && (ClassOf(text[at]) & kInWord) != 0) ++at;
    } while (at < text.size() && HoldsTogether(text, at));
    word->end = at;
    // ICU takes one underscore for punctuation, and two for a word.
    if (at - word->begin > 1 || text[word->begin] != '_') return true;
  }
}

}  // namespace vicinal
