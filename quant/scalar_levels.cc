#include "quant/scalar_levels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "src/base/check.h"

namespace vicinal {
namespace {

// Positive half of the 16 levels for a unit normal (Max, 1960, table I).
constexpr std::array<double, 8> kLloydMax = {0.1284, 0.3881, 0.6568, 0.9424,
                                             1.2562, 1.6181, 2.0690, 2.7326};
// Units per standard deviation that keep the rounded levels nearest to them,
// with the largest at 127: found by trying all below 2.7326 / 63.5.
constexpr double kLevelUnit = 0.0430331;
// Step of the best uniform 4-level quantizer of a unit normal.
constexpr double kStep2 = 0.9957;

}  // namespace

ScalarLevels::ScalarLevels(uint32_t bits, float relative_variance)
    : bits_(bits), relative_variance_(relative_variance) {
  if (bits == 4) {
    for (size_t i = 0; i < 8; ++i) {
      const auto half =
          static_cast<int>(std::lround(kLloydMax[i] / kLevelUnit - 0.5));
      table_[8 + i] = static_cast<uint8_t>(64 + half);
      table_[7 - i] = static_cast<uint8_t>(63 - half);
    }
    center_ = 63.5f;
  } else {
    center_ = static_cast<float>((1u << bits) - 1) / 2;
  }
}

const ScalarLevels& ScalarLevels::ForBits(uint32_t bits) {
  static const ScalarLevels one(1, 0.571f);
  static const ScalarLevels two(2, 0.134f);
  static const ScalarLevels four(4, 0.0097f);
  static const ScalarLevels eight(8, 6.0e-5f);
  switch (bits) {
    case 1:
      return one;
    case 2:
      return two;
    case 4:
      return four;
    default:
      VICINAL_CHECK_EQ(bits, 8u);
      return eight;
  }
}

double ScalarLevels::step_of_two() { return kStep2; }

std::array<float, 7> ScalarLevels::limits_of_four() {
  const ScalarLevels& levels = ForBits(4);
  std::array<float, 7> limits;
  for (size_t k = 0; k < limits.size(); ++k) {
    const float middle =
        0.5f * static_cast<float>(levels.Level(8 + k) + levels.Level(9 + k)) -
        levels.center();
    limits[k] = middle * static_cast<float>(kLevelUnit);
  }
  return limits;
}

namespace {

// Sums that decide a code: <x, o> and |x|^2.
struct Products {
  double ip = 0;
  double norm2 = 0;
};

Products ProductsOf(std::span<const float> values, const ScalarLevels& levels,
                    const uint8_t* codes) {
  float u[16];
  Products out;
  for (uint32_t c = 0; c < 16; ++c) {
    u[c] = static_cast<float>(levels.Level(c)) - levels.center();
  }
  const float center = levels.center();
  const bool direct = levels.bits() == 8;
  // Blocks in f32, which vectorize; their sums in f64.
  constexpr size_t kBlock = 64;
  for (size_t first = 0; first < values.size(); first += kBlock) {
    const size_t n = std::min(kBlock, values.size() - first);
    float x[kBlock];
    for (size_t i = 0; i < n; ++i) {
      const uint8_t code = codes[first + i];
      x[i] = direct ? static_cast<float>(code) - center : u[code & 15];
    }
    float ip = 0;
    float norm2 = 0;
    for (size_t i = 0; i < n; ++i) {
      ip += x[i] * values[first + i];
      norm2 += x[i] * x[i];
    }
    out.ip += ip;
    out.norm2 += norm2;
  }
  return out;
}

void StartCodes(std::span<const float> values, const ScalarLevels& levels,
                float deviation, uint8_t* codes) {
  const size_t n = values.size();
  switch (levels.bits()) {
    case 1:
      for (size_t i = 0; i < n; ++i) codes[i] = values[i] > 0 ? 1 : 0;
      return;
    case 2: {
      const auto step =
          static_cast<float>(ScalarLevels::step_of_two() * deviation);
      for (size_t i = 0; i < n; ++i) {
        const float v = values[i];
        codes[i] = static_cast<uint8_t>((v > -step) + (v > 0) + (v > step));
      }
      return;
    }
    case 4: {
      std::array<float, 7> limits = ScalarLevels::limits_of_four();
      for (float& limit : limits) limit *= deviation;
      for (size_t i = 0; i < n; ++i) {
        const float magnitude = std::abs(values[i]);
        int rank = 0;
        for (const float limit : limits) rank += magnitude > limit;
        codes[i] = static_cast<uint8_t>(values[i] > 0 ? 8 + rank : 7 - rank);
      }
      return;
    }
    default: {
      float largest = 0;
      for (const float v : values) largest = std::max(largest, std::abs(v));
      const float scale = 127.5f / largest;
      for (size_t i = 0; i < n; ++i) {
        const float level = values[i] * scale + 128.0f;
        codes[i] = static_cast<uint8_t>(std::min(255, static_cast<int>(level)));
      }
    }
  }
}

// Moves codes to neighbours where that turns x towards o; the sums are made
// anew after each round, since they drift.
void Adjust(std::span<const float> values, const ScalarLevels& levels,
            size_t rounds, uint8_t* codes) {
  const auto largest = static_cast<int>((1u << levels.bits()) - 1);
  for (size_t round = 0; round < rounds; ++round) {
    Products at = ProductsOf(values, levels, codes);
    bool moved = false;
    for (size_t i = 0; i < values.size(); ++i) {
      const double x = levels.Level(codes[i]) - levels.center();
      for (const int step : {1, -1}) {
        const int code = codes[i] + step;
        if (code < 0 || code > largest) continue;
        const double y = levels.Level(code) - levels.center();
        const double ip = at.ip + (y - x) * values[i];
        const double norm2 = at.norm2 + y * y - x * x;
        if (ip <= 0 || ip * ip * at.norm2 <= at.ip * at.ip * norm2) continue;
        at = {ip, norm2};
        codes[i] = static_cast<uint8_t>(code);
        moved = true;
        break;
      }
    }
    if (!moved) return;
  }
}

}  // namespace

SegmentCode EncodeSegment(std::span<const float> values,
                          const ScalarLevels& levels, size_t adjust_rounds,
                          uint8_t* codes) {
  double norm2 = 0;
  constexpr size_t kBlock = 64;
  for (size_t first = 0; first < values.size(); first += kBlock) {
    float sum = 0;
    for (size_t i = first; i < std::min(values.size(), first + kBlock); ++i) {
      sum += values[i] * values[i];
    }
    norm2 += sum;
  }
  if (!(norm2 > 0)) {
    std::fill_n(codes, values.size(), uint8_t{0});
    return {};
  }
  const auto deviation =
      static_cast<float>(std::sqrt(norm2 / static_cast<double>(values.size())));
  StartCodes(values, levels, deviation, codes);
  Adjust(values, levels, adjust_rounds, codes);
  const Products products = ProductsOf(values, levels, codes);
  if (!(products.ip > 0)) return {};
  SegmentCode out;
  out.rescale = static_cast<float>(norm2 / products.ip);
  out.distortion = static_cast<float>(
      std::max(0.0, 1 - products.ip * products.ip / (norm2 * products.norm2)));
  return out;
}

}  // namespace vicinal
