// Neighbour graphs and their links on a GPU.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/link_kernels.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {
namespace {

// Of kMaxBatch rows to link, those that may be compared with every row one by
// one. Where there are more (thousands of copies of one vector), other ways to
// link are faster.
constexpr size_t kMostLinkFallbacks = 64;

}  // namespace

BackendStatus GpuBackend::KnnGraph(const LoadedSegment& segment, size_t k,
                                   Neighbor* out, BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  if (k == 0 || k >= kMaxBackendK) return BackendStatus::kUnsupported;
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  if (rows.num_rows == 0) return BackendStatus::kOk;
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  return Run(rows, rows,
             {.queries = rows.exact,
              .num_queries = rows.num_rows,
              .k = k,
              .first_excluded = 0,
              .out = out,
              .queries_there = true},
             report);
}

BackendStatus GpuBackend::LinkGraph(const LoadedSegment& segment, RowId begin,
                                    RowId end, size_t k, const LinkRule& rule,
                                    Neighbor* out, uint32_t* num_duplicates,
                                    BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  if (k == 0 || k >= kMaxBackendK || rows.type != ElementType::kFloat32 ||
      rows.metric != Metric::kL2 || !CanSelectLinks(rows.dim, rule)) {
    return BackendStatus::kUnsupported;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto exact = static_cast<const float*>(rows.exact);
  for (size_t first = begin; first < end; first += kMaxBatch) {
    const size_t n = std::min<size_t>(kMaxBatch, end - first);
    workspace_.Rewind(0);
    Neighbor* const nearest = workspace_.Take<Neighbor>(n * k);
    Neighbor* const links = workspace_.Take<Neighbor>(n * rule.max_links);
    uint32_t* const duplicates = workspace_.Take<uint32_t>(n);
    if (nearest == nullptr || links == nullptr || duplicates == nullptr) {
      return BackendStatus::kNoMemory;
    }
    GPU_RETURN_IF_ERROR(Run(rows, rows,
                            {.queries = exact + first * rows.dim,
                             .num_queries = n,
                             .k = k,
                             .first_excluded = static_cast<uint32_t>(first),
                             .out = nearest,
                             .queries_there = true,
                             .out_there = true,
                             .most_fallbacks = kMostLinkFallbacks},
                            report));
    CandidateLists lists;
    lists.num_lists = n;
    lists.lists = nearest;
    lists.width = k;
    GPU_RETURN_IF_ERROR(
        Check(gpu::SelectLinks(rows, lists, rule, links, duplicates, stream_)));
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(out + (first - begin) * rule.max_links, links,
                              n * rule.max_links * sizeof(Neighbor),
                              cudaMemcpyDeviceToHost, stream_)));
    if (num_duplicates != nullptr) {
      GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
          num_duplicates + (first - begin), duplicates, n * sizeof(uint32_t),
          cudaMemcpyDeviceToHost, stream_)));
    }
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::SelectLinks(const LoadedSegment& segment,
                                      size_t num_lists, const uint32_t* offsets,
                                      const Neighbor* lists,
                                      const LinkRule& rule,
                                      Neighbor* out) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  if (rows.type != ElementType::kFloat32 || rows.metric != Metric::kL2 ||
      !CanSelectLinks(rows.dim, rule)) {
    return BackendStatus::kUnsupported;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  // As many lists at once as half of the workspace has room for.
  size_t first = 0;
  std::vector<uint32_t> ends;
  while (first < num_lists) {
    workspace_.Rewind(0);
    const size_t most = workspace_.left() / 4 / sizeof(Neighbor);
    size_t last = first + 1;
    while (last < num_lists && last - first < most / rule.max_links &&
           offsets[last + 1] - offsets[first] <= most) {
      ++last;
    }
    const size_t n = last - first;
    const size_t total = offsets[last] - offsets[first];
    ends.resize(n + 1);
    for (size_t i = 0; i <= n; ++i) {
      ends[i] = offsets[first + i] - offsets[first];
    }
    uint32_t* const ends_there = workspace_.Take<uint32_t>(n + 1);
    Neighbor* const lists_there = workspace_.Take<Neighbor>(total + 1);
    Neighbor* const links = workspace_.Take<Neighbor>(n * rule.max_links);
    if (ends_there == nullptr || lists_there == nullptr || links == nullptr) {
      return BackendStatus::kNoMemory;
    }
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(ends_there, ends.data(), (n + 1) * 4,
                              cudaMemcpyHostToDevice, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        lists_there, lists + offsets[first], total * sizeof(Neighbor),
        cudaMemcpyHostToDevice, stream_)));
    CandidateLists taken;
    taken.num_lists = n;
    taken.lists = lists_there;
    taken.offsets = ends_there;
    GPU_RETURN_IF_ERROR(
        Check(gpu::SelectLinks(rows, taken, rule, links, nullptr, stream_)));
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(out + first * rule.max_links, links,
                              n * rule.max_links * sizeof(Neighbor),
                              cudaMemcpyDeviceToHost, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
    first = last;
  }
  return BackendStatus::kOk;
}

}  // namespace vicinal::gpu
