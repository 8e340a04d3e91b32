// Whether bytes are text.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace vicinal {

// The position of the first byte that breaks UTF-8, or text.size(). Shortest
// forms only, no surrogates, at most U+10FFFF (RFC 3629).
size_t FindBadUtf8(absl::string_view text);

}  // namespace vicinal
