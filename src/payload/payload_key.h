// The types of payload fields, and their values as keys: bytes that sort as the
// values do.
//
//   keyword   the bytes of a string
//   int64     8 bytes, big-endian, the sign flipped
//   float64   the same of a double: the sign flipped, or all bits of a negative
//   bool      the same of 0 and 1
//   datetime  the same of microseconds since 1970
//   uuid      its 16 bytes
//   geo       8 bytes of Morton code, then latitude and longitude, 8 bytes each
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "src/payload/filter.h"

namespace vicinal {

enum class PayloadType : uint8_t {
  kKeyword = 1,  // a string
  kInt64 = 2,    // a number without a fraction, of 64 bits
  kFloat64 = 3,  // any number
  kBool = 4,
  // A string of RFC 3339: a date, or a date and a time with or without zone;
  // what is left out is midnight, and UTC.
  kDatetime = 5,
  kUuid = 6,  // a string
  kGeo = 7,   // {"lat": degrees, "lon": degrees}
};
absl::string_view PayloadTypeName(PayloadType type);

// A field of the payload whose type is known.
struct PayloadField {
  std::string path;
  PayloadType type = PayloadType::kKeyword;

  friend bool operator==(const PayloadField&, const PayloadField&) = default;
};

// Keys k with begin <= k < end; no end: all from begin.
struct KeyRange {
  std::string begin;
  std::optional<std::string> end;
};
// Whether there is one key in it: its end is begin and a zero byte.
bool IsOneKey(const KeyRange& range);

// Of an integer, of a bool (0 or 1) and of microseconds since 1970; of a
// number.
std::string KeyOfInteger(int64_t value);
std::string KeyOfDouble(double value);
std::string KeyOfPlace(GeoPoint place);
// KeyOfPlace's 24 bytes.
GeoPoint PlaceOfKey(absl::string_view key);
// Latitude and longitude as fractions of 2^32, their bits in turns.
uint64_t MortonOf(GeoPoint place);
// The inverses of the first two.
int64_t IntegerOfKey(absl::string_view key);
double DoubleOfKey(absl::string_view key);
// The value as a filter compares with it: dates are text of RFC 3339 in UTC,
// UUIDs in their usual form. Not of places.
Literal ValueOfKey(absl::string_view key, PayloadType type);
// Bytes of each key; 0: they differ.
size_t KeyBytes(PayloadType type);
// Keys that begin so.
KeyRange KeysWithPrefix(absl::string_view prefix);
// The number without a fraction, where it is one of 64 bits.
std::optional<int64_t> IntegerOf(double value);
// Microseconds since 1970.
std::optional<int64_t> MicrosOf(absl::string_view text);

// Calls visit(i, key) for every value that fields[i] has in a payload: the JSON
// text of an object, or empty.
void ForEachKey(absl::string_view payload, std::span<const PayloadField> fields,
                absl::FunctionRef<void(size_t, absl::string_view)> visit);

}  // namespace vicinal
