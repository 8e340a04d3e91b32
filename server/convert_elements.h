// Elements of vectors: from the bytes of the wire and of the store to floats,
// and back.
#pragma once

#include <span>
#include <string>

#include "src/base/types.h"

namespace vicinal {

// bytes: out.size() elements of `type`, little-endian, of any alignment.
void ToFloats(const char* bytes, ElementType type, std::span<float> out);
// Whether all values can be stored as `type`; their elements in *out then.
bool FromFloats(std::span<const float> values, ElementType type,
                std::string* out);
bool AllZero(std::span<const float> values);

}  // namespace vicinal
