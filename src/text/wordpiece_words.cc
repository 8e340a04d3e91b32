#include "src/text/wordpiece_words.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "src/base/check.h"
#include "unicode/normalizer2.h"
#include "unicode/uchar.h"
#include "unicode/unistr.h"
#include "unicode/utf16.h"
#include "unicode/utf8.h"
#include "unicode/utypes.h"

namespace vicinal {
namespace {

// What an ASCII byte is: dropped, a space, punctuation, or a letter, which is
// its lower case.
constexpr uint8_t kDropped = 0;
constexpr uint8_t kSpace = 1;
constexpr uint8_t kPunctuation = 2;

constexpr std::array<uint8_t, 128> MakeAscii() {
  std::array<uint8_t, 128> ascii = {};
  ascii[' '] = ascii['\t'] = ascii['\n'] = ascii['\r'] = kSpace;
  for (int c = '!'; c <= '~'; ++c) ascii[c] = kPunctuation;
  for (int c = '0'; c <= '9'; ++c) ascii[c] = static_cast<uint8_t>(c);
  for (int c = 'a'; c <= 'z'; ++c) {
    ascii[c] = ascii[c - 32] = static_cast<uint8_t>(c);
  }
  return ascii;
}
constexpr std::array<uint8_t, 128> kAscii = MakeAscii();

// The blocks of Han that BERT was trained with.
bool IsIdeograph(UChar32 c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

bool IsOf(UChar32 c, uint32_t categories) {
  return (U_GET_GC_MASK(c) & categories) != 0;
}

bool IsPunctuation(UChar32 c) {
  return c < 0x80 ? kAscii[static_cast<size_t>(c)] == kPunctuation
                  : IsOf(c, U_GC_P_MASK);
}

const icu::Normalizer2& Nfd() {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* const nfd = icu::Normalizer2::getNFDInstance(error);
  VICINAL_CHECK(U_SUCCESS(error));
  return *nfd;
}

}  // namespace

void WordPieceWords::Run(absl::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte < 0x80) {
      AddAscii(byte);
      ++at;
      continue;
    }
    UChar32 c = 0;
    U8_NEXT(text.data(), at, text.size(), c);
    if (c >= 0) AddChar(c);
  }
  End();
}

void WordPieceWords::AddAscii(uint8_t byte) {
  const uint8_t lower = kAscii[byte];
  if (lower == kDropped) return;
  if (lower > kPunctuation) {
    if (num_chars_ < kMaxChars) {
      word_[size_bytes_++] = static_cast<char>(lower);
    }
    ++num_chars_;
  } else if (lower == kSpace) {
    End();
  } else {
    Alone(byte);
  }
}

void WordPieceWords::AddChar(int32_t c) {
  if (c == 0xFFFD || IsOf(c, U_GC_C_MASK)) return;
  if (IsOf(c, U_GC_Z_MASK)) return End();
  icu::UnicodeString decomposed;
  if (!Nfd().getDecomposition(c, decomposed)) decomposed.setTo(c);
  const bool is_word = IsIdeograph(c);
  if (is_word) End();
  for (int32_t i = 0; i < decomposed.length();) {
    const UChar32 part = decomposed.char32At(i);
    i += U16_LENGTH(part);
    if (IsOf(part, U_GC_MN_MASK)) continue;
    const UChar32 lower = u_tolower(part);
    if (IsPunctuation(lower)) {
      Alone(lower);
    } else {
      Append(lower);
    }
  }
  if (is_word) End();
}

void WordPieceWords::Append(int32_t c) {
  if (num_chars_ < kMaxChars) U8_APPEND_UNSAFE(word_.data(), size_bytes_, c);
  ++num_chars_;
}

void WordPieceWords::End() {
  if (num_chars_ == 0) return;
  sink_({word_.data(), num_chars_ > kMaxChars ? 0 : size_bytes_});
  size_bytes_ = num_chars_ = 0;
}

void WordPieceWords::Alone(int32_t c) {
  End();
  Append(c);
  End();
}

}  // namespace vicinal
