// Scores of several searches made comparable.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace vicinal {

enum class FusionKind : uint8_t {
  // 1 / (rank_constant + rank), ranks from 1 (Cormack et al., SIGIR 2009).
  kRrf = 1,
  // From the last (0) to the first (1).
  kRelativeScore = 2,
  // Standard deviations above the mean.
  kZScore = 3,
  // From three standard deviations below the mean (0) to three above (1).
  kDistribution = 4,
  // From the least score that there can be (0) to the first (1); where only the
  // best one is known, from the last (0) to that (1); else as kRelativeScore
  // (Bruch et al., arXiv 2210.11934, section 4).
  kConvex = 5,
};

// What is known of scores without looking at them.
struct ScoreBounds {
  std::optional<double> least;
  std::optional<double> best;
};

// scores: larger is better, the best first. Infinite ones count as the largest
// and the smallest number of 32 bits. The result has no NaN; where all scores
// are equal it is 1, of kZScore 0, of kDistribution 0.5.
std::vector<double> NormalizeScores(FusionKind kind,
                                    std::span<const double> scores,
                                    double rank_constant,
                                    const ScoreBounds& bounds);

}  // namespace vicinal
