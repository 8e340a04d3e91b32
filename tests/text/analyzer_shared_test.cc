// The real texts of ../shared/data: the path for ASCII, and the cuts of text
// into parts, give what ICU gives of the whole; and how fast.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/text/analyzer.h"
#include "tests/text/text_testing.h"

namespace vicinal {
namespace {

std::vector<std::string> TextsOf(const std::string& set) {
  std::vector<std::string> texts;
  for (const char* file : {"corpus.jsonl.gz", "queries.jsonl.gz"}) {
    const auto jsonl = ReadSharedText(absl::StrCat("text/", set, "/", file));
    if (!jsonl.has_value()) continue;
    for (TextDocument& document : ParseDocuments(*jsonl)) {
      texts.push_back(std::move(document.text));
    }
  }
  return texts;
}

TEST(AnalyzerSharedTest, ShortcutsGiveTheTokensOfIcu) {
  size_t num_texts = 0;
  for (const TextSet& set : TextSets()) {
    const std::vector<std::string> texts = TextsOf(set.name);
    // The cheapest that keeps every word, the set's own, one with another case,
    // and the two that cut differently.
    for (const std::string& name :
         {std::string("standard"), set.analyzer, std::string("turkish"),
          std::string("cjk"), std::string("whitespace")}) {
      const auto analyzer = MakeAnalyzer(name);
      // ICU is slow: a part of the largest set.
      const size_t count = std::min<size_t>(texts.size(), 700);
      for (size_t i = 0; i < count; ++i) {
        ASSERT_EQ(TokensOf(*analyzer, texts[i], true),
                  TokensOf(*analyzer, texts[i], false))
            << set.name << " " << name << " " << i << ": " << texts[i];
        ++num_texts;
      }
    }
  }
  if (num_texts == 0) GTEST_SKIP() << "no ../shared/data/ir/text";
}

// One line of all texts of a set, so that cuts are anywhere.
TEST(AnalyzerSharedTest, LongTextsAreCutWhereNothingChanges) {
  for (const char* name : {"xquad-ru", "xquad-th", "xquad-zh", "xquad-hi"}) {
    std::string all;
    for (const std::string& text : TextsOf(name)) all += text;
    if (all.empty()) GTEST_SKIP() << "no ../shared/data/ir/text";
    const auto analyzer = MakeAnalyzer("standard");
    ASSERT_EQ(TokensOf(*analyzer, all, true), TokensOf(*analyzer, all, false));
  }
}

// Prints only, in CPU time: machines differ.
TEST(AnalyzerSharedTest, Speed) {
  for (const TextSet& set : TextSets()) {
    const std::vector<std::string> texts = TextsOf(set.name);
    if (texts.empty()) GTEST_SKIP() << "no ../shared/data/ir/text";
    for (const std::string& name : {std::string("standard"), set.analyzer}) {
      const auto analyzer = MakeAnalyzer(name);
      size_t num_bytes = 0;
      size_t num_tokens = 0;
      const auto start = std::clock();
      for (const std::string& text : texts) {
        num_bytes += text.size();
        analyzer->Analyze(text, [&](const Token&) { ++num_tokens; });
      }
      const double seconds =
          static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      EXPECT_GT(num_tokens, 0u);
      std::printf("%-12s %-9s %6.2f MB %8zu tokens %7.1f MB/s\n",
                  set.name.c_str(), name.c_str(),
                  static_cast<double>(num_bytes) / 1e6, num_tokens,
                  static_cast<double>(num_bytes) / 1e6 / seconds);
    }
  }
}

}  // namespace
}  // namespace vicinal
