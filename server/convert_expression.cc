#include "server/convert_expression.h"

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/convert.h"
#include "server/convert_filter.h"
#include "src/payload/filter_checker.h"

namespace vicinal {
namespace {

using Kind = ScoreExpression::Kind;

// Each function returns whether it took its message; false comes after a
// violation.
class ExpressionConverter {
 public:
  explicit ExpressionConverter(FieldViolations* violations)
      : checker_(FilterLimits()), violations_(violations) {}

  bool Convert(const v1::Expression& in, const std::string& at, size_t depth,
               ScoreExpression* out) {
    if (depth > kMaxExpressionDepth || ++num_nodes_ > kMaxExpressionNodes) {
      return Refuse(
          at, absl::StrCat("makes the expression too large; at most ",
                           kMaxExpressionNodes, " nodes, ", kMaxExpressionDepth,
                           " above one another"));
    }
    switch (in.kind_case()) {
      case v1::Expression::kConstant:
        out->kind = Kind::kConstant;
        out->number = in.constant();
        return Finite(out->number, at + ".constant");
      case v1::Expression::kScore:
        out->kind = Kind::kScore;
        out->name = in.score().leg();
        return true;
      case v1::Expression::kField:
        out->kind = Kind::kField;
        return Field(in.field(), at + ".field", out);
      case v1::Expression::kCondition:
        out->kind = Kind::kCondition;
        return Condition(in.condition(), at + ".condition", out);
      case v1::Expression::kDecay:
        out->kind = Kind::kDecay;
        return Decay(in.decay(), at + ".decay", depth, out);
      case v1::Expression::kGeoDistance:
        out->kind = Kind::kGeoDistance;
        return Distance(in.geo_distance(), at + ".geo_distance", out);
      case v1::Expression::KIND_NOT_SET:
        return Refuse(at, "is empty; set one of its fields");
      default:
        return Operation(in, at, depth, out);
    }
  }

 private:
  bool Refuse(const std::string& at, absl::string_view why) {
    violations_->Add(at, why);
    return false;
  }
  bool Finite(double value, const std::string& at) {
    return std::isfinite(value) ||
           Refuse(at, absl::StrCat("is ", value, "; give a finite number"));
  }
  bool Path(const std::string& path, const std::string& at) {
    const absl::Status status = checker_.CheckPath(path);
    return status.ok() || Refuse(at, status.message());
  }

  bool Operation(const v1::Expression& in, const std::string& at, size_t depth,
                 ScoreExpression* out) {
    switch (in.kind_case()) {
      case v1::Expression::kSum:
        return List(in.sum(), Kind::kSum, at + ".sum", depth, out);
      case v1::Expression::kProduct:
        return List(in.product(), Kind::kProduct, at + ".product", depth, out);
      case v1::Expression::kMin:
        return List(in.min(), Kind::kMin, at + ".min", depth, out);
      case v1::Expression::kMax:
        return List(in.max(), Kind::kMax, at + ".max", depth, out);
      case v1::Expression::kNegate:
        return One(in.negate(), Kind::kNegate, at + ".negate", depth, out);
      case v1::Expression::kAbs:
        return One(in.abs(), Kind::kAbs, at + ".abs", depth, out);
      case v1::Expression::kExp:
        return One(in.exp(), Kind::kExp, at + ".exp", depth, out);
      case v1::Expression::kLog:
        return One(in.log(), Kind::kLog, at + ".log", depth, out);
      case v1::Expression::kSqrt:
        return One(in.sqrt(), Kind::kSqrt, at + ".sqrt", depth, out);
      case v1::Expression::kDivide:
        return Two(in.divide(), Kind::kDivide, at + ".divide", depth, out);
      default:
        return Two(in.power(), Kind::kPower, at + ".power", depth, out);
    }
  }

  bool One(const v1::Expression& in, Kind kind, const std::string& at,
           size_t depth, ScoreExpression* out) {
    out->kind = kind;
    return Convert(in, at, depth + 1, &out->children.emplace_back());
  }
  bool Two(const v1::ExpressionPair& in, Kind kind, const std::string& at,
           size_t depth, ScoreExpression* out) {
    out->kind = kind;
    return One(in.left(), kind, at + ".left", depth, out) &&
           One(in.right(), kind, at + ".right", depth, out);
  }
  bool List(const v1::ExpressionList& in, Kind kind, const std::string& at,
            size_t depth, ScoreExpression* out) {
    out->kind = kind;
    if (in.values_size() == 0) {
      return Refuse(at + ".values", "is empty; give at least one");
    }
    for (int i = 0; i < in.values_size(); ++i) {
      if (!One(in.values(i), kind, At(at, "values", static_cast<size_t>(i)),
               depth, out)) {
        return false;
      }
    }
    return true;
  }

  // A path and what stands for a value that is missing.
  template <typename Message>
  bool Field(const Message& in, const std::string& at, ScoreExpression* out) {
    out->name = in.path();
    if (in.has_default_()) out->fallback = in.default_();
    return Path(in.path(), at + ".path") &&
           Finite(out->fallback.value_or(0), at + ".default");
  }

  bool Condition(const v1::Filter& in, const std::string& at,
                 ScoreExpression* out) {
    out->condition = ParseFilter(in, at, violations_);
    return out->condition != nullptr;
  }

  bool Decay(const v1::Decay& in, const std::string& at, size_t depth,
             ScoreExpression* out) {
    ScoreExpression::Decay& decay = out->decay;
    decay.target = in.target();
    decay.scale = in.scale();
    if (in.midpoint() != 0) decay.midpoint = in.midpoint();
    decay.offset = in.offset();
    if (in.shape() != v1::DECAY_SHAPE_UNSPECIFIED) {
      if (!v1::DecayShape_IsValid(in.shape())) {
        return Refuse(at + ".shape", absl::StrCat("is ", in.shape(),
                                                  "; give one of "
                                                  "vicinal.v1.DecayShape"));
      }
      decay.shape = static_cast<DecayShape>(in.shape());
    }
    if (!(decay.scale > 0) || !std::isfinite(decay.scale)) {
      return Refuse(at + ".scale",
                    absl::StrCat("is ", decay.scale, "; give a number over 0"));
    }
    if (!(decay.midpoint > 0 && decay.midpoint < 1)) {
      return Refuse(at + ".midpoint",
                    absl::StrCat("is ", decay.midpoint,
                                 "; give a number over 0 and below 1, or 0 "
                                 "for 0.5"));
    }
    if (!(decay.offset >= 0) || !std::isfinite(decay.offset)) {
      return Refuse(at + ".offset",
                    absl::StrCat("is ", decay.offset, "; give 0 or more"));
    }
    return Finite(decay.target, at + ".target") &&
           One(in.value(), Kind::kDecay, at + ".value", depth, out);
  }

  bool Distance(const v1::GeoDistance& in, const std::string& at,
                ScoreExpression* out) {
    out->place = {in.lat(), in.lon()};
    const absl::Status status = CheckPlace(out->place);
    if (!status.ok()) return Refuse(at, status.message());
    return Field(in, at, out);
  }

  FilterChecker checker_;
  FieldViolations* const violations_;
  size_t num_nodes_ = 0;
};

}  // namespace

std::optional<ScoreExpression> ParseScoreExpression(
    const v1::Expression& expression, const std::string& path,
    FieldViolations* violations) {
  ScoreExpression out;
  if (!ExpressionConverter(violations).Convert(expression, path, 1, &out)) {
    return std::nullopt;
  }
  return out;
}

}  // namespace vicinal
