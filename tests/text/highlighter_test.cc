#include "src/text/highlighter.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/utf8.h"

namespace vicinal {
namespace {

std::unique_ptr<const Analyzer> Named(const std::string& name) {
  AnalyzerSpec spec;
  spec.name = name;
  return *Analyzer::Make(spec);
}

TextMatchers WordsOf(const Analyzer& analyzer, absl::string_view words) {
  TextMatchers matchers;
  analyzer.Analyze(words, [&](const Token& token) {
    matchers.words.insert(std::string(token.term));
  });
  return matchers;
}

std::string Marked(absl::string_view text, const TextPassage& passage) {
  std::string out;
  size_t at = passage.begin;
  for (const auto& [begin, end] : passage.matches) {
    absl::StrAppend(&out, text.substr(at, begin - at), "[",
                    text.substr(begin, end - begin), "]");
    at = end;
  }
  absl::StrAppend(&out, text.substr(at, passage.end - at));
  return out;
}

// The best passage, its matches in brackets.
std::string Best(const std::string& name, absl::string_view text,
                 absl::string_view words, size_t chars = 40) {
  const auto analyzer = Named(name);
  const auto passages =
      FindPassages(*analyzer, text, WordsOf(*analyzer, words), 1, chars);
  return passages.size() == 1 ? Marked(text, passages[0]) : "";
}

TEST(HighlighterTest, MarksWordsAsTheAnalyzerMatchesThem) {
  EXPECT_EQ(Best("english", "He was running fast.", "run", 100),
            "He was [running] fast.");
  EXPECT_EQ(Best("german", "Die Häuser am Fluss", "Haus", 100),
            "Die [Häuser] am Fluss");
  EXPECT_EQ(Best("standard", "CAFE\u0301 au lait", "café", 100),
            "[CAFE\u0301] au lait");
  EXPECT_EQ(Best("cjk", "東京大学に行く", "大学", 100), "東京[大学]に行く");
}

TEST(HighlighterTest, TakesThePassageWithTheMostDifferentWords) {
  const std::string text =
      "apple apple apple apple. Some words that say nothing at all stand "
      "here. Then an apple meets a pear in a bowl. And more of nothing.";
  const std::string best = Best("standard", text, "apple pear bowl", 50);
  EXPECT_EQ(best, "Then an [apple] meets a [pear] in a [bowl]. And more of");
}

TEST(HighlighterTest, SeveralPassagesComeInTheOrderOfTheText) {
  std::string text;
  for (int i = 0; i < 100; ++i) absl::StrAppend(&text, "word", i, " ");
  const auto analyzer = Named("standard");
  const auto passages = FindPassages(
      *analyzer, text, WordsOf(*analyzer, "word90 word5 word50"), 3, 30);
  ASSERT_EQ(passages.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(passages[i].matches.size(), 1u);
    if (i == 0) continue;
    EXPECT_GE(passages[i].begin, passages[i - 1].end);
  }
}

TEST(HighlighterTest, WordsOfAPhraseMatchTogetherOnly) {
  const auto analyzer = Named("standard");
  TextMatchers matchers;
  matchers.phrases.push_back({{"new", 0}, {"york", 1}});
  const std::string text = "a new day in york, in new york";
  const auto passages = FindPassages(*analyzer, text, matchers, 1, 100);
  ASSERT_EQ(passages.size(), 1u);
  EXPECT_EQ(Marked(text, passages[0]), "a new day in york, in [new] [york]");
}

TEST(HighlighterTest, PrefixesMatchWhatBeginsSo) {
  const auto analyzer = Named("standard");
  TextMatchers matchers;
  matchers.prefixes = {"auto"};
  const std::string text = "an automatic car";
  EXPECT_EQ(Marked(text, FindPassages(*analyzer, text, matchers, 1, 99)[0]),
            "an [automatic] car");
}

TEST(HighlighterTest, WithoutAMatchItIsTheBeginning) {
  EXPECT_EQ(Best("standard", "one two three four", "five", 8), "one two");
  EXPECT_EQ(Best("standard", "", "five"), "");
  EXPECT_EQ(Best("standard", "!!! ???", "five", 5), "!!! ?");
}

TEST(HighlighterTest, MatchesThatOverlapAreOne) {
  EXPECT_EQ(Best("cjk", "私は東京大学に行く", "東京大学", 100),
            "私は[東京大学]に行く");
}

TEST(HighlighterTest, ASentenceMayBeginWithAStopWord) {
  const std::string text =
      "Much was said before of other things. The house is on a hill, and "
      "nobody lives in it now or ever did since then";
  EXPECT_EQ(Best("english", text, "hill", 60),
            "The house is on a [hill], and nobody lives in it now or ever did");
}

TEST(HighlighterTest, NoPassageBeginsWithAnEndOfASentence) {
  EXPECT_EQ(Best("cjk", "一二三四五六七八九十。東京大学", "東京大学", 6),
            "[東京大学]");
}

TEST(HighlighterTest, StopWordsAndMarksDoNotMakeAPassageLong) {
  std::string text = "first ";
  for (int i = 0; i < 1000; ++i) text += "the of and ";
  text += "house ";
  for (int i = 0; i < 1000; ++i) text += "? ";
  EXPECT_EQ(Best("english", text, "house", 60), "[house]");
}

TEST(HighlighterTest, PassagesDoNotOverlap) {
  std::string text;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&text, "the cat and of a dog ");
  const auto analyzer = Named("english");
  for (const size_t chars : {5, 20, 31, 100}) {
    const auto passages =
        FindPassages(*analyzer, text, WordsOf(*analyzer, "cat dog"), 8, chars);
    EXPECT_EQ(passages.size(), 8u);
    for (size_t i = 1; i < passages.size(); ++i) {
      EXPECT_GE(passages[i].begin, passages[i - 1].end) << chars;
    }
  }
}

TEST(HighlighterTest, APrefixOfAPrefixIsEnough) {
  const auto analyzer = Named("standard");
  TextMatchers matchers;
  matchers.prefixes = {"car", "carpet", "cat", "a"};
  const std::string text = "carpool cab cat an zebra";
  EXPECT_EQ(Marked(text, FindPassages(*analyzer, text, matchers, 1, 99)[0]),
            "[carpool] cab [cat] [an] zebra");
}

TEST(HighlighterTest, NeverCutsACharacter) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "ภาษาไทยเป็นภาษา ";
  const auto analyzer = Named("standard");
  for (const size_t chars : {1, 7, 20, 33, 200}) {
    for (const auto& passage :
         FindPassages(*analyzer, text, WordsOf(*analyzer, "ภาษา"), 5, chars)) {
      const absl::string_view part = absl::string_view(text).substr(
          passage.begin, passage.end - passage.begin);
      EXPECT_EQ(FindBadUtf8(part), part.size());
      EXPECT_FALSE(passage.matches.empty());
    }
  }
}

TEST(HighlighterTest, LongTextsAndLongWordsDoNoHarm) {
  const auto analyzer = Named("english");
  std::string text;
  while (text.size() < 1'000'000) text += "some more of the same words ";
  EXPECT_EQ(
      FindPassages(*analyzer, text, WordsOf(*analyzer, "same words"), 3, 100)
          .size(),
      3u);
  const std::string word(1'000'000, 'x');
  EXPECT_EQ(
      FindPassages(*analyzer, word, WordsOf(*analyzer, "y"), 1, 100).size(),
      1u);
}

}  // namespace
}  // namespace vicinal
