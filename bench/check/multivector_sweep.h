// Recall and time of searches for the 10 best documents.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "index/multi_field.h"
#include "src/base/top_k.h"

namespace vicinal::bench {

inline constexpr size_t kMultiK = 10;

using Answers = std::vector<std::vector<Neighbor>>;

// Of the kMultiK best; ties count.
double RecallOf(const Answers& truth, const Answers& answers);
// The share of the kMultiK best among the first `count` of each ranking.
double ShareAmong(const Answers& truth,
                  const std::vector<std::vector<RowId>>& rankings,
                  size_t count);
// How many of each ranking are needed for a recall, on average; nullopt: they
// are too short.
std::optional<double> CandidatesFor(
    const Answers& truth, const std::vector<std::vector<RowId>>& rankings,
    double recall);

// One setting over all queries: processor time of one thread, the pass with the
// smallest median.
struct MultiPoint {
  size_t candidates = 0;  // asked for
  double recall = 0;
  double p50_us = 0;
  double p99_us = 0;
  double mean_us = 0;
  double compared = 0;  // documents of a query, by coded tokens
  double exact = 0;     // of these, by their tokens
};
using SearchOne =
    std::function<absl::Status(const MultiQuery& query, TopK* out)>;
absl::StatusOr<MultiPoint> MeasurePoint(const std::vector<MultiQuery>& queries,
                                        const Answers& truth, size_t passes,
                                        const SearchOne& search,
                                        Answers* answers = nullptr);
// Of a field's rows.
absl::StatusOr<MultiPoint> MeasureField(const MultiField& field,
                                        size_t num_rows,
                                        const std::vector<MultiQuery>& queries,
                                        const Answers& truth, size_t passes,
                                        const MultiSearchParams& params,
                                        Answers* answers = nullptr);

// Numbers of candidates, each a quarter more than the one before, up to `most`.
std::vector<size_t> CandidateGrid(size_t least, size_t most);

// The first of the grid whose recall is enough. NotFound: none is.
absl::StatusOr<MultiPoint> CheapestPoint(const MultiField& field,
                                         size_t num_rows,
                                         const std::vector<MultiQuery>& queries,
                                         const Answers& truth, size_t passes,
                                         double recall);

}  // namespace vicinal::bench
