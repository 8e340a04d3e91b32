#include "src/engine/formula.h"

#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/payload/filter_text.h"
#include "src/payload/text_condition.h"

namespace vicinal {
namespace {

using Expression = ScoreExpression;
using Kind = ScoreExpression::Kind;

constexpr absl::string_view kPayload =
    R"({"stars": 4, "new": true, "date": "1970-01-02", "tags": ["a", 7],
        "place": [{"lat": 0, "lon": 179.5}, {"lat": 50, "lon": 0}]})";

Expression Number(double value) {
  return {.kind = Kind::kConstant, .number = value};
}
Expression Field(std::string path, std::optional<double> fallback = {}) {
  return {.kind = Kind::kField, .name = std::move(path), .fallback = fallback};
}
Expression Join(Kind kind, std::vector<Expression> children) {
  return {.kind = kind, .children = std::move(children)};
}

std::optional<double> ValueOf(const Expression& expression) {
  const auto bound = BoundExpression::Bind(expression, {});
  EXPECT_TRUE(bound.ok()) << bound.status();
  const PointId id(uint64_t{7});
  const auto leg_score = [](absl::string_view leg) {
    return leg == "inputs[0]" ? 2.0 : 0.0;
  };
  return bound->Evaluate(
      {.score = 3, .payload = kPayload, .id = id, .leg_score = leg_score});
}

TEST(FormulaTest, ReadsScoresAndFields) {
  EXPECT_EQ(ValueOf({.kind = Kind::kScore}), 3);
  EXPECT_EQ(ValueOf({.kind = Kind::kScore, .name = "inputs[0]"}), 2);
  EXPECT_EQ(ValueOf(Field("stars")), 4);
  EXPECT_EQ(ValueOf(Field("new")), 1);
  EXPECT_EQ(ValueOf(Field("date")), 86'400);
  EXPECT_EQ(ValueOf(Field("tags")), 7);  // the first that is one
}

TEST(FormulaTest, WhatIsMissingHasItsDefaultOrNoValue) {
  EXPECT_EQ(ValueOf(Field("none")), std::nullopt);
  EXPECT_EQ(ValueOf(Field("none", 9)), 9);
  EXPECT_EQ(ValueOf(Join(Kind::kSum, {Number(1), Field("none")})),
            std::nullopt);
}

TEST(FormulaTest, Reckons) {
  EXPECT_EQ(ValueOf(Join(Kind::kSum, {Number(1), Number(2), Number(4)})), 7);
  EXPECT_EQ(ValueOf(Join(Kind::kProduct, {Number(3), Number(2)})), 6);
  EXPECT_EQ(ValueOf(Join(Kind::kMin, {Number(3), Number(2)})), 2);
  EXPECT_EQ(ValueOf(Join(Kind::kMax, {Number(3), Number(2)})), 3);
  EXPECT_EQ(ValueOf(Join(Kind::kDivide, {Number(3), Number(2)})), 1.5);
  EXPECT_EQ(ValueOf(Join(Kind::kPower, {Number(3), Number(2)})), 9);
  EXPECT_EQ(ValueOf(Join(Kind::kNegate, {Number(3)})), -3);
  EXPECT_EQ(ValueOf(Join(Kind::kAbs, {Number(-3)})), 3);
  EXPECT_EQ(ValueOf(Join(Kind::kSqrt, {Number(9)})), 3);
  EXPECT_DOUBLE_EQ(*ValueOf(Join(Kind::kExp, {Number(1)})), std::exp(1));
  EXPECT_DOUBLE_EQ(*ValueOf(Join(Kind::kLog, {Number(10)})), std::log(10));
}

TEST(FormulaTest, WhatIsNoNumberHasNoValue) {
  EXPECT_EQ(ValueOf(Join(Kind::kDivide, {Number(1), Number(0)})), std::nullopt);
  EXPECT_EQ(ValueOf(Join(Kind::kLog, {Number(-1)})), std::nullopt);
  EXPECT_EQ(ValueOf(Join(Kind::kLog, {Number(0)})), std::nullopt);
  EXPECT_EQ(ValueOf(Join(Kind::kSqrt, {Number(-1)})), std::nullopt);
  EXPECT_EQ(ValueOf(Join(Kind::kExp, {Number(1e6)})), std::nullopt);
}

// Where NaN met std::max and std::min, it was lost or not by its place.
TEST(FormulaTest, WhatIsNoNumberHasNoValueWhereverItStands) {
  const Expression none = Join(Kind::kLog, {Number(-1)});
  const Expression pole = Join(Kind::kDivide, {Number(1), Number(0)});
  for (const Expression& bad : {none, pole, Join(Kind::kLog, {Number(0)}),
                                Join(Kind::kPower, {Number(0), Number(-1)}),
                                Join(Kind::kPower, {Number(-8), Number(0.5)}),
                                Join(Kind::kSqrt, {Number(-1)})}) {
    for (const Kind kind : {Kind::kMin, Kind::kMax, Kind::kSum}) {
      EXPECT_EQ(ValueOf(Join(kind, {bad, Number(1)})), std::nullopt);
      EXPECT_EQ(ValueOf(Join(kind, {Number(1), bad})), std::nullopt);
    }
    EXPECT_EQ(ValueOf(Join(Kind::kPower, {bad, Number(0)})), std::nullopt);
    EXPECT_EQ(ValueOf(Join(Kind::kDivide, {Number(1), bad})), std::nullopt);
    for (const DecayShape shape :
         {DecayShape::kGauss, DecayShape::kExp, DecayShape::kLinear}) {
      Expression decay = Join(Kind::kDecay, {bad});
      decay.decay.shape = shape;
      EXPECT_EQ(ValueOf(decay), std::nullopt);
    }
  }
}

TEST(FormulaTest, WhatOverflowsMayComeBack) {
  // 1 / (1 + e^1000), as a logistic function of a large number has it.
  const Expression sigmoid =
      Join(Kind::kDivide,
           {Number(1),
            Join(Kind::kSum, {Number(1), Join(Kind::kExp, {Number(1000)})})});
  EXPECT_EQ(ValueOf(sigmoid), 0);
}

TEST(FormulaTest, EveryShapeFallsByItsFormula) {
  const Expression::Decay gauss{.target = 0, .scale = 10, .midpoint = 0.5};
  EXPECT_DOUBLE_EQ(DecayOf(20, gauss), std::pow(0.5, 4));
  Expression::Decay exponential = gauss;
  exponential.shape = DecayShape::kExp;
  EXPECT_DOUBLE_EQ(DecayOf(20, exponential), std::pow(0.5, 2));
  Expression::Decay linear = gauss;
  linear.shape = DecayShape::kLinear;
  EXPECT_DOUBLE_EQ(DecayOf(15, linear), 0.25);
  EXPECT_EQ(DecayOf(20, linear), 0);
  EXPECT_EQ(DecayOf(1e308, linear), 0);
  EXPECT_EQ(DecayOf(-1e308, gauss), 0);
}

TEST(FormulaTest, DecaysOfTimesAndPlacesUseTheirUnits) {
  // A day after the target, which halves it.
  Expression recent = Join(Kind::kDecay, {Field("date")});
  recent.decay = {.target = 0, .scale = 86'400, .shape = DecayShape::kExp};
  EXPECT_DOUBLE_EQ(*ValueOf(recent), 0.5);
  Expression near = Join(Kind::kDecay, {{.kind = Kind::kGeoDistance,
                                         .name = "place",
                                         .place = {.lat = 50, .lon = 0}}});
  near.decay = {.target = 0, .scale = 1000};
  EXPECT_DOUBLE_EQ(*ValueOf(near), 1);
}

TEST(FormulaTest, ConditionsAreOneOrNothing) {
  const auto condition = [](absl::string_view text) {
    return Expression{
        .kind = Kind::kCondition,
        .condition = std::make_shared<const FilterNode>(*ParseFilter(text))};
  };
  EXPECT_EQ(ValueOf(condition("stars > 3")), 1);
  EXPECT_EQ(ValueOf(condition("stars > 4")), 0);
  EXPECT_EQ(ValueOf(condition("ID IN (7)")), 1);
  EXPECT_EQ(ValueOf(condition("ID IN (8)")), 0);
  EXPECT_EQ(ValueOf(Join(Kind::kSum, {condition("stars > 3"), Field("stars"),
                                      condition("new = true")})),
            6);
}

// A text that has the word "jazz" and no other.
class HasJazz final : public TextCondition {
 public:
  bool Matches(std::span<const absl::string_view> strings) const override {
    return strings.size() == 1 && strings[0] == "jazz";
  }
};

TEST(FormulaTest, ConditionsMayAskTexts) {
  const Expression condition{.kind = Kind::kCondition,
                             .condition = std::make_shared<const FilterNode>(
                                 *ParseFilter("MATCH(style, 'jazz')"))};
  const TextConditionMaker texts = [](absl::string_view, absl::string_view)
      -> absl::StatusOr<std::shared_ptr<const TextCondition>> {
    return std::make_shared<const HasJazz>();
  };
  const auto bound = BoundExpression::Bind(condition, {}, &texts);
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_TRUE(bound->needs_payload());
  const PointId id(uint64_t{7});
  const auto no_leg = [](absl::string_view) { return 0.0; };
  for (const auto& [payload, wanted] :
       {std::pair<absl::string_view, double>{R"({"style": "jazz"})", 1},
        {R"({"style": "rock"})", 0},
        {"", 0}}) {
    EXPECT_EQ(
        bound->Evaluate(
            {.score = 3, .payload = payload, .id = id, .leg_score = no_leg}),
        wanted);
  }
}

TEST(FormulaTest, ManyConditionsReadThePayloadOnce) {
  Expression sum{.kind = Kind::kSum};
  for (int i = 0; i < 1000; ++i) {
    sum.children.push_back(
        {.kind = Kind::kCondition,
         .condition = std::make_shared<const FilterNode>(
             *ParseFilter(i % 2 == 0 ? "stars > 3" : "stars > 4"))});
  }
  EXPECT_EQ(ValueOf(sum), 500);
}

TEST(FormulaTest, PointsWithoutAPayloadHaveDefaultsOnly) {
  const PointId id(uint64_t{1});
  const auto no_leg = [](absl::string_view) { return 0.0; };
  const Expression field = Field("a.b", -1);
  for (const absl::string_view payload :
       {"", "{}", R"({"a": null})", R"({"a": {"b": "soon"}})",
        R"({"a": {"b": []}})", R"({"a": [{"c": 1}]})"}) {
    EXPECT_EQ(BoundExpression::Bind(field, {})->Evaluate(
                  {.payload = payload, .id = id, .leg_score = no_leg}),
              -1)
        << payload;
  }
  EXPECT_EQ(BoundExpression::Bind(field, {})->Evaluate(
                {.payload = R"({"a": [{"b": ["x", false]}, {"b": 9}]})",
                 .id = id,
                 .leg_score = no_leg}),
            0);
}

TEST(FormulaTest, NearnessFallsFromOneToItsMidpoint) {
  for (const DecayShape shape :
       {DecayShape::kGauss, DecayShape::kExp, DecayShape::kLinear}) {
    const Expression::Decay decay{.target = 10,
                                  .scale = 4,
                                  .midpoint = 0.25,
                                  .offset = 2,
                                  .shape = shape};
    EXPECT_EQ(DecayOf(10, decay), 1);
    EXPECT_EQ(DecayOf(12, decay), 1);
    EXPECT_EQ(DecayOf(8, decay), 1);
    EXPECT_NEAR(DecayOf(16, decay), 0.25, 1e-12);
    EXPECT_NEAR(DecayOf(4, decay), 0.25, 1e-12);
    EXPECT_GE(DecayOf(1e6, decay), 0);
    EXPECT_LT(DecayOf(1e6, decay), 1e-6);
  }
}

TEST(FormulaTest, DistancesGoTheShortWay) {
  Expression distance{.kind = Kind::kGeoDistance,
                      .name = "place",
                      .place = {.lat = 0, .lon = -179.5}};
  // A degree of the equator, across the antimeridian.
  EXPECT_NEAR(*ValueOf(distance), 111'195, 1);
  distance.name = "none";
  EXPECT_EQ(ValueOf(distance), std::nullopt);
  distance.fallback = 5;
  EXPECT_EQ(ValueOf(distance), 5);
}

TEST(FormulaTest, KnowsWhatItNeeds) {
  const Expression plain = Join(
      Kind::kSum, {Number(1), {.kind = Kind::kScore, .name = "inputs[1]"}});
  const auto bound = BoundExpression::Bind(plain, {});
  EXPECT_FALSE(bound->needs_payload());
  EXPECT_EQ(bound->legs(), std::vector<std::string>{"inputs[1]"});
  const Expression field = Field("stars");
  EXPECT_TRUE(BoundExpression::Bind(field, {})->needs_payload());
}

}  // namespace
}  // namespace vicinal
