#include "bench/check/ivf_rows.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/ann_system.h"
#include "bench/machine.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr std::array<double, 6> kTargets = {0.90, 0.93,  0.95,
                                            0.97, 0.985, 0.995};

struct Point {
  double recall = 0;
  double qps = 0;
};

// Queries per second at a recall, on the line between the two settings next to
// it; nullopt when none reaches it.
std::optional<double> QpsAt(const std::vector<Point>& points, double recall) {
  std::optional<Point> below, above;
  for (const Point& point : points) {
    if (point.recall >= recall && (!above || point.qps > above->qps)) {
      above = point;
    }
    if (point.recall < recall && (!below || point.recall > below->recall)) {
      below = point;
    }
  }
  if (!above) return std::nullopt;
  if (!below || below->qps < above->qps) return above->qps;
  const double share =
      (recall - below->recall) / (above->recall - below->recall);
  return below->qps + share * (above->qps - below->qps);
}

absl::StatusOr<std::vector<Point>> Sweep(AnnSystem* system,
                                         const Dataset& dataset,
                                         const RecallJudge& judge,
                                         size_t passes) {
  std::vector<Point> points;
  std::vector<uint32_t> found(judge.k());
  for (const double target : kTargets) {
    Point point;
    for (size_t pass = 0; pass < passes; ++pass) {
      size_t hits = 0;
      double spent = 0;
      for (size_t q = 0; q < dataset.queries.num_rows; ++q) {
        const double start = ThreadSeconds();
        VICINAL_ASSIGN_OR_RETURN(
            const size_t n,
            system->SearchForRecall(dataset.queries.row(q), judge.k(), target,
                                    found.data()));
        spent += ThreadSeconds() - start;
        hits += judge.CountHits(q, {found.data(), n});
      }
      const auto queries = static_cast<double>(dataset.queries.num_rows);
      point.recall = static_cast<double>(hits) / (queries * judge.k());
      point.qps = std::max(point.qps, queries / spent);
    }
    points.push_back(point);
  }
  return points;
}

}  // namespace

absl::StatusOr<double> IvfQpsAt(const Dataset& dataset,
                                const RecallJudge& judge, float avg_bits,
                                double recall, size_t passes) {
  const std::unique_ptr<AnnSystem> system = MakeVicinalIvf(avg_bits);
  VICINAL_RETURN_IF_ERROR(system->Build(dataset, {}));
  VICINAL_ASSIGN_OR_RETURN(const std::vector<Point> points,
                           Sweep(system.get(), dataset, judge, passes));
  const std::optional<double> qps = QpsAt(points, recall);
  if (!qps) return absl::NotFoundError("our lists do not reach the recall");
  return *qps;
}

}  // namespace vicinal::bench
