// IEEE 754 binary16 and bfloat16 <-> binary32, round to nearest even.
#pragma once

#include <cstdint>
#include <span>

namespace vicinal {

float HalfToFloat(uint16_t half);
uint16_t FloatToHalf(float value);  // overflow gives infinity
void HalfToFloat(std::span<const uint16_t> in, std::span<float> out);
void FloatToHalf(std::span<const float> in, std::span<uint16_t> out);

float BfloatToFloat(uint16_t bfloat);
uint16_t FloatToBfloat(float value);  // overflow gives infinity

}  // namespace vicinal
