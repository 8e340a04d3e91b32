#include "client/formats/elements.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/half.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

template <typename T>
std::vector<float> Widen(absl::string_view data) {
  std::vector<float> out(data.size() / sizeof(T));
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<float>(value);
  }
  return out;
}

std::vector<float> HalvesToFloats(absl::string_view data) {
  std::vector<uint16_t> halves(data.size() / sizeof(uint16_t));
  std::memcpy(halves.data(), data.data(), halves.size() * sizeof(uint16_t));
  std::vector<float> out(halves.size());
  HalfToFloat(halves, out);
  return out;
}

std::vector<float> BfloatsToFloats(absl::string_view data) {
  std::vector<float> out(data.size() / sizeof(uint16_t));
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t value = 0;
    std::memcpy(&value, data.data() + i * sizeof(value), sizeof(value));
    out[i] = BfloatToFloat(value);
  }
  return out;
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

}  // namespace

absl::string_view ElementTypeName(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return "f32";
    case ElementType::kFloat16:
      return "f16";
    case ElementType::kInt8:
      return "i8";
    case ElementType::kUint8:
      return "u8";
    case ElementType::kBfloat16:
      return "bf16";
  }
  return "?";
}

absl::StatusOr<ElementType> ParseElementType(absl::string_view name) {
  if (name == "f32" || name == "float32") return ElementType::kFloat32;
  if (name == "f16" || name == "float16") return ElementType::kFloat16;
  if (name == "i8" || name == "int8") return ElementType::kInt8;
  if (name == "u8" || name == "uint8") return ElementType::kUint8;
  if (name == "bf16" || name == "bfloat16") return ElementType::kBfloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name,
                   "\" is not an element type; use f32, f16, i8 or u8, or bf16 "
                   "for multi-vectors."));
}

absl::StatusOr<std::string> ConvertElements(ElementType from, ElementType to,
                                            std::string data) {
  if (from == to) return data;
  if (to == ElementType::kInt8 || to == ElementType::kUint8) {
    return absl::InvalidArgumentError(
        absl::StrCat("The file's ", ElementTypeName(from),
                     " elements cannot be sent as ", ElementTypeName(to),
                     " without loss; send them as they are or as f32."));
  }
  std::vector<float> floats;
  switch (from) {
    case ElementType::kFloat16:
      floats = HalvesToFloats(data);
      break;
    case ElementType::kInt8:
      floats = Widen<int8_t>(data);
      break;
    case ElementType::kUint8:
      floats = Widen<uint8_t>(data);
      break;
    case ElementType::kFloat32:
      floats = Widen<float>(data);
      break;
    case ElementType::kBfloat16:
      floats = BfloatsToFloats(data);
      break;
  }
  if (to == ElementType::kFloat32) return Bytes(floats);
  std::vector<uint16_t> halves(floats.size());
  if (to == ElementType::kBfloat16) {
    for (size_t i = 0; i < floats.size(); ++i) {
      halves[i] = FloatToBfloat(floats[i]);
    }
  } else {
    FloatToHalf(floats, halves);
  }
  return Bytes(halves);
}

}  // namespace vicinal::client
