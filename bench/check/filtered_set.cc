#include "bench/check/filtered_set.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "src/base/random.h"
#include "src/base/top_k.h"
#include "src/distance/distance.h"

namespace vicinal::bench {
namespace {

constexpr uint32_t kNumBuckets = 10'000;
// Rows of a block stay in the second-level cache for a group of queries.
constexpr size_t kBlockBytes = 256 << 10;
constexpr size_t kQueriesPerGroup = 64;

// Rows by their distance from one vector, the nearest first.
std::vector<uint32_t> ByDistance(const FloatMatrix& rows, const float* from,
                                 Metric metric) {
  std::vector<float> distances(rows.num_rows);
  OpsFor(metric, ElementType::kFloat32)
      .scan(from, rows.values.data(), rows.dim * sizeof(float), rows.num_rows,
            rows.dim, distances.data());
  std::vector<uint32_t> order(rows.num_rows);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return distances[a] != distances[b] ? distances[a] < distances[b] : a < b;
  });
  return order;
}

std::vector<uint32_t> SampleQueries(size_t num_queries, size_t count,
                                    Random& random) {
  std::vector<uint32_t> all(num_queries);
  std::iota(all.begin(), all.end(), 0);
  for (size_t i = 0; i < count; ++i) {
    std::swap(all[i], all[i + random.Uniform(num_queries - i)]);
  }
  all.resize(count);
  return all;
}

}  // namespace

bool Workload::Accepts(const FilteredSet& set, size_t i, size_t row) const {
  return conditions.empty() || set.Accepts(conditions[i], row);
}

const char* CorrelationName(Correlation correlation) {
  switch (correlation) {
    case Correlation::kIndependent:
      return "independent";
    case Correlation::kPositive:
      return "positive";
    case Correlation::kNegative:
      return "negative";
  }
  return "";
}

absl::StatusOr<FilteredSet> FilteredSet::Make(
    Dataset dataset, const FilteredSetOptions& options) {
  const size_t wanted =
      std::max(options.num_queries,
               std::max(options.num_centres, options.queries_per_centre));
  if (dataset.queries.num_rows < wanted) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has %d queries; %d are needed", dataset.name,
                        dataset.queries.num_rows, wanted));
  }
  dataset.Prepare();
  FilteredSet set(std::move(dataset), options);
  set.MakeBuckets();
  set.MakeCentres();
  set.MakeWorkloads();
  set.FindAnswers(&set.independent_);
  set.FindAnswers(&set.correlated_);
  return set;
}

void FilteredSet::MakeBuckets() {
  Random random(options_.seed);
  names_.push_back("bucket");
  std::vector<uint32_t>& buckets = values_.emplace_back();
  for (size_t row = 0; row < dataset_.base.num_rows; ++row) {
    buckets.push_back(static_cast<uint32_t>(random.Uniform(kNumBuckets)));
  }
}

void FilteredSet::MakeCentres() {
  Random random(options_.seed + 1);
  const Metric metric = dataset_.search_metric();
  for (const uint32_t centre :
       SampleQueries(dataset_.queries.num_rows, options_.num_centres, random)) {
    names_.push_back(absl::StrCat("near", around_.size()));
    const float* from = dataset_.queries.row(centre);
    const std::vector<uint32_t> rows = ByDistance(dataset_.base, from, metric);
    std::vector<uint32_t>& ranks = values_.emplace_back(rows.size());
    for (size_t rank = 0; rank < rows.size(); ++rank) {
      ranks[rows[rank]] = static_cast<uint32_t>(rank);
    }
    std::vector<uint32_t>& queries =
        around_.emplace_back(ByDistance(dataset_.queries, from, metric));
    queries.resize(options_.queries_per_centre);
  }
}

void FilteredSet::MakeWorkloads() {
  Random random(options_.seed + 2);
  Workload workload;
  workload.queries =
      SampleQueries(dataset_.queries.num_rows, options_.num_queries, random);
  independent_.push_back(workload);
  for (const double percent : kPercents) {
    workload.percent = percent;
    const auto high =
        static_cast<uint32_t>(std::lround(kNumBuckets * percent / 100));
    workload.conditions.assign(workload.queries.size(), {0, 0, high});
    independent_.push_back(workload);
  }

  // Centres take turns.
  Workload around;
  std::vector<size_t> centres;
  for (size_t i = 0; i < options_.queries_per_centre; ++i) {
    for (size_t c = 0; c < around_.size(); ++c) {
      around.queries.push_back(around_[c][i]);
      centres.push_back(c);
    }
  }
  around.correlation = Correlation::kPositive;
  correlated_.push_back(around);
  const auto num_rows = static_cast<uint32_t>(dataset_.base.num_rows);
  for (const Correlation correlation :
       {Correlation::kPositive, Correlation::kNegative}) {
    around.correlation = correlation;
    for (const double percent : kPercents) {
      if (percent == 100) continue;
      const auto accepted = static_cast<uint32_t>(
          std::max<int64_t>(1, std::lround(num_rows * percent / 100)));
      around.percent = percent;
      around.conditions.clear();
      for (const size_t centre : centres) {
        around.conditions.push_back(
            correlation == Correlation::kPositive
                ? Condition{1 + centre, 0, accepted}
                : Condition{1 + centre, num_rows - accepted, num_rows});
      }
      correlated_.push_back(around);
    }
  }
}

std::string FilteredSet::PayloadOf(size_t row) const {
  std::string json = "{";
  for (size_t f = 0; f < names_.size(); ++f) {
    absl::StrAppend(&json, f == 0 ? "\"" : ", \"", names_[f],
                    "\": ", values_[f][row]);
  }
  return json + "}";
}

std::string FilteredSet::TextOf(const Condition& condition) const {
  const std::string& name = names_[condition.field];
  return condition.low == 0 ? absl::StrCat(name, " < ", condition.high)
                            : absl::StrCat(name, " >= ", condition.low);
}

void FilteredSet::FindAnswers(std::vector<Workload>* workloads) const {
  const std::vector<uint32_t> queries = workloads->front().queries;
  for (size_t first = 0; first < queries.size(); first += kQueriesPerGroup) {
    FindAnswersOf(first, std::min(first + kQueriesPerGroup, queries.size()),
                  workloads);
  }
}

void FilteredSet::FindAnswersOf(size_t first, size_t last,
                                std::vector<Workload>* workloads) const {
  const FloatMatrix& base = dataset_.base;
  const DistanceOps& ops =
      OpsFor(dataset_.search_metric(), ElementType::kFloat32);
  const size_t stride_bytes = base.dim * sizeof(float);
  const size_t block_rows = std::max<size_t>(1, kBlockBytes / stride_bytes);
  std::vector<float> distances(block_rows);
  // By workload and query.
  std::vector<std::vector<TopK>> nearest(
      workloads->size(), std::vector<TopK>(last - first, TopK(options_.k)));
  for (size_t begin = 0; begin < base.num_rows; begin += block_rows) {
    const size_t n = std::min(block_rows, base.num_rows - begin);
    for (size_t i = first; i < last; ++i) {
      ops.scan(dataset_.queries.row(workloads->front().queries[i]),
               base.row(begin), stride_bytes, n, base.dim, distances.data());
      for (size_t w = 0; w < workloads->size(); ++w) {
        const Workload& workload = (*workloads)[w];
        TopK& top = nearest[w][i - first];
        for (size_t j = 0; j < n; ++j) {
          if (distances[j] <= top.threshold() &&
              workload.Accepts(*this, i, begin + j)) {
            top.Push({distances[j], static_cast<RowId>(begin + j)});
          }
        }
      }
    }
  }
  for (size_t i = first; i < last; ++i) {
    std::vector<Neighbor> of_all;
    for (size_t w = 0; w < workloads->size(); ++w) {
      Workload& workload = (*workloads)[w];
      const std::vector<Neighbor> answers = nearest[w][i - first].TakeSorted();
      if (w == 0) of_all = answers;
      workload.num_answers.push_back(static_cast<uint32_t>(answers.size()));
      workload.thresholds.push_back(answers.empty() ? 0
                                                    : answers.back().distance);
      const auto accepted = std::count_if(
          of_all.begin(), of_all.end(), [&](const Neighbor& neighbor) {
            return workload.Accepts(*this, i, neighbor.row);
          });
      workload.share_of_nearest +=
          static_cast<double>(accepted) /
          static_cast<double>(options_.k * workload.queries.size());
    }
  }
}

absl::StatusOr<size_t> FilteredSet::CountHits(
    const Workload& workload, size_t i,
    std::span<const uint32_t> returned) const {
  const auto describe = [&] {
    return absl::StrCat("query ", workload.queries[i], " with ",
                        workload.conditions.empty()
                            ? "no filter"
                            : TextOf(workload.conditions[i]));
  };
  if (returned.size() < workload.num_answers[i]) {
    return absl::InternalError(
        absl::StrFormat("%s found %d rows where %d are accepted", describe(),
                        returned.size(), workload.num_answers[i]));
  }
  std::vector<uint32_t> rows(returned.begin(), returned.end());
  std::sort(rows.begin(), rows.end());
  if (std::adjacent_find(rows.begin(), rows.end()) != rows.end()) {
    return absl::InternalError(absl::StrCat(describe(), " found a row twice"));
  }
  const DistanceOps& ops =
      OpsFor(dataset_.search_metric(), ElementType::kFloat32);
  size_t hits = 0;
  for (const uint32_t row : rows) {
    if (!workload.conditions.empty() && !Accepts(workload.conditions[i], row)) {
      return absl::InternalError(absl::StrCat(describe(), " found row ", row,
                                              ", which does not pass"));
    }
    hits += ops.one(dataset_.queries.row(workload.queries[i]),
                    dataset_.base.row(row),
                    dataset_.base.dim) <= workload.thresholds[i];
  }
  return std::min<size_t>(hits, workload.num_answers[i]);
}

}  // namespace vicinal::bench
