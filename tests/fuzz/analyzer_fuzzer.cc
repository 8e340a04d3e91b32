// libFuzzer: any bytes are analyzed, with ascending positions and offsets
// inside the text, and the path for ASCII gives the tokens of ICU.
//
// Input: which analyzer (u8; its high bit folds diacritics), then the text.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/base/utf8.h"
#include "src/text/analyzer.h"
#include "tests/fuzz/require.h"

namespace vicinal {
namespace {

const Analyzer& AnalyzerOf(uint8_t choice) {
  static auto* const analyzers =
      new std::map<uint8_t, std::unique_ptr<const Analyzer>>;
  static const auto* const names =
      new std::vector<std::string>(AnalyzerNames());
  auto& analyzer = (*analyzers)[choice];
  if (analyzer == nullptr) {
    auto made = Analyzer::Make({.name = (*names)[choice % 128 % names->size()],
                                .fold_diacritics = choice >= 128});
    Require(made.ok(), "no analyzer");
    analyzer = *std::move(made);
  }
  return *analyzer;
}

struct Found {
  std::string terms;
  std::vector<uint32_t> numbers;
};

Found Analyze(const Analyzer& analyzer, absl::string_view text,
              bool shortcuts) {
  Found found;
  const bool is_text = FindBadUtf8(text) == text.size();
  uint32_t next = 0;
  uint32_t begin = 0;
  const auto add = [&](const Token& token) {
    Require(token.position >= next, "positions do not ascend");
    Require(token.begin >= begin && token.begin < token.end &&
                token.end <= text.size(),
            "an offset is not in the text");
    Require(!token.term.empty(), "a term is empty");
    Require(!is_text || FindBadUtf8(token.term) == token.term.size(),
            "a term is not UTF-8");
    next = token.position + 1;
    begin = token.begin;
    found.terms.append(token.term.data(), token.term.size());
    found.terms += '\n';
    found.numbers.insert(found.numbers.end(),
                         {token.position, token.begin, token.end});
  };
  if (shortcuts) {
    analyzer.Analyze(text, add);
  } else {
    analyzer.AnalyzeWithoutShortcuts(text, add);
  }
  return found;
}

}  // namespace
}  // namespace vicinal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  if (size_bytes == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1,
                               size_bytes - 1);
  const vicinal::Analyzer& analyzer = vicinal::AnalyzerOf(data[0]);
  const auto fast = vicinal::Analyze(analyzer, text, true);
  const auto slow = vicinal::Analyze(analyzer, text, false);
  vicinal::Require(fast.terms == slow.terms && fast.numbers == slow.numbers,
                   "the path for ASCII gives other tokens than ICU");
  return 0;
}
