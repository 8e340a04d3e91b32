#include "src/engine/formula.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

using Kind = ScoreExpression::Kind;

// NaN: it has none.
double OneOf(Kind kind, double value) {
  switch (kind) {
    case Kind::kNegate:
      return -value;
    case Kind::kAbs:
      return std::abs(value);
    case Kind::kExp:
      return std::exp(value);
    case Kind::kLog:
      return value == 0 ? std::nan("") : std::log(value);
    default:
      return std::sqrt(value);
  }
}

double Join(Kind kind, double a, double b) {
  switch (kind) {
    case Kind::kSum:
      return a + b;
    case Kind::kProduct:
      return a * b;
    case Kind::kMin:
      return std::min(a, b);
    case Kind::kMax:
      return std::max(a, b);
    case Kind::kDivide:
      return b == 0 ? std::nan("") : a / b;
    default:
      return a == 0 && b < 0 ? std::nan("") : std::pow(a, b);
  }
}

}  // namespace

double DecayOf(double value, const ScoreExpression::Decay& decay) {
  const double distance =
      std::max(0.0, std::abs(value - decay.target) - decay.offset) /
      decay.scale;
  switch (decay.shape) {
    case DecayShape::kGauss:
      return std::pow(decay.midpoint, distance * distance);
    case DecayShape::kExp:
      return std::pow(decay.midpoint, distance);
    case DecayShape::kLinear:
      break;
  }
  return std::max(0.0, 1 - (1 - decay.midpoint) * distance);
}

absl::StatusOr<BoundExpression> BoundExpression::Bind(
    const ScoreExpression& expression, std::span<const PayloadField> fields,
    const TextConditionMaker* texts) {
  BoundExpression bound(expression);
  VICINAL_RETURN_IF_ERROR(bound.Collect(expression, fields, texts));
  return bound;
}

absl::Status BoundExpression::Collect(const ScoreExpression& node,
                                      std::span<const PayloadField> fields,
                                      const TextConditionMaker* texts) {
  switch (node.kind) {
    case Kind::kScore:
      if (!node.name.empty() && !absl::c_linear_search(legs_, node.name)) {
        legs_.push_back(node.name);
      }
      break;
    case Kind::kField:
    case Kind::kGeoDistance:
      needs_payload_ = true;
      break;
    case Kind::kCondition: {
      // Not declared_only: it reads payloads of candidates, not of all points.
      VICINAL_ASSIGN_OR_RETURN(
          BoundFilter filter,
          BoundFilter::Bind(*node.condition, fields, {},
                            /*declared_only=*/false, texts));
      needs_payload_ = needs_payload_ || filter.needs_payload();
      conditions_.emplace(node.condition.get(), std::move(filter));
      break;
    }
    default:
      break;
  }
  for (const ScoreExpression& child : node.children) {
    VICINAL_RETURN_IF_ERROR(Collect(child, fields, texts));
  }
  return absl::OkStatus();
}

std::optional<double> BoundExpression::Evaluate(
    const FormulaInput& input) const {
  PayloadValues values(input.payload);
  const std::optional<double> value = Value(*root_, input, &values);
  return value.has_value() && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<double> BoundExpression::Value(const ScoreExpression& node,
                                             const FormulaInput& input,
                                             PayloadValues* values) const {
  const auto or_fallback = [&](std::optional<double> value) {
    return value.has_value() ? value : node.fallback;
  };
  switch (node.kind) {
    case Kind::kConstant:
      return node.number;
    case Kind::kScore:
      return node.name.empty() ? input.score : input.leg_score(node.name);
    case Kind::kField:
      return or_fallback(values->NumberAt(node.name));
    case Kind::kGeoDistance:
      return or_fallback(values->MetersTo(node.place, node.name));
    case Kind::kCondition:
      return conditions_.at(node.condition.get()).Matches(input.id, values)
                 ? 1.0
                 : 0.0;
    case Kind::kDecay: {
      const std::optional<double> value =
          Value(node.children[0], input, values);
      if (!value.has_value()) return std::nullopt;
      return DecayOf(*value, node.decay);
    }
    default:
      return Fold(node, input, values);
  }
}

// NaN ends it at once: min, max, pow and decays of one may be numbers.
std::optional<double> BoundExpression::Fold(const ScoreExpression& node,
                                            const FormulaInput& input,
                                            PayloadValues* values) const {
  std::optional<double> result = Value(node.children[0], input, values);
  if (!result.has_value()) return std::nullopt;
  if (node.kind >= Kind::kNegate && node.kind <= Kind::kSqrt) {
    result = OneOf(node.kind, *result);
  }
  for (size_t i = 1; i < node.children.size(); ++i) {
    const std::optional<double> next = Value(node.children[i], input, values);
    if (!next.has_value() || std::isnan(*result)) return std::nullopt;
    result = Join(node.kind, *result, *next);
  }
  return std::isnan(*result) ? std::nullopt : result;
}

}  // namespace vicinal
