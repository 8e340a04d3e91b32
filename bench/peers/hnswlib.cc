// hnswlib as its users build it: header only, for the machine it runs on.
#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <atomic>
#include <queue>
#include <thread>
#include <utility>
#include <vector>

#include "bench/ann_system.h"

namespace vicinal::bench {
namespace {

class Hnswlib final : public AnnSystem {
 public:
  std::string name() const override { return "hnswlib"; }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    const FloatMatrix& base = dataset.base;
    if (dataset.metric == Metric::kL2) {
      space_ = std::make_unique<hnswlib::L2Space>(base.dim);
    } else {
      space_ = std::make_unique<hnswlib::InnerProductSpace>(base.dim);
    }
    index_ = std::make_unique<hnswlib::HierarchicalNSW<float>>(
        space_.get(), base.num_rows, params.m, params.ef_construction);
    num_rows_ = base.num_rows;
    is_deleted_.assign(num_rows_, false);
    dim_ = base.dim;
    m_ = params.m;
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t row; (row = next.fetch_add(1)) < base.num_rows;) {
        index_->addPoint(base.row(row), row);
      }
    };
    std::vector<std::thread> threads;
    for (size_t i = 1; i < params.num_threads; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    index_->setEf(std::max(ef, k));
    Nearest found = SearchAccepted(query, k);
    const size_t n = found.size();
    for (size_t i = n; i-- > 0; found.pop()) out[i] = found.top().second;
    return n;
  }

  absl::Status AcceptOnly(std::vector<bool> accepted) override {
    filter_.accepted = std::move(accepted);
#if !VICINAL_HNSWLIB_HAS_FILTERS
    for (size_t row = 0; row < num_rows_; ++row) {
      if (filter_.accepted[row] == is_deleted_[row]) {
        is_deleted_[row] = !is_deleted_[row];
        is_deleted_[row] ? index_->markDelete(row) : index_->unmarkDelete(row);
      }
    }
#endif
    return absl::OkStatus();
  }

  // Level 0 as hnswlib lays it out (links, vector, label), the upper levels
  // by their expected number: n / (m - 1) rows of links.
  size_t memory_bytes() const override {
    const size_t level0 = (2 * m_ + 1) * 4 + dim_ * 4 + 8;
    const size_t upper = (m_ + 1) * 4 * num_rows_ / (m_ - 1);
    return num_rows_ * level0 + upper;
  }

  std::string remark() const override {
    return "-O3 -march=native, rows in the given order";
  }

 private:
  using Nearest = std::priority_queue<std::pair<float, hnswlib::labeltype>>;
#if VICINAL_HNSWLIB_HAS_FILTERS
  struct Filter final : hnswlib::BaseFilterFunctor {
    bool operator()(hnswlib::labeltype row) override { return accepted[row]; }
    std::vector<bool> accepted;
  };
  Nearest SearchAccepted(const float* query, size_t k) {
    return index_->searchKnn(query, k,
                             filter_.accepted.empty() ? nullptr : &filter_);
  }
#else
  // Debian's 0.6 has no functors. Rows that are marked as deleted are walked
  // through and not returned, by the same loop as those that a functor of 0.8
  // refuses; the mark takes no call, so this is no slower.
  struct Filter {
    std::vector<bool> accepted;
  };
  Nearest SearchAccepted(const float* query, size_t k) {
    return index_->searchKnn(query, k);
  }
#endif

  std::unique_ptr<hnswlib::SpaceInterface<float>> space_;
  std::unique_ptr<hnswlib::HierarchicalNSW<float>> index_;
  Filter filter_;
  std::vector<bool> is_deleted_;
  size_t num_rows_ = 0;
  size_t dim_ = 0;
  size_t m_ = 0;
};

}  // namespace

std::unique_ptr<AnnSystem> MakeHnswlib() { return std::make_unique<Hnswlib>(); }

}  // namespace vicinal::bench
