#include "src/text/word_filter.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "libstemmer.h"
#include "src/base/check.h"
#include "src/text/diacritics.h"
#include "src/text/language.h"

namespace vicinal {
namespace {

constexpr size_t kRemembered = 4096;  // 256 KiB: the second-level cache
constexpr absl::string_view kQuote = "\xE2\x80\x99";  // U+2019

bool IsAscii(absl::string_view word) {
  return std::ranges::all_of(
      word, [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

size_t CountChars(absl::string_view word) {
  return static_cast<size_t>(std::ranges::count_if(
      word, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

// Of at most 32 bytes.
size_t HashOf(absl::string_view word) {
  uint64_t hash = word.size();
  while (!word.empty()) {
    uint64_t part = 0;
    const size_t size = std::min<size_t>(word.size(), 8);
    std::memcpy(&part, word.data(), size);
    hash = (hash ^ part) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
    word.remove_prefix(size);
  }
  return (hash ^ (hash >> 17)) % kRemembered;
}

absl::string_view WithoutPossessive(absl::string_view word) {
  return absl::EndsWithIgnoreCase(word, "'s") ? word.substr(0, word.size() - 2)
                                              : word;
}

}  // namespace

WordFilter::WordFilter(const WordRules* rules)
    : rules_(*rules),
      is_plain_(rules->apostrophe == ApostropheRule::kNone &&
                rules->stop_words.empty() && !rules->fold_diacritics &&
                rules->stemmer.empty()) {
  if (!rules_.stemmer.empty()) {
    stemmer_.reset(sb_stemmer_new(rules_.stemmer.c_str(), "UTF_8"));
    VICINAL_CHECK(stemmer_ != nullptr);
  }
  if (!is_plain_) remembered_.resize(kRemembered);
}

absl::string_view WordFilter::TermOf(absl::string_view word) {
  if (word.size() > rules_.max_bytes) return {};
  if (is_plain_ || word.size() > kShort) return Filtered(word);
  Remembered& known = remembered_[HashOf(word)];
  if (known.word_size != word.size() ||
      std::memcmp(known.word.data(), word.data(), word.size()) != 0) {
    const absl::string_view term = Filtered(word);
    if (term.size() > kShort) return term;
    known.word_size = static_cast<uint8_t>(word.size());
    std::memcpy(known.word.data(), word.data(), word.size());
    known.term_size = static_cast<uint8_t>(term.size());
    if (!term.empty()) std::memcpy(known.term.data(), term.data(), term.size());
  }
  return {known.term.data(), known.term_size};
}

absl::string_view WordFilter::Filtered(absl::string_view word) {
  if (rules_.min_chars > 1 && CountChars(word) < rules_.min_chars) return {};
  // Typed with either apostrophe, it is one word.
  if (absl::StrContains(word, kQuote)) {
    straight_ = absl::StrReplaceAll(word, {{kQuote, "'"}});
    word = straight_;
  }
  if (is_plain_) return word;
  word = WithoutApostrophe(word);
  if (rules_.fold_diacritics && !IsAscii(word)) {
    FoldDiacritics(word, &folded_);
    word = folded_;
  }
  if (!rules_.stop_words.empty() && rules_.stop_words.contains(word)) return {};
  return Stemmed(word);
}

absl::string_view WordFilter::WithoutApostrophe(absl::string_view word) const {
  switch (rules_.apostrophe) {
    case ApostropheRule::kNone:
      return word;
    case ApostropheRule::kPossessive:
      return WithoutPossessive(word);
    case ApostropheRule::kElision: {
      const size_t mark = word.find('\'');
      if (mark >= word.size() - 1) return word;
      const bool is_elided =
          std::ranges::find(rules_.elided, word.substr(0, mark)) !=
          rules_.elided.end();
      return is_elided ? word.substr(mark + 1) : word;
    }
    case ApostropheRule::kSuffix:
      return word.substr(0, word.find('\''));
  }
  return word;
}

absl::string_view WordFilter::Stemmed(absl::string_view word) {
  if (stemmer_ == nullptr || word.empty()) return word;
  const sb_symbol* const stem = sb_stemmer_stem(
      stemmer_.get(), reinterpret_cast<const sb_symbol*>(word.data()),
      static_cast<int>(word.size()));
  VICINAL_CHECK(stem != nullptr);  // null: out of memory
  return {reinterpret_cast<const char*>(stem),
          static_cast<size_t>(sb_stemmer_length(stemmer_.get()))};
}

}  // namespace vicinal
