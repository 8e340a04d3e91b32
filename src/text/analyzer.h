// From text to the terms that it is found by.
//
// Text is normalized (NFKC), its case folded, cut into words (UAX #29, by ICU,
// with dictionaries for Chinese, Japanese, Thai, Khmer, Lao and Burmese), and
// each word may lose an article or possessive before or behind an apostrophe,
// its diacritics, and its ending (Snowball). Stop words are left out.
//
// Normalization comes first, as words differ otherwise: CO2 with a subscript
// two, one letter as a ligature, a soft hyphen inside. Offsets are led back to
// the original text. Pure ASCII between two spaces takes a path without ICU,
// which gives the same tokens (tests/text compare them).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// Changes whenever a text may give other tokens; texts of one field are all
// analyzed by one version.
constexpr uint32_t kAnalyzerVersion = 1;
constexpr size_t kMaxAnalyzedTextBytes = size_t{64} << 20;
constexpr size_t kMaxTokenBytes = 255;
constexpr size_t kMaxExtraStopWords = 1000;

// What a schema keeps of an analyzer.
struct AnalyzerSpec {
  // "standard": neither stop words nor a stemmer.
  // A language, as AnalyzerLanguages() lists them: with its stop words and its
  // stemmer.
  // "cjk": "standard", but of Chinese, Japanese and Korean two characters each.
  // "whitespace": what lies between spaces.
  // "keyword": the text as one token.
  std::string name = "standard";
  uint32_t version = kAnalyzerVersion;
  // Whose case, apostrophes and stop words a "standard", "cjk" or "whitespace"
  // analyzer follows. Empty: none's, or that of the name.
  std::string language;

  // False: A and a are different; then without stop words and stemmer.
  bool fold_case = true;
  // True: Müller is found as muller, and й is и. Before the stemmer, so that a
  // word with and without them is always one term. The Inherited marks only:
  // vowel signs of Indic scripts and the voice marks of kana stay.
  bool fold_diacritics = false;
  // A Snowball algorithm ("porter", "german", ...), or "none". Empty: that of
  // the language where it is the name.
  std::string stemmer;
  // Unset: where a language is the name. More of them, in any case.
  std::optional<bool> remove_stop_words;
  std::vector<std::string> extra_stop_words;
  // Words of fewer characters are left out. [1, 255]
  uint32_t min_token_chars = 1;
  // Words of more bytes are left out, not cut: what is so long (base64, DNA) is
  // not typed into a query, and cut it would be found by what it is not.
  // Counted before the stemmer. [1, 255]
  uint32_t max_token_bytes = kMaxTokenBytes;

  friend bool operator==(const AnalyzerSpec&, const AnalyzerSpec&) = default;
};

// Of the ICU library in use, e.g. "72.1": another one may part other words.
absl::string_view IcuVersion();

struct Token {
  absl::string_view term;  // valid until the sink returns
  uint32_t position = 0;   // which word of the text; what is left out counts
  uint32_t begin = 0;      // the bytes of the original text that it came from
  uint32_t end = 0;
};

// InvalidArgument: not UTF-8 (names the first bad byte), or longer than
// kMaxAnalyzedTextBytes.
absl::Status ValidateText(absl::string_view text);

// Names of AnalyzerSpec, ascending.
std::vector<std::string> AnalyzerNames();
// The languages among them.
std::vector<std::string> AnalyzerLanguages();

struct AnalyzerState;

// Const and thread-safe. Room of an analysis is kept for the next one.
class Analyzer {
 public:
  using Sink = absl::FunctionRef<void(const Token&)>;

  // InvalidArgument: an unknown name, version, language or stemmer, options
  // that contradict each other, or a number out of its range.
  static absl::StatusOr<std::unique_ptr<const Analyzer>> Make(
      const AnalyzerSpec& spec);
  ~Analyzer();

  // Calls sink for each token, by ascending position. Of a text that
  // ValidateText refuses, bad bytes part words, and what is over the limit is
  // not read.
  void Analyze(absl::string_view text, Sink sink) const;
  // The same tokens, all by ICU: for tests.
  void AnalyzeWithoutShortcuts(absl::string_view text, Sink sink) const;

  const AnalyzerSpec& spec() const;

 private:
  explicit Analyzer(std::unique_ptr<AnalyzerState> state);

  const std::unique_ptr<AnalyzerState> state_;
};

}  // namespace vicinal
