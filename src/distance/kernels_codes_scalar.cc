// The reference that every other instruction set must equal bit for bit.
#include <cstddef>
#include <cstdint>

#include "src/distance/kernels_codes.h"

namespace vicinal::kernels {
namespace {

// Dimension j of a block of `width` dimensions.
uint32_t CodeAt(const uint8_t* block, size_t width, size_t bits, size_t j) {
  const size_t plane = width * bits / 8;
  return (block[j % plane] >> (bits * (j / plane))) & ((1u << bits) - 1);
}

int32_t Dot(const CodeSegment& segment, const uint8_t* record,
            const int8_t* query) {
  const uint8_t* block = record + segment.payload_offset;
  int32_t sum = 0;
  for (size_t at = 0; at < segment.num_dims;) {
    const size_t width = segment.num_dims - at >= 64 ? 64 : 16;
    for (size_t j = 0; j < width; ++j) {
      const uint32_t code = CodeAt(block, width, segment.bits, j);
      const int32_t u = segment.has_levels ? segment.levels[code] : code;
      sum += u * query[at + j];
    }
    block += width * segment.bits / 8;
    at += width;
  }
  return sum;
}

float LoadFloat(const uint8_t* p) {
  float value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

float LoadHalf(const uint8_t* p) {
  uint16_t half;
  __builtin_memcpy(&half, p, sizeof(half));
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1F;
  const uint32_t fraction = half & 0x3FF;
  uint32_t bits = sign | ((exponent + 112) << 23) | (fraction << 13);
  if (exponent == 0x1F) bits = sign | 0x7F800000 | (fraction << 13);
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  if (exponent == 0) {
    value = static_cast<float>(fraction) * 0x1p-24f;
    if (sign != 0) value = -value;
  }
  return value;
}

float Estimate(const CodeLayout& layout, const CodeQuery& query,
               const uint8_t* record) {
  const uint8_t* factors = record + layout.additive_offset;
  float sum =
      __builtin_fmaf(query.additive_scale, LoadFloat(factors), query.additive);
  factors += sizeof(float);
  for (size_t s = 0; s < layout.num_segments; ++s) {
    const float rescale = layout.rescale_is_f16 ? LoadHalf(factors + 2 * s)
                                                : LoadFloat(factors + 4 * s);
    const CodeSegment& segment = layout.segments[s];
    const auto dot = static_cast<float>(
        Dot(segment, record, query.values + segment.query_offset));
    float product = __builtin_fmaf(query.scale[s], dot, query.offset[s]);
    if (segment.low_offset != 0) {
      const auto low = static_cast<float>(
          Dot(segment, record, query.values + segment.low_offset));
      product = __builtin_fmaf(query.low_scale[s], low, product);
    }
    sum = __builtin_fmaf(rescale, product, sum);
  }
  return sum;
}

void Gather(const CodeLayout& layout, const CodeQuery& query,
            const uint8_t* base, size_t stride_bytes, const uint32_t* rows,
            size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = Estimate(layout, query, base + size_t{rows[i]} * stride_bytes);
  }
}

void Scan(const CodeLayout& layout, const CodeQuery& query, const uint8_t* base,
          size_t stride_bytes, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = Estimate(layout, query, base + i * stride_bytes);
  }
}

// The dot product of record `lane` of a block; `groups` are its segment's.
int32_t BlockDot(const CodeSegment& segment, const uint8_t* groups, size_t lane,
                 const int8_t* query) {
  const size_t per = 8 / segment.bits;
  const uint32_t mask = (1u << segment.bits) - 1;
  int32_t sum = 0;
  for (size_t j = 0; j < segment.num_dims; ++j) {
    const uint8_t byte = groups[64 * (j / (4 * per)) + 4 * lane + j % 4];
    const uint32_t code = (byte >> (segment.bits * (j / 4 % per))) & mask;
    const int32_t u = segment.has_levels ? segment.levels[code] : code;
    sum += u * query[j];
  }
  return sum;
}

size_t BlockSegmentBytes(const CodeSegment& segment) {
  if (segment.bits == 0) return 0;
  const size_t dims_per_group = 32 / segment.bits;
  return (segment.num_dims + dims_per_group - 1) / dims_per_group * 64;
}

void ScanBlocks(const CodeLayout& layout, const CodeQuery& query,
                const uint8_t* blocks, size_t num_blocks, float limit,
                float* out) {
  const size_t width = layout.rescale_is_f16 ? 2 : 4;
  size_t codes_bytes = 0;
  for (size_t s = 0; s < layout.num_segments; ++s) {
    codes_bytes += BlockSegmentBytes(layout.segments[s]);
  }
  const size_t factors_bytes =
      kCodeBlockRows * (4 + width * layout.num_segments);
  const size_t block_bytes = (codes_bytes + factors_bytes + 63) / 64 * 64;
  for (size_t b = 0; b < num_blocks; ++b, out += kCodeBlockRows) {
    const uint8_t* groups = blocks + b * block_bytes;
    const uint8_t* factors = groups + codes_bytes;
    const auto rescale = [&](size_t s, size_t l) {
      const uint8_t* at = factors + kCodeBlockRows * (4 + width * s);
      return layout.rescale_is_f16 ? LoadHalf(at + 2 * l)
                                   : LoadFloat(at + 4 * l);
    };
    for (size_t l = 0; l < kCodeBlockRows; ++l) {
      out[l] = __builtin_fmaf(query.additive_scale, LoadFloat(factors + 4 * l),
                              query.additive);
    }
    for (size_t s = 0; s < layout.num_segments; ++s) {
      if (s > 0 && s == query.look_after) {
        bool is_near = false;
        for (size_t l = 0; l < kCodeBlockRows; ++l) {
          float least = out[l];
          for (size_t t = s; t < layout.num_segments; ++t) {
            least = __builtin_fmaf(rescale(t, l), query.least[t], least);
          }
          is_near = is_near || least <= limit;
        }
        if (!is_near) {
          for (size_t l = 0; l < kCodeBlockRows; ++l) {
            out[l] = __builtin_inff();
          }
          break;
        }
      }
      const CodeSegment& segment = layout.segments[s];
      const int8_t* values = query.values + segment.query_offset;
      for (size_t l = 0; l < kCodeBlockRows; ++l) {
        const auto dot = static_cast<float>(
            segment.bits == 0 ? 0 : BlockDot(segment, groups, l, values));
        float product = __builtin_fmaf(query.scale[s], dot, query.offset[s]);
        if (segment.low_offset != 0) {
          const auto low = static_cast<float>(
              BlockDot(segment, groups, l, query.values + segment.low_offset));
          product = __builtin_fmaf(query.low_scale[s], low, product);
        }
        out[l] = __builtin_fmaf(rescale(s, l), product, out[l]);
      }
      groups += BlockSegmentBytes(segment);
    }
  }
}

void Project(const int16_t* matrix, const int16_t* vector, size_t num_rows,
             size_t dim, int32_t* out) {
  for (size_t i = 0; i < num_rows; ++i) {
    int64_t sum = 0;
    for (size_t j = 0; j < dim; ++j) sum += matrix[i * dim + j] * vector[j];
    out[i] = static_cast<int32_t>(sum);
  }
}

int32_t DotI8(const int8_t* a, const int8_t* b, size_t n) {
  int32_t sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

const CodeKernels kScalarCodeTable = {"scalar", Gather,  Scan, ScanBlocks,
                                      nullptr,  Project, DotI8};

}  // namespace vicinal::kernels
