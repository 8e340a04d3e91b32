// Conversion of whole columns between element types.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/types.h"

namespace vicinal::client {

// "f32", "f16", "i8", "u8", "bf16".
absl::string_view ElementTypeName(ElementType type);
// Also "float32", "float16" etc. InvalidArgument: the list.
absl::StatusOr<ElementType> ParseElementType(absl::string_view name);

// Elements of `from` as elements of `to`, little-endian both. Only to floating
// point or to the same type: InvalidArgument otherwise, because integers
// cannot hold every value. Float32 beyond float16's range becomes infinity.
absl::StatusOr<std::string> ConvertElements(ElementType from, ElementType to,
                                            std::string data);

}  // namespace vicinal::client
