#include "index/hnsw_device.h"

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {

bool DeviceStage::Load(const RowSource& rows, Workers* workers) {
  if (backend_ == nullptr || !backend_->builds_graphs() ||
      rows.num_rows < kMinRows || rows.num_rows > kMaxRows ||
      rows.num_rows * rows.dim * sizeof(float) > kMaxBytes) {
    return false;
  }
  // Not filled with zeros first, which would be one thread's work.
  values_.reset(new (std::nothrow) float[rows.num_rows * rows.dim]);
  if (values_ == nullptr) return false;
  workers->For(rows.num_rows, 256, [&](size_t begin, size_t end, size_t) {
    for (size_t row = begin; row < end; ++row) {
      rows.load(static_cast<uint32_t>(row), &values_[row * rows.dim]);
    }
  });
  const SegmentRows segment = {
      .rows = {.data = reinterpret_cast<const std::byte*>(values_.get()),
               .num_rows = rows.num_rows,
               .dim = rows.dim,
               .stride_bytes = rows.dim * sizeof(float),
               .type = ElementType::kFloat32},
      .metric = Metric::kL2};
  return backend_->Load(segment, &segment_) == BackendStatus::kOk;
}

bool DeviceStage::Link(size_t k, const LinkRule& rule, size_t max_copies,
                       const std::function<bool(size_t)>& go_on,
                       std::vector<Neighbor>* links) const {
  // Rows between two looks at go_on: tenths of a second.
  constexpr size_t kRowsAtOnce = 16384;
  const size_t n = segment_->num_rows();
  const size_t wanted = std::min({k, n - 1, kMaxBackendK - 1});
  links->resize(n * rule.max_links);
  std::vector<uint32_t> num_copies(n);
  for (size_t begin = 0; begin < n; begin += kRowsAtOnce) {
    const size_t end = std::min(n, begin + kRowsAtOnce);
    if (backend_->LinkGraph(
            *segment_, static_cast<RowId>(begin), static_cast<RowId>(end),
            wanted, rule, links->data() + begin * rule.max_links,
            num_copies.data() + begin, nullptr) != BackendStatus::kOk ||
        !go_on(end - begin)) {
      return false;
    }
  }
  // A list of copies alone says nothing about what else is near. Leaves, which
  // look at some copies and not at all, come further.
  const auto num_crowded =
      std::count_if(num_copies.begin(), num_copies.end(),
                    [&](uint32_t copies) { return copies > max_copies; });
  if (static_cast<size_t>(num_crowded) * 100 > n) return false;
  Scale(scale_, links);
  return true;
}

bool DeviceStage::Select(const std::vector<uint32_t>& offsets,
                         const std::vector<Neighbor>& lists,
                         const LinkRule& rule,
                         std::vector<Neighbor>* links) const {
  if (segment_ == nullptr) return false;
  const size_t num_lists = offsets.size() - 1;
  std::vector<Neighbor> scaled;
  if (scale_ != 1) {
    scaled = lists;
    Scale(1 / scale_, &scaled);
  }
  links->resize(num_lists * rule.max_links);
  if (backend_->SelectLinks(*segment_, num_lists, offsets.data(),
                            scale_ == 1 ? lists.data() : scaled.data(), rule,
                            links->data()) != BackendStatus::kOk) {
    return false;
  }
  Scale(scale_, links);
  return true;
}

void DeviceStage::Scale(float factor, std::vector<Neighbor>* neighbors) const {
  if (factor == 1) return;
  for (Neighbor& neighbor : *neighbors) neighbor.distance *= factor;
}

}  // namespace vicinal
