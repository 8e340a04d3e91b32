// Values in a parsed payload; for the .cc files of this folder.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "nlohmann/json.hpp"
#include "src/payload/filter.h"
#include "src/payload/payload_key.h"
#include "src/payload/payload_values.h"

namespace vicinal {

using Json = nlohmann::json;

// Empty text: an object without members. Payloads were checked when written.
inline Json ParsePayload(absl::string_view payload) {
  return payload.empty()
             ? Json::object()
             : Json::parse(payload, nullptr, /*allow_exceptions=*/false);
}

struct PayloadValues::Parsed {
  Json json;
};

// The key of a value under a type; nullopt: it is none of that type.
std::optional<std::string> KeyOf(const Json& value, PayloadType type);
std::optional<GeoPoint> PlaceOf(const Json& value);

// Calls visit(value) for the values of a path until it returns true; whether it
// did.
template <typename Visit>
bool AnyValue(const Json& json, std::span<const std::string> path,
              const Visit& visit) {
  if (json.is_array()) {
    for (const Json& element : json) {
      if (AnyValue(element, path, visit)) return true;
    }
    return false;
  }
  if (path.empty()) return !json.is_null() && visit(json);
  if (!json.is_object()) return false;
  const auto found = json.find(path[0]);
  return found != json.end() && AnyValue(*found, path.subspan(1), visit);
}

}  // namespace vicinal
