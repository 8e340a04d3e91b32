#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/payload/filter_text.h"
#include "src/payload/filter_words.h"

namespace vicinal {
namespace {

using Kind = FilterNode::Kind;

void AppendName(absl::string_view name, std::string* out) {
  bool plain = !name.empty() && filter_words::IsNameStart(name[0]) &&
               !filter_words::IsReserved(name);
  for (const char c : name) plain = plain && filter_words::IsNamePart(c);
  if (plain) {
    absl::StrAppend(out, name);
    return;
  }
  out->push_back('`');
  for (const char c : name) out->append(c == '`' ? 2 : 1, c);
  out->push_back('`');
}

void AppendPath(absl::string_view path, std::string* out) {
  for (;;) {
    const size_t dot = path.find('.');
    AppendName(path.substr(0, dot), out);
    if (dot == absl::string_view::npos) return;
    out->push_back('.');
    path.remove_prefix(dot + 1);
  }
}

void AppendString(absl::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppend(
          out, "\\u",
          absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad4));
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

void AppendDouble(double value, std::string* out) {
  char buffer[40];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof(buffer), value);
  const absl::string_view digits(buffer, static_cast<size_t>(end - buffer));
  absl::StrAppend(out, digits);
  if (digits.find_first_of(".e") == absl::string_view::npos) out->append(".0");
}

void AppendLiteral(const Literal& literal, std::string* out) {
  if (std::holds_alternative<std::nullptr_t>(literal)) {
    out->append("NULL");
  } else if (const auto* flag = std::get_if<bool>(&literal)) {
    out->append(*flag ? "TRUE" : "FALSE");
  } else if (const auto* integer = std::get_if<int64_t>(&literal)) {
    absl::StrAppend(out, *integer);
  } else if (const auto* number = std::get_if<double>(&literal)) {
    AppendDouble(*number, out);
  } else {
    AppendString(std::get<std::string>(literal), out);
  }
}

void AppendList(const std::vector<Literal>& literals, std::string* out) {
  out->push_back('(');
  for (size_t i = 0; i < literals.size(); ++i) {
    if (i > 0) out->append(", ");
    AppendLiteral(literals[i], out);
  }
  out->push_back(')');
}

void AppendNode(const FilterNode& node, std::string* out);

void AppendJoined(const FilterNode& node, absl::string_view word,
                  std::string* out) {
  for (size_t i = 0; i < node.children.size(); ++i) {
    if (i > 0) absl::StrAppend(out, " ", word, " ");
    const FilterNode& child = node.children[i];
    const bool wrap = child.kind == Kind::kAnd || child.kind == Kind::kOr;
    if (wrap) out->push_back('(');
    AppendNode(child, out);
    if (wrap) out->push_back(')');
  }
}

void AppendGeo(const FilterNode& node, absl::string_view name,
               std::string* out) {
  absl::StrAppend(out, name, "(");
  AppendPath(node.path, out);
  for (const GeoPoint& point : node.points) {
    out->append(", ");
    AppendDouble(point.lat, out);
    out->append(", ");
    AppendDouble(point.lon, out);
  }
  if (node.kind == Kind::kGeoRadius) {
    out->append(", ");
    AppendDouble(node.meters, out);
  }
  out->push_back(')');
}

void AppendId(const PointId& id, std::string* out) {
  if (id.is_string()) {
    const bool looks_like_uuid = PointId::ParseUuid(id.string()).ok();
    if (looks_like_uuid) out->append("STRING(");
    AppendString(id.string(), out);
    if (looks_like_uuid) out->push_back(')');
  } else if (id.is_number()) {
    absl::StrAppend(out, id.number());
  } else {
    AppendString(id.ToString(), out);
  }
}

void AppendNode(const FilterNode& node, std::string* out) {
  switch (node.kind) {
    case Kind::kTrue:
      out->append("TRUE");
      return;
    case Kind::kFalse:
      out->append("FALSE");
      return;
    case Kind::kAnd:
      return AppendJoined(node, "AND", out);
    case Kind::kOr:
      return AppendJoined(node, "OR", out);
    case Kind::kNot: {
      out->append("NOT (");
      AppendNode(node.children[0], out);
      out->push_back(')');
      return;
    }
    case Kind::kCompare: {
      constexpr absl::string_view kOps[] = {" = ",  " != ", " < ",
                                            " <= ", " > ",  " >= "};
      AppendPath(node.path, out);
      absl::StrAppend(out, kOps[static_cast<size_t>(node.op)]);
      return AppendLiteral(node.literals[0], out);
    }
    case Kind::kIn:
    case Kind::kContainsAll:
      AppendPath(node.path, out);
      out->append(node.kind == Kind::kIn ? " IN " : " CONTAINS ALL ");
      return AppendList(node.literals, out);
    case Kind::kBetween:
      AppendPath(node.path, out);
      out->append(" BETWEEN ");
      AppendLiteral(node.literals[0], out);
      out->append(" AND ");
      return AppendLiteral(node.literals[1], out);
    case Kind::kExists:
      out->append("EXISTS(");
      AppendPath(node.path, out);
      out->push_back(')');
      return;
    case Kind::kPrefix:
      AppendPath(node.path, out);
      out->append(" STARTS WITH ");
      return AppendLiteral(node.literals[0], out);
    case Kind::kElement:
      AppendPath(node.path, out);
      out->push_back('[');
      AppendNode(node.children[0], out);
      out->push_back(']');
      return;
    case Kind::kGeoRadius:
      return AppendGeo(node, "GEO_RADIUS", out);
    case Kind::kGeoBox:
      return AppendGeo(node, "GEO_BOX", out);
    case Kind::kGeoPolygon:
      return AppendGeo(node, "GEO_POLYGON", out);
    case Kind::kId: {
      out->append("ID IN (");
      for (size_t i = 0; i < node.ids.size(); ++i) {
        if (i > 0) out->append(", ");
        AppendId(node.ids[i], out);
      }
      out->push_back(')');
      return;
    }
    case Kind::kMatch:
      out->append("MATCH(");
      AppendPath(node.path, out);
      out->append(", ");
      AppendLiteral(node.literals[0], out);
      out->push_back(')');
      return;
  }
}

}  // namespace

std::string FilterToText(const FilterNode& node) {
  std::string out;
  AppendNode(node, &out);
  return out;
}

}  // namespace vicinal
