#include "index/hnsw_device.h"

#include <algorithm>
#include <span>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"
#include "src/base/thread_pool.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {

namespace {

// Device distances become those of the build, or the reverse.
void Scale(float factor, std::span<Neighbor> neighbors) {
  if (factor == 1) return;
  for (Neighbor& neighbor : neighbors) neighbor.distance *= factor;
}

// Counts ranges of rows that a device has linked and those that were taken of
// them, so that it is at most `most` ahead. Thread-safe.
class LinkedRanges {
 public:
  explicit LinkedRanges(size_t most) : most_(most) {}

  // By who links: waits for room for one more. False: none is wanted.
  bool WaitForRoom() {
    MutexLock lock(mu_);
    while (num_linked_ - num_taken_ == most_ && !stopped_) changed_.Wait(mu_);
    return !stopped_;
  }
  void Add() {
    MutexLock lock(mu_);
    ++num_linked_;
    changed_.NotifyAll();
  }
  // By who takes: waits for one. False: there will be none.
  bool WaitForOne() {
    MutexLock lock(mu_);
    while (num_linked_ == num_taken_ && !stopped_) changed_.Wait(mu_);
    return num_linked_ > num_taken_;
  }
  void Take() {
    MutexLock lock(mu_);
    ++num_taken_;
    changed_.NotifyAll();
  }
  // By either: no more are linked, or wanted.
  void Stop() {
    MutexLock lock(mu_);
    stopped_ = true;
    changed_.NotifyAll();
  }

 private:
  const size_t most_;
  Mutex mu_;
  CondVar changed_;
  size_t num_linked_ ABSL_GUARDED_BY(mu_) = 0;
  size_t num_taken_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

bool DeviceStage::Serves(const RowSource& rows) const {
  return backend_ != nullptr && backend_->builds_graphs() &&
         rows.num_rows >= kMinRows && rows.num_rows <= kMaxRows &&
         rows.num_rows * rows.dim * sizeof(float) <= kMaxBytes;
}

bool DeviceStage::Load(const RowSource& rows, Workers* workers) {
  if (!Serves(rows)) return false;
  const size_t dim = rows.dim;
  const RowWriter write = [&](size_t begin, size_t end, void* out) {
    auto* const floats = static_cast<float*>(out);
    workers->For(end - begin, 32, [&](size_t first, size_t last, size_t) {
      for (size_t i = first; i < last; ++i) {
        rows.load(static_cast<uint32_t>(begin + i), floats + i * dim);
      }
    });
  };
  const SegmentRows segment = {.rows = {.num_rows = rows.num_rows,
                                        .dim = dim,
                                        .type = ElementType::kFloat32},
                               .metric = Metric::kL2,
                               .write = &write};
  dim_ = dim;
  return backend_->Load(segment, &segment_) == BackendStatus::kOk;
}

bool DeviceStage::LoadPart(const DeviceStage& whole,
                           const std::vector<uint32_t>& part) {
  if (!whole.is_loaded()) return false;
  const SegmentRows segment = {.rows = {.num_rows = part.size(),
                                        .dim = whole.dim_,
                                        .type = ElementType::kFloat32},
                               .metric = Metric::kL2,
                               .whole = whole.segment_.get(),
                               .part = part.data()};
  dim_ = whole.dim_;
  return backend_->Load(segment, &segment_) == BackendStatus::kOk;
}

bool DeviceStage::Link(size_t k, const LinkRule& rule, size_t max_copies,
                       const LinkTaker& take) const {
  // Rows between two looks at whether to go on: hundredths of a second.
  constexpr size_t kRowsAtOnce = 16384;
  // Ranges that the device may be ahead: taking is faster, but for hiccups.
  constexpr size_t kRanges = 4;
  const size_t n = segment_->num_rows();
  const size_t wanted = std::min({k, n - 1, kMaxBackendK - 1});
  std::vector<std::vector<Neighbor>> links(kRanges);
  for (auto& range : links) range.resize(kRowsAtOnce * rule.max_links);
  std::vector<uint32_t> num_copies(n);
  LinkedRanges ranges(kRanges);
  const auto link = [&] {
    for (size_t i = 0; i * kRowsAtOnce < n && ranges.WaitForRoom(); ++i) {
      const size_t begin = i * kRowsAtOnce;
      const size_t end = std::min(n, begin + kRowsAtOnce);
      if (backend_->LinkGraph(*segment_, static_cast<RowId>(begin),
                              static_cast<RowId>(end), wanted, rule,
                              links[i % kRanges].data(), &num_copies[begin],
                              nullptr) != BackendStatus::kOk) {
        break;
      }
      ranges.Add();
    }
    ranges.Stop();
  };
  size_t taken = 0;
  {
    ThreadPool ahead(1);
    ahead.Schedule(link);
    for (size_t i = 0; taken < n && ranges.WaitForOne(); ++i) {
      const size_t end = std::min(n, taken + kRowsAtOnce);
      std::vector<Neighbor>& found = links[i % kRanges];
      Scale(scale_, found);
      if (!take(taken, end, found.data())) break;
      taken = end;
      ranges.Take();
    }
    ranges.Stop();
  }
  if (taken < n) return false;
  // A list of copies alone says nothing about what else is near. Leaves, which
  // look at some copies and not at all, come further.
  const auto num_crowded =
      std::count_if(num_copies.begin(), num_copies.end(),
                    [&](uint32_t copies) { return copies > max_copies; });
  return static_cast<size_t>(num_crowded) * 100 <= n;
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
    Scale(1 / scale_, scaled);
  }
  links->resize(num_lists * rule.max_links);
  if (backend_->SelectLinks(*segment_, num_lists, offsets.data(),
                            scale_ == 1 ? lists.data() : scaled.data(), rule,
                            links->data()) != BackendStatus::kOk) {
    return false;
  }
  Scale(scale_, *links);
  return true;
}

}  // namespace vicinal
