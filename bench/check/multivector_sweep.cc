#include "bench/check/multivector_sweep.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/curve.h"
#include "bench/machine.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

size_t Wanted(const std::vector<Neighbor>& best) {
  return std::min(kMultiK, best.size());
}

}  // namespace

double RecallOf(const Answers& truth, const Answers& answers) {
  size_t found = 0, wanted = 0;
  for (size_t q = 0; q < truth.size(); ++q) {
    wanted += Wanted(truth[q]);
    for (const Neighbor& hit : answers[q]) {
      found += hit.distance <= truth[q][Wanted(truth[q]) - 1].distance;
    }
  }
  return static_cast<double>(found) / static_cast<double>(wanted);
}

double ShareAmong(const Answers& truth,
                  const std::vector<std::vector<RowId>>& rankings,
                  size_t count) {
  size_t found = 0, wanted = 0;
  for (size_t q = 0; q < truth.size(); ++q) {
    const auto begin = rankings[q].begin();
    const auto end =
        begin + static_cast<ptrdiff_t>(std::min(count, rankings[q].size()));
    wanted += Wanted(truth[q]);
    for (size_t i = 0; i < Wanted(truth[q]); ++i) {
      found += std::find(begin, end, truth[q][i].row) != end;
    }
  }
  return static_cast<double>(found) / static_cast<double>(wanted);
}

std::optional<double> CandidatesFor(
    const Answers& truth, const std::vector<std::vector<RowId>>& rankings,
    double recall) {
  size_t high = 0;
  for (const std::vector<RowId>& ranking : rankings) {
    high = std::max(high, ranking.size());
  }
  if (ShareAmong(truth, rankings, high) < recall) return std::nullopt;
  size_t low = 0;  // is not enough
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    (ShareAmong(truth, rankings, middle) < recall ? low : high) = middle;
  }
  return static_cast<double>(high);
}

absl::StatusOr<MultiPoint> MeasurePoint(const std::vector<MultiQuery>& queries,
                                        const Answers& truth, size_t passes,
                                        const SearchOne& search,
                                        Answers* answers) {
  MultiPoint point{.p50_us = std::numeric_limits<double>::infinity()};
  Answers found;
  for (size_t pass = 0; pass < passes; ++pass) {
    std::vector<double> us;
    double sum = 0;
    found.clear();
    for (const MultiQuery& query : queries) {
      const double start = ThreadSeconds();
      TopK top(kMultiK);
      VICINAL_RETURN_IF_ERROR(search(query, &top));
      us.push_back(1e6 * (ThreadSeconds() - start));
      sum += us.back();
      found.push_back(top.TakeSorted());
    }
    const double p50 = Percentile(&us, 0.5);
    if (p50 >= point.p50_us) continue;
    point.p50_us = p50;
    point.p99_us = Percentile(&us, 0.99);
    point.mean_us = sum / static_cast<double>(queries.size());
  }
  point.recall = RecallOf(truth, found);
  if (answers != nullptr) *answers = std::move(found);
  return point;
}

absl::StatusOr<MultiPoint> MeasureField(const MultiField& field,
                                        size_t num_rows,
                                        const std::vector<MultiQuery>& queries,
                                        const Answers& truth, size_t passes,
                                        const MultiSearchParams& params,
                                        Answers* answers) {
  MultiStats work;
  VICINAL_ASSIGN_OR_RETURN(
      MultiPoint point, MeasurePoint(
                            queries, truth, passes,
                            [&](const MultiQuery& query, TopK* out) {
                              return field.Search(query, params, {}, 0,
                                                  static_cast<RowId>(num_rows),
                                                  {}, out, nullptr, &work);
                            },
                            answers));
  const auto searches = static_cast<double>(passes * queries.size());
  point.candidates = params.candidates;
  point.compared = static_cast<double>(work.num_candidates) / searches;
  point.exact = static_cast<double>(work.num_exact) / searches;
  return point;
}

std::vector<size_t> CandidateGrid(size_t least, size_t most) {
  std::vector<size_t> grid;
  for (size_t count = least; count < most;
       count += std::max<size_t>(1, count / 4)) {
    grid.push_back(count);
  }
  grid.push_back(most);
  return grid;
}

absl::StatusOr<MultiPoint> CheapestPoint(const MultiField& field,
                                         size_t num_rows,
                                         const std::vector<MultiQuery>& queries,
                                         const Answers& truth, size_t passes,
                                         double recall) {
  MultiPoint point;
  for (const size_t candidates : CandidateGrid(32, num_rows)) {
    const MultiSearchParams params{.k = kMultiK, .candidates = candidates};
    VICINAL_ASSIGN_OR_RETURN(
        point, MeasureField(field, num_rows, queries, truth, 1, params));
    if (point.recall < recall) continue;
    return MeasureField(field, num_rows, queries, truth, passes, params);
  }
  return absl::NotFoundError(
      absl::StrCat("recall@10 is ", point.recall, " at most"));
}

}  // namespace vicinal::bench
