#include "src/distance/load_row.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "src/base/half.h"

namespace vicinal {

void LoadFloats(const void* row, ElementType type, size_t dim, float* out) {
  switch (type) {
    case ElementType::kFloat32:
      std::memcpy(out, row, dim * sizeof(float));
      return;
    case ElementType::kFloat16: {
      if (reinterpret_cast<uintptr_t>(row) % alignof(uint16_t) == 0) {
        HalfToFloat({static_cast<const uint16_t*>(row), dim}, {out, dim});
        return;
      }
      const auto* bytes = static_cast<const char*>(row);
      for (size_t i = 0; i < dim; ++i) {
        uint16_t half;
        std::memcpy(&half, bytes + 2 * i, 2);
        out[i] = HalfToFloat(half);
      }
      return;
    }
    case ElementType::kBfloat16: {
      const auto* bytes = static_cast<const char*>(row);
      for (size_t i = 0; i < dim; ++i) {
        uint16_t upper;
        std::memcpy(&upper, bytes + 2 * i, 2);
        out[i] = std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
      }
      return;
    }
    case ElementType::kInt8: {
      const auto* values = static_cast<const int8_t*>(row);
      for (size_t i = 0; i < dim; ++i) out[i] = values[i];
      return;
    }
    case ElementType::kUint8: {
      const auto* values = static_cast<const uint8_t*>(row);
      for (size_t i = 0; i < dim; ++i) out[i] = values[i];
      return;
    }
  }
}

}  // namespace vicinal
