#include "tests/text/text_testing.h"

#include <zlib.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "src/base/check.h"
#include "src/text/analyzer.h"

namespace vicinal {

std::ostream& operator<<(std::ostream& out, const OwnedToken& token) {
  return out << token.term << "@" << token.position << "[" << token.begin << ","
             << token.end << ")";
}

std::unique_ptr<const Analyzer> MakeAnalyzer(const AnalyzerSpec& spec) {
  auto analyzer = Analyzer::Make(spec);
  VICINAL_CHECK(analyzer.ok());
  return *std::move(analyzer);
}

std::unique_ptr<const Analyzer> MakeAnalyzer(absl::string_view name) {
  return MakeAnalyzer(AnalyzerSpec{.name = std::string(name)});
}

std::vector<OwnedToken> TokensOf(const Analyzer& analyzer,
                                 absl::string_view text, bool shortcuts) {
  std::vector<OwnedToken> tokens;
  const auto keep = [&](const Token& token) {
    tokens.push_back(
        {std::string(token.term), token.position, token.begin, token.end});
  };
  if (shortcuts) {
    analyzer.Analyze(text, keep);
  } else {
    analyzer.AnalyzeWithoutShortcuts(text, keep);
  }
  return tokens;
}

std::vector<std::string> TermsOf(const Analyzer& analyzer,
                                 absl::string_view text) {
  std::vector<std::string> terms;
  analyzer.Analyze(text,
                   [&](const Token& token) { terms.emplace_back(token.term); });
  return terms;
}

std::optional<std::string> ReadSharedText(const std::string& path) {
  const std::string full = absl::StrCat(VICINAL_SHARED_DATA, "/ir/", path);
  const gzFile file = gzopen(full.c_str(), "rb");  // reads plain files, too
  if (file == nullptr) return std::nullopt;
  std::string text;
  std::array<char, 65536> block;
  int size = 0;
  while ((size = gzread(file, block.data(), block.size())) > 0) {
    text.append(block.data(), static_cast<size_t>(size));
  }
  VICINAL_CHECK_EQ(size, 0);
  VICINAL_CHECK_EQ(gzclose(file), Z_OK);
  return text;
}

std::vector<TextDocument> ParseDocuments(const std::string& jsonl) {
  std::vector<TextDocument> documents;
  for (const absl::string_view line :
       absl::StrSplit(jsonl, '\n', absl::SkipEmpty())) {
    const auto json = nlohmann::json::parse(line.begin(), line.end());
    documents.push_back({json.at("_id").get<std::string>(),
                         absl::StrCat(json.value("title", ""), " ",
                                      json.at("text").get<std::string>())});
  }
  return documents;
}

const std::vector<TextSet>& TextSets() {
  static const auto* const kSets = new std::vector<TextSet>{
      {"scifact", "english"},   {"cranfield", "english"},
      {"cacm", "english"},      {"limit-small", "standard"},
      {"xquad-en", "english"},  {"xquad-zh", "standard"},
      {"xquad-th", "standard"}, {"xquad-hi", "hindi"},
      {"xquad-ru", "russian"}};
  return *kSets;
}

}  // namespace vicinal
