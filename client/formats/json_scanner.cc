#include "client/formats/json_scanner.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace vicinal::client {
namespace {

void AppendUtf8(uint32_t code, std::string* out) {
  const auto put = [out](uint32_t byte) {
    out->push_back(static_cast<char>(byte));
  };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

// The four hexadecimal digits at `text`; -1 when they are none.
int HexUnit(const char* text) {
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = text[i];
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return -1;
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

bool JsonScanner::Fail(absl::string_view what) {
  if (error_.empty()) {
    const absl::string_view rest(at_, static_cast<size_t>(end_ - at_));
    error_ = rest.empty()
                 ? absl::StrCat(what, ", but the line ends")
                 : absl::StrCat(what, " instead of \"",
                                absl::CHexEscape(rest.substr(0, 16)), "\"");
  }
  return false;
}

void JsonScanner::Space() {
  while (at_ < end_ &&
         (*at_ == ' ' || *at_ == '\t' || *at_ == '\r' || *at_ == '\n')) {
    ++at_;
  }
}

char JsonScanner::Peek() {
  Space();
  return at_ < end_ ? *at_ : '\0';
}

bool JsonScanner::AtEnd() {
  Space();
  return at_ == end_;
}

bool JsonScanner::TryEat(char c) {
  Space();
  if (at_ == end_ || *at_ != c) return false;
  ++at_;
  return true;
}

bool JsonScanner::Expect(char c) {
  if (TryEat(c)) return true;
  return Fail(absl::StrCat("expected '", absl::string_view(&c, 1), "'"));
}

// Leaves at_ behind the closing quote.
bool JsonScanner::SkipString() {
  if (!Expect('"')) return false;
  while (at_ < end_) {
    const char c = *at_;
    if (c == '"') {
      ++at_;
      return true;
    }
    if (static_cast<unsigned char>(c) < 0x20) {
      return Fail("control characters in strings must be escaped");
    }
    if (c == '\\') {
      ++at_;
      if (at_ == end_) break;
      if (*at_ == 'u') {
        if (end_ - at_ < 5 || HexUnit(at_ + 1) < 0) {
          return Fail("expected \\u and four hexadecimal digits");
        }
        at_ += 4;
      } else if (absl::string_view("\"\\/bfnrt").find(*at_) ==
                 absl::string_view::npos) {
        return Fail("expected an escape of JSON");
      }
    }
    ++at_;
  }
  return Fail("expected the closing '\"' of a string");
}

bool JsonScanner::String(std::string* out) {
  Space();
  const char* start = at_;
  if (!SkipString()) return false;
  out->clear();
  const char* const end = at_ - 1;
  for (const char* p = start + 1; p < end; ++p) {
    if (*p != '\\') {
      out->push_back(*p);
      continue;
    }
    ++p;
    if (*p != 'u') {
      static constexpr absl::string_view kFrom = "\"\\/bfnrt";
      static constexpr char kTo[] = "\"\\/\b\f\n\r\t";
      out->push_back(kTo[kFrom.find(*p)]);
      continue;
    }
    auto code = static_cast<uint32_t>(HexUnit(p + 1));
    p += 4;
    if (code >= 0xD800 && code < 0xDC00 && end - p >= 7 && p[1] == '\\' &&
        p[2] == 'u') {
      const int low = HexUnit(p + 3);
      if (low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) +
               (static_cast<uint32_t>(low) - 0xDC00);
        p += 6;
      }
    }
    if (code >= 0xD800 && code < 0xE000) {
      at_ = start;
      return Fail("expected text, found half a surrogate pair");
    }
    AppendUtf8(code, out);
  }
  return true;
}

bool JsonScanner::SkipDigits() {
  const char* start = at_;
  while (at_ < end_ && absl::ascii_isdigit(static_cast<unsigned char>(*at_))) {
    ++at_;
  }
  return at_ > start;
}

bool JsonScanner::SkipNumber() {
  if (at_ < end_ && *at_ == '-') ++at_;
  if (at_ < end_ && *at_ == '0') {
    ++at_;
  } else if (!SkipDigits()) {
    return Fail("expected a value");
  }
  if (at_ < end_ && *at_ == '.') {
    ++at_;
    if (!SkipDigits()) return Fail("expected digits after '.'");
  }
  if (at_ < end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ < end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!SkipDigits()) return Fail("expected digits of an exponent");
  }
  return true;
}

bool JsonScanner::SkipLiteral(absl::string_view word) {
  if (static_cast<size_t>(end_ - at_) < word.size() ||
      absl::string_view(at_, word.size()) != word) {
    return Fail("expected a value");
  }
  at_ += word.size();
  return true;
}

bool JsonScanner::SkipValue(int depth) {
  if (depth > kMaxDepth) return Fail("expected at most 128 levels");
  switch (Peek()) {
    case '{': {
      ++at_;
      if (TryEat('}')) return true;
      do {
        if (!SkipString() || !Expect(':') || !SkipValue(depth + 1)) {
          return false;
        }
      } while (TryEat(','));
      return Expect('}');
    }
    case '[': {
      ++at_;
      if (TryEat(']')) return true;
      do {
        if (!SkipValue(depth + 1)) return false;
      } while (TryEat(','));
      return Expect(']');
    }
    case '"':
      return SkipString();
    case 't':
      return SkipLiteral("true");
    case 'f':
      return SkipLiteral("false");
    case 'n':
      return SkipLiteral("null");
    default:
      return SkipNumber();
  }
}

bool JsonScanner::Value(absl::string_view* out) {
  Space();
  const char* start = at_;
  if (!SkipValue(1)) return false;
  *out = absl::string_view(start, static_cast<size_t>(at_ - start));
  return true;
}

bool JsonScanner::Floats(std::vector<float>* out) {
  if (!Expect('[')) return false;
  if (TryEat(']')) return true;
  do {
    Space();
    const char* start = at_;
    if (!SkipNumber()) return false;
    float value = 0;
    const auto parsed = std::from_chars(start, at_, value);
    if (parsed.ec == std::errc::result_out_of_range) {
      // from_chars does not tell overflow from underflow; strtof does.
      value = std::strtof(std::string(start, at_).c_str(), nullptr);
    }
    out->push_back(value);
  } while (TryEat(','));
  return Expect(']');
}

}  // namespace vicinal::client
