#include "client/cli/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client/call_pipeline.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::cli {
namespace {

using Clock = std::chrono::steady_clock;

// Of query i of a set with offsets.
v1::MultiVectorQuery MultiQuery(const QuerySet& queries, size_t i) {
  return client::MakeMultiQuery(queries.View(
      queries.offsets[i], queries.offsets[i + 1] - queries.offsets[i]));
}

// Requests built before the clock starts: a request costs the client little
// more than its sending.
std::vector<v1::SearchRequest> MakeRequests(const QuerySet& queries,
                                            const BenchOptions& options,
                                            const v1::SearchRequest*) {
  std::vector<v1::SearchRequest> out;
  const size_t row_bytes = queries.dim * ElementSize(queries.type);
  for (size_t i = 0; i < queries.num_queries; ++i) {
    if (!queries.offsets.empty()) {
      out.push_back(client::MakeMultiSearchRequest(
          options.collection, MultiQuery(queries, i), options.search,
          options.multi));
      continue;
    }
    v1::SearchRequest request =
        client::MakeSearchRequest(options.collection, {}, options.search);
    v1::QueryVector* query =
        request.mutable_query()->mutable_retrieve()->mutable_query();
    query->set_data(queries.data.data() + i * row_bytes, row_bytes);
    query->set_type(client::ToProto(queries.type));
    out.push_back(std::move(request));
  }
  return out;
}

std::vector<v1::SearchBatchRequest> MakeRequests(
    const QuerySet& queries, const BenchOptions& options,
    const v1::SearchBatchRequest*) {
  std::vector<v1::SearchBatchRequest> out;
  for (size_t i = 0; i < queries.num_queries; i += options.batch_size) {
    const size_t n = std::min(options.batch_size, queries.num_queries - i);
    out.push_back(client::MakeSearchBatchRequest(
        options.collection, queries.View(i, n), options.search));
  }
  return out;
}

std::span<const v1::SearchResult* const> Results(
    const v1::SearchResponse& response,
    std::vector<const v1::SearchResult*>* scratch) {
  scratch->assign(1, &response.result());
  return *scratch;
}
std::span<const v1::SearchResult* const> Results(
    const v1::SearchBatchResponse& response,
    std::vector<const v1::SearchResult*>* scratch) {
  scratch->clear();
  for (const auto& result : response.results()) scratch->push_back(&result);
  return *scratch;
}

// What one run collects.
struct Collected {
  std::vector<double> latencies_ms;
  std::vector<v1::PointIds> found;  // per query
  uint64_t distances = 0;
};

template <typename Request, typename Response>
absl::Status Drive(client::Client& client, const QuerySet& queries,
                   const BenchOptions& options, Collected* out,
                   double* elapsed_s) {
  const auto requests =
      MakeRequests(queries, options, static_cast<const Request*>(nullptr));
  client::CallPipeline<Request, Response> pipeline(client, options.concurrency);
  const size_t total = requests.size() * options.num_rounds;
  out->latencies_ms.reserve(total);
  std::vector<const v1::SearchResult*> scratch;
  const auto start = Clock::now();
  size_t started = 0;
  for (size_t finished = 0; finished < total; ++finished) {
    while (!pipeline.full() && started < total) {
      const size_t at = started++ % requests.size();
      pipeline.Start(requests[at], at);
    }
    const auto done = pipeline.Next();
    if (!done.status.ok()) return done.status;
    out->latencies_ms.push_back(Seconds(done.latency) * 1e3);
    out->distances += done.response->profile().distance_computations();
    const size_t first = done.tag * options.batch_size;
    const auto results = Results(*done.response, &scratch);
    if (results.size() !=
        std::min(options.batch_size, queries.num_queries - first)) {
      return absl::InternalError(
          absl::StrCat("The server sent ", results.size(),
                       " results for a call of another number of queries."));
    }
    for (size_t i = 0; i < results.size(); ++i) {
      out->found[first + i] = results[i]->ids();
    }
  }
  *elapsed_s = Seconds(Clock::now() - start);
  return absl::OkStatus();
}

}  // namespace

VectorSetView QuerySet::View(size_t first, size_t n) const {
  const size_t row_bytes = dim * ElementSize(type);
  return {.data = reinterpret_cast<const std::byte*>(data.data()) +
                  first * row_bytes,
          .num_rows = n,
          .dim = dim,
          .stride_bytes = row_bytes,
          .type = type};
}

absl::StatusOr<TrueIds> ComputeTruth(client::Client& client,
                                     const std::string& collection,
                                     const QuerySet& queries,
                                     client::SearchOptions options) {
  options.exact = true;
  options.ef.reset();
  options.nprobe.reset();
  options.recall_target.reset();
  options.with_payload = false;
  options.with_vectors = false;
  constexpr size_t kBatch = 64;
  TrueIds truth;
  if (!queries.offsets.empty()) {
    for (size_t i = 0; i < queries.num_queries; ++i) {
      VICINAL_ASSIGN_OR_RETURN(
          const v1::SearchResponse response,
          client.Search(client::MakeMultiSearchRequest(
              collection, MultiQuery(queries, i), options)));
      VICINAL_ASSIGN_OR_RETURN(auto ids,
                               client::FromProto(response.result().ids()));
      truth.push_back(std::move(ids));
    }
    return truth;
  }
  for (size_t i = 0; i < queries.num_queries; i += kBatch) {
    const size_t n = std::min(kBatch, queries.num_queries - i);
    VICINAL_ASSIGN_OR_RETURN(
        const v1::SearchBatchResponse response,
        client.SearchBatch(collection, queries.View(i, n), options));
    for (const v1::SearchResult& result : response.results()) {
      VICINAL_ASSIGN_OR_RETURN(auto ids, client::FromProto(result.ids()));
      truth.push_back(std::move(ids));
    }
  }
  if (truth.size() != queries.num_queries) {
    return absl::InternalError(absl::StrCat("The server sent ", truth.size(),
                                            " results for ",
                                            queries.num_queries, " queries."));
  }
  return truth;
}

double Recall(const TrueIds& truth, const TrueIds& found, size_t k) {
  double sum = 0;
  size_t counted = 0;
  for (size_t q = 0; q < found.size(); ++q) {
    const size_t wanted = std::min(k, truth[q].size());
    if (wanted == 0) continue;
    const absl::flat_hash_set<PointId> right(truth[q].begin(),
                                             truth[q].begin() + wanted);
    size_t hits = 0;
    for (size_t i = 0; i < std::min(k, found[q].size()); ++i) {
      hits += right.contains(found[q][i]) ? 1 : 0;
    }
    sum += static_cast<double>(hits) / static_cast<double>(wanted);
    ++counted;
  }
  return counted == 0 ? 0 : sum / static_cast<double>(counted);
}

double Percentile(const std::vector<double>& ascending, double p) {
  if (ascending.empty()) return 0;
  const auto rank =
      static_cast<size_t>(std::ceil(p * static_cast<double>(ascending.size())));
  return ascending[std::clamp<size_t>(rank, 1, ascending.size()) - 1];
}

absl::StatusOr<BenchResult> RunBench(client::Client& client,
                                     const QuerySet& queries,
                                     const TrueIds& truth,
                                     const BenchOptions& options) {
  Collected collected;
  collected.found.resize(queries.num_queries);
  BenchResult result;
  VICINAL_RETURN_IF_ERROR(
      options.batch_size == 1
          ? (Drive<v1::SearchRequest, v1::SearchResponse>(
                client, queries, options, &collected, &result.elapsed_s))
          : (Drive<v1::SearchBatchRequest, v1::SearchBatchResponse>(
                client, queries, options, &collected, &result.elapsed_s)));
  std::sort(collected.latencies_ms.begin(), collected.latencies_ms.end());
  result.num_queries = queries.num_queries * options.num_rounds;
  result.qps = static_cast<double>(result.num_queries) / result.elapsed_s;
  result.p50_ms = Percentile(collected.latencies_ms, 0.50);
  result.p95_ms = Percentile(collected.latencies_ms, 0.95);
  result.p99_ms = Percentile(collected.latencies_ms, 0.99);
  result.distances_per_query = static_cast<double>(collected.distances) /
                               static_cast<double>(result.num_queries);
  if (truth.empty()) return result;
  TrueIds found;
  for (const v1::PointIds& ids : collected.found) {
    VICINAL_ASSIGN_OR_RETURN(auto converted, client::FromProto(ids));
    found.push_back(std::move(converted));
  }
  result.recall = Recall(truth, found, options.search.k);
  return result;
}

}  // namespace vicinal::cli
