#include "src/engine/element_values.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/half.h"

namespace vicinal {

absl::string_view TypeName(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return "f32";
    case ElementType::kFloat16:
      return "f16";
    case ElementType::kBfloat16:
      return "bf16";
    case ElementType::kInt8:
      return "int8";
    case ElementType::kUint8:
      return "uint8";
  }
  return "?";
}

float ElementAsFloat(const char* bytes, ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return GetFixed<float>(bytes);
    case ElementType::kFloat16:
      return HalfToFloat(GetFixed<uint16_t>(bytes));
    case ElementType::kBfloat16:
      return BfloatToFloat(GetFixed<uint16_t>(bytes));
    case ElementType::kInt8:
      return GetFixed<int8_t>(bytes);
    case ElementType::kUint8:
      return GetFixed<uint8_t>(bytes);
  }
  return 0;
}

bool PutElement(float value, ElementType type, char* out) {
  const auto put_integer = [&](float low, float high) {
    if (!(value >= low && value <= high) || value != std::nearbyint(value)) {
      return false;
    }
    *out = static_cast<char>(static_cast<int>(value));
    return true;
  };
  switch (type) {
    case ElementType::kFloat32:
      std::memcpy(out, &value, sizeof(value));
      return std::isfinite(value);
    case ElementType::kFloat16: {
      const uint16_t half = FloatToHalf(value);
      std::memcpy(out, &half, sizeof(half));
      return (half & 0x7C00) != 0x7C00;
    }
    case ElementType::kBfloat16: {
      const uint16_t bfloat = FloatToBfloat(value);
      std::memcpy(out, &bfloat, sizeof(bfloat));
      return (bfloat & 0x7F80) != 0x7F80;
    }
    case ElementType::kInt8:
      return put_integer(-128, 127);
    case ElementType::kUint8:
      return put_integer(0, 255);
  }
  return false;
}

std::string WhyRefused(float value, ElementType type) {
  if (std::isnan(value)) return "is NaN; only finite numbers are allowed";
  if (std::isinf(value)) {
    return "is infinite; only finite numbers are allowed";
  }
  switch (type) {
    case ElementType::kFloat16:
      return absl::StrCat("is ", value,
                          "; an f16 vector holds -65504 to 65504");
    case ElementType::kBfloat16:
      return absl::StrCat("is ", value,
                          "; a bf16 vector holds -3.389e38 to 3.389e38");
    case ElementType::kInt8:
      return absl::StrCat("is ", value,
                          "; an int8 vector holds whole numbers -128 to 127");
    case ElementType::kUint8:
      return absl::StrCat("is ", value,
                          "; a uint8 vector holds whole numbers 0 to 255");
    case ElementType::kFloat32:
      break;
  }
  return absl::StrCat("is ", value);
}

}  // namespace vicinal
