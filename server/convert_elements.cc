#include "server/convert_elements.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "src/base/coding.h"
#include "src/base/half.h"

namespace vicinal {
namespace {

// The loops of this file have neither branches nor calls, and their flags are
// as wide as the elements: GCC 12 vectorises them so.

bool AllFinite(std::span<const float> values) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  int bad = 0;
  for (const float value : values) bad |= !(std::fabs(value) <= kLargest);
  return bad == 0;
}

bool AllFinite(std::span<const uint16_t> halves) {
  uint16_t bad = 0;
  for (const uint16_t half : halves) bad |= (half & 0x7C00) == 0x7C00;
  return bad == 0;
}

template <typename Element>
void ToFloats(const char* bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = GetFixed<Element>(bytes + i * sizeof(Element));
  }
}

// Whether all values are whole numbers of the type.
template <typename Element>
bool ToWhole(std::span<const float> values, char* out) {
  constexpr float kLowest = std::numeric_limits<Element>::min();
  constexpr float kHighest = std::numeric_limits<Element>::max();
  int bad = 0;
  for (const float value : values) {
    bad |= static_cast<int>(!(value >= kLowest)) |
           static_cast<int>(!(value <= kHighest));
  }
  if (bad != 0) return false;  // those have no int
  for (size_t i = 0; i < values.size(); ++i) {
    const int whole = static_cast<int>(values[i]);
    bad |= static_cast<float>(whole) != values[i];
    out[i] = static_cast<char>(whole);
  }
  return bad == 0;
}

}  // namespace

void ToFloats(const char* bytes, ElementType type, std::span<float> out) {
  switch (type) {
    case ElementType::kFloat32:
      std::memcpy(out.data(), bytes, out.size_bytes());
      return;
    case ElementType::kFloat16: {
      std::vector<uint16_t> halves(out.size());
      std::memcpy(halves.data(), bytes, halves.size() * sizeof(uint16_t));
      HalfToFloat(halves, out);
      return;
    }
    case ElementType::kInt8:
      return ToFloats<int8_t>(bytes, out);
    case ElementType::kUint8:
      return ToFloats<uint8_t>(bytes, out);
    case ElementType::kBfloat16:
      for (size_t i = 0; i < out.size(); ++i) {
        out[i] =
            BfloatToFloat(GetFixed<uint16_t>(bytes + i * sizeof(uint16_t)));
      }
      return;
  }
}

bool FromFloats(std::span<const float> values, ElementType type,
                std::string* out) {
  if (type == ElementType::kFloat32) {
    out->assign(reinterpret_cast<const char*>(values.data()),
                values.size_bytes());
    return AllFinite(values);
  }
  out->resize(values.size() * ElementSize(type));
  switch (type) {
    case ElementType::kFloat32:
      break;
    case ElementType::kFloat16: {
      std::vector<uint16_t> halves(values.size());
      FloatToHalf(values, halves);
      std::memcpy(out->data(), halves.data(), out->size());
      return AllFinite(halves);
    }
    case ElementType::kInt8:
      return ToWhole<int8_t>(values, out->data());
    case ElementType::kUint8:
      return ToWhole<uint8_t>(values, out->data());
    case ElementType::kBfloat16:
      break;  // no dense vector is
  }
  return false;
}

bool AllZero(std::span<const float> values) {
  int other = 0;
  for (const float value : values) other |= value != 0;
  return other == 0;
}

}  // namespace vicinal
