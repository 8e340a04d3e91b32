#include "src/text/text_query.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace vicinal {
namespace {

using Kind = TextClause::Kind;
using Occur = TextClause::Occur;

TextClause Clause(Kind kind, Occur occur, std::string text, float boost = 1) {
  return {.kind = kind,
          .occur = occur,
          .boost = boost,
          .text = std::move(text),
          .children = {}};
}

TEST(TextQueryTest, PartsStandBetweenSpaces) {
  EXPECT_EQ(
      *ParseTextExpression("red car"),
      (std::vector<TextClause>{Clause(Kind::kWords, Occur::kShould, "red"),
                               Clause(Kind::kWords, Occur::kShould, "car")}));
}

TEST(TextQueryTest, OperatorsSayHowPartsCount) {
  EXPECT_EQ(*ParseTextExpression(R"(+red -"old car" pre* x^2.5 "a b"^3)"),
            (std::vector<TextClause>{
                Clause(Kind::kWords, Occur::kMust, "red"),
                Clause(Kind::kPhrase, Occur::kMustNot, "old car"),
                Clause(Kind::kPrefix, Occur::kShould, "pre"),
                Clause(Kind::kWords, Occur::kShould, "x", 2.5f),
                Clause(Kind::kPhrase, Occur::kShould, "a b", 3)}));
}

TEST(TextQueryTest, GroupsAreQueriesOfTheirOwn) {
  const auto parsed = *ParseTextExpression("+(a -b (c d))^2 e");
  ASSERT_EQ(parsed.size(), 2u);
  EXPECT_EQ(parsed[0].kind, Kind::kGroup);
  EXPECT_EQ(parsed[0].occur, Occur::kMust);
  EXPECT_EQ(parsed[0].boost, 2);
  ASSERT_EQ(parsed[0].children.size(), 3u);
  EXPECT_EQ(parsed[0].children[1].occur, Occur::kMustNot);
  EXPECT_EQ(parsed[0].children[2].children.size(), 2u);
}

TEST(TextQueryTest, OperatorsWithinWordsAndBehindBackslashesAreText) {
  EXPECT_EQ(*ParseTextExpression(R"(wi-fi c++ \+1 a\"b \(x\) "say \"hi\"")"),
            (std::vector<TextClause>{
                Clause(Kind::kWords, Occur::kShould, "wi-fi"),
                Clause(Kind::kWords, Occur::kShould, "c++"),
                Clause(Kind::kWords, Occur::kShould, "+1"),
                Clause(Kind::kWords, Occur::kShould, "a\"b"),
                Clause(Kind::kWords, Occur::kShould, "(x)"),
                Clause(Kind::kPhrase, Occur::kShould, "say \"hi\"")}));
}

TEST(TextQueryTest, WhatIsNoExpressionIsRefusedWithItsPlace) {
  const std::string deep(17, '(');
  const std::string at = "at byte ";
  for (const std::string& text :
       {std::string(""),       std::string("   "),       std::string("+"),
        std::string("- a"),    std::string("\"open"),    std::string("(open"),
        std::string("close)"), std::string("()"),        std::string("*"),
        std::string("+*"),     std::string("^2"),        std::string("a^"),
        std::string("a^0"),    std::string("a^-1"),      std::string("a^nan"),
        std::string("a^1e9"),  std::string("a^1001"),    std::string("a*b"),
        std::string("\"a\"b"), std::string("(a)b"),      std::string("\\"),
        std::string("-a -b"),  std::string("+(-a) b"),   deep,
        std::string("\xFF"),   std::string("a \xC0\x80")}) {
    const absl::Status status = ParseTextExpression(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), at)) << status;
  }
}

TEST(TextQueryTest, SizesAreLimited) {
  EXPECT_TRUE(ParseTextExpression(std::string(kMaxTextQueryBytes, 'a')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      ParseTextExpression(std::string(kMaxTextQueryBytes + 1, 'a')).status()));
  std::string many;
  for (size_t i = 0; i < kMaxTextClauses; ++i) many += "a ";
  EXPECT_TRUE(ParseTextExpression(many).ok());
  EXPECT_TRUE(
      absl::IsInvalidArgument(ParseTextExpression(many + "a").status()));
}

}  // namespace
}  // namespace vicinal
