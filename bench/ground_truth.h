// Exact answers, computed with the engine's kernels and kept in a file, and
// the recall of approximate ones measured against them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/dataset.h"
#include "src/base/types.h"

namespace vicinal::bench {

// The k nearest rows of each query by exhaustive search; ties go to the
// smaller row. Smaller distance is closer, as OpsFor(metric) gives it.
TruthTable ComputeTruth(const FloatMatrix& base, const FloatMatrix& queries,
                        Metric metric, size_t k, size_t num_threads);

// The same, read from cache_dir when it was computed before. An empty or
// unusable cache_dir only costs the time.
TruthTable CachedTruth(const FloatMatrix& base, const FloatMatrix& queries,
                       Metric metric, size_t k, size_t num_threads,
                       const std::string& cache_dir);

// Judges answers as ann-benchmarks does: the distance of each returned row is
// computed again, and it counts when it does not exceed the true k-th
// distance. So ties count and a system's own rounding does not matter.
class RecallJudge {
 public:
  // Borrows both matrices. truth.k >= k; more queries than truth rows is a
  // caller's error.
  RecallJudge(const FloatMatrix& base, const FloatMatrix& queries,
              Metric metric, const TruthTable& truth, size_t k);

  size_t k() const { return k_; }
  // How many of the returned rows are among the true k; equal rows count once.
  size_t CountHits(size_t query, std::span<const uint32_t> returned) const;
  // The true k-th distance of a query.
  float threshold(size_t query) const { return thresholds_[query]; }

 private:
  const FloatMatrix& base_;
  const FloatMatrix& queries_;
  Metric metric_;
  size_t k_;
  std::vector<float> thresholds_;
};

}  // namespace vicinal::bench
