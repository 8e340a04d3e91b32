// Analyzers: their tokens by golden files, offsets, limits, and what they
// refuse.
#include "src/text/analyzer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "src/base/random.h"
#include "tests/text/text_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// As golden files have it: term[source], with the position where it leaps.
std::string Shown(absl::string_view text,
                  const std::vector<OwnedToken>& tokens) {
  std::string shown;
  uint32_t next = 0;
  for (const OwnedToken& token : tokens) {
    absl::StrAppend(&shown, shown.empty() ? "" : " ", token.term, "[",
                    text.substr(token.begin, token.end - token.begin), "]");
    if (token.position != next) absl::StrAppend(&shown, "@", token.position);
    next = token.position + 1;
  }
  return shown;
}

// Each file: analyzer and options in its name; pairs of lines, text (with C
// escapes) and tokens. VICINAL_UPDATE_GOLDEN=1 writes them anew.
TEST(AnalyzerTest, GivesTheTokensOfTheGoldenFiles) {
  size_t num_files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(VICINAL_TEXT_GOLDEN)) {
    const std::string name = entry.path().stem().string();
    SCOPED_TRACE(name);
    AnalyzerSpec spec;
    const std::vector<std::string> words = absl::StrSplit(name, '-');
    spec.name = words[0];
    spec.fold_diacritics = words.size() > 1 && words[1] == "plain";
    const auto analyzer = MakeAnalyzer(spec);
    std::ifstream file(entry.path());
    std::string updated;
    std::string line;
    while (std::getline(file, line)) {
      if (line.empty() || line[0] == '#') {
        absl::StrAppend(&updated, line, "\n");
        continue;
      }
      std::string expected;
      std::getline(file, expected);
      std::string text;
      ASSERT_TRUE(absl::CUnescape(line, &text)) << line;
      const std::string shown = Shown(text, TokensOf(*analyzer, text));
      EXPECT_EQ(absl::StrCat("= ", shown), expected) << line;
      EXPECT_EQ(TokensOf(*analyzer, text, false), TokensOf(*analyzer, text));
      absl::StrAppend(&updated, line, "\n= ", shown, "\n");
    }
    file.close();
    if (std::getenv("VICINAL_UPDATE_GOLDEN") != nullptr) {
      std::ofstream(entry.path()) << updated;
    }
    ++num_files;
  }
  EXPECT_GE(num_files, 10u);
}

// What decides about a byte is its class, those beside it, and whether a word
// has begun: so five bytes of each class are all cases.
TEST(AnalyzerTest, AsciiIsCutAsByIcu) {
  const auto analyzer = MakeAnalyzer("standard");
  const absl::string_view kinds = "aB1_.',:; -";
  std::string text;
  for (size_t length = 1; length <= 5; ++length) {
    size_t count = 1;
    for (size_t i = 0; i < length; ++i) count *= kinds.size();
    for (size_t number = 0; number < count; ++number) {
      text.clear();
      for (size_t i = 0, rest = number; i < length; ++i) {
        text += kinds[rest % kinds.size()];
        rest /= kinds.size();
      }
      ASSERT_EQ(TokensOf(*analyzer, text), TokensOf(*analyzer, text, false))
          << text;
    }
  }
}

TEST(AnalyzerTest, EveryAsciiByteIsOfTheClassThatIcuGivesIt) {
  for (const char* name : {"standard", "english", "turkish", "cjk"}) {
    const auto analyzer = MakeAnalyzer(name);
    for (int byte = 0; byte < 128; ++byte) {
      const std::string c(1, static_cast<char>(byte));
      for (const char* left : {"", "a", "1", "_", " ", "I"}) {
        for (const char* right : {"", "a", "1", "_", " ", "'"}) {
          for (const std::string& middle : {c, c + c, c + ".", "." + c}) {
            const std::string text = absl::StrCat("xy ", left, middle, right);
            ASSERT_EQ(TokensOf(*analyzer, text),
                      TokensOf(*analyzer, text, false))
                << name << " " << absl::CHexEscape(text);
          }
        }
      }
    }
  }
}

// Characters that are hard on cuts, folding and offsets, in any order.
std::string HardText(Random& random) {
  static const auto* const kParts =
      new std::vector<std::string>{"a",
                                   "I",
                                   "'s",
                                   " ",
                                   "\n",
                                   ".",
                                   "_",
                                   "12",
                                   "@",
                                   ":",
                                   "\u00df",
                                   "\u0130",
                                   "\u0131",
                                   "\ufb01",
                                   "\uff21",
                                   "\u0301",
                                   "e\u0301",
                                   "\u00ad",
                                   "\u200b",
                                   "\u200d",
                                   "\u2019",
                                   "\u4e2d\u56fd",
                                   "\u3042",
                                   "\u30ab\u3099",
                                   "\uff76\uff9e",
                                   "\u30fc",
                                   "\ud55c\uad6d",
                                   "\u0e01\u0e32\u0e23",
                                   "\u0915\u094d\u0937\u093f",
                                   "\u05d0\"\u05d1",
                                   "\u0628\u064e",
                                   "\U0001F600",
                                   "\U0001D400",
                                   "\u2082",
                                   "\u3395",
                                   "\u00bd",
                                   "\ufdfa",
                                   "\u03a3",
                                   "\u03c2",
                                   "\u00a0",
                                   "\u2028",
                                   "\ufeff",
                                   "\U00020000",
                                   "\u1e9e",
                                   "\u0345",
                                   "\u0390"};
  std::string text;
  const size_t count = random.Uniform(12);
  for (size_t i = 0; i < count; ++i) {
    text += (*kParts)[random.Uniform(kParts->size())];
  }
  return text;
}

void CheckTokens(const Analyzer& analyzer, absl::string_view text) {
  const std::vector<OwnedToken> tokens = TokensOf(analyzer, text);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const OwnedToken& token = tokens[i];
    ASSERT_LT(token.begin, token.end) << absl::CHexEscape(text);
    ASSERT_LE(token.end, text.size()) << absl::CHexEscape(text);
    ASSERT_FALSE(token.term.empty());
    if (i == 0) continue;
    ASSERT_GT(token.position, tokens[i - 1].position) << absl::CHexEscape(text);
    ASSERT_GE(token.begin, tokens[i - 1].begin) << absl::CHexEscape(text);
    ASSERT_GE(token.end, tokens[i - 1].end) << absl::CHexEscape(text);
  }
}

TEST(AnalyzerTest, ShortcutsGiveTheTokensOfIcuForHardText) {
  Random random(20261127);
  for (const char* name : {"standard", "english", "turkish", "french", "hindi",
                           "cjk", "whitespace", "keyword"}) {
    const auto analyzer = MakeAnalyzer(name);
    size_t num_tokens = 0;
    for (size_t i = 0; i < 3000; ++i) {
      const std::string text = HardText(random);
      num_tokens += TokensOf(*analyzer, text).size();
      ASSERT_EQ(TokensOf(*analyzer, text), TokensOf(*analyzer, text, false))
          << name << " " << absl::CHexEscape(text);
      CheckTokens(*analyzer, text);
    }
    EXPECT_GT(num_tokens, 2500u) << name;
  }
}

// A token's source, analyzed alone, is that token: offsets point at it, and
// folding what is folded changes nothing.
TEST(AnalyzerTest, OffsetsPointAtTheSourceOfTheToken) {
  Random random(7);
  const auto analyzer = MakeAnalyzer("whitespace");
  const auto words = MakeAnalyzer("standard");
  for (size_t i = 0; i < 5000; ++i) {
    const std::string text = HardText(random);
    for (const OwnedToken& token : TokensOf(*analyzer, text)) {
      const auto source =
          absl::string_view(text).substr(token.begin, token.end - token.begin);
      ASSERT_THAT(TermsOf(*analyzer, source), ElementsAre(token.term));
      const auto keyword = MakeAnalyzer("keyword");
      ASSERT_THAT(TermsOf(*keyword, token.term), ElementsAre(token.term))
          << "folding twice differs from folding once";
    }
    // A character that becomes two words is the source of both.
    for (const OwnedToken& token : TokensOf(*words, text)) {
      const auto source =
          absl::string_view(text).substr(token.begin, token.end - token.begin);
      ASSERT_THAT(TermsOf(*words, source), testing::Contains(token.term))
          << absl::CHexEscape(text);
    }
  }
}

TEST(AnalyzerTest, BytesOfAnyKindAreRead) {
  Random random(11);
  for (const std::string& name : AnalyzerNames()) {
    const auto analyzer = MakeAnalyzer(name);
    for (size_t i = 0; i < 100; ++i) {
      std::string text = i % 2 == 0 ? "" : HardText(random);
      for (size_t n = random.Uniform(40); n > 0; --n) {
        text.insert(text.begin() + static_cast<std::ptrdiff_t>(
                                       random.Uniform(text.size() + 1)),
                    static_cast<char>(random.Uniform(256)));
      }
      CheckTokens(*analyzer, text);
    }
  }
}

TEST(AnalyzerTest, TokensDoNotDependOnWhereTheTextLies) {
  const std::string text =
      "The quick brown fox\u2019s caf\u00e9 \u4e2d\u56fd\u4eba jumped over "
      "13.5 lazy dogs, \u0434\u043e\u043c";
  const auto analyzer = MakeAnalyzer("english");
  const auto expected = TokensOf(*analyzer, text);
  for (size_t shift = 0; shift < 17; ++shift) {
    // No more bytes behind the text than it has: sanitizers see the end.
    std::vector<char> room(shift + text.size());
    std::memcpy(room.data() + shift, text.data(), text.size());
    EXPECT_EQ(TokensOf(*analyzer, {room.data() + shift, text.size()}),
              expected);
  }
}

TEST(AnalyzerTest, ThreadsShareAnAnalyzer) {
  const auto analyzer = MakeAnalyzer("german");
  const std::string text =
      "H\u00e4user stra\u00dfen \u4e2d\u56fd und b\u00e4ume";
  const auto expected = TokensOf(*analyzer, text);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < 300; ++i) {
        EXPECT_EQ(TokensOf(*analyzer, text), expected);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(AnalyzerTest, EmptyTextHasNoTokens) {
  for (const std::string& name : AnalyzerNames()) {
    EXPECT_THAT(TermsOf(*MakeAnalyzer(name), ""), IsEmpty()) << name;
  }
  EXPECT_THAT(TermsOf(*MakeAnalyzer("english"), " \n. ,\u3000\u2026"),
              IsEmpty());
}

TEST(AnalyzerTest, LongWordsAreLeftOutAndCount) {
  for (const std::string& letter : {std::string("a"), std::string("\u0436")}) {
    const auto analyzer = MakeAnalyzer("standard");
    const std::string most(255 / letter.size() * letter.size(), ' ');
    std::string word;
    while (word.size() < most.size()) word += letter;
    EXPECT_THAT(TermsOf(*analyzer, word), ElementsAre(word));
    std::string huge;
    while (huge.size() < (size_t{1} << 20)) huge += letter;
    for (const std::string& text : {word + letter, huge}) {
      const auto tokens = TokensOf(*analyzer, absl::StrCat("x ", text, " y"));
      ASSERT_EQ(tokens.size(), 2u);
      EXPECT_EQ(tokens[1].term, "y");
      EXPECT_EQ(tokens[1].position, 2u);
      for (const std::string& name : AnalyzerNames()) {
        EXPECT_THAT(TermsOf(*MakeAnalyzer(name), text), IsEmpty()) << name;
      }
    }
  }
}

TEST(AnalyzerTest, OptionsChangeTokens) {
  AnalyzerSpec spec = {.name = "english", .stemmer = "none"};
  EXPECT_THAT(TermsOf(*MakeAnalyzer(spec), "The Foxes run"),
              ElementsAre("foxes", "run"));
  spec.remove_stop_words = false;
  spec.extra_stop_words = {"RUN"};
  spec.min_token_chars = 4;
  EXPECT_THAT(TermsOf(*MakeAnalyzer(spec), "The Foxes run"),
              ElementsAre("foxes"));
  spec = {.name = "standard", .language = "english", .stemmer = "english"};
  EXPECT_THAT(TermsOf(*MakeAnalyzer(spec), "the dog's foxes"),
              ElementsAre("the", "dog", "fox"));
  spec = {.name = "standard", .fold_case = false, .max_token_bytes = 3};
  EXPECT_THAT(TermsOf(*MakeAnalyzer(spec), "Ab ABCD \uff21"),
              ElementsAre("Ab", "A"));
  spec = {.name = "german", .fold_diacritics = true};
  EXPECT_EQ(TermsOf(*MakeAnalyzer(spec), "M\u00fcller f\u00fcr"),
            TermsOf(*MakeAnalyzer(spec), "Muller fur"));
}

TEST(AnalyzerTest, RefusesSpecsThatMeanNothing) {
  const std::vector<std::pair<AnalyzerSpec, std::string>> cases = {
      {{.name = "klingon"}, "no analyzer is named 'klingon'; there are arabic"},
      {{.name = ""}, "no analyzer is named ''"},
      {{.version = 2}, "version 2 is not known"},
      {{.version = 0}, "version 0 is not known"},
      {{.language = "latin"}, "the language 'latin' is not known"},
      {{.name = "german", .language = "english"}, "is a language itself"},
      {{.stemmer = "lancaster"}, "no stemmer is named 'lancaster'"},
      {{.remove_stop_words = true}, "remove_stop_words needs a language"},
      {{.fold_case = false, .stemmer = "porter"}, "set fold_case"},
      {{.fold_case = false, .extra_stop_words = {"a"}}, "set fold_case"},
      {{.min_token_chars = 0}, "min_token_chars is 0"},
      {{.max_token_bytes = 0}, "max_token_bytes is 0"},
      {{.max_token_bytes = 256}, "max_token_bytes is 256"},
      {{.extra_stop_words = {""}}, "a word of extra_stop_words is empty"},
      {{.extra_stop_words = {"\xff"}}, "not UTF-8"},
      {{.extra_stop_words = std::vector<std::string>(1001, "a")}, "1001"}};
  for (const auto& [spec, message] : cases) {
    const auto analyzer = Analyzer::Make(spec);
    EXPECT_EQ(analyzer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(analyzer.status().message()), HasSubstr(message));
  }
}

TEST(ValidateTextTest, NamesTheByteThatIsNoText) {
  EXPECT_TRUE(ValidateText("").ok());
  EXPECT_TRUE(ValidateText("caf\u00e9 \U0001F600").ok());
  for (const char* bad : {"ab\xff", "ab\xc3", "ab\xed\xa0\x80", "ab\xc0\x80"}) {
    const absl::Status status = ValidateText(bad);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("at offset 2 (0x"));
  }
  EXPECT_THAT(
      std::string(
          ValidateText(std::string(kMaxAnalyzedTextBytes + 1, 'a')).message()),
      HasSubstr("at most 67108864 are allowed"));
}

}  // namespace
}  // namespace vicinal
