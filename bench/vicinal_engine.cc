// Vicinal in process: Database and Collection, one sealed segment.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include "bench/ann_system.h"
#include "bench/engine_fixture.h"
#include "src/base/status_macros.h"
#include "src/engine/database.h"

namespace vicinal::bench {
namespace {

class VicinalEngine final : public AnnSystem {
 public:
  explicit VicinalEngine(std::string data_dir)
      : data_dir_(std::move(data_dir)) {}
  ~VicinalEngine() override {
    collection_.reset();
    database_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(data_dir_, ignored);
  }

  std::string name() const override { return "vicinal engine"; }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    DatabaseOptions options;
    options.build_threads = params.num_threads;
    VICINAL_ASSIGN_OR_RETURN(database_, Database::Open(data_dir_, options));
    VICINAL_ASSIGN_OR_RETURN(
        collection_, CreateBenchCollection(database_.get(), "bench", dataset,
                                           params.m, params.ef_construction));
    VICINAL_RETURN_IF_ERROR(UpsertAll(collection_.get(), dataset.base));
    return OptimizeAndWait(collection_.get());
  }

  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    const size_t bytes = collection_->schema().vectors[0].dim * sizeof(float);
    std::vector<Query> queries(1);
    queries[0].stage = RetrieveStage{
        .query = std::string(reinterpret_cast<const char*>(query), bytes),
        .k = k,
        .ef = std::max(ef, k)};
    VICINAL_ASSIGN_OR_RETURN(const std::vector<SearchResult> results,
                             collection_->Search(queries, {}));
    size_t n = 0;
    for (const Hit& hit : results[0].hits) out[n++] = hit.id.number();
    return n;
  }

  size_t memory_bytes() const override {
    size_t bytes = 0;
    for (const SegmentStats& segment : collection_->stats().segments) {
      bytes += segment.vector_bytes + segment.index_bytes;
    }
    return bytes;
  }

 private:
  std::string data_dir_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

}  // namespace

std::unique_ptr<AnnSystem> MakeVicinalEngine(std::string data_dir) {
  return std::make_unique<VicinalEngine>(std::move(data_dir));
}

}  // namespace vicinal::bench
