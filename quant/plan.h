// How the bits of a code are spent: contiguous segments of the dimensions, in
// the order of their variance, each with one width (SAQ, Li et al. 2025,
// section 4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vicinal {

struct PlanSegment {
  uint32_t num_dims = 0;  // a multiple of the granularity
  uint32_t bits = 0;      // 1, 2, 4 or 8

  friend bool operator==(const PlanSegment&, const PlanSegment&) = default;
};

// Segments from the first dimension on; what is behind them has no bits.
using Plan = std::vector<PlanSegment>;

struct PlanLimits {
  size_t payload_and_factor_bytes = 0;  // of a record, without the additive
  size_t factor_bytes = 2;              // per segment
  size_t granularity = 64;
  size_t max_segments = 6;
  size_t max_dims = SIZE_MAX;  // coded at most
};

// What a plan is thought to cost.
enum class PlanObjective {
  kLinear,     // sum of variance / 2^bits (SAQ, eq. 18)
  kDeviation,  // the same with each quantizer's own relative deviation
  kQuadratic,  // variances of independent segments' errors added up
};

// The cheapest plan within the limits by dynamic programming (SAQ, algorithm
// 2). variances: one per dimension, descending. query_power: the mean square
// of a query in each dimension (equal to the variances for queries like the
// rows). Empty when nothing fits.
Plan FindPlan(std::span<const float> variances,
              std::span<const float> query_power, PlanObjective objective,
              const PlanLimits& limits);

// One segment over all dimensions, of the widest codes that fit; empty when
// even one bit does not.
Plan UniformPlan(size_t dim, const PlanLimits& limits);

// Bytes of payload and factors.
size_t PlanBytes(const Plan& plan, size_t factor_bytes);

}  // namespace vicinal
