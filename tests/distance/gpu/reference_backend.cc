#include "tests/distance/gpu/reference_backend.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/distance.h"

namespace vicinal::backend_tests {
namespace {

class ReferenceSegment final : public LoadedSegment {
 public:
  explicit ReferenceSegment(const SegmentRows& segment) : segment_(segment) {}

  size_t num_rows() const override { return segment_.rows.num_rows; }
  size_t device_bytes() const override { return 0; }
  const SegmentRows& get() const { return segment_; }

 private:
  SegmentRows segment_;
};

const SegmentRows& Get(const LoadedSegment& segment) {
  return static_cast<const ReferenceSegment&>(segment).get();
}

float Distance(Metric metric, const VectorSetView& rows, const void* query,
               size_t row) {
  return FindKernels("scalar")
      ->For(metric, rows.type)
      .one(query, rows.row(row), rows.dim);
}

// The k smallest, in order, then fillers.
void WriteSorted(std::vector<Neighbor> all, size_t k, Neighbor* out) {
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i < k; ++i) {
    out[i] = i < all.size() ? all[i]
                            : Neighbor{std::numeric_limits<float>::infinity(),
                                       kInvalidRow};
  }
}

class ReferenceBackend final : public DistanceBackend {
 public:
  const char* name() const override { return "reference"; }
  size_t device_bytes() const override { return 0; }
  bool builds_graphs() const override { return false; }

  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override {
    *out = std::make_shared<ReferenceSegment>(segment);
    return BackendStatus::kOk;
  }

  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport*) const override {
    const auto& [rows, metric] = Get(segment);
    const size_t query_bytes = rows.dim * ElementSize(rows.type);
    for (size_t q = 0; q < queries.num_queries; ++q) {
      const auto* query =
          static_cast<const std::byte*>(queries.data) + q * query_bytes;
      std::vector<Neighbor> all;
      for (size_t row = 0; row < rows.num_rows; ++row) {
        if (accepted != nullptr &&
            (accepted[row / 64] >> (row % 64) & 1) == 0) {
          continue;
        }
        all.push_back(
            {Distance(metric, rows, query, row), static_cast<RowId>(row)});
      }
      WriteSorted(std::move(all), k, out + q * k);
    }
    return BackendStatus::kOk;
  }

  BackendStatus Score(const LoadedSegment& segment, const QueryBatch& queries,
                      const uint32_t* offsets, const RowId* list,
                      float* out) const override {
    const auto& [rows, metric] = Get(segment);
    const size_t query_bytes = rows.dim * ElementSize(rows.type);
    for (size_t q = 0; q < queries.num_queries; ++q) {
      const auto* query =
          static_cast<const std::byte*>(queries.data) + q * query_bytes;
      for (size_t i = offsets[q]; i < offsets[q + 1]; ++i) {
        out[i] = Distance(metric, rows, query, list[i]);
      }
    }
    return BackendStatus::kOk;
  }

  BackendStatus KnnGraph(const LoadedSegment& segment, size_t k, Neighbor* out,
                         BackendReport*) const override {
    const auto& [rows, metric] = Get(segment);
    for (size_t i = 0; i < rows.num_rows; ++i) {
      std::vector<Neighbor> others;
      for (size_t row = 0; row < rows.num_rows; ++row) {
        if (row == i) continue;
        others.push_back({Distance(metric, rows, rows.row(i), row),
                          static_cast<RowId>(row)});
      }
      WriteSorted(std::move(others), k, out + i * k);
    }
    return BackendStatus::kOk;
  }

  BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin, RowId end,
                          size_t k, const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport*) const override {
    std::vector<Neighbor> graph(segment.num_rows() * k);
    KnnGraph(segment, k, graph.data(), nullptr);
    std::vector<uint32_t> offsets = {0};
    std::vector<Neighbor> lists;
    for (size_t row = begin; row < end; ++row) {
      num_duplicates[row - begin] = 0;
      for (size_t i = row * k; i < (row + 1) * k; ++i) {
        if (graph[i].row == kInvalidRow) continue;
        if (graph[i].distance == 0) ++num_duplicates[row - begin];
        lists.push_back(graph[i]);
      }
      offsets.push_back(static_cast<uint32_t>(lists.size()));
    }
    return SelectLinks(segment, end - begin, offsets.data(), lists.data(), rule,
                       out);
  }

  BackendStatus SelectLinks(const LoadedSegment& segment, size_t num_lists,
                            const uint32_t* offsets, const Neighbor* lists,
                            const LinkRule& rule,
                            Neighbor* out) const override {
    const auto& [rows, metric] = Get(segment);
    for (size_t list = 0; list < num_lists; ++list) {
      std::vector<Neighbor> chosen;
      size_t copies = 0;
      for (size_t i = offsets[list]; i < offsets[list + 1]; ++i) {
        const bool is_copy = lists[i].distance == 0;
        bool takes = chosen.size() < rule.max_links &&
                     !(is_copy && copies == rule.max_duplicates);
        for (const Neighbor& other : chosen) {
          if (Distance(metric, rows, rows.row(lists[i].row), other.row) <
              rule.share * lists[i].distance) {
            takes = false;
          }
        }
        if (!takes) continue;
        chosen.push_back(lists[i]);
        if (is_copy) ++copies;
      }
      chosen.resize(rule.max_links,
                    {std::numeric_limits<float>::infinity(), kInvalidRow});
      std::copy(chosen.begin(), chosen.end(), out + list * rule.max_links);
    }
    return BackendStatus::kOk;
  }

  BackendStatus Assign(const LoadedSegment& segment, const float* centroids,
                       size_t num_centroids, uint32_t* nearest,
                       float* distances) const override {
    const VectorSetView& rows = Get(segment).rows;
    if (rows.type != ElementType::kFloat32) return BackendStatus::kUnsupported;
    for (size_t row = 0; row < rows.num_rows; ++row) {
      std::vector<float> to(num_centroids);
      for (size_t i = 0; i < num_centroids; ++i) {
        to[i] = Distance(Metric::kL2, rows, centroids + i * rows.dim, row);
      }
      const auto best = std::min_element(to.begin(), to.end());
      nearest[row] = static_cast<uint32_t>(best - to.begin());
      if (distances != nullptr) distances[row] = *best;
    }
    return BackendStatus::kOk;
  }
};

}  // namespace

std::unique_ptr<DistanceBackend> MakeReferenceBackend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace vicinal::backend_tests
