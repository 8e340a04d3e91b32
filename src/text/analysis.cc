#include "src/text/analysis.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "src/text/analyzer.h"
#include "src/text/analyzer_spec.h"
#include "src/text/text_folder.h"
#include "src/text/word_breaker.h"
#include "unicode/uchar.h"
#include "unicode/uscript.h"
#include "unicode/utf8.h"
#include "unicode/utypes.h"

namespace vicinal {
namespace {

constexpr absl::string_view kZeroWidthSpace = "\xE2\x80\x8B";
// ASCII between two parts for ICU that is not worth a part of its own.
constexpr size_t kShortAscii = 64;
// Parts are cut at the next space behind so many bytes, to stay in the cache.
constexpr size_t kLongPart = 16 << 10;

// The first byte from `at` that the ASCII path cannot take, or text.size():
// not ASCII or, in Turkish, the capital of a letter that is not.
size_t FindNonAscii(absl::string_view text, size_t at, bool turkish) {
  if (turkish) {
    while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80 &&
           text[at] != 'I') {
      ++at;
    }
    return at;
  }
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, text.data() + at, 8);
    if ((bytes & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80) ++at;
  return at;
}

size_t FindSpace(absl::string_view text, size_t at) {
  while (at < text.size() && !absl::ascii_isspace(text[at])) ++at;
  return at;
}

// Where the part ends that the byte at `at` keeps from the ASCII path: before
// a space. Words never reach over one, nor does normalization.
size_t EndOfPart(absl::string_view text, size_t begin, size_t at,
                 bool turkish) {
  while (true) {
    const size_t end = FindSpace(text, at);
    if (end == text.size() || end - begin > kLongPart) return end;
    const absl::string_view near = text.substr(0, end + kShortAscii);
    at = FindNonAscii(near, end, turkish);
    if (at == near.size()) return end;
  }
}

// The code point at *at, which moves behind it; U+FFFD of what is no UTF-8.
UChar32 NextChar(absl::string_view text, size_t* at) {
  UChar32 c = 0;
  U8_NEXT_OR_FFFD(text.data(), *at, text.size(), c);
  return c;
}

bool IsCjk(UChar32 c) {
  if (c < 0x1100) return false;
  if (c == 0x30FC) return true;  // lengthens a kana, is of no script
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(c, &error);
  return script == USCRIPT_HAN || script == USCRIPT_HIRAGANA ||
         script == USCRIPT_KATAKANA || script == USCRIPT_HANGUL;
}

}  // namespace

void Analysis::Run(absl::string_view text, bool shortcuts) {
  text = text.substr(0, kMaxAnalyzedTextBytes);
  switch (scratch_.plan.segmentation) {
    case Segmentation::kWords:
    case Segmentation::kCjkPairs:
      return RunWords(text, shortcuts);
    case Segmentation::kWhitespace:
      return RunWhitespace(text, shortcuts);
    case Segmentation::kWhole:
      if (!text.empty()) AddWhole(text, 0, shortcuts);
      return;
  }
}

void Analysis::RunWords(absl::string_view text, bool shortcuts) {
  if (!shortcuts) return FoldedWords(text, 0);
  const bool turkish = scratch_.plan.turkish_case;
  for (size_t at = 0; at < text.size();) {
    const size_t bad = FindNonAscii(text, at, turkish);
    // The word around the byte begins behind a space.
    size_t begin = bad;
    if (bad < text.size()) {
      while (begin > at && !absl::ascii_isspace(text[begin - 1])) --begin;
    }
    AsciiWords(text.substr(at, begin - at), at);
    if (bad == text.size()) return;
    const size_t end = EndOfPart(text, begin, bad, turkish);
    FoldedWords(text.substr(begin, end - begin), begin);
    at = end;
  }
}

void Analysis::RunWhitespace(absl::string_view text, bool shortcuts) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t before = at;
    if (!u_isUWhiteSpace(NextChar(text, &at))) continue;
    if (begin < before) {
      AddWhole(text.substr(begin, before - begin), begin, shortcuts);
    }
    begin = at;
  }
  if (begin < text.size()) AddWhole(text.substr(begin), begin, shortcuts);
}

void Analysis::AsciiWords(absl::string_view part, size_t offset) {
  Word word;
  while (NextAsciiWord(part, word.end, &word)) {
    AddAscii(part.substr(word.begin, word.end - word.begin),
             offset + word.begin);
  }
}

void Analysis::FoldedWords(absl::string_view part, size_t offset) {
  // Folding removes zero-width spaces, by which Khmer and Thai part words.
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(part.find(kZeroWidthSpace, begin), part.size());
    FoldedPiece(part.substr(begin, end - begin), offset + begin);
    if (end == part.size()) return;
    begin = end + kZeroWidthSpace.size();
  }
}

void Analysis::FoldedPiece(absl::string_view piece, size_t offset) {
  if (piece.empty()) return;
  const absl::string_view folded = scratch_.folder.Fold(piece);
  scratch_.breaker.SetText(folded);
  const bool pairs = scratch_.plan.segmentation == Segmentation::kCjkPairs;
  Word word;
  while (scratch_.breaker.Next(&word)) {
    if (pairs) {
      AddPairs(folded, word, offset);
    } else {
      AddFolded(folded, word, offset);
    }
  }
  EndPairs();
}

void Analysis::AddPairs(absl::string_view folded, Word word, size_t offset) {
  size_t rest = word.begin;  // what is not of these scripts, up to `at`
  const auto add_rest = [&](size_t end) {
    if (rest == end) return;
    EndPairs();
    AddFolded(folded, {rest, end}, offset);
  };
  for (size_t at = word.begin; at < word.end;) {
    const size_t begin = at;
    if (!IsCjk(NextChar(folded.substr(0, word.end), &at))) continue;
    add_rest(begin);
    rest = at;
    const bool joins = letter_.waits && letter_.at.end == begin;
    if (joins) {
      AddFolded(folded, {letter_.at.begin, at}, offset);
    } else {
      EndPairs();
    }
    letter_ = {folded, {begin, at}, offset, true, joins};
  }
  add_rest(word.end);
}

void Analysis::EndPairs() {
  if (letter_.waits && !letter_.is_paired) {
    AddFolded(letter_.folded, letter_.at, letter_.offset);
  }
  letter_.waits = false;
}

void Analysis::AddFolded(absl::string_view folded, Word word, size_t offset) {
  const TextFolder::Range source =
      scratch_.folder.SourceOf({word.begin, word.end});
  Add(folded.substr(word.begin, word.end - word.begin), offset + source.begin,
      offset + source.end);
}

void Analysis::AddWhole(absl::string_view part, size_t offset, bool shortcuts) {
  const bool turkish = scratch_.plan.turkish_case;
  if (shortcuts && FindNonAscii(part, 0, turkish) == part.size()) {
    AddAscii(part, offset);
  } else {
    Add(scratch_.folder.Fold(part), offset, offset + part.size());
  }
}

void Analysis::AddAscii(absl::string_view word, size_t offset) {
  // Longer ones are left out, but count.
  if (!scratch_.plan.fold_case || word.size() > scratch_.word.size()) {
    return Add(word, offset, offset + word.size());
  }
  for (size_t i = 0; i < word.size(); ++i) {
    scratch_.word[i] = absl::ascii_tolower(word[i]);
  }
  Add({scratch_.word.data(), word.size()}, offset, offset + word.size());
}

void Analysis::Add(absl::string_view folded_word, size_t begin, size_t end) {
  const absl::string_view term = scratch_.filter.TermOf(folded_word);
  if (!term.empty()) {
    sink_({term, position_, static_cast<uint32_t>(begin),
           static_cast<uint32_t>(end)});
  }
  ++position_;
}

}  // namespace vicinal
