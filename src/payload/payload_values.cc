#include "src/payload/payload_values.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "src/payload/payload_json.h"
#include "src/payload/payload_key.h"

namespace vicinal {

PayloadValues::PayloadValues(absl::string_view payload) : payload_(payload) {}

PayloadValues::~PayloadValues() = default;

const PayloadValues::Parsed& PayloadValues::parsed() {
  if (parsed_ == nullptr) {
    parsed_ = std::make_unique<const Parsed>(Parsed{ParsePayload(payload_)});
  }
  return *parsed_;
}

std::optional<double> PayloadValues::NumberAt(absl::string_view path) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  std::optional<double> number;
  AnyValue(parsed().json, names, [&](const Json& value) {
    if (value.is_number()) {
      number = value.get<double>();
    } else if (value.is_boolean()) {
      number = value.get<bool>() ? 1 : 0;
    } else if (value.is_string()) {
      const std::optional<int64_t> micros =
          MicrosOf(value.get_ref<const std::string&>());
      if (micros.has_value()) number = static_cast<double>(*micros) / 1e6;
    }
    return number.has_value();
  });
  return number;
}

std::optional<double> PayloadValues::MetersTo(GeoPoint target,
                                              absl::string_view path) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  std::optional<double> nearest;
  AnyValue(parsed().json, names, [&](const Json& value) {
    if (const std::optional<GeoPoint> place = PlaceOf(value)) {
      const double meters = MetersBetween(target, *place);
      nearest = std::min(nearest.value_or(meters), meters);
    }
    return false;
  });
  return nearest;
}

}  // namespace vicinal
