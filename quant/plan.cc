#include "quant/plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "quant/scalar_levels.h"

namespace vicinal {
namespace {

constexpr std::array<uint32_t, 4> kWidths = {1, 2, 4, 8};

// Sums over the first i blocks of `granularity` dimensions.
class PrefixSums {
 public:
  PrefixSums(std::span<const float> variances,
             std::span<const float> query_power, size_t granularity)
      : variance_(1), power_(1), product_(1), root_(1) {
    for (size_t first = 0; first < variances.size(); first += granularity) {
      double v = 0, w = 0, p = 0, r = 0;
      for (size_t i = first;
           i < std::min(variances.size(), first + granularity); ++i) {
        v += variances[i];
        w += query_power[i];
        p += static_cast<double>(variances[i]) * query_power[i];
        r += std::sqrt(
            std::max(0.0, static_cast<double>(variances[i]) * query_power[i]));
      }
      variance_.push_back(variance_.back() + v);
      power_.push_back(power_.back() + w);
      product_.push_back(product_.back() + p);
      root_.push_back(root_.back() + r);
    }
  }
  size_t num_blocks() const { return variance_.size() - 1; }

  // Cost of blocks [a, b) as one segment of `bits`; of no bits when 0.
  double Cost(size_t a, size_t b, uint32_t bits, PlanObjective objective,
              size_t granularity) const {
    const double relative =
        bits == 0 ? 1 : ScalarLevels::ForBits(bits).relative_variance();
    switch (objective) {
      case PlanObjective::kLinear:
        return (root_[b] - root_[a]) / std::exp2(bits);
      case PlanObjective::kDeviation:
        return (root_[b] - root_[a]) * std::sqrt(relative);
      case PlanObjective::kQuadratic:
        if (bits == 0) return product_[b] - product_[a];
        return relative * (variance_[b] - variance_[a]) *
               (power_[b] - power_[a]) /
               static_cast<double>((b - a) * granularity);
    }
    return 0;
  }

 private:
  std::vector<double> variance_;
  std::vector<double> power_;
  std::vector<double> product_;
  std::vector<double> root_;
};

// One step of a plan: the blocks before it and what it took.
struct Step {
  double cost = std::numeric_limits<double>::infinity();
  uint32_t from = 0;
  uint32_t bits = 0;
};

}  // namespace

size_t PlanBytes(const Plan& plan, size_t factor_bytes) {
  size_t bytes = 0;
  for (const PlanSegment& segment : plan) {
    bytes += segment.num_dims * segment.bits / 8 + factor_bytes;
  }
  return bytes;
}

Plan FindPlan(std::span<const float> variances,
              std::span<const float> query_power, PlanObjective objective,
              const PlanLimits& limits) {
  const size_t g = limits.granularity;
  const PrefixSums sums(variances, query_power, g);
  const size_t num_blocks = std::min(sums.num_blocks(), limits.max_dims / g);
  // States: segments used, blocks covered, bytes used.
  const size_t bytes = limits.payload_and_factor_bytes;
  const size_t width = bytes + 1;
  const auto at = [&](size_t segments, size_t block, size_t used) {
    return (segments * (num_blocks + 1) + block) * width + used;
  };
  std::vector<Step> steps((limits.max_segments + 1) * (num_blocks + 1) * width);
  steps[at(0, 0, 0)].cost = 0;
  double best_cost = std::numeric_limits<double>::infinity();
  size_t best_segments = 0, best_block = 0, best_used = 0;
  for (size_t s = 0; s <= limits.max_segments; ++s) {
    for (size_t block = 0; block <= num_blocks; ++block) {
      const double tail = sums.Cost(block, sums.num_blocks(), 0, objective, g);
      for (size_t used = 0; used <= bytes; ++used) {
        const double cost = steps[at(s, block, used)].cost;
        if (!(cost < std::numeric_limits<double>::infinity())) continue;
        // More segments only where they are worth it (SAQ, section 4.2).
        if (cost + tail < best_cost * (s > best_segments ? 0.999 : 1.0)) {
          best_cost = cost + tail;
          best_segments = s;
          best_block = block;
          best_used = used;
        }
        if (s == limits.max_segments) continue;
        for (size_t end = block + 1; end <= num_blocks; ++end) {
          for (const uint32_t bits : kWidths) {
            const size_t more =
                (end - block) * g * bits / 8 + limits.factor_bytes;
            if (used + more > bytes) break;
            Step& next = steps[at(s + 1, end, used + more)];
            const double sum = cost + sums.Cost(block, end, bits, objective, g);
            if (sum < next.cost) {
              next = {sum, static_cast<uint32_t>(block), bits};
            }
          }
        }
      }
    }
  }
  Plan plan;
  while (best_segments > 0) {
    const Step& step = steps[at(best_segments, best_block, best_used)];
    const auto dims = static_cast<uint32_t>((best_block - step.from) * g);
    plan.push_back({dims, step.bits});
    best_used -= dims * step.bits / 8 + limits.factor_bytes;
    best_block = step.from;
    --best_segments;
  }
  std::reverse(plan.begin(), plan.end());
  return plan;
}

Plan UniformPlan(size_t dim, const PlanLimits& limits) {
  const size_t g = limits.granularity;
  const auto dims = static_cast<uint32_t>((dim + g - 1) / g * g);
  for (size_t i = kWidths.size(); i-- > 0;) {
    const Plan plan = {{dims, kWidths[i]}};
    if (PlanBytes(plan, limits.factor_bytes) <=
        limits.payload_and_factor_bytes) {
      return plan;
    }
  }
  return {};
}

}  // namespace vicinal
