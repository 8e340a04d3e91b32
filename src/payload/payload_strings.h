// Strings of payloads, as texts.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// Calls visit(i, string) for the strings that paths[i] (as in filters) has in
// the payload, in their order; other values are none. The string lives until
// visit returns. payload: JSON text of an object, or empty.
void VisitStrings(absl::string_view payload, std::span<const std::string> paths,
                  absl::FunctionRef<void(size_t, absl::string_view)> visit);

}  // namespace vicinal
