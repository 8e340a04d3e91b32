#include "src/engine/fusion.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace vicinal {
namespace {

// (score - low) / (high - low), or `equal` where they are the same.
std::vector<double> Rescale(std::span<const double> scores, double low,
                            double high, double equal) {
  std::vector<double> out;
  out.reserve(scores.size());
  for (const double score : scores) {
    out.push_back(high > low ? (score - low) / (high - low) : equal);
  }
  return out;
}

}  // namespace

std::vector<double> NormalizeScores(FusionKind kind,
                                    std::span<const double> scores,
                                    double rank_constant,
                                    const ScoreBounds& bounds) {
  std::vector<double> out;
  if (scores.empty()) return out;
  if (kind == FusionKind::kRrf) {
    for (size_t i = 0; i < scores.size(); ++i) {
      out.push_back(1 / (rank_constant + static_cast<double>(i + 1)));
    }
    return out;
  }
  constexpr double kMost = std::numeric_limits<float>::max();
  std::vector<double> finite;
  finite.reserve(scores.size());
  double sum = 0;
  for (const double score : scores) {
    finite.push_back(std::isnan(score) ? -kMost
                                       : std::clamp(score, -kMost, kMost));
    sum += finite.back();
  }
  const double best = *std::max_element(finite.begin(), finite.end());
  const double worst = *std::min_element(finite.begin(), finite.end());
  if (kind == FusionKind::kRelativeScore) {
    return Rescale(finite, worst, best, 1);
  }
  if (kind == FusionKind::kConvex) {
    // Sparse vectors with negative weights may all lie below it.
    if (bounds.least.has_value() && *bounds.least < best) {
      return Rescale(finite, *bounds.least, best, 1);
    }
    if (bounds.best.has_value()) {
      return Rescale(finite, worst, *bounds.best, 1);
    }
    return Rescale(finite, worst, best, 1);
  }
  const auto n = static_cast<double>(finite.size());
  const double mean = sum / n;
  double squares = 0;
  for (const double score : finite) squares += (score - mean) * (score - mean);
  const double deviation = best > worst ? std::sqrt(squares / n) : 0;
  if (kind == FusionKind::kZScore) {
    return Rescale(finite, mean, mean + deviation, 0);
  }
  return Rescale(finite, mean - 3 * deviation, mean + 3 * deviation, 0.5);
}

}  // namespace vicinal
