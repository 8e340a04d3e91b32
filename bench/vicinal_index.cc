#include "bench/vicinal_index.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "index/cell_order.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "quant/codec.h"
#include "src/base/mapped_buffer.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

// Candidates compared exactly, of k wanted: what calibration finds enough for
// recalls up to 0.99.
constexpr size_t kRerankFactor = 2;

// Rows in cell order and the graph over them, in large pages, as a sealed
// segment keeps them.
struct OrderedGraph {
  Metric metric = Metric::kL2;
  std::vector<RowId> order;
  MappedBuffer rows;
  VectorSetView view;
  MappedBuffer links;
};

absl::StatusOr<std::shared_ptr<const OrderedGraph>> BuildOrdered(
    const Dataset& dataset, const BuildParams& params) {
  auto out = std::make_shared<OrderedGraph>();
  const FloatMatrix& base = dataset.base;
  out->metric = dataset.search_metric();
  VICINAL_ASSIGN_OR_RETURN(out->order,
                           CellOrder(base.view(), out->metric, /*seed=*/1,
                                     params.num_threads, nullptr));
  // Whole cache lines per row, as in a segment file.
  const size_t stride = (base.dim * sizeof(float) + 63) / 64 * 64;
  out->rows = MappedBuffer(stride * base.num_rows);
  std::byte* begin = out->rows.data();
  for (size_t i = 0; i < out->order.size(); ++i) {
    std::memcpy(begin + i * stride, base.row(out->order[i]),
                base.dim * sizeof(float));
  }
  out->view = {.data = begin,
               .num_rows = base.num_rows,
               .dim = base.dim,
               .stride_bytes = stride};
  const HnswParams hnsw{
      .m = static_cast<uint32_t>(params.m),
      .ef_construction = static_cast<uint32_t>(params.ef_construction)};
  VICINAL_ASSIGN_OR_RETURN(
      const std::string graph,
      BuildHnswGraph(out->view, out->metric, hnsw, params.num_threads, nullptr,
                     nullptr));
  out->links = MappedBuffer(graph.size());
  std::memcpy(out->links.data(), graph.data(), graph.size());
  return out;
}

class VicinalIndex final : public CodecSystem {
 public:
  explicit VicinalIndex(CodecChoice choice) : choice_(std::move(choice)) {}

  std::string name() const override { return choice_.name; }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    VICINAL_ASSIGN_OR_RETURN(auto ordered, BuildOrdered(dataset, params));
    return BuildOn(std::move(ordered), params);
  }

  absl::Status BuildOn(std::shared_ptr<const OrderedGraph> ordered,
                       const BuildParams& params) {
    ordered_ = std::move(ordered);
    const VectorSetView view = ordered_->view;
    if (choice_.params || choice_.default_bits) {
      VICINAL_RETURN_IF_ERROR(Encode(view, params));
    }
    VICINAL_ASSIGN_OR_RETURN(
        index_,
        HnswIndex::Open(
            view, ordered_->metric,
            {reinterpret_cast<const char*>(ordered_->links.data()),
             ordered_->links.size_bytes()},
            {codec_.get(), reinterpret_cast<const uint8_t*>(records_.data())}));
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    TopK top(k);
    VICINAL_RETURN_IF_ERROR(index_->Search(
        query, {.k = k, .ef = ef, .rerank = std::min(ef, rerank_factor_ * k)},
        {}, {}, &top, nullptr));
    return Take(&top, out);
  }

  absl::StatusOr<size_t> SearchForRecall(const float* query, size_t k,
                                         double recall_target,
                                         uint32_t* out) override {
    if (calibration_.empty()) {
      VICINAL_ASSIGN_OR_RETURN(calibration_, index_->Calibrate(2, nullptr));
    }
    TopK top(k);
    VICINAL_RETURN_IF_ERROR(
        index_->Search(query, ParamsForRecall(calibration_, k, recall_target),
                       {}, {}, &top, nullptr));
    return Take(&top, out);
  }

  size_t memory_bytes() const override {
    return ordered_->rows.size_bytes() + records_.size_bytes() +
           index_->memory_bytes() + ordered_->order.size() * sizeof(RowId);
  }
  size_t compact_bytes() const override {
    return memory_bytes() - (codec_ ? ordered_->rows.size_bytes() : 0);
  }
  void set_rerank_factor(size_t factor) override { rerank_factor_ = factor; }
  size_t record_bytes() const override {
    return codec_ ? codec_->layout().record_bytes
                  : ordered_->view.dim * sizeof(float);
  }

 private:
  size_t Take(TopK* top, uint32_t* out) const {
    const std::vector<Neighbor> found = top->TakeSorted();
    for (size_t i = 0; i < found.size(); ++i) {
      out[i] = ordered_->order[found[i].row];
    }
    return found.size();
  }
  absl::Status Encode(VectorSetView view, const BuildParams& params) {
    const CodecParams codec = choice_.params.value_or(
        CodecParams{.avg_bits = DefaultAvgBits(view.dim)});
    VICINAL_ASSIGN_OR_RETURN(codec_, TrainCodec(view, ordered_->metric, codec,
                                                params.num_threads, nullptr));
    records_ = MappedBuffer(view.num_rows * codec_->layout().record_bytes);
    return codec_->Encode(
        view,
        {reinterpret_cast<uint8_t*>(records_.data()), records_.size_bytes()},
        params.num_threads, nullptr);
  }

  const CodecChoice choice_;
  std::shared_ptr<const OrderedGraph> ordered_;
  MappedBuffer records_;
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<HnswIndex> index_;
  std::vector<RecallPoint> calibration_;
  size_t rerank_factor_ = kRerankFactor;
};

// Lists with codes, as a sealed segment has them.
class VicinalIvf final : public AnnSystem {
 public:
  // avg_bits 0: the default of the dimension.
  explicit VicinalIvf(float avg_bits) : avg_bits_(avg_bits) {}
  std::string name() const override { return "vicinal ivf"; }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    const FloatMatrix& base = dataset.base;
    const Metric metric = dataset.search_metric();
    VICINAL_ASSIGN_OR_RETURN(
        IvfLists lists,
        BuildIvfLists(base.view(), metric, {}, params.num_threads, nullptr));
    order_ = std::move(lists.order);
    const size_t stride = (base.dim * sizeof(float) + 63) / 64 * 64;
    rows_ = MappedBuffer(stride * base.num_rows);
    for (size_t i = 0; i < order_.size(); ++i) {
      std::memcpy(rows_.data() + i * stride, base.row(order_[i]),
                  base.dim * sizeof(float));
    }
    const VectorSetView view{.data = rows_.data(),
                             .num_rows = base.num_rows,
                             .dim = base.dim,
                             .stride_bytes = stride};
    lists_ = MappedBuffer(lists.bytes.size());
    std::memcpy(lists_.data(), lists.bytes.data(), lists.bytes.size());
    VICINAL_ASSIGN_OR_RETURN(
        index_, IvfIndex::Open(view, metric,
                               {reinterpret_cast<const char*>(lists_.data()),
                                lists.bytes.size()}));
    const RowCentres centres = index_->centres();
    VICINAL_ASSIGN_OR_RETURN(
        codec_,
        TrainCodec(
            view, metric,
            {.avg_bits = avg_bits_ > 0 ? avg_bits_ : DefaultAvgBits(view.dim)},
            params.num_threads, nullptr, &centres));
    std::vector<uint8_t> records(view.num_rows * codec_->layout().record_bytes);
    VICINAL_RETURN_IF_ERROR(
        codec_->Encode(view, records, params.num_threads, nullptr, &centres));
    blocks_ = MappedBuffer(CodeBlocksBytes(codec_->layout(), view.num_rows));
    auto* blocks = reinterpret_cast<uint8_t*>(blocks_.data());
    PackCodeBlocks(codec_->layout(), records.data(), view.num_rows, blocks);
    index_->UseCodes(codec_.get(), blocks);
    VICINAL_ASSIGN_OR_RETURN(calibration_,
                             index_->Calibrate(params.num_threads, nullptr));
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    return Run(query, {.k = k, .ef = ef}, out);
  }
  absl::StatusOr<size_t> SearchForRecall(const float* query, size_t k,
                                         double recall_target,
                                         uint32_t* out) override {
    return Run(query, ParamsForRecall(calibration_, k, recall_target), out);
  }

  size_t memory_bytes() const override {
    return rows_.size_bytes() + blocks_.size_bytes() + index_->memory_bytes() +
           order_.size() * sizeof(RowId);
  }

 private:
  absl::StatusOr<size_t> Run(const float* query, const SearchParams& params,
                             uint32_t* out) const {
    TopK top(params.k);
    VICINAL_RETURN_IF_ERROR(
        index_->Search(query, params, {}, {}, &top, nullptr));
    const std::vector<Neighbor> found = top.TakeSorted();
    for (size_t i = 0; i < found.size(); ++i) out[i] = order_[found[i].row];
    return found.size();
  }

  std::vector<RowId> order_;
  MappedBuffer rows_;
  const float avg_bits_;
  MappedBuffer blocks_;
  MappedBuffer lists_;
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<IvfIndex> index_;
  std::vector<RecallPoint> calibration_;
};

}  // namespace

std::unique_ptr<AnnSystem> MakeVicinalIvf(float avg_bits) {
  return std::make_unique<VicinalIvf>(avg_bits);
}
std::unique_ptr<AnnSystem> MakeVicinalIndex() {
  return std::make_unique<VicinalIndex>(CodecChoice{.name = "vicinal index"});
}
std::unique_ptr<AnnSystem> MakeVicinalCodes() {
  return std::make_unique<VicinalIndex>(
      CodecChoice{.name = "vicinal codes", .default_bits = true});
}

absl::StatusOr<std::vector<std::unique_ptr<CodecSystem>>> BuildCodecSystems(
    const Dataset& dataset, const BuildParams& params,
    const std::vector<CodecChoice>& choices) {
  VICINAL_ASSIGN_OR_RETURN(const auto ordered, BuildOrdered(dataset, params));
  std::vector<std::unique_ptr<CodecSystem>> out;
  for (const CodecChoice& choice : choices) {
    auto system = std::make_unique<VicinalIndex>(choice);
    VICINAL_RETURN_IF_ERROR(system->BuildOn(ordered, params));
    out.push_back(std::move(system));
  }
  return out;
}

}  // namespace vicinal::bench
