#include "quant/plan.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/random.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<float> Spectrum(size_t dim, double alpha) {
  std::vector<float> out(dim);
  for (size_t i = 0; i < dim; ++i) {
    out[i] = static_cast<float>(std::pow(i + 1.0, -alpha));
  }
  return out;
}

// The paper's objective (SAQ, eq. 18) of any plan.
double LinearCost(const Plan& plan, const std::vector<float>& variances) {
  double cost = 0;
  size_t at = 0;
  for (const PlanSegment& segment : plan) {
    for (size_t i = 0; i < segment.num_dims && at < variances.size(); ++i) {
      cost += variances[at++] / std::exp2(segment.bits);
    }
  }
  for (; at < variances.size(); ++at) cost += variances[at];
  return cost;
}

TEST(PlanTest, KeepsItsLimits) {
  Random random(1);
  for (int round = 0; round < 60; ++round) {
    const size_t dim = 16 + random.Uniform(500);
    PlanLimits limits;
    limits.granularity = random.Uniform(2) == 0 ? 16 : 64;
    limits.payload_and_factor_bytes = 1 + random.Uniform(dim);
    limits.max_segments = 1 + random.Uniform(6);
    const auto variances = Spectrum(dim, random.UniformDouble() * 2);
    for (const auto objective :
         {PlanObjective::kLinear, PlanObjective::kDeviation,
          PlanObjective::kQuadratic}) {
      const Plan plan = FindPlan(variances, variances, objective, limits);
      EXPECT_LE(plan.size(), limits.max_segments);
      EXPECT_LE(PlanBytes(plan, limits.factor_bytes),
                limits.payload_and_factor_bytes);
      size_t dims = 0;
      for (const PlanSegment& segment : plan) {
        EXPECT_EQ(segment.num_dims % limits.granularity, 0u);
        EXPECT_GT(segment.num_dims, 0u);
        dims += segment.num_dims;
      }
      EXPECT_LT(dims, dim + limits.granularity);
    }
  }
}

// Every plan of up to two segments over three blocks.
TEST(PlanTest, IsTheBestOfAllSmallPlans) {
  for (const double alpha : {0.0, 0.7, 1.5, 3.0}) {
    for (const size_t bytes : {8, 12, 20, 30, 44, 60}) {
      const auto variances = Spectrum(48, alpha);
      PlanLimits limits;
      limits.granularity = 16;
      limits.payload_and_factor_bytes = bytes;
      limits.max_segments = 2;
      double best = LinearCost({}, variances);
      for (const uint32_t b1 : {1, 2, 4, 8}) {
        for (uint32_t n1 = 16; n1 <= 48; n1 += 16) {
          const auto consider = [&](const Plan& plan) {
            if (PlanBytes(plan, 2) <= bytes) {
              best = std::min(best, LinearCost(plan, variances));
            }
          };
          consider({{n1, b1}});
          for (const uint32_t b2 : {1, 2, 4, 8}) {
            for (uint32_t n2 = 16; n1 + n2 <= 48; n2 += 16) {
              consider({{n1, b1}, {n2, b2}});
            }
          }
        }
      }
      const Plan plan =
          FindPlan(variances, variances, PlanObjective::kLinear, limits);
      // One segment more must be worth 0.1 %.
      EXPECT_LE(LinearCost(plan, variances), best * 1.002)
          << alpha << " " << bytes;
    }
  }
}

TEST(PlanTest, SpendsMoreBitsOnMoreVariance) {
  PlanLimits limits;
  limits.payload_and_factor_bytes = 252;
  const auto variances = Spectrum(1024, 1);
  const Plan plan =
      FindPlan(variances, variances, PlanObjective::kDeviation, limits);
  ASSERT_GE(plan.size(), 2u);
  for (size_t s = 1; s < plan.size(); ++s) {
    EXPECT_LT(plan[s].bits, plan[s - 1].bits);
  }
}

TEST(PlanTest, IsEmptyWhenNothingFits) {
  PlanLimits limits;
  limits.payload_and_factor_bytes = 3;
  EXPECT_THAT(FindPlan(Spectrum(64, 1), Spectrum(64, 1), PlanObjective::kLinear,
                       limits),
              IsEmpty());
  EXPECT_THAT(UniformPlan(64, limits), IsEmpty());
}

TEST(PlanTest, UniformIsTheWidestThatFits) {
  PlanLimits limits;
  limits.granularity = 16;
  limits.payload_and_factor_bytes = 60;
  EXPECT_THAT(UniformPlan(100, limits), ElementsAre(PlanSegment{112, 4}));
  limits.payload_and_factor_bytes = 20;
  EXPECT_THAT(UniformPlan(100, limits), ElementsAre(PlanSegment{112, 1}));
}

TEST(PlanTest, CodesNoMoreDimensionsThanAllowed) {
  PlanLimits limits;
  limits.payload_and_factor_bytes = 300;
  limits.max_dims = 128;
  size_t dims = 0;
  for (const PlanSegment& segment :
       FindPlan(Spectrum(512, 0.5), Spectrum(512, 0.5), PlanObjective::kLinear,
                limits)) {
    dims += segment.num_dims;
  }
  EXPECT_GT(dims, 0u);
  EXPECT_LE(dims, 128u);
}

}  // namespace
}  // namespace vicinal
