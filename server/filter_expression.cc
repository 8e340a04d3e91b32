#include "server/filter_expression.h"

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/convert.h"
#include "src/base/point_id.h"
#include "src/engine/limits.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_checker.h"
#include "src/text/text_query.h"

namespace vicinal {
namespace {

using Kind = FilterNode::Kind;
using Op = FilterNode::Op;
using v1::FilterExpression;

// Where a field stands: links on the stack, made into text only for an error.
struct Where {
  const Where* parent = nullptr;
  absl::string_view name;
  int index = -1;  // of a repeated field

  std::string Path() const {
    std::string path = parent != nullptr
                           ? absl::StrCat(parent->Path(), ".", name)
                           : std::string(name);
    if (index >= 0) absl::StrAppend(&path, "[", index, "]");
    return path;
  }
};

std::optional<Op> OpOf(v1::CompareOp op) {
  switch (op) {
    case v1::COMPARE_OP_EQUAL:
      return Op::kEqual;
    case v1::COMPARE_OP_NOT_EQUAL:
      return Op::kNotEqual;
    case v1::COMPARE_OP_LESS:
      return Op::kLess;
    case v1::COMPARE_OP_LESS_EQUAL:
      return Op::kLessEqual;
    case v1::COMPARE_OP_GREATER:
      return Op::kGreater;
    case v1::COMPARE_OP_GREATER_EQUAL:
      return Op::kGreaterEqual;
    default:
      return std::nullopt;
  }
}

// Fills nodes from messages. Each function returns whether it took all of its
// message; false comes after the one violation.
class Converter {
 public:
  Converter(const FilterLimits& limits, FieldViolations* violations)
      : checker_(limits), violations_(violations) {}

  bool Condition(const FilterExpression& in, const Where& at, size_t depth,
                 bool in_element, FilterNode* out);

 private:
  bool Refuse(const Where& at, absl::string_view why) {
    violations_->Add(at.Path(), why);
    return false;
  }
  bool Check(const Where& at, const absl::Status& status) {
    return status.ok() || Refuse(at, status.message());
  }
  // Types that do not go together.
  bool CheckLeaf(const Where& at, const FilterNode& node) {
    const absl::Status status =
        BoundFilter::Bind(node, {}, checker_.limits()).status();
    return status.ok() ||
           Refuse(at, absl::StripPrefix(status.message(), "filter: "));
  }

  bool Path(const std::string& path, const Where& at, FilterNode* out) {
    out->path = path;
    return Check({&at, "path"}, checker_.CheckPath(path));
  }
  // One more literal.
  bool Value(const v1::FilterValue& in, const Where& at, FilterNode* out);
  bool Values(const FilterExpression::Contains& in, const Where& at,
              FilterNode* out);
  // One more place.
  bool Place(bool is_set, const v1::GeoPoint& in, const Where& at,
             FilterNode* out);
  bool Corners(const FilterExpression::GeoPolygon& in, const Where& at,
               FilterNode* out);
  bool Ids(const v1::PointIds& in, const Where& at, FilterNode* out);
  bool Operands(const FilterExpression::Operands& in, const Where& at,
                size_t depth, bool in_element, FilterNode* out);
  bool Compare(const FilterExpression::Compare& in, const Where& at,
               FilterNode* out);
  bool Radius(const FilterExpression::GeoRadius& in, const Where& at,
              FilterNode* out);
  bool Leaf(const FilterExpression& in, const Where& at, FilterNode* out);

  FilterChecker checker_;
  FieldViolations* const violations_;
};

bool Converter::Value(const v1::FilterValue& in, const Where& at,
                      FilterNode* out) {
  if (in.has_list()) return Refuse(at, "is a list; give one value");
  std::optional<Literal> literal = ScalarOf(in);
  if (!literal.has_value()) {
    return Refuse(at, "has no value; set one of its fields");
  }
  const bool takes_null = out->kind == Kind::kCompare &&
                          (out->op == Op::kEqual || out->op == Op::kNotEqual);
  if (in.has_null_value() && !takes_null) {
    return Refuse(at,
                  "is NULL, which is compared by COMPARE_OP_EQUAL and "
                  "COMPARE_OP_NOT_EQUAL only; use these, or exists");
  }
  if (!Check(at, checker_.AddLiteral(*literal))) return false;
  out->literals.push_back(*std::move(literal));
  return true;
}

bool Converter::Values(const FilterExpression::Contains& in, const Where& at,
                       FilterNode* out) {
  for (int i = 0; i < in.values_size(); ++i) {
    if (!Value(in.values(i), {&at, "values", i}, out)) return false;
  }
  return true;
}

bool Converter::Place(bool is_set, const v1::GeoPoint& in, const Where& at,
                      FilterNode* out) {
  if (!is_set) return Refuse(at, "is not set; give lat and lon in degrees");
  out->points.push_back({in.lat(), in.lon()});
  return Check({&at, "lat"}, checker_.AddLiteral(in.lat())) &&
         Check({&at, "lon"}, checker_.AddLiteral(in.lon())) &&
         Check(at, CheckPlace(out->points.back()));
}

bool Converter::Corners(const FilterExpression::GeoPolygon& in, const Where& at,
                        FilterNode* out) {
  const size_t most = checker_.limits().max_corners;
  const auto n = static_cast<size_t>(in.corners_size());
  if (n < 3 || n > most) {
    return Refuse({&at, "corners"},
                  absl::StrCat("has ", n, " corners; give 3 to ", most));
  }
  for (int i = 0; i < in.corners_size(); ++i) {
    if (!Place(true, in.corners(i), {&at, "corners", i}, out)) return false;
  }
  return true;
}

bool Converter::Ids(const v1::PointIds& in, const Where& at, FilterNode* out) {
  Limits limits;
  limits.max_batch_points = checker_.limits().max_literals;
  const size_t num_violations = violations_->count();
  out->ids = ParsePointIds(in, at.Path(), limits, violations_);
  if (violations_->count() > num_violations) return false;
  if (out->ids.empty()) return Refuse(at, "is empty; give at least one id");
  for (const PointId& id : out->ids) {
    if (!Check(at, checker_.AddId(id))) return false;
  }
  return true;
}

bool Converter::Operands(const FilterExpression::Operands& in, const Where& at,
                         size_t depth, bool in_element, FilterNode* out) {
  if (in.operands_size() == 0) {
    return Refuse({&at, "operands"}, "is empty; give at least one condition");
  }
  for (int i = 0; i < in.operands_size(); ++i) {
    if (!Condition(in.operands(i), {&at, "operands", i}, depth + 1, in_element,
                   &out->children.emplace_back())) {
      return false;
    }
  }
  return true;
}

bool Converter::Compare(const FilterExpression::Compare& in, const Where& at,
                        FilterNode* out) {
  const std::optional<Op> op = OpOf(in.op());
  if (!op.has_value()) {
    return Refuse({&at, "op"}, absl::StrCat("is ", in.op(),
                                            "; give one of "
                                            "vicinal.v1.CompareOp, not "
                                            "UNSPECIFIED"));
  }
  out->op = *op;
  return Path(in.path(), at, out) && Value(in.value(), {&at, "value"}, out);
}

bool Converter::Radius(const FilterExpression::GeoRadius& in, const Where& at,
                       FilterNode* out) {
  const Where meters{&at, "meters"};
  out->meters = in.meters();
  return Path(in.path(), at, out) &&
         Place(in.has_center(), in.center(), {&at, "center"}, out) &&
         Check(meters, checker_.AddLiteral(in.meters())) &&
         Check(meters, CheckGeometry(*out, checker_.limits()));
}

bool Converter::Leaf(const FilterExpression& in, const Where& at,
                     FilterNode* out) {
  switch (in.condition_case()) {
    case FilterExpression::kCompare:
      out->kind = Kind::kCompare;
      return Compare(in.compare(), at, out);
    case FilterExpression::kContainsAny:
      out->kind = Kind::kIn;
      return Path(in.contains_any().path(), at, out) &&
             Values(in.contains_any(), at, out);
    case FilterExpression::kContainsAll:
      out->kind = Kind::kContainsAll;
      return Path(in.contains_all().path(), at, out) &&
             Values(in.contains_all(), at, out);
    case FilterExpression::kBetween:
      out->kind = Kind::kBetween;
      return Path(in.between().path(), at, out) &&
             Value(in.between().low(), {&at, "low"}, out) &&
             Value(in.between().high(), {&at, "high"}, out);
    case FilterExpression::kStartsWith:
      out->kind = Kind::kPrefix;
      out->literals.emplace_back(in.starts_with().prefix());
      return Path(in.starts_with().path(), at, out) &&
             Check({&at, "prefix"}, checker_.AddLiteral(out->literals[0]));
    case FilterExpression::kMatch:
      out->kind = Kind::kMatch;
      out->literals.emplace_back(in.match().expression());
      return Path(in.match().path(), at, out) &&
             Check({&at, "expression"},
                   checker_.AddLiteral(out->literals[0])) &&
             Check({&at, "expression"},
                   ParseTextExpression(in.match().expression()).status());
    case FilterExpression::kExists:
      out->kind = Kind::kExists;
      return Path(in.exists().path(), at, out);
    case FilterExpression::kGeoRadius:
      out->kind = Kind::kGeoRadius;
      return Radius(in.geo_radius(), at, out);
    case FilterExpression::kGeoBox: {
      const FilterExpression::GeoBox& box = in.geo_box();
      out->kind = Kind::kGeoBox;
      return Path(box.path(), at, out) &&
             Place(box.has_south_west(), box.south_west(), {&at, "south_west"},
                   out) &&
             Place(box.has_north_east(), box.north_east(), {&at, "north_east"},
                   out) &&
             Check(at, CheckGeometry(*out, checker_.limits()));
    }
    case FilterExpression::kGeoPolygon:
      out->kind = Kind::kGeoPolygon;
      return Path(in.geo_polygon().path(), at, out) &&
             Corners(in.geo_polygon(), at, out);
    default:
      return false;  // those of Condition
  }
}

// Not deeper than the limit, whatever the message is.
bool Converter::Condition(const FilterExpression& in, const Where& at,
                          size_t depth, bool in_element, FilterNode* out) {
  if (!Check(at, checker_.CheckDepth(depth)) ||
      !Check(at, checker_.AddNode())) {
    return false;
  }
  switch (in.condition_case()) {
    case FilterExpression::kConstant:
      out->kind = in.constant() ? Kind::kTrue : Kind::kFalse;
      return true;
    case FilterExpression::kAllOf:
      out->kind = Kind::kAnd;
      return Operands(in.all_of(), {&at, "all_of"}, depth, in_element, out);
    case FilterExpression::kAnyOf:
      out->kind = Kind::kOr;
      return Operands(in.any_of(), {&at, "any_of"}, depth, in_element, out);
    case FilterExpression::kNegated:
      out->kind = Kind::kNot;
      return Condition(in.negated(), {&at, "negated"}, depth + 1, in_element,
                       &out->children.emplace_back());
    case FilterExpression::kElement: {
      const Where element{&at, "element"};
      out->kind = Kind::kElement;
      return Path(in.element().path(), element, out) &&
             Condition(in.element().condition(), {&element, "condition"},
                       depth + 1, /*in_element=*/true,
                       &out->children.emplace_back());
    }
    case FilterExpression::kIds:
      out->kind = Kind::kId;
      if (in_element) {
        return Refuse({&at, "ids"},
                      "stands in an element; the id is the point's, write it "
                      "outside");
      }
      return Ids(in.ids(), {&at, "ids"}, out);
    case FilterExpression::CONDITION_NOT_SET:
      return Refuse(at, "has no condition; set one of its fields");
    default: {
      const Where leaf{&at, FilterExpression::descriptor()
                                ->FindFieldByNumber(in.condition_case())
                                ->name()};
      return Leaf(in, leaf, out) && CheckLeaf(leaf, *out);
    }
  }
}

}  // namespace

std::optional<FilterNode> ParseExpression(const FilterExpression& expression,
                                          const std::string& path,
                                          FieldViolations* violations,
                                          const FilterLimits& limits) {
  std::optional<FilterNode> node(std::in_place);
  Converter converter(limits, violations);
  if (!converter.Condition(expression, {nullptr, path}, 1, false, &*node)) {
    return std::nullopt;
  }
  return node;
}

std::optional<Literal> ScalarOf(const v1::FilterValue& value) {
  switch (value.kind_case()) {
    case v1::FilterValue::kBoolValue:
      return Literal(value.bool_value());
    case v1::FilterValue::kIntValue:
      return Literal(value.int_value());
    case v1::FilterValue::kDoubleValue:
      return Literal(value.double_value());
    case v1::FilterValue::kStringValue:
      return Literal(value.string_value());
    case v1::FilterValue::kNullValue:
      return Literal(nullptr);
    default:
      return std::nullopt;
  }
}

}  // namespace vicinal
