#include "tests/distance/gpu/reference_encoder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <vector>

#include "quant/scalar_levels.h"
#include "src/base/half.h"
#include "src/distance/kernels.h"
#include "src/distance/normalize.h"

namespace vicinal::backend_tests {
namespace {

// The row as floats, of unit length under the cosine.
std::vector<float> RowOf(const VectorSetView& rows, size_t row, Metric metric) {
  const std::byte* from = rows.row(row);
  std::vector<float> out(rows.dim);
  for (size_t i = 0; i < rows.dim; ++i) {
    switch (rows.type) {
      case ElementType::kFloat32:
        std::memcpy(&out[i], from + 4 * i, 4);
        break;
      case ElementType::kFloat16: {
        uint16_t half;
        std::memcpy(&half, from + 2 * i, 2);
        out[i] = HalfToFloat(half);
        break;
      }
      case ElementType::kInt8:
        out[i] = static_cast<int8_t>(from[i]);
        break;
      default:
        out[i] = static_cast<uint8_t>(from[i]);
    }
  }
  if (metric == Metric::kCosine) {
    kernels::Normalize(kernels::kScalarTable, out.data(), rows.dim, out.data());
  }
  return out;
}

// (a, b) -> (a + b, a - b) * scale.
void Turn(float* a, float* b, float scale) {
  const float sum = (*a + *b) * scale;
  *b = (*a - *b) * scale;
  *a = sum;
}

// Four rounds: signs, a Walsh-Hadamard transform of the first or last 2^k, and,
// where there are others, a turn by 45 degrees between the halves.
void Rotate(const float* signs, std::vector<float>* values) {
  const size_t size = values->size();
  const size_t power = std::bit_floor(size);
  for (size_t round = 0; round < 4; ++round) {
    for (size_t i = 0; i < size; ++i) (*values)[i] *= signs[round * size + i];
    float* const part = values->data() + (round % 2 == 0 ? 0 : size - power);
    for (size_t h = 1; h < power; h *= 2) {
      for (size_t i = 0; i < power; ++i) {
        if ((i & h) == 0) Turn(part + i, part + i + h, 1);
      }
    }
    for (size_t i = 0; i < power; ++i) {
      part[i] *= 1 / std::sqrt(static_cast<float>(power));
    }
    for (size_t i = 0; power < size && i < size / 2; ++i) {
      Turn(&(*values)[i], &(*values)[i + size / 2],
           static_cast<float>(std::numbers::sqrt2 / 2));
    }
  }
}

std::vector<float> CoordinatesOf(const std::vector<float>& row,
                                 const RowCoding& coding) {
  std::vector<float> out(coding.num_coded);
  if (coding.basis == nullptr) {
    std::copy(row.begin(), row.end(), out.begin());
    Rotate(coding.signs, &out);
    return out;
  }
  for (size_t i = 0; i < coding.num_coded; ++i) {
    for (size_t j = 0; j < coding.dim; ++j) {
      out[i] = std::fma(row[j], coding.basis[i * coding.dim + j], out[i]);
    }
  }
  return out;
}

// Writes codes as the comment of kernels_codes.h says.
void Pack(const std::vector<uint8_t>& codes, uint32_t bits, uint8_t* out) {
  const size_t per = 8 / bits;
  for (size_t at = 0; at < codes.size();) {
    const size_t width = codes.size() - at >= 64 ? 64 : 16;
    const size_t plane = width / per;
    for (size_t j = 0; j < width; ++j) {
      out[j % plane] |= codes[at + j] << (bits * (j / plane));
    }
    out += plane;
    at += width;
  }
}

// What is read back.
float PutRescale(const CodeLayout& layout, float value, size_t segment,
                 uint8_t* record) {
  uint8_t* const factors = record + layout.additive_offset + 4;
  if (!layout.rescale_is_f16) {
    std::memcpy(factors + 4 * segment, &value, 4);
    return value;
  }
  const uint16_t half = FloatToHalf(std::clamp(value, -65504.0f, 65504.0f));
  std::memcpy(factors + 2 * segment, &half, 2);
  return HalfToFloat(half);
}

double Dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

double SumSquares(const std::vector<float>& values) {
  double sum = 0;
  for (size_t first = 0; first < values.size(); first += 64) {
    float block = 0;
    for (size_t i = first; i < std::min(first + 64, values.size()); ++i) {
      block += values[i] * values[i];
    }
    sum += block;
  }
  return sum;
}

// In sixteen lanes.
float WithCentre(const std::vector<uint8_t>& codes, const ScalarLevels& levels,
                 const float* centre) {
  float lanes[16] = {};
  for (size_t i = 0; i < codes.size(); ++i) {
    lanes[i % 16] +=
        (static_cast<float>(levels.Level(codes[i])) - levels.center()) *
        centre[i];
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

std::vector<uint8_t> EncodeRows(const VectorSetView& rows, Metric metric,
                                const RowCoding& coding) {
  const CodeLayout& layout = *coding.layout;
  std::vector<uint8_t> records(rows.num_rows * layout.record_bytes);
  size_t centre = 0;
  for (size_t r = 0; r < rows.num_rows; ++r) {
    uint8_t* const record = &records[r * layout.record_bytes];
    std::vector<float> row = RowOf(rows, r, metric);
    const float* own = coding.mean;
    if (coding.centres != nullptr) {
      while (coding.offsets[centre + 1] <= r) ++centre;
      own = coding.centres + centre * coding.dim;
    }
    for (size_t j = 0; j < coding.dim; ++j) row[j] -= own[j];
    const std::vector<float> coordinates = CoordinatesOf(row, coding);
    double with_centre = 0;
    size_t s = 0;
    for (; s < layout.num_segments && layout.segments[s].num_dims > 0; ++s) {
      const CodeSegment& segment = layout.segments[s];
      const ScalarLevels& levels = ScalarLevels::ForBits(segment.bits);
      std::vector<uint8_t> codes(segment.num_dims);
      const SegmentCode code =
          EncodeSegment({&coordinates[segment.query_offset], segment.num_dims},
                        levels, coding.adjust_rounds, codes.data());
      Pack(codes, segment.bits, record + segment.payload_offset);
      const float unit = coding.units[s];
      const float stored =
          PutRescale(layout, unit > 0 ? code.rescale / unit : 0, s, record);
      if (coding.centres == nullptr) continue;
      with_centre +=
          double{stored} * unit *
          WithCentre(codes, levels,
                     coding.coded_centres + centre * coding.num_coded +
                         segment.query_offset);
    }
    const bool is_l2 = metric == Metric::kL2;
    const double with_mean = Dot(row.data(), coding.mean, coding.dim);
    double additive = is_l2 ? SumSquares(row) : -with_mean;
    if (coding.centres != nullptr) {
      const double product = Dot(row.data(), own, coding.dim) - with_mean;
      const double missing = product - with_centre;
      additive = is_l2 ? additive + 2 * product : -missing;
      if (s < layout.num_segments && coding.missing_unit > 0) {
        PutRescale(layout, static_cast<float>(missing / coding.missing_unit), s,
                   record);
      }
    }
    const auto stored = static_cast<float>(additive);
    std::memcpy(record + layout.additive_offset, &stored, 4);
  }
  return records;
}

}  // namespace vicinal::backend_tests
