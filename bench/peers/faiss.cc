// faiss's HNSW over plain vectors, whichever build of it was found.
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <omp.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/ann_system.h"

namespace vicinal::bench {
namespace {

class FaissHnsw final : public AnnSystem {
 public:
  std::string name() const override { return "faiss HNSW,Flat"; }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    const FloatMatrix& base = dataset.base;
    index_ = std::make_unique<faiss::IndexHNSWFlat>(
        base.dim, params.m,
        dataset.metric == Metric::kL2 ? faiss::METRIC_L2
                                      : faiss::METRIC_INNER_PRODUCT);
    index_->hnsw.efConstruction = params.ef_construction;
    const int old_threads = omp_get_max_threads();
    omp_set_num_threads(params.num_threads);
    index_->add(base.num_rows, base.values.data());
    omp_set_num_threads(old_threads);
    memory_bytes_ = base.values.size() * sizeof(float) +
                    index_->hnsw.neighbors.size() * sizeof(int32_t) +
                    index_->hnsw.offsets.size() * sizeof(size_t);
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    index_->hnsw.efSearch = std::max(ef, k);
    labels_.resize(k);
    distances_.resize(k);
    index_->search(1, query, k, distances_.data(), labels_.data());
    size_t n = 0;
    for (const int64_t label : labels_) {
      if (label >= 0) out[n++] = static_cast<uint32_t>(label);
    }
    return n;
  }

  size_t memory_bytes() const override { return memory_bytes_; }

  std::string remark() const override {
    return absl::StrCat(
        "faiss ", FAISS_VERSION_MAJOR, ".", FAISS_VERSION_MINOR, ".",
        FAISS_VERSION_PATCH,
        VICINAL_FAISS_IS_DEBIANS
            ? ": Debian's build, which holds no AVX instruction; not to be "
              "quoted as faiss"
            : "");
  }

 private:
  std::unique_ptr<faiss::IndexHNSWFlat> index_;
  size_t memory_bytes_ = 0;
  std::vector<int64_t> labels_;
  std::vector<float> distances_;
};

}  // namespace

std::unique_ptr<AnnSystem> MakeFaissHnsw() {
  return std::make_unique<FaissHnsw>();
}

}  // namespace vicinal::bench
