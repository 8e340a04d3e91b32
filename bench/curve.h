// Recall against speed: one point per ef, and what lies between them.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace vicinal::bench {

// One pass over all queries.
struct CurvePoint {
  size_t ef = 0;
  double recall = 0;  // mean recall@k
  double qps = 0;
  double p50_us = 0;
  double p99_us = 0;
};

// The points that no other beats in both recall and QPS, by rising recall.
std::vector<CurvePoint> ParetoFront(std::vector<CurvePoint> points);

// QPS at a recall: on the front, linear in recall and in the logarithm of QPS
// between the two points around it. A recall below the curve gets the QPS of
// the first point (no slower, so the claim is safe); above it: nullopt.
std::optional<double> QpsAtRecall(const std::vector<CurvePoint>& points,
                                  double recall);

// The value below which `share` (0..1) of the samples lie; sorts them. 0 for
// none.
double Percentile(std::vector<double>* samples, double share);

}  // namespace vicinal::bench
