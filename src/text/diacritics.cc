#include "src/text/diacritics.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "src/base/check.h"
#include "unicode/normalizer2.h"
#include "unicode/uchar.h"
#include "unicode/unistr.h"
#include "unicode/uscript.h"
#include "unicode/utypes.h"

namespace vicinal {
namespace {

struct Plain {
  char32_t letter;
  const char* plain;
};
// Lower case and capitals that Unicode does not decompose, ascending.
constexpr std::array<Plain, 27> kPlain = {{
    {0x00C6, "AE"}, {0x00D0, "D"},  {0x00D8, "O"}, {0x00DE, "TH"},
    {0x00DF, "ss"}, {0x00E6, "ae"}, {0x00F0, "d"}, {0x00F8, "o"},
    {0x00FE, "th"}, {0x0110, "D"},  {0x0111, "d"}, {0x0126, "H"},
    {0x0127, "h"},  {0x0131, "i"},  {0x0138, "k"}, {0x0141, "L"},
    {0x0142, "l"},  {0x014A, "N"},  {0x014B, "n"}, {0x0152, "OE"},
    {0x0153, "oe"}, {0x0166, "T"},  {0x0167, "t"}, {0x0180, "b"},
    {0x0192, "f"},  {0x0197, "I"},  {0x0268, "i"},
}};

const char* PlainOf(UChar32 c) {
  const auto* const it =
      std::lower_bound(kPlain.begin(), kPlain.end(), static_cast<char32_t>(c),
                       [](const Plain& plain, char32_t letter) {
                         return plain.letter < letter;
                       });
  const bool found =
      it != kPlain.end() && it->letter == static_cast<char32_t>(c);
  return found ? it->plain : nullptr;
}

bool IsDropped(UChar32 c) {
  if (u_charType(c) != U_NON_SPACING_MARK) return false;
  if (c == 0x3099 || c == 0x309A) return false;  // of kana
  UErrorCode error = U_ZERO_ERROR;
  return uscript_getScript(c, &error) == USCRIPT_INHERITED;
}

}  // namespace

void FoldDiacritics(absl::string_view text, std::string* out) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* const nfc = icu::Normalizer2::getNFCInstance(error);
  const icu::Normalizer2* const nfd = icu::Normalizer2::getNFDInstance(error);
  const icu::UnicodeString decomposed =
      nfd->normalize(icu::UnicodeString::fromUTF8(
                         {text.data(), static_cast<int32_t>(text.size())}),
                     error);
  VICINAL_CHECK(U_SUCCESS(error));
  icu::UnicodeString kept;
  for (int32_t i = 0; i < decomposed.length();) {
    const UChar32 c = decomposed.char32At(i);
    i += U16_LENGTH(c);
    if (IsDropped(c)) continue;
    if (const char* const plain = PlainOf(c)) {
      kept.append(icu::UnicodeString(plain, -1, US_INV));
    } else {
      kept.append(c);
    }
  }
  out->clear();
  nfc->normalize(kept, error).toUTF8String(*out);
  VICINAL_CHECK(U_SUCCESS(error));
}

}  // namespace vicinal
