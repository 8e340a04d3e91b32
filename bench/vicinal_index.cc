// Vicinal's graph by itself: rows in cell order, as a sealed segment has them.
#include <algorithm>
#include <cstring>
#include <vector>

#include "bench/ann_system.h"
#include "index/cell_order.h"
#include "index/hnsw.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

class VicinalIndex final : public AnnSystem {
 public:
  std::string name() const override { return "vicinal index"; }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    const FloatMatrix& base = dataset.base;
    const Metric metric = dataset.search_metric();
    VICINAL_ASSIGN_OR_RETURN(order_, CellOrder(base.view(), metric, /*seed=*/1,
                                               params.num_threads, nullptr));
    // Whole cache lines per row, as in a segment file.
    const size_t stride = (base.dim * sizeof(float) + 63) / 64 * 64;
    rows_.resize((stride * base.num_rows + 64) / sizeof(float));
    auto* begin = reinterpret_cast<std::byte*>(rows_.data());
    begin += (64 - reinterpret_cast<uintptr_t>(begin) % 64) % 64;
    for (size_t i = 0; i < order_.size(); ++i) {
      std::memcpy(begin + i * stride, base.row(order_[i]),
                  base.dim * sizeof(float));
    }
    const VectorSetView view{.data = begin,
                             .num_rows = base.num_rows,
                             .dim = base.dim,
                             .stride_bytes = stride};
    const HnswParams hnsw{
        .m = static_cast<uint32_t>(params.m),
        .ef_construction = static_cast<uint32_t>(params.ef_construction)};
    VICINAL_ASSIGN_OR_RETURN(
        graph_, BuildHnswGraph(view, metric, hnsw, params.num_threads, nullptr,
                               nullptr));
    VICINAL_ASSIGN_OR_RETURN(index_, HnswIndex::Open(view, metric, graph_));
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    TopK top(k);
    VICINAL_RETURN_IF_ERROR(
        index_->Search(query, {.k = k, .ef = ef}, {}, {}, &top, nullptr));
    const std::vector<Neighbor> found = top.TakeSorted();
    for (size_t i = 0; i < found.size(); ++i) out[i] = order_[found[i].row];
    return found.size();
  }

  size_t memory_bytes() const override {
    return rows_.size() * sizeof(float) + index_->memory_bytes() +
           order_.size() * sizeof(RowId);
  }

 private:
  std::vector<RowId> order_;
  std::vector<float> rows_;
  std::string graph_;
  std::unique_ptr<HnswIndex> index_;
};

}  // namespace

std::unique_ptr<AnnSystem> MakeVicinalIndex() {
  return std::make_unique<VicinalIndex>();
}

}  // namespace vicinal::bench
