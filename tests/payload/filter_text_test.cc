#include "src/payload/filter_text.h"

#include <cstddef>
#include <cstdint>
#include <limits>
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
      {"a NOT STARTS WITH 'x'", "NOT (a STARTS WITH \"x\")"},
      {"NOT (NOT (a = 1))", "NOT (NOT (a = 1))"},
      {"(a = 1 AND b = 2) AND c = 3", "(a = 1 AND b = 2) AND c = 3"},
      {"a = +5 OR a = 9223372036854775808",
       "a = 5 OR a = 9223372036854775808.0"},
      {"a = -9223372036854775808", "a = -9223372036854775808"},
      {"a = -0.0 OR a = 5e-324", "a = -0.0 OR a = 5e-324"},
      {R"(a = "\/\b\f\r\t\'\u0000")",
       R"(a = "/\u0008\u000c\u000d\u0009'\u0000")"},
      {"ID = 18446744073709551615", "ID IN (18446744073709551615)"},
      {"id = 7", "ID IN (7)"},
      {"ID = string('x')", "ID IN (\"x\")"},
      {"ID = STRING('6BA7B810-9dad-11d1-80b4-00c04fd430c8')",
       "ID IN (STRING(\"6BA7B810-9dad-11d1-80b4-00c04fd430c8\"))"},
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

TEST(FilterTextTest, BuildsTheNodesOfTheContract) {
  FilterNode node = ParseOrDie("a != 1");
  EXPECT_EQ(node.op, FilterNode::Op::kNotEqual);
  node = ParseOrDie("a IS NOT NULL");
  EXPECT_EQ(node.kind, Kind::kCompare);
  EXPECT_EQ(node.op, FilterNode::Op::kNotEqual);
  EXPECT_EQ(node.literals, std::vector<Literal>{nullptr});
  node = ParseOrDie("a.`b` NOT IN (1.0)");
  ASSERT_EQ(node.kind, Kind::kNot);
  EXPECT_EQ(node.children[0].kind, Kind::kIn);
  EXPECT_EQ(node.children[0].path, "a.b");
  EXPECT_EQ(node.children[0].literals, std::vector<Literal>{1.0});
  EXPECT_EQ(ParseOrDie("a = 1 OR b = 2 OR c = 3").children.size(), 3u);
  node = ParseOrDie("ID = '6BA7B810-9dad-11d1-80b4-00c04fd430c8'");
  EXPECT_TRUE(node.ids.at(0).is_uuid());
  EXPECT_TRUE(ParseOrDie("ID = '7'").ids.at(0).is_string());
  node = ParseOrDie("GEO_RADIUS(p.q, 1, -2.5, 3e2)");
  EXPECT_EQ(node.points[0].lon, -2.5);
  EXPECT_EQ(node.meters, 300);
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
  EXPECT_EQ(FilterToText(ParseOrDie("x IN $n OR x CONTAINS ALL ($n, 2)",
                                    {{"n", {{int64_t{5}}, false}}})),
            "x IN (5) OR x CONTAINS ALL (5, 2)");
}

TEST(FilterTextTest, ChecksWhatParametersHold) {
  const auto error_of = [](absl::string_view text, Literal value,
                           bool is_list) {
    return ErrorOf(text, {{"p", {{std::move(value)}, is_list}}});
  };
  EXPECT_EQ(error_of("a = $p", "x\xff", false),
            "filter, position 5: a string is not UTF-8 at byte 2; encode it "
            "as UTF-8");
  EXPECT_EQ(error_of("a IN $p", "\xff", true),
            "filter, position 6: a string is not UTF-8 at byte 1; encode it "
            "as UTF-8");
  EXPECT_EQ(error_of("a = $p", std::numeric_limits<double>::quiet_NaN(), false),
            "filter, position 5: the number nan is not finite");
  EXPECT_EQ(error_of("a IN $p", std::numeric_limits<double>::infinity(), true),
            "filter, position 6: the number inf is not finite");
  EXPECT_EQ(error_of("a < $p", nullptr, false),
            "filter, position 5: NULL cannot be here; write IS NULL or IS NOT "
            "NULL");
  EXPECT_EQ(error_of("a IN $p", nullptr, true),
            "filter, position 6: a list cannot have NULL");
  EXPECT_EQ(error_of("ID = $p", int64_t{-1}, false),
            "filter, position 6: an id is an integer >= 0 or a string");
  EXPECT_EQ(error_of("GEO_RADIUS(a, $p, 0, 1)", true, false),
            "filter, position 15: a number is wanted here");
  EXPECT_EQ(error_of("a STARTS WITH $p", true, false),
            "filter, position 15: STARTS WITH wants a string");
  // An unused name is cut, between two characters.
  const std::string name(10'000, 'x');
  EXPECT_EQ(
      ErrorOf("", {{name, {{true}, false}}}),
      absl::StrCat("filter: parameter \"", name.substr(0, 32),
                   "\" is given but the filter has no $", name.substr(0, 32)));
}

TEST(FilterTextTest, TakesValidUtf8Only) {
  for (const absl::string_view good : {"\u00e4", "\u0800", "\ud7ff", "\ue000",
                                       "\uffff", "\U00010000", "\U0010ffff"}) {
    const FilterNode node =
        ParseOrDie(absl::StrCat("`", good, "` = '", good, "'"));
    EXPECT_EQ(node.path, std::string(good));
    EXPECT_EQ(node.literals, std::vector<Literal>{std::string(good)});
  }
  for (const absl::string_view bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff"}) {
    EXPECT_EQ(ErrorOf(absl::StrCat("a = 'x", bad, "'")).substr(0, 20),
              "filter, position 7: ");
    EXPECT_EQ(ErrorOf(absl::StrCat("`x", bad, "` = 1")).substr(0, 20),
              "filter, position 3: ");
  }
  EXPECT_EQ(ErrorOf("a = '\xff'"),
            "filter, position 6: byte 0xff is not UTF-8; encode the text as "
            "UTF-8");
}

TEST(FilterTextTest, ErrorsNameThePositionAndWhatWasExpected) {
  const std::pair<absl::string_view, absl::string_view> cases[] = {
      {"a", "position 2: expected an operator"},
      {"a =", "position 4: expected a value"},
      {"a = )",
       "position 5: expected a value: a string in quotes, a number, "
       "TRUE, FALSE, NULL or a $parameter, found \")\""},
      {"a = b", "position 5: expected a value"},
      {"a = 1 b = 2", "position 7: expected AND, OR or the end, found \"b\""},
      {"(a = 1", "position 7: expected \")\", found the end"},
      {"a = 1 AND", "position 10: expected the name of a field"},
      {"in = 1",
       "position 1: expected a condition (a field of this name is "
       "written in backquotes), found \"in\""},
      {"a NOT = 1", "position 7: expected IN, BETWEEN or STARTS WITH"},
      {"a IS 1", "position 6: expected NULL"},
      {"a STARTS WITH NULL", "position 15: NULL cannot be here"},
      {"a BETWEEN NULL AND 1", "position 11: NULL cannot be here"},
      {"a CONTAINS ALL (NULL)", "position 17: NULL cannot be here"},
      {"MATCH(a, NULL)", "position 10: NULL cannot be here"},
      {"a < NULL", "position 5: NULL cannot be here"},
      {"a IN (NULL)", "position 7: NULL cannot be here"},
      {"a IN (1 2)", "position 9: expected \",\", found \"2\""},
      {"a CONTAINS (1)", "position 12: expected ANY or ALL"},
      {"a STARTS WITH 1", "position 15: STARTS WITH wants a string"},
      {"a BETWEEN 1 OR 2", "position 13: expected AND"},
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
      {"a.in = 1",
       "position 3: expected the name of a field (of this name: in "
       "backquotes), found \"in\""},
      {"`a.b` = 1",
       "position 1: expected a name that is not empty and has no dot, found "
       "`a.b`"},
      {"a = 1 'x'", "position 7: expected AND, OR or the end, found 'x'"},
      {"a[b = 1", "position 8: expected \"]\", found the end"},
      {"a[]", "position 3: expected the name of a field, found \"]\""},
      {"EXISTS a", "position 8: expected \"(\", found \"a\""},
      {"MATCH(a 'x')", "position 9: expected \",\", found 'x'"},
      {"a STARTS 'x'", "position 10: expected WITH, found 'x'"},
      {"a = +-5", "position 5: \"+-5\" is no number"},
      {"a = -inf", "position 5: \"-inf\" is no number"},
      {"a = 1e-999", "position 5: \"1e-999\" is no number"},
      {"a = '\\udc00'", "position 6: half of a surrogate pair"},
      {"a = '\\ud800\\u0041'", "position 6: half of a surrogate pair"},
      {"a = '\\", "position 6: an unknown escape"},
      {"a = $1", "position 5: a character that has no meaning here: $"},
      {"a ! 1", "position 3: a character that has no meaning here: !"},
      {"`` = 1", "position 1: expected a name that is not empty"},
      {"ID < 3", "position 4: expected =, != or IN"},
      {"ID = -1", "position 6: an id is an integer >= 0 or a string"},
      {"ID = ''", "position 6: "},
      {"ID = STRING('')", "position 6: The string id is empty"},
      {"ID = STRING(7)", "position 6: STRING wants a string"},
      {"ID = STRING 'x'", "position 13: expected \"(\""},
      {"ID = 1.0", "position 6: an id is an integer >= 0 or a string"},
      {"ID = 18446744073709551616", "position 6: an id is an integer >= 0"},
      {"ID IN ()", "position 8: expected a value"},
      {"ID IN (1,)", "position 10: expected a value"},
      {"GEO_RADIUS(p, 0, -181, 1)", "position 1: a longitude is -181; it must"},
      {"GEO_BOX(p, 1, 2, 3)", "position 1: GEO_BOX wants south, west, north"},
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

TEST(FilterTextTest, TakesEachLimitAndNotOnePast) {
  const FilterLimits limits{.max_depth = 4,
                            .max_nodes = 5,
                            .max_literals = 10,
                            .max_path_bytes = 4,
                            .max_literal_bytes = 4,
                            .max_corners = 4,
                            .max_text_bytes = 100};
  struct Case {
    std::string at_limit, past_it, error;
  };
  const std::string deep = "nested deeper than 4; flatten it";
  const std::string nodes =
      "more than 5 conditions; use IN for many values of one field";
  const std::string values =
      "more than 10 values and ids, each use of a list counted";
  const Case cases[] = {
      {"(((a = 1)))", "((((a = 1))))", ", position 5: " + deep},
      {"NOT NOT NOT a = 1", "NOT NOT NOT NOT a = 1", ", position 17: " + deep},
      {"NOT (NOT (NOT (a = 1)))", "NOT (NOT (NOT (NOT (a = 1))))",
       ", position 21: " + deep},
      {"a[b[c[d = 1]]]", "a[b[c[d[e = 1]]]]", ", position 9: " + deep},
      {"a = 1 OR a = 1 OR a = 1 OR a = 1",
       "a = 1 OR a = 1 OR a = 1 OR a = 1 OR a = 1", ", position 37: " + nodes},
      {"a NOT IN () OR ID = 1 OR b = 1", "a NOT IN () OR ID != 1 OR b = 1",
       ", position 27: " + nodes},
      {"a IN (1,2,3,4,5,6,7,8,9,0)", "a IN (1,2,3,4,5,6,7,8,9,0,1)",
       ", position 27: " + values},
      {"a IN (1,2,3,4,5,6,7,8,9) AND b = 1",
       "a IN (1,2,3,4,5,6,7,8,9) AND b IN (1,2)", ", position 38: " + values},
      {"ID IN (1,2,3,4,5,6,7,8,9,0)", "ID IN (1,2,3,4,5,6,7,8,9,0,1)",
       ", position 28: " + values},
      {"a.bc = 1", "a.bcd = 1",
       ", position 1: a path of 5 bytes; at most 4 are allowed"},
      {"a = 'four'", "a = 'fives'",
       ", position 5: a string of 5 bytes; at most 4 are allowed"},
      {"GEO_POLYGON(a, 0,0, 0,1, 1,1, 1,0)",
       "GEO_POLYGON(a, 0,0, 0,1, 1,1, 1,0, 2,2)",
       ", position 1: a polygon has 5 corners; it must be 3 to 4"},
      {std::string(100, ' '), std::string(101, ' '),
       ": has 101 bytes; at most 100 are allowed: pass long lists as "
       "parameters"},
  };
  for (const Case& c : cases) {
    const auto taken = ParseFilter(c.at_limit, {}, limits);
    EXPECT_TRUE(taken.ok()) << taken.status();
    EXPECT_EQ(ErrorOf(c.past_it, {}, limits), "filter" + c.error);
  }
  // Nodes count that are not nested in the text.
  EXPECT_TRUE(ParseFilter("TRUE OR TRUE AND b = 1", {}, {.max_depth = 3}).ok());
  EXPECT_EQ(ErrorOf("TRUE OR TRUE AND b NOT IN ()", {}, {.max_depth = 3}),
            "filter, position 1: nested deeper than 3; flatten it");
  const std::vector<Literal> eleven(11, Literal(true));
  EXPECT_EQ(ErrorOf("a IN $p", {{"p", {eleven, true}}}, limits),
            "filter, position 6: " + values);
  EXPECT_EQ(ErrorOf("a IN $p AND b IN $p",
                    {{"p", {{Literal("aa"), Literal("bb")}, true}}},
                    {.max_string_bytes = 7}),
            "filter, position 18: more than 7 bytes of strings, each use of a "
            "list counted");
  EXPECT_EQ(ErrorOf("a IN $p", {{"p", {{Literal("fives")}, true}}}, limits),
            "filter, position 6: a string of 5 bytes; at most 4 are allowed");
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
