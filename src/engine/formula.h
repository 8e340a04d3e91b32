// A score computed of a point's score and payload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter.h"
#include "src/payload/payload_key.h"
#include "src/payload/payload_values.h"
#include "src/payload/text_condition.h"

namespace vicinal {

inline constexpr size_t kMaxExpressionDepth = 32;
inline constexpr size_t kMaxExpressionNodes = 1'024;

enum class DecayShape : uint8_t { kGauss = 1, kExp = 2, kLinear = 3 };

// One node; its kind tells which members count. Checked at the edge.
struct ScoreExpression {
  enum class Kind : uint8_t {
    kConstant,   // `number`
    kScore,      // of leg `name`; empty: of the input itself
    kField,      // the number at path `name`
    kCondition,  // 1 where `condition` accepts the point, else 0
    kSum,        // of the children, at least one; and the next three
    kProduct,
    kMin,
    kMax,
    kNegate,  // of the only child; and the next four
    kAbs,
    kExp,
    kLog,
    kSqrt,
    kDivide,  // of two children; and the next
    kPower,
    kDecay,        // of the only child
    kGeoDistance,  // metres from `place` to the nearest place at path `name`
  };
  struct Decay {
    double target = 0;
    double scale = 1;       // over 0
    double midpoint = 0.5;  // (0, 1)
    double offset = 0;      // >= 0
    DecayShape shape = DecayShape::kGauss;
  };

  Kind kind = Kind::kConstant;
  double number = 0;
  std::string name;
  std::optional<double> fallback;  // of a path without a value
  GeoPoint place;
  Decay decay;
  std::shared_ptr<const FilterNode> condition;
  std::vector<ScoreExpression> children;
};

// Of one point.
struct FormulaInput {
  double score = 0;
  absl::string_view payload;  // JSON text, or empty
  const PointId& id;
  absl::FunctionRef<double(absl::string_view leg)> leg_score;
};

// Const and thread-safe. Borrows the expression.
class BoundExpression {
 public:
  // InvalidArgument: as BoundFilter::Bind, of a condition. Without `texts` no
  // text has anything.
  static absl::StatusOr<BoundExpression> Bind(
      const ScoreExpression& expression, std::span<const PayloadField> fields,
      const TextConditionMaker* texts = nullptr);

  bool needs_payload() const { return needs_payload_; }
  // Those whose scores it reads, each once.
  const std::vector<std::string>& legs() const { return legs_; }
  // nullopt: somewhere in it a value is missing or an operation has none (a
  // division by zero, the logarithm of a negative number), or the result is no
  // finite number. What overflows is infinite and may become finite again.
  std::optional<double> Evaluate(const FormulaInput& input) const;

 private:
  explicit BoundExpression(const ScoreExpression& root) : root_(&root) {}
  absl::Status Collect(const ScoreExpression& node,
                       std::span<const PayloadField> fields,
                       const TextConditionMaker* texts);
  std::optional<double> Value(const ScoreExpression& node,
                              const FormulaInput& input,
                              PayloadValues* values) const;
  std::optional<double> Fold(const ScoreExpression& node,
                             const FormulaInput& input,
                             PayloadValues* values) const;

  const ScoreExpression* root_;
  bool needs_payload_ = false;
  std::vector<std::string> legs_;
  absl::flat_hash_map<const FilterNode*, BoundFilter> conditions_;
};

// Between 0 and 1.
double DecayOf(double value, const ScoreExpression::Decay& decay);

}  // namespace vicinal
