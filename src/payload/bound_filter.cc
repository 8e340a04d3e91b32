#include "src/payload/bound_filter.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "src/base/status_macros.h"
#include "src/payload/filter_checker.h"
#include "src/payload/payload_json.h"

namespace vicinal {

struct BoundFilter::Node {
  enum class Kind : uint8_t {
    kTrue,
    kFalse,
    kAnd,
    kOr,
    kNot,
    kKeys,     // some value of the path, of `type`, has a key in `ranges`
    kExists,   // the path has a value of any type
    kElement,  // some object at the path satisfies the child
    kGeo,      // some place at the path is in `area`
    kId,
    kText,  // the text at the path has what `text` asks for
  };
  Kind kind = Kind::kTrue;
  std::vector<std::string> path;
  PayloadType type = PayloadType::kKeyword;
  std::vector<KeyRange> ranges;  // ascending, apart
  FilterNode area;
  absl::flat_hash_set<PointId> ids;
  std::shared_ptr<const TextCondition> text;
  std::vector<std::unique_ptr<const Node>> children;
};

namespace {

using Node = BoundFilter::Node;
using Kind = FilterNode::Kind;
using Op = FilterNode::Op;
using NodePtr = std::unique_ptr<Node>;

bool MatchesText(const Node& node, const Json& json) {
  if (node.text == nullptr) return false;
  std::vector<absl::string_view> strings;
  AnyValue(json, node.path, [&](const Json& value) {
    if (value.is_string()) {
      strings.push_back(value.get_ref<const std::string&>());
    }
    return false;
  });
  return node.text->Matches(strings);
}

bool Matches(const Node& node, const PointId& id, const Json& json) {
  const auto matches = [&](const auto& child) {
    return Matches(*child, id, json);
  };
  switch (node.kind) {
    case Node::Kind::kTrue:
      return true;
    case Node::Kind::kFalse:
      return false;
    case Node::Kind::kAnd:
      return std::all_of(node.children.begin(), node.children.end(), matches);
    case Node::Kind::kOr:
      return std::any_of(node.children.begin(), node.children.end(), matches);
    case Node::Kind::kNot:
      return !matches(node.children[0]);
    case Node::Kind::kKeys:
      return AnyValue(json, node.path, [&](const Json& value) {
        const std::optional<std::string> key = KeyOf(value, node.type);
        return key.has_value() && IsInRanges(node.ranges, *key);
      });
    case Node::Kind::kExists:
      return AnyValue(json, node.path, [](const Json&) { return true; });
    case Node::Kind::kElement:
      return AnyValue(json, node.path, [&](const Json& value) {
        return value.is_object() && Matches(*node.children[0], id, value);
      });
    case Node::Kind::kGeo:
      return AnyValue(json, node.path, [&](const Json& value) {
        const std::optional<GeoPoint> place = PlaceOf(value);
        return place.has_value() &&
               (node.area.kind == Kind::kTrue || IsInArea(node.area, *place));
      });
    case Node::Kind::kId:
      return node.ids.contains(id);
    case Node::Kind::kText:
      return MatchesText(node, json);
  }
  return false;
}

const Bitmap& Possible(const RowBounds& bounds) {
  return bounds.possible.has_value() ? *bounds.possible : bounds.certain;
}

RowBounds BoundsOf(const Node& node, size_t num_rows, const FieldRows& fields) {
  RowBounds out{Bitmap(num_rows), std::nullopt};
  bool known = true;
  const auto field = [&] {
    return PayloadField{absl::StrJoin(node.path, "."), node.type};
  };
  switch (node.kind) {
    case Node::Kind::kTrue:
      out.certain.Flip();
      break;
    case Node::Kind::kFalse:
      break;
    case Node::Kind::kAnd:
    case Node::Kind::kOr: {
      out = BoundsOf(*node.children[0], num_rows, fields);
      for (size_t i = 1; i < node.children.size(); ++i) {
        const RowBounds child = BoundsOf(*node.children[i], num_rows, fields);
        if (child.possible.has_value() && !out.possible.has_value()) {
          out.possible = out.certain;
        }
        if (node.kind == Node::Kind::kAnd) {
          if (out.possible.has_value()) out.possible->And(Possible(child));
          out.certain.And(child.certain);
        } else {
          if (out.possible.has_value()) out.possible->Or(Possible(child));
          out.certain.Or(child.certain);
        }
      }
      break;
    }
    case Node::Kind::kNot:
      out = BoundsOf(*node.children[0], num_rows, fields);
      if (out.possible.has_value()) {
        std::swap(out.certain, *out.possible);
        out.possible->Flip();
      }
      out.certain.Flip();
      break;
    case Node::Kind::kKeys:
      known = fields.AddRows(field(), node.ranges, &out.certain);
      break;
    case Node::Kind::kGeo:
      known = fields.AddRowsIn(field(), node.area, &out.certain);
      break;
    case Node::Kind::kId:
      known = fields.AddRowsOf(node.ids, &out.certain);
      break;
    case Node::Kind::kText:
      known =
          node.text == nullptr || fields.AddRowsWith(*node.text, &out.certain);
      break;
    case Node::Kind::kExists:
    case Node::Kind::kElement:
      known = false;
      break;
  }
  if (!known) {
    out.possible.emplace(num_rows);
    out.possible->Flip();
  }
  return out;
}

bool NeedsPayload(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kTrue:
    case Node::Kind::kFalse:
    case Node::Kind::kId:
      return false;
    case Node::Kind::kAnd:
    case Node::Kind::kOr:
    case Node::Kind::kNot:
      return std::any_of(
          node.children.begin(), node.children.end(),
          [](const auto& child) { return NeedsPayload(*child); });
    default:
      return true;
  }
}

absl::string_view NameOf(const Literal& literal) {
  constexpr absl::string_view kNames[] = {"NULL", "a bool", "an integer",
                                          "a double", "a string"};
  return kNames[literal.index()];
}

// What a comparison asks of keys.
class Binder {
 public:
  Binder(std::span<const PayloadField> fields, const FilterLimits& limits,
         bool declared_only, const TextConditionMaker* texts)
      : fields_(fields),
        checker_(limits),
        declared_only_(declared_only),
        texts_(texts) {}

  absl::StatusOr<NodePtr> Bind(const FilterNode& in, const std::string& prefix,
                               size_t depth);

 private:
  absl::StatusOr<NodePtr> Join(const FilterNode& in, const std::string& prefix,
                               size_t depth);
  // Leaves, of a path relative to the element they are in.
  absl::StatusOr<NodePtr> Compare(const FilterNode& in,
                                  const std::string& full) const;
  absl::StatusOr<NodePtr> In(const FilterNode& in,
                             const std::string& full) const;
  absl::StatusOr<NodePtr> ContainsAll(const FilterNode& in,
                                      const std::string& full) const;
  absl::StatusOr<NodePtr> Between(const FilterNode& in,
                                  const std::string& full) const;
  absl::StatusOr<NodePtr> Prefix(const FilterNode& in,
                                 const std::string& full) const;
  absl::StatusOr<NodePtr> Geo(const FilterNode& in,
                              const std::string& full) const;
  absl::StatusOr<NodePtr> Exists(const FilterNode& in,
                                 const std::string& full) const;
  absl::StatusOr<NodePtr> Match(const FilterNode& in,
                                const std::string& prefix) const;

  const PayloadField* FieldOf(const std::string& full) const {
    for (const PayloadField& field : fields_) {
      if (field.path == full) return &field;
    }
    return nullptr;
  }
  // The type that a literal is compared under.
  absl::StatusOr<PayloadType> TypeFor(const Literal& literal,
                                      const std::string& full) const;
  // Keys that compare so to a literal; of the type of TypeFor.
  absl::StatusOr<KeyRange> RangeOf(Op op, const Literal& literal,
                                   PayloadType type,
                                   const std::string& full) const;
  // Against the limits.
  absl::Status Check(const FilterNode& in, size_t depth);

  const std::span<const PayloadField> fields_;
  FilterChecker checker_;
  const bool declared_only_;
  const TextConditionMaker* const texts_;
};

NodePtr NewNode(Node::Kind kind) {
  auto node = std::make_unique<Node>();
  node->kind = kind;
  return node;
}
NodePtr NewLeaf(Node::Kind kind, const std::string& path) {
  NodePtr node = NewNode(kind);
  node->path = absl::StrSplit(path, '.');
  return node;
}
NodePtr Not(NodePtr child) {
  NodePtr node = NewNode(Node::Kind::kNot);
  node->children.push_back(std::move(child));
  return node;
}

// Sorts, and joins those that touch.
void Normalize(std::vector<KeyRange>* ranges) {
  std::erase_if(*ranges, [](const KeyRange& range) {
    return range.end.has_value() && *range.end <= range.begin;
  });
  std::sort(
      ranges->begin(), ranges->end(),
      [](const KeyRange& a, const KeyRange& b) { return a.begin < b.begin; });
  size_t n = 0;
  for (KeyRange& range : *ranges) {
    KeyRange* const last = n > 0 ? &(*ranges)[n - 1] : nullptr;
    if (last == nullptr ||
        (last->end.has_value() && *last->end < range.begin)) {
      std::swap((*ranges)[n++], range);
    } else if (last->end.has_value() &&
               (!range.end.has_value() || *last->end < *range.end)) {
      last->end = std::move(range.end);
    }
  }
  ranges->resize(n);
}

absl::Status Binder::Check(const FilterNode& in, size_t depth) {
  VICINAL_RETURN_IF_ERROR(checker_.CheckDepth(depth));
  VICINAL_RETURN_IF_ERROR(checker_.AddNode());
  for (const Literal& literal : in.literals) {
    VICINAL_RETURN_IF_ERROR(checker_.AddLiteral(literal));
  }
  for (const PointId& id : in.ids) {
    VICINAL_RETURN_IF_ERROR(checker_.AddId(id));
  }
  switch (in.kind) {
    case Kind::kTrue:
    case Kind::kFalse:
    case Kind::kAnd:
    case Kind::kOr:
    case Kind::kNot:
    case Kind::kId:
      return absl::OkStatus();
    default:
      return checker_.CheckPath(in.path);
  }
}

absl::StatusOr<PayloadType> Binder::TypeFor(const Literal& literal,
                                            const std::string& full) const {
  const bool is_string = std::holds_alternative<std::string>(literal);
  const bool is_bool = std::holds_alternative<bool>(literal);
  const bool is_number = std::holds_alternative<int64_t>(literal) ||
                         std::holds_alternative<double>(literal);
  if (!(is_string || is_bool || is_number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: ", full,
                     " is compared with NULL; NULL goes with = and != only"));
  }
  const PayloadField* field = FieldOf(full);
  if (field == nullptr) {
    return is_string ? PayloadType::kKeyword
           : is_bool ? PayloadType::kBool
                     : PayloadType::kFloat64;
  }
  const bool fits =
      field->type == PayloadType::kInt64 || field->type == PayloadType::kFloat64
          ? is_number
      : field->type == PayloadType::kBool ? is_bool
      : field->type == PayloadType::kGeo  ? false
                                          : is_string;
  if (!fits) {
    return absl::InvalidArgumentError(absl::StrCat(
        "filter: ", full, " is declared as ", PayloadTypeName(field->type),
        " and cannot be compared with ", NameOf(literal),
        field->type == PayloadType::kGeo ? ": use GEO_RADIUS, GEO_BOX or "
                                           "GEO_POLYGON"
                                         : ": change the value or the field"));
  }
  return field->type;
}

// The next key after `key`.
std::string After(std::string key) {
  key.push_back('\0');
  return key;
}

KeyRange RangeOfKey(Op op, std::string key) {
  switch (op) {
    case Op::kLess:
      return {"", std::move(key)};
    case Op::kLessEqual:
      return {"", After(std::move(key))};
    case Op::kGreater:
      return {After(std::move(key)), std::nullopt};
    case Op::kGreaterEqual:
      return {std::move(key), std::nullopt};
    default: {
      std::string end = After(key);
      return {std::move(key), std::move(end)};
    }
  }
}

KeyRange Nothing() { return {"", ""}; }
KeyRange Everything() { return {"", std::nullopt}; }

// Integers that compare so to a double.
KeyRange RangeOfIntegers(Op op, double value) {
  const std::optional<int64_t> whole = IntegerOf(value);
  if (whole.has_value()) return RangeOfKey(op, KeyOfInteger(*whole));
  if (op == Op::kEqual) return Nothing();
  const bool wants_less = op == Op::kLess || op == Op::kLessEqual;
  if (value >= 0x1p63) return wants_less ? Everything() : Nothing();
  if (value < -0x1p63) return wants_less ? Nothing() : Everything();
  // Between two integers.
  const auto below = static_cast<int64_t>(std::floor(value));
  return RangeOfKey(wants_less ? Op::kLessEqual : Op::kGreater,
                    KeyOfInteger(below));
}

absl::StatusOr<KeyRange> Binder::RangeOf(Op op, const Literal& literal,
                                         PayloadType type,
                                         const std::string& full) const {
  const auto* text = std::get_if<std::string>(&literal);
  const auto quoted = [&] {
    return absl::StrCat("filter: ", full, " is compared with \"",
                        text->substr(0, 64), "\", which is no ");
  };
  switch (type) {
    case PayloadType::kKeyword:
      return RangeOfKey(op, *text);
    case PayloadType::kBool:
      if (op != Op::kEqual) {
        return absl::InvalidArgumentError(
            absl::StrCat("filter: ", full,
                         " is compared with a bool by an order; use = or "
                         "!="));
      }
      return RangeOfKey(op, KeyOfInteger(std::get<bool>(literal) ? 1 : 0));
    case PayloadType::kInt64:
      if (const auto* integer = std::get_if<int64_t>(&literal)) {
        return RangeOfKey(op, KeyOfInteger(*integer));
      }
      return RangeOfIntegers(op, std::get<double>(literal));
    case PayloadType::kFloat64:
      if (const auto* integer = std::get_if<int64_t>(&literal)) {
        return RangeOfKey(op, KeyOfDouble(static_cast<double>(*integer)));
      }
      return RangeOfKey(op, KeyOfDouble(std::get<double>(literal)));
    case PayloadType::kDatetime: {
      const std::optional<int64_t> micros = MicrosOf(*text);
      if (!micros.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat(
            quoted(), "date; write 2024-05-31 or 2024-05-31T12:00:00Z"));
      }
      return RangeOfKey(op, KeyOfInteger(*micros));
    }
    case PayloadType::kUuid: {
      const auto id = PointId::ParseUuid(*text);
      if (!id.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(
            quoted(), "UUID; write 8-4-4-4-12 hexadecimal digits"));
      }
      return RangeOfKey(op, std::string(id->uuid().begin(), id->uuid().end()));
    }
    case PayloadType::kGeo:
      break;
  }
  return absl::InternalError("a place was compared");
}

absl::StatusOr<NodePtr> Binder::Exists(const FilterNode& in,
                                       const std::string& full) const {
  const PayloadField* field = FieldOf(full);
  if (field == nullptr) return NewLeaf(Node::Kind::kExists, in.path);
  NodePtr node = NewLeaf(
      field->type == PayloadType::kGeo ? Node::Kind::kGeo : Node::Kind::kKeys,
      in.path);
  node->type = field->type;
  node->ranges.push_back(Everything());
  return node;
}

absl::StatusOr<NodePtr> Binder::Compare(const FilterNode& in,
                                        const std::string& full) const {
  if (in.literals.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: ", full, " is compared with ", in.literals.size(),
                     " values; it must be one"));
  }
  const Literal& literal = in.literals[0];
  const bool negated = in.op == Op::kNotEqual;
  const Op op = negated ? Op::kEqual : in.op;
  if (std::holds_alternative<std::nullptr_t>(literal) && op == Op::kEqual) {
    VICINAL_ASSIGN_OR_RETURN(NodePtr exists, Exists(in, full));
    return negated ? std::move(exists) : Not(std::move(exists));
  }
  NodePtr node = NewLeaf(Node::Kind::kKeys, in.path);
  VICINAL_ASSIGN_OR_RETURN(node->type, TypeFor(literal, full));
  VICINAL_ASSIGN_OR_RETURN(KeyRange range,
                           RangeOf(op, literal, node->type, full));
  node->ranges.push_back(std::move(range));
  Normalize(&node->ranges);
  return negated ? Not(std::move(node)) : std::move(node);
}

absl::StatusOr<NodePtr> Binder::In(const FilterNode& in,
                                   const std::string& full) const {
  // One leaf for each type of the list.
  std::vector<NodePtr> leaves;
  for (const Literal& literal : in.literals) {
    VICINAL_ASSIGN_OR_RETURN(const PayloadType type, TypeFor(literal, full));
    VICINAL_ASSIGN_OR_RETURN(KeyRange range,
                             RangeOf(Op::kEqual, literal, type, full));
    auto leaf = std::find_if(leaves.begin(), leaves.end(),
                             [&](const NodePtr& l) { return l->type == type; });
    if (leaf == leaves.end()) {
      leaves.push_back(NewLeaf(Node::Kind::kKeys, in.path));
      leaf = leaves.end() - 1;
      (*leaf)->type = type;
    }
    (*leaf)->ranges.push_back(std::move(range));
  }
  for (const NodePtr& leaf : leaves) Normalize(&leaf->ranges);
  if (leaves.empty()) return NewNode(Node::Kind::kFalse);
  if (leaves.size() == 1) return std::move(leaves[0]);
  NodePtr node = NewNode(Node::Kind::kOr);
  for (NodePtr& leaf : leaves) node->children.push_back(std::move(leaf));
  return node;
}

absl::StatusOr<NodePtr> Binder::ContainsAll(const FilterNode& in,
                                            const std::string& full) const {
  NodePtr node = NewNode(Node::Kind::kAnd);
  for (const Literal& literal : in.literals) {
    FilterNode one{.kind = Kind::kCompare, .path = in.path};
    one.literals.push_back(literal);
    VICINAL_ASSIGN_OR_RETURN(NodePtr child, Compare(one, full));
    node->children.push_back(std::move(child));
  }
  if (node->children.empty()) return NewNode(Node::Kind::kTrue);
  return node;
}

absl::StatusOr<NodePtr> Binder::Between(const FilterNode& in,
                                        const std::string& full) const {
  if (in.literals.size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat("filter: BETWEEN of ", full,
                                                   " has ", in.literals.size(),
                                                   " values; it must be two"));
  }
  NodePtr node = NewLeaf(Node::Kind::kKeys, in.path);
  VICINAL_ASSIGN_OR_RETURN(node->type, TypeFor(in.literals[0], full));
  VICINAL_ASSIGN_OR_RETURN(const PayloadType other,
                           TypeFor(in.literals[1], full));
  if (other != node->type) {
    return absl::InvalidArgumentError(absl::StrCat(
        "filter: BETWEEN of ", full, " has ", NameOf(in.literals[0]), " and ",
        NameOf(in.literals[1]), "; give two values of one type"));
  }
  VICINAL_ASSIGN_OR_RETURN(
      KeyRange low,
      RangeOf(Op::kGreaterEqual, in.literals[0], node->type, full));
  VICINAL_ASSIGN_OR_RETURN(
      KeyRange high, RangeOf(Op::kLessEqual, in.literals[1], node->type, full));
  // Nothing is above the empty range's end, so a low bound that nothing
  // reaches stays one.
  if (low.end.has_value()) return NewNode(Node::Kind::kFalse);
  node->ranges.push_back({std::move(low.begin), std::move(high.end)});
  Normalize(&node->ranges);
  return node;
}

absl::StatusOr<NodePtr> Binder::Prefix(const FilterNode& in,
                                       const std::string& full) const {
  const auto* text = in.literals.size() == 1
                         ? std::get_if<std::string>(&in.literals[0])
                         : nullptr;
  const PayloadField* field = FieldOf(full);
  if (text == nullptr ||
      (field != nullptr && field->type != PayloadType::kKeyword)) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: STARTS WITH of ", full,
                     " wants a string and a field of strings"));
  }
  NodePtr node = NewLeaf(Node::Kind::kKeys, in.path);
  node->ranges.push_back(KeysWithPrefix(*text));
  return node;
}

absl::StatusOr<NodePtr> Binder::Match(const FilterNode& in,
                                      const std::string& prefix) const {
  const auto* expression = in.literals.size() == 1
                               ? std::get_if<std::string>(&in.literals[0])
                               : nullptr;
  if (expression == nullptr || !prefix.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "filter: MATCH of ", in.path,
        prefix.empty()
            ? " wants a string, which says what the text must have"
            : " stands inside of [ ]; it is the point's, write it outside"));
  }
  NodePtr node = NewLeaf(Node::Kind::kText, in.path);
  if (texts_ == nullptr) return node;
  auto text = (*texts_)(in.path, *expression);
  if (!text.ok()) {
    return absl::Status(text.status().code(),
                        absl::StrCat("filter: MATCH of ", in.path, ": ",
                                     text.status().message()));
  }
  node->text = *std::move(text);
  return node;
}

absl::StatusOr<NodePtr> Binder::Geo(const FilterNode& in,
                                    const std::string& full) const {
  const PayloadField* field = FieldOf(full);
  if (field != nullptr && field->type != PayloadType::kGeo) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: ", full, " is declared as ",
                     PayloadTypeName(field->type), " and is no place"));
  }
  if (absl::Status status = CheckGeometry(in, checker_.limits());
      !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: ", full, ": ", status.message()));
  }
  NodePtr node = NewLeaf(Node::Kind::kGeo, in.path);
  node->type = PayloadType::kGeo;
  node->area = in;
  return node;
}

absl::StatusOr<NodePtr> Binder::Join(const FilterNode& in,
                                     const std::string& prefix, size_t depth) {
  if (in.children.empty() || (in.kind != Kind::kAnd && in.kind != Kind::kOr &&
                              in.children.size() != 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: a node has ", in.children.size(),
                     " children; AND and OR take one or more, NOT and an "
                     "element exactly one"));
  }
  NodePtr node = in.kind == Kind::kAnd  ? NewNode(Node::Kind::kAnd)
                 : in.kind == Kind::kOr ? NewNode(Node::Kind::kOr)
                 : in.kind == Kind::kNot
                     ? NewNode(Node::Kind::kNot)
                     : NewLeaf(Node::Kind::kElement, in.path);
  const std::string inner =
      in.kind == Kind::kElement ? absl::StrCat(prefix, in.path, ".") : prefix;
  for (const FilterNode& child : in.children) {
    VICINAL_ASSIGN_OR_RETURN(NodePtr bound, Bind(child, inner, depth + 1));
    node->children.push_back(std::move(bound));
  }
  return node;
}

absl::StatusOr<NodePtr> Binder::Bind(const FilterNode& in,
                                     const std::string& prefix, size_t depth) {
  if (absl::Status status = Check(in, depth); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: ", status.message()));
  }
  switch (in.kind) {
    case Kind::kTrue:
      return NewNode(Node::Kind::kTrue);
    case Kind::kFalse:
      return NewNode(Node::Kind::kFalse);
    case Kind::kAnd:
    case Kind::kOr:
    case Kind::kNot:
      return Join(in, prefix, depth);
    case Kind::kId: {
      if (!prefix.empty()) {
        return absl::InvalidArgumentError(
            "filter: ID stands inside of [ ]; it is the point's, write it "
            "outside");
      }
      NodePtr node = NewNode(Node::Kind::kId);
      node->ids.insert(in.ids.begin(), in.ids.end());
      return node;
    }
    case Kind::kMatch:
      return Match(in, prefix);
    default:
      break;
  }
  const std::string full = prefix + in.path;
  if (declared_only_ && in.kind != Kind::kElement && FieldOf(full) == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "filter: ", full,
        " has no payload index, and this collection refuses to filter "
        "without; create one"));
  }
  switch (in.kind) {
    case Kind::kElement:
      return Join(in, prefix, depth);
    case Kind::kCompare:
      return Compare(in, full);
    case Kind::kIn:
      return In(in, full);
    case Kind::kContainsAll:
      return ContainsAll(in, full);
    case Kind::kBetween:
      return Between(in, full);
    case Kind::kExists:
      return Exists(in, full);
    case Kind::kPrefix:
      return Prefix(in, full);
    default:
      return Geo(in, full);
  }
}

}  // namespace

bool IsInRanges(std::span<const KeyRange> ranges, absl::string_view key) {
  auto it = std::upper_bound(ranges.begin(), ranges.end(), key,
                             [](absl::string_view k, const KeyRange& range) {
                               return k < range.begin;
                             });
  if (it == ranges.begin()) return false;
  --it;
  return !it->end.has_value() || key < *it->end;
}

absl::StatusOr<BoundFilter> BoundFilter::Bind(
    const FilterNode& filter, std::span<const PayloadField> fields,
    const FilterLimits& limits, bool declared_only,
    const TextConditionMaker* texts) {
  VICINAL_ASSIGN_OR_RETURN(
      NodePtr root,
      Binder(fields, limits, declared_only, texts).Bind(filter, "", 1));
  return BoundFilter(std::move(root));
}

BoundFilter::BoundFilter(std::unique_ptr<const Node> root)
    : root_(std::move(root)) {}
BoundFilter::BoundFilter(BoundFilter&&) noexcept = default;
BoundFilter& BoundFilter::operator=(BoundFilter&&) noexcept = default;
BoundFilter::~BoundFilter() = default;

bool BoundFilter::accepts_all() const {
  return root_->kind == Node::Kind::kTrue;
}

bool BoundFilter::accepts_none() const {
  return root_->kind == Node::Kind::kFalse;
}

RowBounds BoundFilter::Bounds(size_t num_rows, const FieldRows& fields) const {
  return BoundsOf(*root_, num_rows, fields);
}

std::optional<std::string> BoundFilter::OnlyKey() const {
  if (root_->kind != Node::Kind::kKeys || root_->ranges.size() != 1 ||
      !IsOneKey(root_->ranges[0])) {
    return std::nullopt;
  }
  return root_->ranges[0].begin;
}

bool BoundFilter::needs_payload() const { return NeedsPayload(*root_); }

bool BoundFilter::Matches(const PointId& id, absl::string_view payload) const {
  // Payloads were checked when they were written.
  const Json json = ParsePayload(needs_payload() ? payload : "");
  return ::vicinal::Matches(*root_, id, json);
}

bool BoundFilter::Matches(const PointId& id, PayloadValues* payload) const {
  if (!needs_payload()) return Matches(id, absl::string_view());
  return ::vicinal::Matches(*root_, id, payload->parsed().json);
}

}  // namespace vicinal
