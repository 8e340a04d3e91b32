#include "src/text/analyzer_spec.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "libstemmer.h"
#include "src/base/status_macros.h"
#include "src/base/utf8.h"
#include "src/text/analyzer.h"
#include "src/text/diacritics.h"
#include "src/text/language.h"
#include "src/text/text_folder.h"
#include "src/text/word_filter.h"

namespace vicinal {
namespace {

struct Named {
  absl::string_view name;
  Segmentation segmentation;
};
constexpr Named kNamed[] = {{"cjk", Segmentation::kCjkPairs},
                            {"keyword", Segmentation::kWhole},
                            {"standard", Segmentation::kWords},
                            {"whitespace", Segmentation::kWhitespace}};

std::vector<std::string> Stemmers() {
  std::vector<std::string> names;
  for (const char** name = sb_stemmer_list(); *name != nullptr; ++name) {
    names.emplace_back(*name);
  }
  return names;
}

absl::Status Refuse(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("analyzer: ", what));
}

absl::Status CheckNumbers(const AnalyzerSpec& spec) {
  if (spec.version != kAnalyzerVersion) {
    return Refuse(absl::StrCat("version ", spec.version,
                               " is not known; this program has version ",
                               kAnalyzerVersion));
  }
  if (spec.min_token_chars < 1 || spec.min_token_chars > kMaxTokenBytes) {
    return Refuse(absl::StrCat("min_token_chars is ", spec.min_token_chars,
                               "; it must be from 1 to ", kMaxTokenBytes));
  }
  if (spec.max_token_bytes < 1 || spec.max_token_bytes > kMaxTokenBytes) {
    return Refuse(absl::StrCat("max_token_bytes is ", spec.max_token_bytes,
                               "; it must be from 1 to ", kMaxTokenBytes));
  }
  if (spec.extra_stop_words.size() > kMaxExtraStopWords) {
    return Refuse(absl::StrCat(spec.extra_stop_words.size(),
                               " extra_stop_words; at most ",
                               kMaxExtraStopWords, " are allowed"));
  }
  for (const std::string& word : spec.extra_stop_words) {
    if (word.empty() || word.size() > kMaxTokenBytes ||
        FindBadUtf8(word) != word.size()) {
      return Refuse(absl::StrCat(
          "a word of extra_stop_words is empty, not UTF-8, or longer than ",
          kMaxTokenBytes, " bytes"));
    }
  }
  return absl::OkStatus();
}

// What the name and the language stand for; *language is null for none.
absl::StatusOr<Segmentation> Resolve(const AnalyzerSpec& spec,
                                     const Language** language) {
  const Language* const by_name = FindLanguage(spec.name);
  const auto* const named = std::ranges::find(kNamed, spec.name, &Named::name);
  if (by_name == nullptr && named == std::end(kNamed)) {
    return Refuse(absl::StrCat("no analyzer is named '", spec.name,
                               "'; there are ",
                               absl::StrJoin(AnalyzerNames(), ", ")));
  }
  *language = spec.language.empty() ? by_name : FindLanguage(spec.language);
  if (!spec.language.empty() && *language == nullptr) {
    return Refuse(absl::StrCat("the language '", spec.language,
                               "' is not known; there are ",
                               absl::StrJoin(AnalyzerLanguages(), ", ")));
  }
  if (by_name != nullptr && *language != by_name) {
    return Refuse(absl::StrCat("'", spec.name, "' is a language itself, and ",
                               "cannot be given the language '", spec.language,
                               "'"));
  }
  return by_name != nullptr ? Segmentation::kWords : named->segmentation;
}

absl::StatusOr<std::string> StemmerOf(const AnalyzerSpec& spec,
                                      const Language* language) {
  if (spec.stemmer == "none") return std::string();
  if (spec.stemmer.empty()) {
    const bool is_named = language != nullptr && spec.name == language->name;
    if (!is_named || !spec.fold_case) return std::string();
    return std::string(language->stemmer);
  }
  const std::vector<std::string> known = Stemmers();
  if (std::ranges::find(known, spec.stemmer) == known.end()) {
    return Refuse(absl::StrCat("no stemmer is named '", spec.stemmer,
                               "'; there are none, ",
                               absl::StrJoin(known, ", ")));
  }
  return spec.stemmer;
}

// The words as they are compared: folded as text is.
void AddStopWords(const AnalyzerSpec& spec, const Language* language,
                  bool with_list, AnalyzerPlan* plan) {
  std::vector<std::string> words = spec.extra_stop_words;
  if (with_list && language != nullptr) {
    for (const absl::string_view word :
         absl::StrSplit(language->stop_words, ' ', absl::SkipEmpty())) {
      words.emplace_back(word);
    }
  }
  TextFolder folder(true, plan->turkish_case);
  for (const std::string& word : words) {
    std::string folded(folder.Fold(word));
    if (plan->rules.fold_diacritics) {
      const std::string marked = folded;
      FoldDiacritics(marked, &folded);
    }
    plan->rules.stop_words.insert(folded);
  }
}

}  // namespace

std::vector<std::string> AnalyzerLanguages() {
  std::vector<std::string> names;
  for (const Language& language : Languages()) {
    names.emplace_back(language.name);
  }
  return names;
}

std::vector<std::string> AnalyzerNames() {
  std::vector<std::string> names = AnalyzerLanguages();
  for (const Named& named : kNamed) names.emplace_back(named.name);
  std::ranges::sort(names);
  return names;
}

absl::StatusOr<AnalyzerPlan> PlanAnalyzer(const AnalyzerSpec& spec) {
  VICINAL_RETURN_IF_ERROR(CheckNumbers(spec));
  AnalyzerPlan plan;
  const Language* language = nullptr;
  VICINAL_ASSIGN_OR_RETURN(plan.segmentation, Resolve(spec, &language));
  VICINAL_ASSIGN_OR_RETURN(plan.rules.stemmer, StemmerOf(spec, language));
  const bool is_named = language != nullptr && spec.name == language->name;
  const bool with_list =
      spec.remove_stop_words.value_or(is_named && spec.fold_case);
  if (with_list && language == nullptr) {
    return Refuse(absl::StrCat("remove_stop_words needs a language; '",
                               spec.name, "' has none"));
  }
  if (!spec.fold_case && (with_list || !spec.extra_stop_words.empty() ||
                          !plan.rules.stemmer.empty())) {
    return Refuse(
        "stop words and stemmers are of folded words: set fold_case, or ask "
        "for neither");
  }
  plan.fold_case = spec.fold_case;
  plan.rules.fold_diacritics = spec.fold_diacritics;
  plan.rules.min_chars = spec.min_token_chars;
  plan.rules.max_bytes = spec.max_token_bytes;
  if (language != nullptr) {
    plan.turkish_case = language->turkish_case;
    plan.rules.apostrophe = language->apostrophe;
    plan.rules.elided =
        absl::StrSplit(language->elided, ' ', absl::SkipEmpty());
  }
  AddStopWords(spec, language, with_list, &plan);
  return plan;
}

}  // namespace vicinal
