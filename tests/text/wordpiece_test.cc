// WordPiece gives the published tokens of 13,776 queries, reads anything, and
// refuses vocabularies that are none.
#include "src/text/wordpiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "src/base/random.h"
#include "tests/text/text_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::string_view kSmall =
    R"({"[PAD]": 1, "[UNK]": 1.0, "[CLS]": 1, "un": 2.5, "##aff": 3, "##able": 4,
        "able": 0, "the": 0.125, ",": 0.5, "#": 1, "##": 1, "\u4e2d": 6,
        "\u00df": 7, "cafe": 8})";

WordPieceVocabulary Small() {
  return *WordPieceVocabulary::FromIdfJson(kSmall);
}

std::vector<std::string> Pieces(const WordPieceVocabulary& vocabulary,
                                absl::string_view text) {
  std::vector<std::string> pieces;
  for (const uint32_t id : vocabulary.Tokenize(text)) {
    pieces.emplace_back(vocabulary.token(id));
  }
  return pieces;
}

TEST(WordPieceTest, TakesTheLongestTokens) {
  const WordPieceVocabulary vocabulary = Small();
  EXPECT_THAT(Pieces(vocabulary, "Unaffable, the\tunable"),
              ElementsAre("un", "##aff", "##able", ",", "the", "un", "##able"));
  EXPECT_THAT(Pieces(vocabulary, "unaffx thex ##aff"),
              ElementsAre("[UNK]", "[UNK]", "#", "#", "[UNK]"));
  EXPECT_THAT(Pieces(vocabulary, "the\u4e2dthe\u00a0\u00df\u3000the"),
              ElementsAre("the", "\u4e2d", "the", "\u00df", "the"));
  EXPECT_THAT(Pieces(vocabulary,
                     "CAF\u00c9 cafe\u0301 ca\u00adfe ca\x01"
                     "fe"),
              ElementsAre("cafe", "cafe", "cafe", "cafe"));
  EXPECT_THAT(Pieces(vocabulary, ""), ElementsAre());
  EXPECT_THAT(Pieces(vocabulary, "[CLS]"),
              ElementsAre("[UNK]", "[UNK]", "[UNK]"));
}

TEST(WordPieceTest, WordsOfMoreThan100CharactersAreUnknown) {
  const auto vocabulary =
      WordPieceVocabulary::FromVocabulary("[UNK]\na\n##a\n\u00df\n##\u00df\n");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  for (const char* letter : {"a", "\u00df"}) {
    std::string word;
    for (size_t i = 0; i < 100; ++i) word += letter;
    EXPECT_EQ(vocabulary->Tokenize(word).size(), 100u);
    EXPECT_THAT(vocabulary->Tokenize(word + letter), ElementsAre(0u));
    std::string huge;
    while (huge.size() < (size_t{1} << 20)) huge += letter;
    EXPECT_THAT(vocabulary->Tokenize(huge + " a"), ElementsAre(0u, 1u));
  }
}

TEST(WordPieceTest, QueriesHaveEachTokenOnce) {
  const TokenWeights query =
      Small().EncodeQuery("the unable, unaffable \u4e2d xyz able the [CLS]");
  EXPECT_THAT(query.ids, ElementsAre(3u, 4u, 5u, 7u, 8u, 11u));
  EXPECT_THAT(query.weights, ElementsAre(2.5f, 3, 4, 0.125f, 0.5f, 6));
}

TEST(WordPieceTest, BytesOfAnyKindAreRead) {
  const WordPieceVocabulary vocabulary = Small();
  Random random(5);
  for (size_t i = 0; i < 2000; ++i) {
    std::string text;
    for (size_t n = random.Uniform(200); n > 0; --n) {
      text += static_cast<char>(random.Uniform(256));
    }
    for (const uint32_t id : vocabulary.Tokenize(text)) {
      ASSERT_LT(id, vocabulary.size());
    }
  }
}

TEST(WordPieceTest, RefusesVocabulariesThatAreNone) {
  const std::string long_token(256, 'a');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not JSON at byte 1"},
      {"{\"[UNK]\": 1", "not JSON at byte 12"},
      {"{\"[UNK]\": 1} x", "not JSON"},
      {"{\"[UNK]\": NaN}", "not JSON"},
      {"{\"[UNK]\": 1e999}", "not JSON"},
      {"{\"[UNK]\": 1, \"\xff\": 1}", "not JSON"},
      {"[1]", "it is an array; it must be an object"},
      {"1", "it is a number; it must be an object"},
      {"null", "it is null"},
      {"{}", "it has no token [UNK]"},
      {"{\"a\": 1}", "it has no token [UNK]"},
      {"{\"[UNK]\": \"1\"}", "weight of token 0, '[UNK]', is a string"},
      {"{\"[UNK]\": [1]}", "is an array; it must be a number"},
      {"{\"[UNK]\": {\"a\": 1}}", "is an object; it must be a number"},
      {"{\"[UNK]\": null}", "is null; it must be a number"},
      {"{\"[UNK]\": 1, \"a\": -0.5}", "token 1, 'a', is -0.5; it must be from"},
      {"{\"[UNK]\": 1, \"a\": 1e7}", "token 1, 'a', is 1e+07"},
      {"{\"[UNK]\": 1, \"a\": 2, \"a\": 2}", "token 2, 'a', is there twice"},
      {"{\"[UNK]\": 1, \"\": 2}", "token 1 is empty"},
      {absl::StrCat("{\"[UNK]\": 1, \"", long_token, "\": 2}"),
       "has 256 bytes; at most 255"}};
  for (const auto& [json, message] : cases) {
    const auto vocabulary = WordPieceVocabulary::FromIdfJson(json);
    EXPECT_EQ(vocabulary.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(vocabulary.status().message()), HasSubstr(message))
        << json;
  }
  const std::vector<std::pair<std::string, std::string>> line_cases = {
      {"", "token 0 is empty"},
      {"[UNK]\n\na\n", "token 1 is empty"},
      {"[UNK]\na\na\n", "token 2, 'a', is there twice"},
      {"a\n", "it has no token [UNK]"},
      {"[UNK]\n\xff\n", "token 1 is not UTF-8 from its byte 0 on"},
      {std::string(kMaxVocabularyBytes + 1, 'a'), "at most 67108864"}};
  for (const auto& [lines, message] : line_cases) {
    const auto vocabulary = WordPieceVocabulary::FromVocabulary(lines);
    EXPECT_EQ(vocabulary.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(vocabulary.status().message()), HasSubstr(message));
  }
}

TEST(WordPieceTest, RefusesTooManyTokens) {
  std::string lines = "[UNK]";
  for (size_t i = 0; i < kMaxVocabularyTokens; ++i) {
    absl::StrAppend(&lines, "\n", i);
  }
  const auto vocabulary = WordPieceVocabulary::FromVocabulary(lines);
  EXPECT_THAT(std::string(vocabulary.status().message()),
              HasSubstr("more than 1000000 tokens"));
  lines = "[UNK]\n";
  for (size_t i = 0; i < 80'000; ++i) {
    absl::StrAppend(&lines, i, std::string(230, 'a'), "\n");
  }
  EXPECT_THAT(
      std::string(
          WordPieceVocabulary::FromVocabulary(lines).status().message()),
      HasSubstr("bytes in all; at most 16777214"));
}

TEST(WordPieceTest, LinesMayEndAsOnWindows) {
  const auto vocabulary =
      WordPieceVocabulary::FromVocabulary("[UNK]\r\na\r\n##b\r\n");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_THAT(Pieces(*vocabulary, "ab"), ElementsAre("a", "##b"));
  EXPECT_EQ(vocabulary->weight(1), 1);
}

// The published vocabulary; empty when it is not there.
std::optional<WordPieceVocabulary> Published() {
  const auto json = ReadSharedText("idf.json.gz");
  if (!json.has_value()) return std::nullopt;
  auto vocabulary = WordPieceVocabulary::FromIdfJson(*json);
  EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
  return *std::move(vocabulary);
}

std::vector<std::pair<std::string, std::string>> ReadTopics(
    absl::string_view set, absl::string_view suffix) {
  const auto tsv = ReadSharedText(absl::StrCat(
      "golden-wordpiece/topics.beir-v1.0.0-", set, ".test", suffix, ".tsv.gz"));
  std::vector<std::pair<std::string, std::string>> topics;
  if (!tsv.has_value()) return topics;
  for (const absl::string_view line :
       absl::StrSplit(*tsv, '\n', absl::SkipEmpty())) {
    topics.push_back(absl::StrSplit(line, absl::MaxSplits('\t', 1)));
  }
  return topics;
}

constexpr const char* kSets[] = {
    "arguana", "fiqa",    "nfcorpus",   "quora",
    "scidocs", "scifact", "trec-covid", "webis-touche2020"};

TEST(WordPieceSharedTest, GivesThePublishedTokens) {
  const auto vocabulary = Published();
  if (!vocabulary.has_value()) GTEST_SKIP() << "no ../shared/data/ir";
  EXPECT_EQ(vocabulary->size(), 30'522u);
  EXPECT_EQ(vocabulary->token(1996), "the");
  size_t num_same = 0;
  for (const char* set : kSets) {
    // The pairs are in another order.
    std::map<std::string, std::string> expected;
    for (auto& [id, pieces] : ReadTopics(set, ".wp")) expected[id] = pieces;
    for (const auto& [id, text] : ReadTopics(set, "")) {
      std::vector<std::string> wanted =
          absl::StrSplit(expected[id], ' ', absl::SkipEmpty());
      ASSERT_EQ(Pieces(*vocabulary, text), wanted) << set << " " << id;
      ++num_same;
    }
  }
  EXPECT_EQ(num_same, 13'776u);
}

// Prints only, in CPU time: machines differ.
TEST(WordPieceSharedTest, Speed) {
  const auto vocabulary = Published();
  if (!vocabulary.has_value()) GTEST_SKIP() << "no ../shared/data/ir";
  std::vector<std::string> texts;
  size_t num_bytes = 0;
  for (const char* set : kSets) {
    for (auto& [id, text] : ReadTopics(set, "")) {
      num_bytes += text.size();
      texts.push_back(std::move(text));
    }
  }
  size_t num_tokens = 0;
  const auto start = std::clock();
  for (const std::string& text : texts) {
    vocabulary->Tokenize(text, [&](uint32_t) { ++num_tokens; });
  }
  const double seconds =
      static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%zu tokens, %.1f million tokens/s, %.1f MB/s\n", num_tokens,
              static_cast<double>(num_tokens) / 1e6 / seconds,
              static_cast<double>(num_bytes) / 1e6 / seconds);
}

}  // namespace
}  // namespace vicinal
