// Scalar codes of one segment: which integer level each rotated dimension gets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vicinal {

// Levels of codes of `bits`: code c stands for u(c) - center, up to a scale
// that each record carries. Symmetric around zero, so center is half the
// largest u.
//
//   1 bit    u = c
//   2 bits   u = c, the uniform quantizer of least error for a normal variable
//            (Max, 1960: step 0.9957)
//   4 bits   Lloyd-Max levels of a normal variable (Max, 1960), rounded to
//            integers up to 127: 9 % less error than uniform ones
//   8 bits   u = c over [-max, max] of the vector itself (as LVQ, Aguerrebere
//            et al., 2023, after a rotation): a clip would cost outliers
class ScalarLevels {
 public:
  // bits: 1, 2, 4 or 8.
  static const ScalarLevels& ForBits(uint32_t bits);

  uint32_t bits() const { return bits_; }
  float center() const { return center_; }
  bool has_table() const { return bits_ == 4; }
  // Of 4 bits; zeros else.
  const std::array<uint8_t, 16>& table() const { return table_; }
  // u of a code.
  uint32_t Level(uint32_t code) const {
    return has_table() ? table_[code] : code;
  }
  // Where codes begin, in deviations of a row's segment: those of 2 bits change
  // at this step and at 0,
  static double step_of_two();
  // those of 4 bits halfway between two levels.
  static std::array<float, 7> limits_of_four();
  // Mean of (1 - cos^2) / cos^2 between a normal vector and its levels: what an
  // inner product with it errs by, relative (RaBitQ, Gao et al. 2024, eq. 12).
  float relative_variance() const { return relative_variance_; }

 private:
  ScalarLevels(uint32_t bits, float relative_variance);

  uint32_t bits_;
  float center_;
  float relative_variance_;
  std::array<uint8_t, 16> table_ = {};
};

// What a segment's record keeps besides its codes.
struct SegmentCode {
  // |o|^2 / <x, o> with x = u(code) - center: makes <rescale x, q> an unbiased
  // estimate of <o, q> for rotated o (RaBitQ, eq. 13; EDEN, Vargaftik et al.
  // 2022). 0 for a zero segment.
  float rescale = 0;
  // 1 - cos^2(x, o).
  float distortion = 0;
};

// Codes of `values`, one byte each. adjust_rounds: passes of code adjustment
// (CAQ: SAQ, Li et al. 2025, algorithm 1): each code in turn moves to a
// neighbour where that turns x towards o.
SegmentCode EncodeSegment(std::span<const float> values,
                          const ScalarLevels& levels, size_t adjust_rounds,
                          uint8_t* codes);

}  // namespace vicinal
