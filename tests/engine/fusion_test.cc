#include "src/engine/fusion.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace vicinal {
namespace {

using Scores = std::vector<double>;

Scores Of(FusionKind kind, const Scores& scores, const ScoreBounds& bounds = {},
          double constant = 60) {
  return NormalizeScores(kind, scores, constant, bounds);
}

void ExpectNear(const Scores& found, const Scores& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], wanted[i], 1e-12) << i;
  }
}

constexpr FusionKind kAll[] = {FusionKind::kRrf, FusionKind::kRelativeScore,
                               FusionKind::kZScore, FusionKind::kDistribution,
                               FusionKind::kConvex};

TEST(FusionTest, RanksCountFromOne) {
  ExpectNear(Of(FusionKind::kRrf, {9, 5, 5}), {1 / 61.0, 1 / 62.0, 1 / 63.0});
  ExpectNear(Of(FusionKind::kRrf, {9, 5}, {}, 2), {1 / 3.0, 1 / 4.0});
}

TEST(FusionTest, RanksDoNotDependOnHowScoresAreMade) {
  EXPECT_EQ(Of(FusionKind::kRrf, {3, 2, 1}),
            Of(FusionKind::kRrf, {std::exp(3), std::exp(2), std::exp(1)}));
}

TEST(FusionTest, RelativeScoresSpanTheirRange) {
  ExpectNear(Of(FusionKind::kRelativeScore, {5, 4, 1}), {1, 0.75, 0});
}

TEST(FusionTest, ZScoresAreDeviationsFromTheMean) {
  const double deviation = std::sqrt(8.0 / 3);
  ExpectNear(Of(FusionKind::kZScore, {5, 3, 1}),
             {2 / deviation, 0, -2 / deviation});
}

TEST(FusionTest, DistributionsPutTheMeanInTheMiddle) {
  const double deviation = std::sqrt(8.0 / 3);
  ExpectNear(Of(FusionKind::kDistribution, {5, 3, 1}),
             {0.5 + 2 / (6 * deviation), 0.5, 0.5 - 2 / (6 * deviation)});
}

TEST(FusionTest, ConvexScoresUseWhatIsKnown) {
  ExpectNear(Of(FusionKind::kConvex, {0.6, -0.2}, {.least = -1, .best = 1}),
             {1, 0.5});
  ExpectNear(Of(FusionKind::kConvex, {8, 2}, {.least = 0, .best = {}}),
             {1, 0.25});
  ExpectNear(Of(FusionKind::kConvex, {-1, -4}, {.least = {}, .best = 0}),
             {0.75, 0});
  ExpectNear(Of(FusionKind::kConvex, {8, 2}), {1, 0});
  // Sparse vectors with negative weights: all below the least.
  ExpectNear(Of(FusionKind::kConvex, {-1, -4}, {.least = 0, .best = {}}),
             {1, 0});
}

TEST(FusionTest, EqualScoresAndSingleOnesHaveFixedValues) {
  for (const Scores& scores : {Scores{7}, Scores{7, 7, 7}}) {
    EXPECT_EQ(Of(FusionKind::kRelativeScore, scores)[0], 1);
    EXPECT_EQ(Of(FusionKind::kZScore, scores)[0], 0);
    EXPECT_EQ(Of(FusionKind::kDistribution, scores)[0], 0.5);
    EXPECT_EQ(Of(FusionKind::kConvex, scores)[0], 1);
  }
}

TEST(FusionTest, NothingBecomesNothing) {
  for (const FusionKind kind : kAll) EXPECT_TRUE(Of(kind, {}).empty());
}

TEST(FusionTest, NoScoreBecomesNoNumber) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const FusionKind kind : kAll) {
    for (const double value :
         Of(kind, {infinity, 1e30, 0, std::nan(""), -infinity})) {
      EXPECT_TRUE(std::isfinite(value));
    }
  }
}

}  // namespace
}  // namespace vicinal
