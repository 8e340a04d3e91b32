#include "src/payload/payload_key.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "src/base/point_id.h"
#include "src/payload/payload_json.h"

namespace vicinal {
namespace {

std::string BigEndian(uint64_t value) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (56 - 8 * i));
  return out;
}

uint64_t FromBigEndian(absl::string_view bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

std::string DatetimeText(int64_t micros) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ",
                          absl::FromUnixMicros(micros), absl::UTCTimeZone());
}

// value / range as a fraction of 2^32; ascending.
uint32_t Fraction(double value, double range) {
  const double scaled = value * (0x1p32 / range);
  return scaled >= 0x1p32 ? UINT32_MAX : static_cast<uint32_t>(scaled);
}

// Bit i to bit 2 i.
uint64_t Spread(uint32_t value) {
  uint64_t x = value;
  x = (x | x << 16) & 0x0000FFFF0000FFFF;
  x = (x | x << 8) & 0x00FF00FF00FF00FF;
  x = (x | x << 4) & 0x0F0F0F0F0F0F0F0F;
  x = (x | x << 2) & 0x3333333333333333;
  return (x | x << 1) & 0x5555555555555555;
}

}  // namespace

absl::string_view PayloadTypeName(PayloadType type) {
  constexpr absl::string_view kNames[] = {"?",    "keyword",  "i64",  "f64",
                                          "bool", "datetime", "uuid", "geo"};
  const auto i = static_cast<size_t>(type);
  return kNames[i < std::size(kNames) ? i : 0];
}

std::string KeyOfInteger(int64_t value) {
  return BigEndian(static_cast<uint64_t>(value) ^ (uint64_t{1} << 63));
}
std::string KeyOfDouble(double value) {
  const auto bits = std::bit_cast<uint64_t>(value == 0 ? 0.0 : value);
  return BigEndian((bits >> 63) != 0 ? ~bits : bits ^ (uint64_t{1} << 63));
}

int64_t IntegerOfKey(absl::string_view key) {
  return static_cast<int64_t>(FromBigEndian(key) ^ (uint64_t{1} << 63));
}

double DoubleOfKey(absl::string_view key) {
  const uint64_t bits = FromBigEndian(key);
  return std::bit_cast<double>((bits >> 63) != 0 ? bits ^ (uint64_t{1} << 63)
                                                 : ~bits);
}

Literal ValueOfKey(absl::string_view key, PayloadType type) {
  switch (type) {
    case PayloadType::kKeyword:
      return std::string(key);
    case PayloadType::kInt64:
      return IntegerOfKey(key);
    case PayloadType::kFloat64:
      return DoubleOfKey(key);
    case PayloadType::kBool:
      return IntegerOfKey(key) != 0;
    case PayloadType::kDatetime:
      return DatetimeText(IntegerOfKey(key));
    case PayloadType::kUuid: {
      PointId::Uuid uuid;
      std::copy_n(key.begin(), uuid.size(), uuid.begin());
      return PointId(uuid).ToString();
    }
    case PayloadType::kGeo:
      break;
  }
  return nullptr;
}

size_t KeyBytes(PayloadType type) {
  switch (type) {
    case PayloadType::kKeyword:
      return 0;
    case PayloadType::kUuid:
      return 16;
    case PayloadType::kGeo:
      return 24;
    default:
      return 8;
  }
}

bool IsOneKey(const KeyRange& range) {
  return range.end.has_value() && range.end->size() == range.begin.size() + 1 &&
         range.end->back() == '\0' && absl::StartsWith(*range.end, range.begin);
}

KeyRange KeysWithPrefix(absl::string_view prefix) {
  KeyRange range{std::string(prefix), std::nullopt};
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xFF') end.pop_back();
  if (!end.empty()) {
    ++end.back();
    range.end = std::move(end);
  }
  return range;
}

uint64_t MortonOf(GeoPoint place) {
  return Spread(Fraction(place.lat + 90, 180)) << 1 |
         Spread(Fraction(place.lon + 180, 360));
}

std::string KeyOfPlace(GeoPoint place) {
  return BigEndian(MortonOf(place)) + KeyOfDouble(place.lat) +
         KeyOfDouble(place.lon);
}

GeoPoint PlaceOfKey(absl::string_view key) {
  return {DoubleOfKey(key.substr(8)), DoubleOfKey(key.substr(16))};
}

std::optional<int64_t> MicrosOf(absl::string_view text) {
  absl::Time time;
  std::string error;
  for (const char* format :
       {absl::RFC3339_full, "%Y-%m-%d%ET%H:%M:%E*S", "%Y-%m-%d"}) {
    if (absl::ParseTime(format, text, absl::UTCTimeZone(), &time, &error) &&
        time != absl::InfiniteFuture() && time != absl::InfinitePast()) {
      return absl::ToUnixMicros(time);
    }
  }
  return std::nullopt;
}

std::optional<int64_t> IntegerOf(double value) {
  if (value != std::trunc(value) || !(value >= -0x1p63 && value < 0x1p63)) {
    return std::nullopt;
  }
  return static_cast<int64_t>(value);
}

std::optional<std::string> KeyOf(const Json& value, PayloadType type) {
  switch (type) {
    case PayloadType::kKeyword:
      if (value.is_string()) return value.get_ref<const std::string&>();
      break;
    case PayloadType::kInt64:
      if (value.is_number_unsigned()) {
        const auto number = value.get<uint64_t>();
        if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
        return KeyOfInteger(static_cast<int64_t>(number));
      }
      if (value.is_number_integer()) return KeyOfInteger(value.get<int64_t>());
      if (value.is_number_float()) {
        const std::optional<int64_t> number = IntegerOf(value.get<double>());
        if (number.has_value()) return KeyOfInteger(*number);
      }
      break;
    case PayloadType::kFloat64:
      if (value.is_number()) return KeyOfDouble(value.get<double>());
      break;
    case PayloadType::kBool:
      if (value.is_boolean()) return KeyOfInteger(value.get<bool>() ? 1 : 0);
      break;
    case PayloadType::kDatetime:
      if (value.is_string()) {
        const auto micros = MicrosOf(value.get_ref<const std::string&>());
        if (micros.has_value()) return KeyOfInteger(*micros);
      }
      break;
    case PayloadType::kUuid:
      if (value.is_string()) {
        const auto id = PointId::ParseUuid(value.get_ref<const std::string&>());
        if (id.ok()) {
          return std::string(id->uuid().begin(), id->uuid().end());
        }
      }
      break;
    case PayloadType::kGeo:
      if (const std::optional<GeoPoint> place = PlaceOf(value)) {
        return KeyOfPlace(*place);
      }
      break;
  }
  return std::nullopt;
}

std::optional<GeoPoint> PlaceOf(const Json& value) {
  if (!value.is_object()) return std::nullopt;
  const auto lat = value.find("lat"), lon = value.find("lon");
  if (lat == value.end() || lon == value.end() || !lat->is_number() ||
      !lon->is_number()) {
    return std::nullopt;
  }
  const GeoPoint place{lat->get<double>(), lon->get<double>()};
  if (!(std::abs(place.lat) <= 90 && std::abs(place.lon) <= 180)) {
    return std::nullopt;
  }
  return place;
}

void ForEachKey(absl::string_view payload, std::span<const PayloadField> fields,
                absl::FunctionRef<void(size_t, absl::string_view)> visit) {
  if (payload.empty()) return;
  const Json json = ParsePayload(payload);
  for (size_t i = 0; i < fields.size(); ++i) {
    const std::vector<std::string> path = absl::StrSplit(fields[i].path, '.');
    AnyValue(json, path, [&](const Json& value) {
      if (const auto key = KeyOf(value, fields[i].type)) visit(i, *key);
      return false;
    });
  }
}

}  // namespace vicinal
