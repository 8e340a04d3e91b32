// Tokens by which a reader goes on behind the last thing it was given. They
// outlive the server: base64 of version (u8, 1), a checksum of what was asked
// (u32), the place, CRC32C of all that (u32).
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace vicinal {

// asked: what the token is good for, in an encoding of the caller's.
std::string MakePageToken(absl::string_view asked, absl::string_view place);

// What is wrong with the token, for a FieldViolation; empty: nothing.
std::string ReadPageToken(const std::string& token, absl::string_view asked,
                          std::string* place);

}  // namespace vicinal
