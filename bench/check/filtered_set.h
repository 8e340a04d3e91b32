// Vectors with made payloads, filters over them that are and are not
// correlated with the queries, and the exact answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/dataset.h"

namespace vicinal::bench {

// Accepts the rows whose `field` has a value in [low, high).
struct Condition {
  size_t field = 0;  // in FilteredSet::field_names
  uint32_t low = 0;
  uint32_t high = 0;

  friend bool operator==(const Condition&, const Condition&) = default;
};

// How a filter lies to the query that it comes with.
enum class Correlation {
  kIndependent,  // "bucket < N", bucket uniform in [0, 10,000)
  kPositive,     // the rows nearest to a centre near the query
  kNegative,     // the rows farthest from it
};
const char* CorrelationName(Correlation correlation);  // "independent" etc.

class FilteredSet;

// Queries with a filter each (or none at all), and their exact answers.
struct Workload {
  Correlation correlation = Correlation::kIndependent;
  double percent = 100;               // of the rows are accepted
  std::vector<uint32_t> queries;      // rows of Dataset::queries
  std::vector<Condition> conditions;  // one per query; empty: no filter
  std::vector<float> thresholds;      // distance of the last true answer
  std::vector<uint32_t> num_answers;  // min(k, accepted rows)
  // Mean share of the k nearest of all rows that the filter accepts: percent /
  // 100 where it is independent.
  double share_of_nearest = 0;

  // Whether query i's filter accepts the row.
  bool Accepts(const FilteredSet& set, size_t i, size_t row) const;
};

// The percentages of the issue.
inline constexpr double kPercents[] = {100, 50, 20,  10,  5,
                                       2,   1,  0.3, 0.1, 0.01};

struct FilteredSetOptions {
  size_t k = 10;
  size_t num_queries = 512;  // of the independent filters
  // Centres are queries drawn at random; each brings its 64 nearest queries,
  // itself among them, with the filters around it.
  size_t num_centres = 8;
  size_t queries_per_centre = 64;
  uint64_t seed = 42;
};

// Life: made, then const. Payloads are {"bucket": B, "near0": R0, ...}, Rc
// being the row's rank by its distance from centre c, 0 for the nearest.
class FilteredSet {
 public:
  // Takes a set that is not prepared yet. Errors: InvalidArgument, too few
  // queries.
  static absl::StatusOr<FilteredSet> Make(Dataset dataset,
                                          const FilteredSetOptions& options);

  const Dataset& dataset() const { return dataset_; }
  size_t k() const { return options_.k; }
  const std::vector<std::string>& field_names() const { return names_; }
  std::string PayloadOf(size_t row) const;
  bool Accepts(const Condition& condition, size_t row) const {
    const uint32_t value = values_[condition.field][row];
    return condition.low <= value && value < condition.high;
  }
  // As the engine parses it: "bucket < 100".
  std::string TextOf(const Condition& condition) const;

  // The first without a filter; one per percentage.
  const std::vector<Workload>& independent() const { return independent_; }
  // The first without a filter; then one per percentage but 100, positive, and
  // as many negative.
  const std::vector<Workload>& correlated() const { return correlated_; }

  // How many of the returned rows of query i are true answers. Internal: a row
  // does not pass, stands twice, or there are fewer than there must be.
  absl::StatusOr<size_t> CountHits(const Workload& workload, size_t i,
                                   std::span<const uint32_t> returned) const;

 private:
  FilteredSet(Dataset dataset, const FilteredSetOptions& options)
      : dataset_(std::move(dataset)), options_(options) {}

  void MakeBuckets();
  void MakeCentres();
  void MakeWorkloads();
  // Of workloads that ask the same queries, the first without a filter.
  void FindAnswers(std::vector<Workload>* workloads) const;
  // Of queries first .. last.
  void FindAnswersOf(size_t first, size_t last,
                     std::vector<Workload>* workloads) const;

  Dataset dataset_;
  FilteredSetOptions options_;
  std::vector<std::string> names_;
  std::vector<std::vector<uint32_t>> values_;  // by field and row
  std::vector<std::vector<uint32_t>> around_;  // by centre: its queries
  std::vector<Workload> independent_;
  std::vector<Workload> correlated_;
};

}  // namespace vicinal::bench
