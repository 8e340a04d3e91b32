// Single elements of vectors, as batches bring them.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "src/base/types.h"

namespace vicinal {

absl::string_view TypeName(ElementType type);
// The element at `bytes`, which need no alignment; exact.
float ElementAsFloat(const char* bytes, ElementType type);
// Writes `value` as `type`; false when it has no such value (f16 and bf16
// round).
bool PutElement(float value, ElementType type, char* out);
// Why PutElement said false.
std::string WhyRefused(float value, ElementType type);

}  // namespace vicinal
