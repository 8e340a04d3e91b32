#include "server/page_token.h"

#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"

namespace vicinal {
namespace {

constexpr uint8_t kVersion = 1;

}  // namespace

std::string MakePageToken(absl::string_view asked, absl::string_view place) {
  std::string bytes;
  PutFixed(&bytes, kVersion);
  PutFixed(&bytes, Crc32c(asked));
  bytes.append(place.data(), place.size());
  PutFixed(&bytes, Crc32c(bytes));
  return absl::WebSafeBase64Escape(bytes);
}

std::string ReadPageToken(const std::string& token, absl::string_view asked,
                          std::string* place) {
  std::string bytes;
  uint8_t version = 0;
  uint32_t crc = 0;
  uint32_t asked_crc = 0;
  // The last character has bits that decoding does not look at.
  if (absl::WebSafeBase64Unescape(token, &bytes) && bytes.size() >= 4 &&
      absl::WebSafeBase64Escape(bytes) == token) {
    absl::string_view rest = bytes;
    crc = GetFixed<uint32_t>(rest.data() + rest.size() - sizeof(crc));
    rest.remove_suffix(sizeof(crc));
    if (Crc32c(rest) == crc && ConsumeFixed(&rest, &version) &&
        version == kVersion && ConsumeFixed(&rest, &asked_crc)) {
      *place = std::string(rest);
      if (asked_crc == Crc32c(asked)) return "";
      return "is of another collection or of another question; send it with "
             "the request that it came from";
    }
  }
  return "is no page token; send next_page_token of an earlier reply as it is";
}

}  // namespace vicinal
