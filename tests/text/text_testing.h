// What the tests of text share: tokens that own their terms, and the texts of
// ../shared/data where they are there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/text/analyzer.h"

namespace vicinal {

struct OwnedToken {
  std::string term;
  uint32_t position = 0;
  uint32_t begin = 0;
  uint32_t end = 0;

  bool operator==(const OwnedToken&) const = default;
};
std::ostream& operator<<(std::ostream& out, const OwnedToken& token);

// VICINAL_CHECKs that there is such an analyzer.
std::unique_ptr<const Analyzer> MakeAnalyzer(const AnalyzerSpec& spec);
std::unique_ptr<const Analyzer> MakeAnalyzer(absl::string_view name);

std::vector<OwnedToken> TokensOf(const Analyzer& analyzer,
                                 absl::string_view text, bool shortcuts = true);
std::vector<std::string> TermsOf(const Analyzer& analyzer,
                                 absl::string_view text);

// A file of ../shared/data/ir, uncompressed; empty when it is not there.
std::optional<std::string> ReadSharedText(const std::string& path);

struct TextDocument {
  std::string id;
  std::string text;  // of a document with its title before it
};
// The lines of corpus.jsonl.gz or queries.jsonl.gz.
std::vector<TextDocument> ParseDocuments(const std::string& jsonl);

// The sets of ../shared/data/ir/text, and the analyzer of each.
struct TextSet {
  std::string name;
  std::string analyzer;
};
const std::vector<TextSet>& TextSets();

}  // namespace vicinal
