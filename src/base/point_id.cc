#include "src/base/point_id.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/utf8.h"

namespace vicinal {
namespace {

constexpr char kNumberTag = 1;
constexpr char kUuidTag = 2;
constexpr char kStringTag = 3;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsDashPosition(size_t i) {
  return i == 8 || i == 13 || i == 18 || i == 23;
}

// Untrusted text for a message: printable and of bounded length.
std::string Quote(absl::string_view text) {
  constexpr size_t kMaxShown = 48;
  const bool cut = text.size() > kMaxShown;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kMaxShown)),
                      cut ? "...\"" : "\"");
}

}  // namespace

absl::StatusOr<PointId> PointId::FromString(absl::string_view text) {
  if (text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The string id is empty; give 1 to ", kMaxStringBytes, " bytes."));
  }
  if (text.size() > kMaxStringBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The string id ", Quote(text), " has ", text.size(),
        " bytes; the limit is ", kMaxStringBytes, "; shorten or hash it."));
  }
  if (const size_t bad = FindBadUtf8(text); bad != text.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The string id ", Quote(text), " is not UTF-8 at byte ", bad,
        "; encode the text as UTF-8, or binary keys as hexadecimal."));
  }
  PointId id;
  id.value_ = std::string(text);
  return id;
}

absl::StatusOr<PointId> PointId::ParseUuid(absl::string_view text) {
  Uuid uuid{};
  bool valid = text.size() == 36;
  size_t digits = 0;
  for (size_t i = 0; valid && i < text.size(); ++i) {
    if (IsDashPosition(i)) {
      valid = text[i] == '-';
      continue;
    }
    const int digit = HexDigit(text[i]);
    valid = digit >= 0;
    uuid[digits / 2] = static_cast<uint8_t>((uuid[digits / 2] << 4) | digit);
    ++digits;
  }
  if (!valid) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(text),
                     " is not a UUID; write 8-4-4-4-12 hexadecimal digits, "
                     "e.g. 6ba7b810-9dad-11d1-80b4-00c04fd430c8."));
  }
  return PointId(uuid);
}

std::string PointId::ToString() const {
  if (is_number()) return absl::StrCat(number());
  if (is_string()) return string();
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(36);
  for (uint8_t byte : uuid()) {
    if (IsDashPosition(out.size())) out.push_back('-');
    out.push_back(kDigits[byte >> 4]);
    out.push_back(kDigits[byte & 0xF]);
  }
  return out;
}

void PointId::AppendEncoded(std::string* out) const {
  if (is_number()) {
    out->push_back(kNumberTag);
    PutBigEndian64(out, number());
  } else if (is_uuid()) {
    out->push_back(kUuidTag);
    out->append(reinterpret_cast<const char*>(uuid().data()), uuid().size());
  } else {
    out->push_back(kStringTag);
    out->append(string());
  }
}

absl::StatusOr<PointId> PointId::Decode(absl::string_view encoded) {
  if (!encoded.empty()) {
    const absl::string_view body = encoded.substr(1);
    if (encoded[0] == kNumberTag && body.size() == sizeof(uint64_t)) {
      return PointId(GetBigEndian64(body.data()));
    }
    if (encoded[0] == kUuidTag && body.size() == sizeof(Uuid)) {
      Uuid uuid;
      std::memcpy(uuid.data(), body.data(), uuid.size());
      return PointId(uuid);
    }
    if (encoded[0] == kStringTag) {
      if (auto id = FromString(body); id.ok()) return id;
    }
  }
  return absl::DataLossError(
      absl::StrCat("These ", encoded.size(),
                   " bytes are not an encoded id: ", Quote(encoded)));
}

}  // namespace vicinal
