#include "server/convert_filter.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/filter_expression.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

// False: some value is missing.
bool AppendValues(const v1::FilterValue& value, FilterParameter* out) {
  out->is_list = value.has_list();
  if (!out->is_list) {
    std::optional<Literal> scalar = ScalarOf(value);
    if (!scalar.has_value()) return false;
    out->values.push_back(*std::move(scalar));
    return true;
  }
  out->values.reserve(static_cast<size_t>(value.list().values_size()));
  for (const v1::FilterValue& element : value.list().values()) {
    std::optional<Literal> scalar = ScalarOf(element);
    if (!scalar.has_value()) return false;
    out->values.push_back(*std::move(scalar));
  }
  return true;
}

std::optional<FilterNode> ParseText(const v1::Filter& filter,
                                    const std::string& path,
                                    FieldViolations* violations) {
  FilterParameters parameters;
  for (const auto& [name, value] : filter.parameters()) {
    if (!AppendValues(value, &parameters[name])) {
      violations->Add(absl::StrCat(path, ".parameters[\"", name, "\"]"),
                      "has no value; set one of its fields, in a list for "
                      "each element");
      return std::nullopt;
    }
  }
  absl::StatusOr<FilterNode> node = ParseFilter(filter.text(), parameters);
  absl::Status status = node.status();
  if (status.ok()) status = BoundFilter::Bind(*node, {}).status();
  if (!status.ok()) {
    violations->Add(path + ".text", status.message());
    return std::nullopt;
  }
  return *std::move(node);
}

}  // namespace

std::shared_ptr<const FilterNode> ParseFilter(const v1::Filter& filter,
                                              const std::string& path,
                                              FieldViolations* violations) {
  std::optional<FilterNode> node;
  if (!filter.has_expression()) {
    node = ParseText(filter, path, violations);
  } else if (!filter.text().empty()) {
    violations->Add(path, "has both text and expression; give one of them");
  } else if (!filter.parameters().empty()) {
    violations->Add(path + ".parameters",
                    "is for text; write the values into the expression");
  } else {
    node =
        ParseExpression(filter.expression(), path + ".expression", violations);
  }
  if (!node.has_value()) return nullptr;
  return std::make_shared<const FilterNode>(*std::move(node));
}

bool IsBlank(const v1::Filter& filter) {
  return !filter.has_expression() &&
         absl::StripAsciiWhitespace(filter.text()).empty();
}

}  // namespace vicinal
