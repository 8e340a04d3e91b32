#include "src/payload/filter_text.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace vicinal {
namespace {

using Kind = FilterNode::Kind;

FilterNode ParseOrDie(absl::string_view text,
                      const FilterParameters& parameters = {}) {
  auto node = ParseFilter(text, parameters);
  EXPECT_TRUE(node.ok()) << text << ": " << node.status();
  return node.ok() ? *std::move(node) : FilterNode();
}

std::string ErrorOf(absl::string_view text,
                    const FilterParameters& parameters = {},
                    const FilterLimits& limits = {}) {
  const auto node = ParseFilter(text, parameters, limits);
  if (node.ok()) return "parsed as " + FilterToText(*node);
  EXPECT_EQ(node.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(node.status().message());
}

// What is written, and what it means in the plainest form.
TEST(FilterTextTest, EveryProductionRoundTrips) {
  const std::pair<absl::string_view, absl::string_view> cases[] = {
      {"", "TRUE"},
      {"  true ", "TRUE"},
      {"a = 1", "a = 1"},
      {"a == 1.0", "a = 1.0"},
      {"a<>-3", "a != -3"},
      {"a >= .5", "a >= 0.5"},
      {"a > 1e3", "a > 1000.0"},
      {"a < 99999999999999999999", "a < 1e+20"},
      {"a.b.c = 'x'", "a.b.c = \"x\""},
      {"`a b`.`in`.c-d = \"it's\"", "`a b`.`in`.c-d = \"it's\""},
      {"`x``y` = 'it''s'", "`x``y` = \"it's\""},
      {R"(a = "\u00e4\ud83d\ude00\n\"")",
       "a = \"\u00e4\U0001F600\\u000a\\\"\""},
      {"a IS NULL", "a = NULL"},
      {"a is not null", "a != NULL"},
      {"a = null", "a = NULL"},
      {"a IN ()", "a IN ()"},
      {"a NOT IN (1, 'b', true)", "NOT (a IN (1, \"b\", TRUE))"},
      {"a BETWEEN 1 AND 2 AND b = 3", "a BETWEEN 1 AND 2 AND b = 3"},
      {"a NOT BETWEEN 1 AND 2", "NOT (a BETWEEN 1 AND 2)"},
      {"a STARTS WITH 'x'", "a STARTS WITH \"x\""},
      {"a CONTAINS ANY (1, 2)", "a IN (1, 2)"},
      {"a contains all (1)", "a CONTAINS ALL (1)"},
      {"EXISTS(a.b)", "EXISTS(a.b)"},
      {"items[price > 5 AND color = 'red']",
       "items[price > 5 AND color = \"red\"]"},
      {"a = 1 OR b = 2 AND NOT c = 3", "a = 1 OR (b = 2 AND NOT (c = 3))"},
      {"(a = 1 OR b = 2) AND c = 3", "(a = 1 OR b = 2) AND c = 3"},
      {"a = 1 AND b = 2 AND c = 3", "a = 1 AND b = 2 AND c = 3"},
      {"id = 7", "ID IN (7)"},
      {"ID != 'x'", "NOT (ID IN (\"x\"))"},
      {"ID NOT IN (1, '6ba7b810-9dad-11d1-80b4-00c04fd430c8')",
       "NOT (ID IN (1, \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"))"},
      {"GEO_RADIUS(p, 52.5, 13, 1000)", "GEO_RADIUS(p, 52.5, 13.0, 1000.0)"},
      {"GEO_BOX(p, -1, 170, 1, -170)", "GEO_BOX(p, -1.0, 170.0, 1.0, -170.0)"},
      {"geo_polygon(p, 0, 0, 0, 1, 1, 0)",
       "GEO_POLYGON(p, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)"},
      {"MATCH(body, 'good news')", "MATCH(body, \"good news\")"},
  };
  for (const auto& [text, plain] : cases) {
    const std::string once = FilterToText(ParseOrDie(text));
    EXPECT_EQ(once, plain) << text;
    EXPECT_EQ(FilterToText(ParseOrDie(once)), once);
  }
}

TEST(FilterTextTest, AndBindsCloserThanOr) {
  const FilterNode node = ParseOrDie("a = 1 OR b = 2 AND c = 3 OR d = 4");
  ASSERT_EQ(node.kind, Kind::kOr);
  ASSERT_EQ(node.children.size(), 3u);
  EXPECT_EQ(node.children[1].kind, Kind::kAnd);
}

TEST(FilterTextTest, TakesParameters) {
  const FilterParameters parameters = {
      {"limit", {{Literal(int64_t{5})}, false}},
      {"tags", {{Literal("a"), Literal("b")}, true}}};
  const FilterNode node =
      ParseOrDie("price < $limit AND tag IN $tags AND x = $limit", parameters);
  EXPECT_EQ(FilterToText(node),
            "price < 5 AND tag IN (\"a\", \"b\") AND x = 5");
  EXPECT_EQ(ErrorOf("a = $b"),
            "filter, position 5: there is no parameter \"b\"");
  EXPECT_EQ(ErrorOf("a = $tags AND b < $limit", parameters),
            "filter, position 5: $tags is a list; one value is wanted here");
  EXPECT_EQ(ErrorOf("a IN $tags", parameters),
            "filter: parameter \"limit\" is given but the filter has no "
            "$limit");
}

TEST(FilterTextTest, ErrorsNameThePositionAndWhatWasExpected) {
  const std::pair<absl::string_view, absl::string_view> cases[] = {
      {"a", "position 2: expected an operator"},
      {"a =", "position 4: expected a value"},
      {"a = )",
       "position 5: expected a value: a string in quotes, a number, "
       "TRUE, FALSE, NULL or a $parameter, found )"},
      {"a = b", "position 5: expected a value"},
      {"a = 1 b = 2", "position 7: expected AND, OR or the end, found b"},
      {"(a = 1", "position 7: expected \")\", found the end"},
      {"a = 1 AND", "position 10: expected the name of a field"},
      {"in = 1",
       "position 1: expected a condition (a field of this name is "
       "written in backquotes), found in"},
      {"a NOT = 1", "position 7: expected IN, BETWEEN or STARTS WITH"},
      {"a IS 1", "position 6: expected null"},
      {"a < NULL", "position 5: NULL cannot be here"},
      {"a IN (NULL)", "position 7: NULL cannot be here"},
      {"a IN (1 2)", "position 9: expected \",\", found 2"},
      {"a CONTAINS (1)", "position 12: expected ANY or ALL"},
      {"a STARTS WITH 1", "position 15: STARTS WITH wants a string"},
      {"a BETWEEN 1 OR 2", "position 13: expected and"},
      {"a = 'x", "position 5: this has no closing '"},
      {"a = \"\\q\"", "position 6: an unknown escape"},
      {"a = \"\\u12\"", "position 7: \\u wants four hexadecimal digits"},
      {"a = \"\\ud800\"", "position 6: half of a surrogate pair"},
      {"a = 1x", "position 5: \"1x\" is no number"},
      {"a = 1e999", "position 5: \"1e999\" is no number"},
      {"a = ; b", "position 5: a character that has no meaning here: ;"},
      {"a = \xff",
       "position 5: a character that has no meaning here: byte "
       "0xff"},
      {"a..b = 1", "position 3: expected the name of a field"},
      {"`` = 1", "position 1: expected a name that is not empty"},
      {"ID < 3", "position 4: expected =, != or IN"},
      {"ID = -1", "position 6: an id is an integer >= 0 or a string"},
      {"ID = ''", "position 6: "},
      {"GEO_RADIUS(p, 1, 2)", "position 1: GEO_RADIUS wants lat, lon, meters"},
      {"GEO_RADIUS(p, 91, 0, 1)",
       "position 1: a latitude is 91; it must be "
       "-90 to 90 degrees"},
      {"GEO_RADIUS(p, 0, 0, 0)", "position 1: a radius is 0 meters"},
      {"GEO_BOX(p, 2, 0, 1, 0)", "position 1: a box has its southern edge"},
      {"GEO_POLYGON(p, 0, 0, 1, 1)", "position 1: a polygon has 2 corners"},
      {"GEO_POLYGON(p, 0, 0, 1)", "position 1: GEO_POLYGON wants a lat"},
      {"GEO_BOX(p, 'x')", "position 12: a number is wanted here"},
  };
  for (const auto& [text, error] : cases) {
    const std::string found = ErrorOf(text);
    EXPECT_TRUE(absl::string_view(found).substr(0, 8 + error.size()) ==
                absl::StrCat("filter, ", error))
        << text << "\n  " << found << "\n  " << error;
  }
}

TEST(FilterTextTest, KeepsItsLimits) {
  const FilterLimits limits{.max_depth = 4,
                            .max_nodes = 5,
                            .max_literals = 3,
                            .max_path_bytes = 4,
                            .max_literal_bytes = 4,
                            .max_corners = 4,
                            .max_text_bytes = 100};
  const auto takes = [&](absl::string_view text) {
    return ParseFilter(text, {}, limits).ok();
  };
  EXPECT_TRUE(takes("(((a = 1)))"));
  EXPECT_FALSE(takes("((((a = 1))))"));
  EXPECT_TRUE(takes("NOT NOT NOT a = 1"));
  EXPECT_FALSE(takes("NOT NOT NOT NOT a = 1"));
  EXPECT_TRUE(takes("a = 1 OR a = 1 OR a = 1 OR a = 1"));
  EXPECT_FALSE(takes("a = 1 OR a = 1 OR a = 1 OR a = 1 OR a = 1"));
  EXPECT_TRUE(takes("a IN (1, 2, 3)"));
  EXPECT_FALSE(takes("a IN (1, 2, 3, 4)"));
  EXPECT_FALSE(takes("ID IN (1, 2, 3, 4)"));
  EXPECT_TRUE(takes("a.bc = 1"));
  EXPECT_FALSE(takes("a.bcd = 1"));
  EXPECT_TRUE(takes("a = 'four'"));
  EXPECT_FALSE(takes("a = 'fives'"));
  EXPECT_FALSE(takes("GEO_POLYGON(a, 0, 0, 0, 1, 1, 1, 1, 0, 2, 2)"));
  EXPECT_FALSE(takes(std::string(101, ' ')));
  // Hostile depth meets the limit, not the end of the stack.
  EXPECT_NE(ErrorOf(std::string(900'000, '(')).find("nested deeper than 32"),
            std::string::npos);
  std::string nots;
  for (int i = 0; i < 200'000; ++i) nots += "NOT ";
  EXPECT_NE(ErrorOf(nots).find("nested deeper than 32"), std::string::npos);
}

TEST(FilterTextTest, CutsWhatItQuotesBetweenCharacters) {
  std::string text = "a = 1 `";
  for (int i = 0; i < 20; ++i) text += "\u00e4";
  const std::string error = ErrorOf(text + "`");
  // A backquote and 15 characters of two bytes.
  EXPECT_EQ(error.size() - error.find('`'), 31u) << error;
}

}  // namespace
}  // namespace vicinal
