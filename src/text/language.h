// What analyzers know of languages.
#pragma once

#include <cstdint>
#include <span>

#include "absl/strings/string_view.h"

namespace vicinal {

// What is taken off a word with an apostrophe (' or U+2019) in it.
enum class ApostropheRule : uint8_t {
  kNone,
  kPossessive,  // English: dog's is dog
  kElision,     // French: l'eau is eau, of the words in `elided`
  kSuffix,      // Turkish: Ankara'da is ankara
};

struct Language {
  absl::string_view name;
  absl::string_view stemmer;  // its algorithm in libstemmer
  ApostropheRule apostrophe = ApostropheRule::kNone;
  absl::string_view elided;  // separated by spaces
  absl::string_view
      stop_words;             // separated by spaces, lower case; may be empty
  bool turkish_case = false;  // I is the capital of dotless i
};

// Ascending by name.
std::span<const Language> Languages();
// nullptr: there is no such language.
const Language* FindLanguage(absl::string_view name);

}  // namespace vicinal
