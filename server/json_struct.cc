#include "server/json_struct.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/struct.pb.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;
using Json = nlohmann::json;

// The kinds nest in one another, so these two call each other.
absl::StatusOr<Json> ToJson(const Value& value, size_t depth_left);

absl::Status TooDeep() {
  return absl::InvalidArgumentError(
      "The payload is nested too deeply; flatten it.");
}

absl::StatusOr<Json> ToJson(const Struct& value, size_t depth_left) {
  if (depth_left == 0) return TooDeep();
  Json out = Json::object();  // keeps its keys sorted
  for (const auto& [key, field] : value.fields()) {
    VICINAL_ASSIGN_OR_RETURN(out[key], ToJson(field, depth_left - 1));
  }
  return out;
}

absl::StatusOr<Json> NumberToJson(double number) {
  if (!std::isfinite(number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("The payload holds the number ", number,
                     ", which JSON cannot express; leave the field out."));
  }
  constexpr double kExactLimit = 9007199254740992.0;  // 2^53
  if (std::trunc(number) == number && std::abs(number) < kExactLimit) {
    return Json(static_cast<int64_t>(number));
  }
  return Json(number);
}

absl::StatusOr<Json> ToJson(const Value& value, size_t depth_left) {
  switch (value.kind_case()) {
    case Value::kNullValue:
      return Json(nullptr);
    case Value::kNumberValue:
      return NumberToJson(value.number_value());
    case Value::kStringValue:
      return Json(value.string_value());
    case Value::kBoolValue:
      return Json(value.bool_value());
    case Value::kStructValue:
      return ToJson(value.struct_value(), depth_left);
    case Value::kListValue: {
      if (depth_left == 0) return TooDeep();
      Json out = Json::array();
      for (const Value& element : value.list_value().values()) {
        VICINAL_ASSIGN_OR_RETURN(Json item, ToJson(element, depth_left - 1));
        out.push_back(std::move(item));
      }
      return out;
    }
    case Value::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "The payload holds a value of no kind; use null_value for null.");
}

void FromJson(const Json& json, Value* out);

void FromJson(const Json& json, Struct* out) {
  for (const auto& [key, value] : json.items()) {
    FromJson(value, &(*out->mutable_fields())[key]);
  }
}

void FromJson(const Json& json, Value* out) {
  if (json.is_object()) {
    FromJson(json, out->mutable_struct_value());
  } else if (json.is_array()) {
    auto* list = out->mutable_list_value();
    for (const Json& element : json) FromJson(element, list->add_values());
  } else if (json.is_string()) {
    out->set_string_value(json.get_ref<const std::string&>());
  } else if (json.is_boolean()) {
    out->set_bool_value(json.get<bool>());
  } else if (json.is_number()) {
    out->set_number_value(json.get<double>());
  } else {
    out->set_null_value(google::protobuf::NULL_VALUE);
  }
}

}  // namespace

absl::StatusOr<std::string> StructToJson(const Struct& value,
                                         size_t max_depth) {
  VICINAL_ASSIGN_OR_RETURN(const Json json, ToJson(value, max_depth));
  // Strings of protobuf are UTF-8, so nothing is replaced.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::Status JsonToStruct(absl::string_view json, Struct* out) {
  const Json parsed = Json::parse(json.begin(), json.end(), nullptr,
                                  /*allow_exceptions=*/false);
  if (!parsed.is_object()) {
    return absl::DataLossError("A stored payload is not a JSON object.");
  }
  FromJson(parsed, out);
  return absl::OkStatus();
}

}  // namespace vicinal
