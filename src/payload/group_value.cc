#include "src/payload/group_value.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "src/payload/payload_json.h"

namespace vicinal {
namespace {

std::optional<GroupValue> GroupValueOf(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return value.get_ref<const std::string&>();
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() >
          static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const std::optional<int64_t> whole = IntegerOf(value.get<double>());
  if (!whole.has_value()) return std::nullopt;
  return *whole;
}

}  // namespace

std::vector<GroupValue> GroupValuesOf(absl::string_view payload,
                                      absl::string_view path) {
  std::vector<GroupValue> values;
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  AnyValue(ParsePayload(payload), names, [&](const Json& json) {
    std::optional<GroupValue> value = GroupValueOf(json);
    if (value.has_value() &&
        std::find(values.begin(), values.end(), *value) == values.end()) {
      values.push_back(*std::move(value));
    }
    return false;
  });
  return values;
}

}  // namespace vicinal
