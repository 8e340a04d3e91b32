#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_maxsim.h"

namespace vicinal::kernels {
namespace {

float LoadFloat(const uint8_t* bytes) {
  float value;
  __builtin_memcpy(&value, bytes, sizeof(value));
  return value;
}

void MaxCodes(const TokenCodeForm& form, const int8_t* panels,
              size_t num_panels, const int32_t* sums, const float* table,
              const uint8_t* records, size_t n, float* best) {
  const int bits = form.bits;
  const int mask = (1 << bits) - 1;
  for (size_t token = 0; token < n; ++token) {
    const uint8_t* record = records + token * form.record_bytes;
    const float scale = LoadFloat(record);
    const float* row = nullptr;
    if (form.has_centroids) row = table + record[4] * 16 * num_panels;
    const uint8_t* code = record + (form.has_centroids ? 5 : 4);
    for (size_t i = 0; i < 16 * num_panels; ++i) {
      const int8_t* query =
          panels + (i / 16 * (form.padded_dim / 4) * 16 + i % 16) * 4;
      int32_t dot = 0;
      for (size_t t = 0; t < form.padded_dim; ++t) {
        const size_t bit = t * static_cast<size_t>(bits);
        const int u = (code[bit / 8] >> (bit % 8)) & mask;
        dot += u * query[t / 4 * 64 + t % 4];
      }
      const auto x = static_cast<float>(CodeFactor(bits) * dot -
                                        CodeOffset(bits) * sums[i]);
      const float value =
          row != nullptr ? __builtin_fmaf(scale, x, row[i]) : scale * x;
      best[i] = value > best[i] ? value : best[i];
    }
  }
}

}  // namespace

const MaxSimKernels kScalarMaxSimTable = {"scalar", MaxCodes};

}  // namespace vicinal::kernels
