// What points are grouped by: values of their payloads.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

namespace vicinal {

// true and false, numbers without a fraction and strings; 1 and 1.0 are one.
using GroupValue = std::variant<bool, int64_t, std::string>;

// Those that a path reaches in a payload (the JSON text of an object, or
// empty), each once, in their order there. Values of other kinds are passed
// over.
std::vector<GroupValue> GroupValuesOf(absl::string_view payload,
                                      absl::string_view path);

}  // namespace vicinal
