#include "bench/engine_fixture.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr size_t kBatchPoints = 1'024;
constexpr std::chrono::minutes kOptimizeTimeout{30};

}  // namespace

absl::StatusOr<std::shared_ptr<Collection>> CreateBenchCollection(
    Database* database, absl::string_view name, const Dataset& dataset,
    size_t m, size_t ef_construction, CodecSpec codec) {
  CollectionSchema schema;
  schema.name = std::string(name);
  schema.vectors.push_back(
      {.dim = dataset.base.dim,
       .metric = dataset.metric,
       .hnsw = {.m = static_cast<uint32_t>(m),
                .ef_construction = static_cast<uint32_t>(ef_construction)},
       .codec = codec});
  return database->CreateCollection(std::move(schema));
}

absl::Status UpsertAll(Collection* collection, const FloatMatrix& rows,
                       const std::function<std::string(size_t)>& payload_of) {
  std::vector<std::string> payloads;
  for (size_t begin = 0; begin < rows.num_rows; begin += kBatchPoints) {
    const size_t end = std::min(begin + kBatchPoints, rows.num_rows);
    PointBatch batch;
    payloads.clear();
    for (size_t row = begin; row < end; ++row) {
      batch.ids.emplace_back(uint64_t{row});
      if (payload_of) payloads.push_back(payload_of(row));
    }
    batch.payloads.assign(payloads.begin(), payloads.end());
    batch.vectors.push_back({.dim = rows.dim,
                             .data = absl::string_view(
                                 reinterpret_cast<const char*>(rows.row(begin)),
                                 (end - begin) * rows.dim * sizeof(float))});
    // The graph decides the row's speed, not the disk.
    const WriteOutcome outcome =
        collection->Upsert(batch, {.durability = Durability::kBuffered});
    VICINAL_RETURN_IF_ERROR(outcome.status);
  }
  return absl::OkStatus();
}

absl::Status OptimizeAndWait(Collection* collection) {
  VICINAL_ASSIGN_OR_RETURN(const std::shared_ptr<Operation> operation,
                           collection->Optimize(1));
  if (!operation->Wait(std::chrono::steady_clock::now() + kOptimizeTimeout)) {
    return absl::DeadlineExceededError(absl::StrCat(
        "optimising took more than ", kOptimizeTimeout.count(), " minutes"));
  }
  return operation->info().status;
}

}  // namespace vicinal::bench
