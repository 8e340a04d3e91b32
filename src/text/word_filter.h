// From a folded word to its term.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "libstemmer.h"
#include "src/text/language.h"

namespace vicinal {

// What every filter of an analyzer shares. Const after it is made.
struct WordRules {
  ApostropheRule apostrophe = ApostropheRule::kNone;
  std::vector<std::string> elided;
  absl::flat_hash_set<std::string> stop_words;  // as FilterWord compares them
  bool fold_diacritics = false;
  std::string stemmer;  // empty: none
  size_t min_chars = 1;
  size_t max_bytes = 255;
};

// Serves one thread at a time. Remembers the terms of short words, as words
// repeat and stemmers are slow.
class WordFilter {
 public:
  // Borrows the rules. Their stemmer exists.
  explicit WordFilter(const WordRules* rules);

  // The term of a word, valid until the next call; empty: it is left out.
  absl::string_view TermOf(absl::string_view word);

 private:
  static constexpr size_t kShort = 30;
  struct Remembered {
    std::array<char, kShort + 1> word = {};
    uint8_t word_size = 0;
    std::array<char, kShort + 1> term = {};
    uint8_t term_size = 0;
  };
  struct DeleteStemmer {
    void operator()(sb_stemmer* stemmer) const { sb_stemmer_delete(stemmer); }
  };

  absl::string_view Filtered(absl::string_view word);
  absl::string_view WithoutApostrophe(absl::string_view word) const;
  absl::string_view Stemmed(absl::string_view word);

  const WordRules& rules_;
  const bool is_plain_;  // only the limits apply
  std::unique_ptr<sb_stemmer, DeleteStemmer> stemmer_;
  std::vector<Remembered> remembered_;
  std::string straight_;  // with ' for each U+2019
  std::string folded_;
};

}  // namespace vicinal
