#include "src/payload/bound_filter.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/point_id.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

absl::StatusOr<BoundFilter> BindText(absl::string_view text,
                                     const std::vector<PayloadField>& fields) {
  auto node = ParseFilter(text);
  if (!node.ok()) return node.status();
  return BoundFilter::Bind(*node, fields);
}

bool Matches(absl::string_view text, absl::string_view payload,
             const std::vector<PayloadField>& fields = {},
             const PointId& id = PointId(1)) {
  const auto filter = BindText(text, fields);
  EXPECT_TRUE(filter.ok()) << text << ": " << filter.status();
  return filter.ok() && filter->Matches(id, payload);
}

std::string ErrorOf(absl::string_view text,
                    const std::vector<PayloadField>& fields = {}) {
  const auto filter = BindText(text, fields);
  EXPECT_FALSE(filter.ok()) << text;
  return std::string(filter.status().message());
}

// The table of filter.h, and more of it: null, missing and [] are no value.
TEST(BoundFilterTest, NullSemantics) {
  constexpr absl::string_view kFilters[] = {
      "x = 1",        "x != 1",    "x > 1",     "NOT x > 1",     "x IN (1)",
      "x NOT IN (1)", "EXISTS(x)", "x IS NULL", "x IS NOT NULL", "x <= 1"};
  struct Row {
    absl::string_view payload;
    absl::string_view expected;  // one character per filter
  };
  constexpr Row kRows[] = {
      {R"({"x": 1})", "t f f t t f t f t t"},
      {R"({"x": 2})", "f t t f f t t f t f"},
      {R"({"x": [1, 2]})", "t f t f t f t f t t"},
      {R"({"x": "1"})", "f t f t f t t f t f"},
      {R"({"x": {"y": 1}})", "f t f t f t t f t f"},
      {R"({"x": null})", "f t f t f t f t f f"},
      {R"({"x": [null]})", "f t f t f t f t f f"},
      {R"({"x": []})", "f t f t f t f t f f"},
      {R"({})", "f t f t f t f t f f"},
      {"", "f t f t f t f t f f"},
  };
  for (const Row& row : kRows) {
    for (size_t i = 0; i < std::size(kFilters); ++i) {
      EXPECT_EQ(Matches(kFilters[i], row.payload), row.expected[2 * i] == 't')
          << kFilters[i] << " of " << row.payload;
    }
  }
}

TEST(BoundFilterTest, ComparesValuesOfEveryType) {
  const std::vector<PayloadField> fields = {
      {"i", PayloadType::kInt64}, {"f", PayloadType::kFloat64},
      {"b", PayloadType::kBool},  {"t", PayloadType::kDatetime},
      {"u", PayloadType::kUuid},  {"k", PayloadType::kKeyword},
      {"g", PayloadType::kGeo}};
  const absl::string_view payload = R"({"i": 9007199254740993, "f": -0.0,
      "b": true, "t": "2024-05-31T12:00:00+02:00", "k": "Zebra",
      "u": "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
      "g": {"lat": 52.5, "lon": 13.4}})";
  for (const absl::string_view text :
       {"i = 9007199254740993",
        "i != 9007199254740992",
        "i > 9007199254740992",
        "i < 9.1e15",
        "i >= -1e300",
        "i < 1e300",
        "f = 0",
        "f <= 0.0",
        "f > -1",
        "f BETWEEN -0.5 AND 1",
        "b = TRUE",
        "b != FALSE",
        "t = '2024-05-31T10:00:00Z'",
        "t > '2024-05-31'",
        "t < '2024-05-31T10:00:00.000001'",
        "t >= '2024-05-31T10:00:00'",
        "u = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
        "k = 'Zebra'",
        "k < 'apple'",
        "k STARTS WITH 'Ze'",
        "k STARTS WITH ''",
        "k BETWEEN 'Z' AND 'Zz'",
        "EXISTS(g)",
        "GEO_RADIUS(g, 52.5, 13.4, 1)",
        "i IN (1, 9007199254740993)",
        "NOT (i = 0.5)",
        "ID = 1"}) {
    EXPECT_TRUE(Matches(text, payload, fields)) << text;
  }
  for (const absl::string_view text :
       {"i = 9007199254740992", "i > 9007199254740993", "i = 0.5", "i > 1e300",
        "f < 0", "f > 0", "b = FALSE", "t = '2024-05-31'",
        "t < '2024-05-31T10:00:00Z'", "k = 'zebra'", "k STARTS WITH 'Zf'",
        "k > 'a'", "GEO_RADIUS(g, 52.6, 13.4, 1000)", "ID = 2",
        "f BETWEEN 1 AND -1", "i BETWEEN 0 AND 5.5"}) {
    EXPECT_FALSE(Matches(text, payload, fields)) << text;
  }
}

TEST(BoundFilterTest, ADeclaredFieldHasValuesOfItsTypeOnly) {
  const std::vector<PayloadField> fields = {{"i", PayloadType::kInt64},
                                            {"t", PayloadType::kDatetime}};
  EXPECT_TRUE(Matches("i = 3", R"({"i": 3.0})", fields));
  EXPECT_TRUE(Matches("i IS NULL", R"({"i": 3.5})", fields));
  EXPECT_TRUE(Matches("i IS NULL", R"({"i": "3"})", fields));
  EXPECT_TRUE(Matches("i = 4", R"({"i": ["x", 4, null]})", fields));
  EXPECT_TRUE(Matches("t IS NULL", R"({"t": "yesterday"})", fields));
  EXPECT_TRUE(Matches("i IS NULL", R"({"i": 18446744073709551615})", fields));
}

TEST(BoundFilterTest, BetweenIntegersAndDoubles) {
  const std::vector<PayloadField> fields = {{"i", PayloadType::kInt64}};
  for (int value = -3; value <= 3; ++value) {
    const std::string payload = "{\"i\": " + std::to_string(value) + "}";
    for (const double bound : {-2.5, -1.0, -0.5, 0.0, 0.5, 2.0, 2.5}) {
      const std::string text = std::to_string(bound);
      EXPECT_EQ(Matches("i < " + text, payload, fields), value < bound);
      EXPECT_EQ(Matches("i <= " + text, payload, fields), value <= bound);
      EXPECT_EQ(Matches("i > " + text, payload, fields), value > bound);
      EXPECT_EQ(Matches("i >= " + text, payload, fields), value >= bound);
      EXPECT_EQ(Matches("i = " + text, payload, fields), value == bound);
    }
  }
}

TEST(BoundFilterTest, FollowsPathsThroughObjectsAndArrays) {
  const absl::string_view payload = R"({"a": {"b": [{"c": 1}, {"c": [2, 3]}]},
      "items": [{"price": 3, "color": "red"}, {"price": 9, "color": "blue"}],
      "tags": ["x", "y"]})";
  EXPECT_TRUE(Matches("a.b.c = 3", payload));
  EXPECT_FALSE(Matches("a.c = 1", payload));
  EXPECT_TRUE(Matches("EXISTS(a.b)", payload));
  EXPECT_TRUE(Matches("tags CONTAINS ALL ('x', 'y')", payload));
  EXPECT_FALSE(Matches("tags CONTAINS ALL ('x', 'z')", payload));
  EXPECT_TRUE(Matches("tags CONTAINS ALL ()", payload));
  EXPECT_TRUE(Matches("tags CONTAINS ANY ('z', 'y', 1)", payload));
  // Of any elements, and of the same one.
  EXPECT_TRUE(Matches("items.price > 5 AND items.color = 'red'", payload));
  EXPECT_FALSE(Matches("items[price > 5 AND color = 'red']", payload));
  EXPECT_TRUE(Matches("items[price > 5 AND color = 'blue']", payload));
  EXPECT_TRUE(Matches("items[NOT color = 'red']", payload));
  EXPECT_FALSE(Matches("tags[x = 1]", payload));
  EXPECT_EQ(
      ErrorOf("items[price = 'x']", {{"items.price", PayloadType::kFloat64}}),
      "filter: items.price is declared as f64 and cannot be compared "
      "with a string: change the value or the field");
}

TEST(BoundFilterTest, KnowsTheEarth) {
  // Berlin to Paris: 877 to 880 km.
  const absl::string_view paris = R"({"p": {"lat": 48.8566, "lon": 2.3522}})";
  EXPECT_TRUE(Matches("GEO_RADIUS(p, 52.52, 13.405, 880000)", paris));
  EXPECT_FALSE(Matches("GEO_RADIUS(p, 52.52, 13.405, 876000)", paris));
  EXPECT_TRUE(Matches("GEO_BOX(p, 48, 2, 49, 3)", paris));
  EXPECT_FALSE(Matches("GEO_BOX(p, 48, 3, 49, 2)", paris));
  EXPECT_TRUE(Matches("GEO_POLYGON(p, 48, 2, 50, 2, 49, 4)", paris));
  EXPECT_FALSE(Matches("GEO_POLYGON(p, 48, 3, 50, 3, 49, 4)", paris));
  // Across the antimeridian, and of several places.
  const absl::string_view fiji =
      R"({"p": [{"lat": 0, "lon": 0}, {"lat": -17, "lon": 179.9}]})";
  EXPECT_TRUE(Matches("GEO_BOX(p, -20, 170, -10, -170)", fiji));
  EXPECT_TRUE(Matches("GEO_RADIUS(p, -17, -179.9, 30000)", fiji));
  for (const absl::string_view bad :
       {R"({"p": {"lat": 91, "lon": 0}})", R"({"p": {"lat": "0", "lon": 0}})",
        R"({"p": {"lat": 0}})", R"({"p": [0, 0]})"}) {
    EXPECT_FALSE(Matches("GEO_BOX(p, -90, -180, 90, 180)", bad)) << bad;
  }
}

TEST(BoundFilterTest, RefusesWhatMakesNoSense) {
  const std::vector<PayloadField> fields = {{"t", PayloadType::kDatetime},
                                            {"u", PayloadType::kUuid},
                                            {"g", PayloadType::kGeo},
                                            {"i", PayloadType::kInt64}};
  EXPECT_NE(ErrorOf("t > 'soon'", fields).find("which is no date"),
            std::string::npos);
  EXPECT_NE(ErrorOf("t > '2024-13-01'", fields).find("no date"),
            std::string::npos);
  EXPECT_NE(ErrorOf("u = 'x'", fields).find("no UUID"), std::string::npos);
  EXPECT_NE(ErrorOf("g = 1", fields).find("use GEO_RADIUS"), std::string::npos);
  EXPECT_NE(ErrorOf("i STARTS WITH 'x'", fields).find("STARTS WITH"),
            std::string::npos);
  EXPECT_NE(ErrorOf("GEO_BOX(i, 0, 0, 1, 1)", fields).find("is no place"),
            std::string::npos);
  EXPECT_NE(ErrorOf("x > TRUE").find("by an order"), std::string::npos);
  EXPECT_NE(ErrorOf("x BETWEEN 1 AND 'b'").find("two values of one type"),
            std::string::npos);
  EXPECT_NE(ErrorOf("x[ID = 1]").find("write it outside"), std::string::npos);
  EXPECT_NE(ErrorOf("MATCH(body, 7)").find("wants a string"),
            std::string::npos);
  EXPECT_NE(ErrorOf("x[MATCH(body, 'y')]").find("write it outside"),
            std::string::npos);
}

// True where one string of the text is the expression.
class SameString final : public TextCondition {
 public:
  explicit SameString(absl::string_view expression) : expression_(expression) {}
  bool Matches(std::span<const absl::string_view> strings) const override {
    return std::find(strings.begin(), strings.end(), expression_) !=
           strings.end();
  }

 private:
  const std::string expression_;
};

TEST(BoundFilterTest, AsksTextsThroughWhoKnowsThem) {
  const TextConditionMaker maker = [](absl::string_view path,
                                      absl::string_view expression)
      -> absl::StatusOr<std::shared_ptr<const TextCondition>> {
    if (path != "body") return absl::InvalidArgumentError("is no text");
    return std::make_shared<const SameString>(expression);
  };
  const auto bind = [&](absl::string_view text) {
    return BoundFilter::Bind(*ParseFilter(text), {}, {}, true, &maker);
  };
  const auto filter = bind("NOT MATCH(body, 'red')");
  ASSERT_TRUE(filter.ok()) << filter.status();
  EXPECT_TRUE(filter->needs_payload());
  const PointId id(uint64_t{1});
  EXPECT_FALSE(filter->Matches(id, R"({"body": ["blue", "red"]})"));
  EXPECT_TRUE(filter->Matches(id, R"({"body": "blue"})"));
  EXPECT_TRUE(filter->Matches(id, ""));
  EXPECT_EQ(bind("MATCH(title, 'red')").status().message(),
            "filter: MATCH of title: is no text");
}

// Trees that no text made are checked all the same.
TEST(BoundFilterTest, RefusesTreesOverTheLimits) {
  using Kind = FilterNode::Kind;
  FilterNode deep{.kind = Kind::kTrue};
  for (int i = 0; i < 40; ++i) {
    FilterNode parent{.kind = Kind::kNot};
    parent.children.push_back(std::move(deep));
    deep = std::move(parent);
  }
  const auto refused = [](const FilterNode& node) {
    return BoundFilter::Bind(node, {}).status().code() ==
           absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused(deep));
  FilterNode wide{.kind = Kind::kAnd};
  EXPECT_TRUE(refused(wide)) << "no children";
  wide.children.resize(2'000);
  EXPECT_TRUE(refused(wide));
  FilterNode list{.kind = Kind::kIn, .path = "a"};
  list.literals.resize(70'000, Literal(int64_t{1}));
  EXPECT_TRUE(refused(list));
  EXPECT_TRUE(refused({.kind = Kind::kCompare, .path = "a"}));
  EXPECT_TRUE(refused({.kind = Kind::kExists}));
  EXPECT_TRUE(refused({.kind = Kind::kExists, .path = "a..b"}));
  EXPECT_TRUE(refused({.kind = Kind::kGeoRadius, .path = "a"}));
  FilterNode null{.kind = Kind::kIn, .path = "a"};
  null.literals.emplace_back(nullptr);
  EXPECT_TRUE(refused(null));
}

}  // namespace
}  // namespace vicinal
