// The typed form of filters means what the text means, and is refused by the
// path of the field that is wrong.
#include "server/filter_expression.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "google/protobuf/stubs/logging.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "server/convert_filter.h"
#include "src/base/random.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using v1::FilterExpression;

FilterExpression FromJson(absl::string_view json) {
  FilterExpression out;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), &out);
  EXPECT_TRUE(status.ok()) << json << "\n" << status.ToString();
  return out;
}

// The node as text, or the violation.
std::string Convert(const FilterExpression& expression,
                    const FilterLimits& limits = {}) {
  FieldViolations violations;
  const auto node = ParseExpression(expression, "filter", &violations, limits);
  if (node.has_value()) {
    EXPECT_TRUE(violations.empty());
    return FilterToText(*node);
  }
  EXPECT_EQ(violations.count(), 1u);
  return std::string(violations.ToStatus().message());
}
std::string Convert(absl::string_view json, const FilterLimits& limits = {}) {
  return Convert(FromJson(json), limits);
}

// Every node, and every literal.
constexpr std::pair<absl::string_view, absl::string_view> kSame[] = {
    {"TRUE", R"({"constant": true})"},
    {"FALSE", R"({"constant": false})"},
    {"a = 1", R"({"compare": {"path": "a", "op": "COMPARE_OP_EQUAL",
                              "value": {"intValue": 1}}})"},
    {"a.b != 'x'",
     R"({"compare": {"path": "a.b", "op": "COMPARE_OP_NOT_EQUAL",
                     "value": {"stringValue": "x"}}})"},
    {"a < 1.0", R"({"compare": {"path": "a", "op": "COMPARE_OP_LESS",
                                "value": {"doubleValue": 1}}})"},
    {"a <= -9223372036854775808",
     R"({"compare": {"path": "a", "op": "COMPARE_OP_LESS_EQUAL",
                     "value": {"intValue": "-9223372036854775808"}}})"},
    {"a > 5e-324", R"({"compare": {"path": "a", "op": "COMPARE_OP_GREATER",
                                   "value": {"doubleValue": 5e-324}}})"},
    {"a >= ''",
     R"({"compare": {"path": "a", "op": "COMPARE_OP_GREATER_EQUAL",
                     "value": {"stringValue": ""}}})"},
    {"a = FALSE", R"({"compare": {"path": "a", "op": "COMPARE_OP_EQUAL",
                                  "value": {"boolValue": false}}})"},
    {"a IS NULL", R"({"compare": {"path": "a", "op": "COMPARE_OP_EQUAL",
                                  "value": {"nullValue": null}}})"},
    {"a IS NOT NULL", R"({"compare": {"path": "a", "op": "COMPARE_OP_NOT_EQUAL",
                                      "value": {"nullValue": null}}})"},
    {"`a b`.`in`.`x``y` = 1",
     R"({"compare": {"path": "a b.in.x`y", "op": "COMPARE_OP_EQUAL",
                     "value": {"intValue": 1}}})"},
    {"a IN (1, 'b', TRUE, 2.5)",
     R"({"containsAny": {"path": "a", "values": [
           {"intValue": 1}, {"stringValue": "b"}, {"boolValue": true},
           {"doubleValue": 2.5}]}})"},
    {"a CONTAINS ANY ()", R"({"containsAny": {"path": "a"}})"},
    {"a CONTAINS ALL ('x', 'y')",
     R"({"containsAll": {"path": "a", "values": [{"stringValue": "x"},
                                                 {"stringValue": "y"}]}})"},
    {"a CONTAINS ALL ()", R"({"containsAll": {"path": "a"}})"},
    {"a BETWEEN 1 AND 2.5",
     R"({"between": {"path": "a", "low": {"intValue": 1},
                     "high": {"doubleValue": 2.5}}})"},
    {"a STARTS WITH 'x'", R"({"startsWith": {"path": "a", "prefix": "x"}})"},
    {"a STARTS WITH ''", R"({"startsWith": {"path": "a"}})"},
    {"EXISTS(a.b)", R"({"exists": {"path": "a.b"}})"},
    {"NOT EXISTS(a)", R"({"negated": {"exists": {"path": "a"}}})"},
    {"items[price > 5 AND color = 'red']",
     R"({"element": {"path": "items", "condition": {"allOf": {"operands": [
           {"compare": {"path": "price", "op": "COMPARE_OP_GREATER",
                        "value": {"intValue": 5}}},
           {"compare": {"path": "color", "op": "COMPARE_OP_EQUAL",
                        "value": {"stringValue": "red"}}}]}}}})"},
    {"GEO_RADIUS(p, 52.5, 13.4, 1000)",
     R"({"geoRadius": {"path": "p", "center": {"lat": 52.5, "lon": 13.4},
                       "meters": 1000}})"},
    {"GEO_RADIUS(p, 0, 0, .5)",
     R"({"geoRadius": {"path": "p", "center": {}, "meters": 0.5}})"},
    {"GEO_BOX(p, -10, 170, 10, -170)",
     R"({"geoBox": {"path": "p", "southWest": {"lat": -10, "lon": 170},
                    "northEast": {"lat": 10, "lon": -170}}})"},
    {"GEO_POLYGON(p, 0, 0, 0, 1, 1, 0)",
     R"({"geoPolygon": {"path": "p", "corners": [{}, {"lon": 1},
                                                 {"lat": 1}]}})"},
    {"ID IN (7, 18446744073709551615)",
     R"({"ids": {"numbers": ["7", "18446744073709551615"]}})"},
    {"ID = 'x'", R"({"ids": {"strings": ["x"]}})"},
    {"ID = STRING('6ba7b810-9dad-11d1-80b4-00c04fd430c8')",
     R"({"ids": {"strings": ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]}})"},
    {"ID IN (7, 'x', '6ba7b810-9dad-11d1-80b4-00c04fd430c8')",
     R"({"ids": {"ids": [{"number": 7}, {"string": "x"},
           {"uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}]}})"},
    {"ID NOT IN (1, 2)", R"({"negated": {"ids": {"numbers": [1, 2]}}})"},
    {"(EXISTS(a) OR EXISTS(b)) AND NOT (EXISTS(c) OR TRUE)",
     R"({"allOf": {"operands": [
           {"anyOf": {"operands": [{"exists": {"path": "a"}},
                                   {"exists": {"path": "b"}}]}},
           {"negated": {"anyOf": {"operands": [{"exists": {"path": "c"}},
                                               {"constant": true}]}}}]}})"},
};

TEST(FilterExpressionTest, MeansWhatTheTextMeans) {
  for (const auto& [text, json] : kSame) {
    const auto node = ParseFilter(text);
    ASSERT_TRUE(node.ok()) << node.status();
    EXPECT_EQ(Convert(json), FilterToText(*node));
  }
}

TEST(FilterExpressionTest, OperandsThatAreAloneAreThatOperand) {
  EXPECT_EQ(Convert(R"({"allOf": {"operands": [{"anyOf": {"operands": [
                          {"exists": {"path": "a"}}]}}]}})"),
            "(EXISTS(a))");
}

TEST(FilterExpressionTest, ErrorsNameThePathOfTheField) {
  const std::pair<absl::string_view, absl::string_view> cases[] = {
      {"{}", "filter: has no condition"},
      {R"({"negated": {}})", "filter.negated: has no condition"},
      {R"({"allOf": {}})", "filter.all_of.operands: is empty"},
      {R"({"anyOf": {"operands": []}})", "filter.any_of.operands: is empty"},
      {R"({"allOf": {"operands": [{"constant": true}, {"exists": {}}]}})",
       "filter.all_of.operands[1].exists.path: an empty path"},
      {R"({"exists": {"path": "a..b"}})",
       "filter.exists.path: the path \"a..b\" has an empty name"},
      {R"({"exists": {"path": ".a"}})", "filter.exists.path: the path"},
      {R"({"compare": {"path": "a", "value": {"intValue": 1}}})",
       "filter.compare.op: is 0; give one of vicinal.v1.CompareOp"},
      {R"({"compare": {"path": "a", "op": 7, "value": {"intValue": 1}}})",
       "filter.compare.op: is 7"},
      {R"({"compare": {"op": 1, "value": {"intValue": 1}}})",
       "filter.compare.path: an empty path"},
      {R"({"compare": {"path": "a", "op": 1}})",
       "filter.compare.value: has no value"},
      {R"({"compare": {"path": "a", "op": 1, "value": {"list": {}}}})",
       "filter.compare.value: is a list; give one value"},
      {R"({"compare": {"path": "a", "op": 3, "value": {"nullValue": null}}})",
       "filter.compare.value: is NULL"},
      {R"({"compare": {"path": "a", "op": 1, "value": {"doubleValue": "NaN"}}})",
       "filter.compare.value: the number nan is not finite"},
      {R"({"compare": {"path": "a", "op": 5,
                       "value": {"doubleValue": "-Infinity"}}})",
       "filter.compare.value: the number -inf is not finite"},
      {R"({"compare": {"path": "a", "op": 5, "value": {"boolValue": true}}})",
       "filter.compare: a is compared with a bool by an order"},
      {R"({"containsAny": {"path": "a", "values": [{"intValue": 1}, {}]}})",
       "filter.contains_any.values[1]: has no value"},
      {R"({"containsAll": {"path": "a", "values": [{"nullValue": null}]}})",
       "filter.contains_all.values[0]: is NULL"},
      {R"({"containsAll": {"path": "a", "values": [{"list": {}}]}})",
       "filter.contains_all.values[0]: is a list"},
      {R"({"between": {"path": "a", "low": {"intValue": 1}}})",
       "filter.between.high: has no value"},
      {R"({"between": {"path": "a", "low": {"nullValue": null}}})",
       "filter.between.low: is NULL"},
      {R"({"between": {"path": "a", "low": {"intValue": 1},
                       "high": {"stringValue": "x"}}})",
       "filter.between: BETWEEN of a has an integer and a string"},
      {R"({"startsWith": {"prefix": "x"}})",
       "filter.starts_with.path: an empty path"},
      {R"({"element": {"path": "a"}})",
       "filter.element.condition: has no condition"},
      {R"({"element": {"condition": {"constant": true}}})",
       "filter.element.path: an empty path"},
      {R"({"element": {"path": "a", "condition": {"negated": {
             "ids": {"numbers": [1]}}}}})",
       "filter.element.condition.negated.ids: stands in an element"},
      {R"({"element": {"path": "a", "condition": {"anyOf": {"operands": [
             {"element": {"path": "b", "condition": {"exists": {}}}}]}}}})",
       "filter.element.condition.any_of.operands[0].element.condition.exists"
       ".path: an empty path"},
      {R"({"geoRadius": {"path": "p", "meters": 1}})",
       "filter.geo_radius.center: is not set"},
      {R"({"geoRadius": {"path": "p", "center": {"lat": 91}, "meters": 1}})",
       "filter.geo_radius.center: a latitude is 91"},
      {R"({"geoRadius": {"path": "p", "center": {"lat": "NaN"}}})",
       "filter.geo_radius.center.lat: the number nan"},
      {R"({"geoRadius": {"path": "p", "center": {}}})",
       "filter.geo_radius.meters: a radius is 0 meters"},
      {R"({"geoRadius": {"path": "p", "center": {}, "meters": "Infinity"}})",
       "filter.geo_radius.meters: the number inf"},
      {R"({"geoBox": {"path": "p", "southWest": {}}})",
       "filter.geo_box.north_east: is not set"},
      {R"({"geoBox": {"path": "p", "southWest": {"lat": 2},
                      "northEast": {"lat": 1}}})",
       "filter.geo_box: a box has its southern edge at 2"},
      {R"({"geoBox": {"path": "p", "southWest": {"lon": -180.5}}})",
       "filter.geo_box.south_west: a longitude is -180.5"},
      {R"({"geoPolygon": {"path": "p", "corners": [{}, {}]}})",
       "filter.geo_polygon.corners: has 2 corners; give 3 to 1024"},
      {R"({"geoPolygon": {"path": "p", "corners": [{}, {}, {"lat": -91}]}})",
       "filter.geo_polygon.corners[2]: a latitude is -91"},
      {R"({"ids": {}})", "filter.ids: is empty"},
      {R"({"ids": {"numbers": [1], "strings": ["x"]}})",
       "filter.ids: has ids in several columns"},
      {R"({"ids": {"strings": ["x", ""]}})", "filter.ids.strings[1]: "},
      {R"({"ids": {"uuids": "AAAA"}})", "filter.ids.uuids: has 3 bytes"},
      {R"({"ids": {"ids": [{"number": 1}, {}]}})", "filter.ids.ids[1]: "},
  };
  for (const auto& [json, message] : cases) {
    EXPECT_THAT(Convert(json), StartsWith(std::string(message))) << json;
  }
  FilterExpression bad;
  bad.mutable_exists()->set_path("a\xff");
  EXPECT_EQ(Convert(bad),
            "filter.exists.path: a path is not UTF-8 at byte 2; encode it as "
            "UTF-8");
  bad.mutable_starts_with()->set_path("a");
  bad.mutable_starts_with()->set_prefix("\xc3");
  EXPECT_THAT(Convert(bad),
              StartsWith("filter.starts_with.prefix: a string is not UTF-8"));
}

// `depth` conditions above one another, the lowest one at the end of *leaf.
FilterExpression Chain(size_t depth, bool by_lists,
                       FilterExpression** leaf = nullptr) {
  FilterExpression out;
  FilterExpression* at = &out;
  for (size_t i = 1; i < depth; ++i) {
    at =
        by_lists ? at->mutable_all_of()->add_operands() : at->mutable_negated();
  }
  at->set_constant(true);
  if (leaf != nullptr) *leaf = at;
  return out;
}

TEST(FilterExpressionTest, TakesEachLimitAndNotOnePast) {
  for (const bool by_lists : {false, true}) {
    EXPECT_THAT(Convert(Chain(32, by_lists)), HasSubstr("TRUE"));
    EXPECT_THAT(Convert(Chain(33, by_lists)),
                HasSubstr(": nested deeper than 32; flatten it"));
    EXPECT_THAT(Convert(Chain(5'000, by_lists)), HasSubstr("nested deeper"));
  }
  EXPECT_THAT(Convert(Chain(4, true), {.max_depth = 3}),
              StartsWith("filter.all_of.operands[0].all_of.operands[0].all_of."
                         "operands[0]: nested deeper"));

  FilterExpression wide;
  for (int i = 0; i < 1'023; ++i) {
    wide.mutable_any_of()->add_operands()->set_constant(false);
  }
  EXPECT_THAT(Convert(wide), StartsWith("FALSE OR"));
  wide.mutable_any_of()->add_operands()->set_constant(false);
  EXPECT_THAT(
      Convert(wide),
      StartsWith("filter.any_of.operands[1023]: more than 1024 conditions"));

  FilterExpression path;
  path.mutable_exists()->set_path(std::string(512, 'a'));
  EXPECT_THAT(Convert(path), StartsWith("EXISTS("));
  path.mutable_exists()->set_path(std::string(513, 'a'));
  EXPECT_THAT(Convert(path),
              StartsWith("filter.exists.path: a path of 513 bytes; at most"));

  FilterExpression prefix;
  prefix.mutable_starts_with()->set_path("a");
  prefix.mutable_starts_with()->set_prefix(std::string(32'766, 'x'));
  EXPECT_THAT(Convert(prefix), StartsWith("a STARTS WITH"));
  prefix.mutable_starts_with()->set_prefix(std::string(32'767, 'x'));
  EXPECT_THAT(Convert(prefix),
              StartsWith("filter.starts_with.prefix: a string of 32767 bytes"));

  FilterExpression polygon;
  polygon.mutable_geo_polygon()->set_path("p");
  for (int i = 0; i < 1'024; ++i) {
    polygon.mutable_geo_polygon()->add_corners()->set_lat(i % 90);
  }
  EXPECT_THAT(Convert(polygon), StartsWith("GEO_POLYGON(p"));
  polygon.mutable_geo_polygon()->add_corners();
  EXPECT_THAT(Convert(polygon), HasSubstr("has 1025 corners"));
}

TEST(FilterExpressionTest, CountsTheValuesOfAllConditionsTogether) {
  constexpr FilterLimits kLimits{.max_literals = 8, .max_string_bytes = 10};
  const auto of = [&](absl::string_view operands) {
    return Convert(absl::StrCat(R"({"allOf": {"operands": [)", operands, "]}}"),
                   kLimits);
  };
  // Two of a range, one each of three ids, two of a center and the radius.
  const std::string eight =
      R"({"between": {"path": "a", "low": {"intValue": 1},
                      "high": {"intValue": 2}}},
         {"ids": {"numbers": [1, 2, 3]}},
         {"geoRadius": {"path": "p", "center": {}, "meters": 1}})";
  EXPECT_THAT(of(eight), StartsWith("a BETWEEN"));
  EXPECT_THAT(of(eight + R"(, {"startsWith": {"path": "a"}})"),
              StartsWith("filter.all_of.operands[3].starts_with.prefix: more "
                         "than 8 values and ids"));
  EXPECT_THAT(of(eight + R"(, {"ids": {"numbers": [4]}})"),
              StartsWith("filter.all_of.operands[3].ids: more than 8 values"));
  EXPECT_THAT(of(R"({"ids": {"strings": ["12345"]}},
                    {"containsAny": {"path": "a", "values": [
                       {"stringValue": "12345"}, {"stringValue": "6"}]}})"),
              StartsWith("filter.all_of.operands[1].contains_any.values[1]: "
                         "more than 10 bytes of strings"));
  FilterExpression ids;
  for (int i = 0; i < 9; ++i) ids.mutable_ids()->add_numbers(i);
  EXPECT_THAT(Convert(ids, kLimits),
              StartsWith("filter.ids: has 9 ids; at most 8 are allowed"));
}

// They are left at the first node, value or corner too many.
TEST(FilterExpressionTest, HostileSizesCostWhatTheLimitsAllow) {
  FilterExpression wide;
  for (int i = 0; i < 200'000; ++i) {
    wide.mutable_all_of()->add_operands()->set_constant(true);
  }
  EXPECT_THAT(Convert(wide), HasSubstr("more than 1024 conditions"));
  FilterExpression list;
  list.mutable_contains_any()->set_path("a");
  for (int i = 0; i < 200'000; ++i) {
    list.mutable_contains_any()->add_values()->set_int_value(i);
  }
  EXPECT_THAT(Convert(list),
              StartsWith("filter.contains_any.values[65536]: more than 65536 "
                         "values"));
  FilterExpression polygon;
  polygon.mutable_geo_polygon()->set_path("p");
  for (int i = 0; i < 200'000; ++i) {
    polygon.mutable_geo_polygon()->add_corners();
  }
  EXPECT_THAT(Convert(polygon), HasSubstr("has 200000 corners"));
}

TEST(FilterTest, IsOneOfTheForms) {
  const auto convert = [](const v1::Filter& filter) {
    FieldViolations violations;
    const auto node = ParseFilter(filter, "filter", &violations);
    EXPECT_EQ(node == nullptr, !violations.empty());
    return node != nullptr ? FilterToText(*node)
                           : std::string(violations.ToStatus().message());
  };
  v1::Filter filter;
  EXPECT_TRUE(IsBlank(filter));
  EXPECT_EQ(convert(filter), "TRUE");
  filter.set_text(" \n");
  EXPECT_TRUE(IsBlank(filter));
  filter.set_text("a = $x");
  EXPECT_FALSE(IsBlank(filter));
  (*filter.mutable_parameters())["x"].set_null_value(
      google::protobuf::NULL_VALUE);
  EXPECT_EQ(convert(filter), "a = NULL");
  filter.mutable_expression()->mutable_exists()->set_path("a");
  EXPECT_THAT(convert(filter), StartsWith("filter: has both text and"));
  filter.clear_text();
  EXPECT_THAT(convert(filter), StartsWith("filter.parameters: is for text"));
  filter.clear_parameters();
  EXPECT_FALSE(IsBlank(filter));
  EXPECT_EQ(convert(filter), "EXISTS(a)");
  filter.mutable_expression()->clear_exists();
  EXPECT_FALSE(IsBlank(filter));
  EXPECT_THAT(convert(filter),
              StartsWith("filter.expression: has no condition"));
}

// Joins leaves at random.
FilterExpression Make(const std::vector<FilterExpression>& leaves, size_t depth,
                      Random* random) {
  const size_t kind = depth > 1 ? random->Uniform(8) : 7;
  FilterExpression out;
  if (kind < 4) {
    auto* joined = kind < 2 ? out.mutable_all_of() : out.mutable_any_of();
    for (size_t i = random->Uniform(3) + 1; i > 0; --i) {
      *joined->add_operands() = Make(leaves, depth - 1, random);
    }
  } else if (kind == 4) {
    *out.mutable_negated() = Make(leaves, depth - 1, random);
  } else if (kind == 5) {
    out.mutable_element()->set_path("e");
    *out.mutable_element()->mutable_condition() =
        Make(leaves, depth - 1, random);
  } else {
    out = leaves[random->Uniform(leaves.size())];
  }
  return out;
}

// What is taken has a text that is taken and means the same; what is not has
// one violation, within the filter.
TEST(FilterExpressionFuzzTest, DamagedMessagesAreRefusedOrMeanSomething) {
  constexpr uint64_t kSeed = 20261127;
  RecordProperty("seed", std::to_string(kSeed));
  constexpr absl::string_view kPayload =
      R"({"a": [1, "x", {"b": {"c": 2}}], "p": {"lat": 1, "lon": 2}})";
  Random random(kSeed);
  std::vector<FilterExpression> leaves;
  for (const auto& [text, json] : kSame) leaves.push_back(FromJson(json));
  size_t num_taken = 0, num_refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = Make(leaves, 4, &random).SerializeAsString();
    for (size_t i = random.Uniform(4); i > 0 && !bytes.empty(); --i) {
      const size_t at = random.Uniform(bytes.size());
      const size_t what = random.Uniform(4);
      if (what == 0) bytes[at] ^= static_cast<char>(1 << random.Uniform(8));
      if (what == 1) bytes.insert(at, 1, static_cast<char>(random.Next()));
      if (what == 2) bytes.erase(at, 1 + random.Uniform(3));
      if (what == 3) bytes[at] = static_cast<char>(random.Next());
    }
    FilterExpression damaged;
    {
      const google::protobuf::LogSilencer silencer;
      if (!damaged.ParseFromString(bytes)) continue;
    }
    SCOPED_TRACE(damaged.ShortDebugString());
    FieldViolations violations;
    const auto node = ParseExpression(damaged, "filter", &violations);
    if (!node.has_value()) {
      ++num_refused;
      ASSERT_GE(violations.count(), 1u);
      ASSERT_THAT(std::string(violations.ToStatus().message()),
                  StartsWith("filter"));
      continue;
    }
    ++num_taken;
    ASSERT_TRUE(violations.empty());
    const auto bound = BoundFilter::Bind(*node, {});
    ASSERT_TRUE(bound.ok()) << bound.status();
    const auto parsed = ParseFilter(FilterToText(*node));
    ASSERT_TRUE(parsed.ok()) << parsed.status() << FilterToText(*node);
    const auto again = BoundFilter::Bind(*parsed, {});
    ASSERT_TRUE(again.ok()) << again.status();
    for (const uint64_t id : {1, 7}) {
      ASSERT_EQ(bound->Matches(PointId(id), kPayload),
                again->Matches(PointId(id), kPayload));
    }
  }
  EXPECT_GT(num_taken, 2'000u);
  EXPECT_GT(num_refused, 500u);
}

}  // namespace
}  // namespace vicinal
