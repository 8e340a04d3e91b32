// What is asked of a text, as it was typed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal {

constexpr size_t kMaxTextQueryBytes = size_t{64} << 10;
constexpr size_t kMaxTextClauses = 1'024;  // of all levels
constexpr size_t kMaxTextQueryDepth = 16;
constexpr float kMaxTextBoost = 1000;

// One part of a query; not yet analyzed.
struct TextClause {
  enum class Kind : uint8_t {
    kWords,   // its words, each for itself; with kMust or kMustNot: all of them
    kPhrase,  // its words, one behind the other
    kPrefix,  // words that begin so
    kGroup,   // the children, as a query of its own
  };
  enum class Occur : uint8_t { kShould, kMust, kMustNot };

  Kind kind = Kind::kWords;
  Occur occur = Occur::kShould;
  float boost = 1;  // over 0, at most kMaxTextBoost
  std::string text;
  std::vector<TextClause> children;

  friend bool operator==(const TextClause&, const TextClause&) = default;
};

// Parts between spaces: a word, "a phrase", pre*, (parts), each with + or -
// before it and ^boost behind it. A backslash takes its meaning from the next
// character; + and - within words have none. InvalidArgument: says at which
// byte what is wrong: not UTF-8, over a limit, an open quote or parenthesis, a
// lone operator, a boost that is none, only parts with -.
absl::StatusOr<std::vector<TextClause>> ParseTextExpression(
    absl::string_view expression);

}  // namespace vicinal
