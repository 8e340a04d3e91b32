#include "server/convert_filter.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

// nullopt: a list, or nothing.
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
    default:
      return std::nullopt;
  }
}

// False: some value is missing.
bool AppendValues(const v1::FilterValue& value, FilterParameter* out) {
  out->is_list = value.has_list();
  if (!out->is_list) {
    const std::optional<Literal> scalar = ScalarOf(value);
    if (scalar.has_value()) out->values.push_back(*scalar);
    return scalar.has_value();
  }
  out->values.reserve(value.list().values_size());
  for (const v1::FilterValue& element : value.list().values()) {
    std::optional<Literal> scalar = ScalarOf(element);
    if (!scalar.has_value()) return false;
    out->values.push_back(*std::move(scalar));
  }
  return true;
}

}  // namespace

std::shared_ptr<const FilterNode> ParseFilter(const v1::Filter& filter,
                                              const std::string& path,
                                              FieldViolations* violations) {
  FilterParameters parameters;
  for (const auto& [name, value] : filter.parameters()) {
    if (!AppendValues(value, &parameters[name])) {
      violations->Add(absl::StrCat(path, ".parameters[\"", name, "\"]"),
                      "has no value; set one of its fields, in a list for "
                      "each element");
      return nullptr;
    }
  }
  absl::StatusOr<FilterNode> node = ParseFilter(filter.text(), parameters);
  absl::Status status = node.status();
  if (status.ok()) status = BoundFilter::Bind(*node, {}).status();
  if (!status.ok()) {
    violations->Add(path + ".text", status.message());
    return nullptr;
  }
  return std::make_shared<const FilterNode>(*std::move(node));
}

}  // namespace vicinal
