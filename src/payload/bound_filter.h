// A filter checked against the fields that a schema declares, ready to be
// evaluated. Its conditions are sets of keys: the values of a field as bytes
// that sort as the values do.
//
//   keyword   the bytes of a string
//   int64     8 bytes, big-endian, the sign flipped
//   float64   the same of a double: the sign flipped, or all bits of a negative
//   bool      the same of 0 and 1
//   datetime  the same of microseconds since 1970
//   uuid      its 16 bytes
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
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

// Const and thread-safe.
class BoundFilter {
 public:
  // InvalidArgument: over a limit, or a literal that the field's type has not;
  // Unimplemented: kMatch.
  static absl::StatusOr<BoundFilter> Bind(const FilterNode& filter,
                                          std::span<const PayloadField> fields,
                                          const FilterLimits& limits = {});

  BoundFilter(BoundFilter&&) noexcept;
  BoundFilter& operator=(BoundFilter&&) noexcept;
  ~BoundFilter();

  // Whether it is true of every point; of none.
  bool accepts_all() const;
  bool accepts_none() const;
  // Whether it says something of payloads, not of ids alone.
  bool needs_payload() const;
  // `payload`: JSON text of an object, or empty.
  bool Matches(const PointId& id, absl::string_view payload) const;

  struct Node;

 private:
  explicit BoundFilter(std::unique_ptr<const Node> root);

  std::unique_ptr<const Node> root_;
};

}  // namespace vicinal
