// Letters without their marks.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace vicinal {

// Replaces *out by the text (UTF-8, NFC) without marks of the Inherited script
// (accents, umlauts, cedillas, Arabic vowels), and with letters that are drawn
// with a stroke or as two in one as plain ones. Marks of one script (vowel
// signs and viramas of Indic ones, points of Hebrew) and the voice marks of
// kana stay: they make another word. The result is NFC.
void FoldDiacritics(absl::string_view text, std::string* out);

}  // namespace vicinal
