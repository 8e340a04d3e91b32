// The work of `vicinal bench`: recall and latency of searches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal::cli {

// Query vectors: num_queries x dim of one type.
struct QuerySet {
  std::string data;
  size_t num_queries = 0;
  size_t dim = 0;
  ElementType type = ElementType::kFloat32;
  // Of a multi-vector: query i has the vectors offsets[i] to offsets[i + 1] of
  // `data`; empty: each has one.
  std::vector<uint64_t> offsets;

  VectorSetView View(size_t first, size_t n) const;
};

// The true nearest points of each query, best first.
using TrueIds = std::vector<std::vector<PointId>>;

// Asks the server, comparing with every point.
absl::StatusOr<TrueIds> ComputeTruth(client::Client& client,
                                     const std::string& collection,
                                     const QuerySet& queries,
                                     client::SearchOptions options);

struct BenchOptions {
  std::string collection;
  client::SearchOptions search;
  client::MultiSearchOptions multi;  // of queries with offsets
  size_t concurrency = 1;            // calls in flight
  size_t batch_size = 1;  // queries per call; 1: Search, else SearchBatch
  size_t num_rounds = 1;  // times over all queries; recall is of the last
};

struct BenchResult {
  double recall = -1;  // mean share of the true k found; -1: no truth
  double qps = 0;      // queries, not calls, per second
  double p50_ms = 0;   // of calls
  double p95_ms = 0;
  double p99_ms = 0;
  double elapsed_s = 0;
  uint64_t num_queries = 0;
  double distances_per_query = 0;  // computed by the server
};

// Keeps `concurrency` calls in flight from the calling thread. The first error
// ends it. truth may be empty.
absl::StatusOr<BenchResult> RunBench(client::Client& client,
                                     const QuerySet& queries,
                                     const TrueIds& truth,
                                     const BenchOptions& options);

// Mean over queries of |found among true's first k| / min(k, true's number).
double Recall(const TrueIds& truth, const TrueIds& found, size_t k);

// Nearest-rank percentile of ascending values, p in (0, 1].
double Percentile(const std::vector<double>& ascending, double p);

}  // namespace vicinal::cli
