#include "bench/curve.h"

#include <algorithm>
#include <cmath>

namespace vicinal::bench {

std::vector<CurvePoint> ParetoFront(std::vector<CurvePoint> points) {
  // Fastest first; a later point stays when its recall is higher.
  std::sort(points.begin(), points.end(),
            [](const CurvePoint& a, const CurvePoint& b) {
              return a.qps > b.qps || (a.qps == b.qps && a.recall > b.recall);
            });
  std::vector<CurvePoint> front;
  for (const CurvePoint& point : points) {
    if (front.empty() || point.recall > front.back().recall) {
      front.push_back(point);
    }
  }
  return front;
}

std::optional<double> QpsAtRecall(const std::vector<CurvePoint>& points,
                                  double recall) {
  const std::vector<CurvePoint> front = ParetoFront(points);
  if (front.empty() || front.back().recall < recall) return std::nullopt;
  if (front.front().recall >= recall) return front.front().qps;
  size_t above = 1;
  while (front[above].recall < recall) ++above;
  const CurvePoint& low = front[above - 1];
  const CurvePoint& high = front[above];
  const double share = (recall - low.recall) / (high.recall - low.recall);
  return std::exp(std::log(low.qps) +
                  share * (std::log(high.qps) - std::log(low.qps)));
}

double Percentile(std::vector<double>* samples, double share) {
  if (samples->empty()) return 0;
  std::sort(samples->begin(), samples->end());
  const auto index = static_cast<size_t>(share * samples->size());
  return (*samples)[std::min(index, samples->size() - 1)];
}

}  // namespace vicinal::bench
