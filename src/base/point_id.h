// The user's key of a point.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// A u64, a UUID or a string of 1..512 bytes of UTF-8. Ids of different kinds
// are different ids (7 is not "7"). A value type; order: u64s by number, then
// UUIDs by bytes, then strings by bytes, which is the order of Encode().
class PointId {
 public:
  using Uuid = std::array<uint8_t, 16>;  // big-endian, as RFC 4122 prints it
  static constexpr size_t kMaxStringBytes = 512;

  PointId() = default;  // the number 0
  explicit PointId(uint64_t number) : value_(number) {}
  explicit PointId(const Uuid& uuid) : value_(uuid) {}

  // InvalidArgument: empty, longer than 512 bytes, or not UTF-8.
  static absl::StatusOr<PointId> FromString(absl::string_view text);
  // InvalidArgument: not 8-4-4-4-12 hexadecimal digits.
  static absl::StatusOr<PointId> ParseUuid(absl::string_view text);

  bool is_number() const { return value_.index() == 0; }
  bool is_uuid() const { return value_.index() == 1; }
  bool is_string() const { return value_.index() == 2; }
  uint64_t number() const { return std::get<0>(value_); }
  const Uuid& uuid() const { return std::get<1>(value_); }
  const std::string& string() const { return std::get<2>(value_); }

  // 7, 6ba7b810-9dad-11d1-80b4-00c04fd430c8 or the string itself.
  std::string ToString() const;

  // Key form, ordered like the ids: 0x01 + u64 big-endian, 0x02 + 16 bytes,
  // 0x03 + the bytes. Appended to *out.
  void AppendEncoded(std::string* out) const;
  std::string Encode() const {
    std::string out;
    AppendEncoded(&out);
    return out;
  }
  // DataLoss: not an encoding of an id.
  static absl::StatusOr<PointId> Decode(absl::string_view encoded);

  friend bool operator==(const PointId&, const PointId&) = default;
  friend auto operator<=>(const PointId&, const PointId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const PointId& id) {
    h = H::combine(std::move(h), id.value_.index());
    if (id.is_number()) return H::combine(std::move(h), id.number());
    if (id.is_uuid()) return H::combine(std::move(h), id.uuid());
    return H::combine(std::move(h), id.string());
  }

 private:
  std::variant<uint64_t, Uuid, std::string> value_ = uint64_t{0};
};

}  // namespace vicinal
