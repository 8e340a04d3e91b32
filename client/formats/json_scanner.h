// A strict JSON scanner (RFC 8259) over text in memory that yields parts of
// the text instead of building values: vectors are parsed straight into
// floats and payloads are passed on byte for byte.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace vicinal::client {

// Each method takes one thing off the front, passing over white space before
// it, and returns false when it is not there; error() then says what is wrong
// and offset() where. After false the scanner must not be used further.
class JsonScanner {
 public:
  explicit JsonScanner(absl::string_view text)
      : begin_(text.data()),
        at_(text.data()),
        end_(text.data() + text.size()) {}

  bool Expect(char c);
  bool TryEat(char c);  // no error when it is not there
  bool AtEnd();         // only white space is left
  char Peek();          // next character, 0 at the end
  // A string, decoded to UTF-8.
  bool String(std::string* out);
  // Any value; *out is its text. At most 128 levels.
  bool Value(absl::string_view* out);
  // An array of numbers, appended to *out. A number beyond float32's range
  // becomes an infinity.
  bool Floats(std::vector<float>* out);
  // Visits an object's members: `visit(key)` must take the value.
  template <typename Visit>
  bool Object(Visit visit);

  size_t offset() const { return static_cast<size_t>(at_ - begin_); }
  const std::string& error() const { return error_; }
  bool Fail(absl::string_view what);

 private:
  static constexpr int kMaxDepth = 128;

  void Space();
  bool SkipString();
  bool SkipNumber();
  bool SkipLiteral(absl::string_view word);
  bool SkipValue(int depth);
  bool SkipDigits();

  const char* begin_;
  const char* at_;
  const char* end_;
  std::string error_;
};

template <typename Visit>
bool JsonScanner::Object(Visit visit) {
  if (!Expect('{')) return false;
  if (TryEat('}')) return true;
  std::string key;
  do {
    if (!String(&key) || !Expect(':') || !visit(key)) return false;
  } while (TryEat(','));
  return Expect('}');
}

}  // namespace vicinal::client
