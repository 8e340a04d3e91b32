// A device for tests: the CPU's backend, which fails, blocks and is full as it
// is told to.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/random.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/gpu/backend.h"
#include "src/engine/device_residency.h"

namespace vicinal {

// Time that stands still until it is told to go on. Thread-safe.
class StoppedClock final : public Clock {
 public:
  std::chrono::steady_clock::time_point Now() const override {
    return std::chrono::steady_clock::time_point(
        std::chrono::nanoseconds(now_ns_.load()));
  }
  int64_t UnixMicros() const override { return now_ns_.load() / 1000; }
  void Advance(std::chrono::nanoseconds time) { now_ns_ += time.count(); }

 private:
  std::atomic<int64_t> now_ns_ = int64_t{1} << 40;
};

// Random rows that live as long as `owner`.
struct TestRows {
  static constexpr size_t kNum = 300, kDim = 8;

  explicit TestRows(uint64_t seed) {
    Random random(seed);
    auto floats = std::make_shared<std::vector<float>>(kNum * kDim);
    for (float& value : *floats) value = static_cast<float>(random.Gaussian());
    view = {reinterpret_cast<const std::byte*>(floats->data()), kNum, kDim,
            kDim * sizeof(float), ElementType::kFloat32};
    owner = std::move(floats);
  }
  std::shared_ptr<DeviceCopy> NewCopy(size_t num_rows = kNum) const {
    VectorSetView rows = view;
    rows.num_rows = num_rows;
    return std::make_shared<DeviceCopy>(SegmentRows{rows, Metric::kL2}, owner);
  }

  std::shared_ptr<const void> owner;
  VectorSetView view;
};

// Returns when `done` says so: for what another thread is about to do.
template <typename Done>
void WaitUntil(const Done& done) {
  while (!done()) std::this_thread::yield();
}

// Thread-safe.
class TestDevice final : public DistanceBackend {
 public:
  explicit TestDevice(const char* name = "test:0")
      : name_(name), cpu_(MakeCpuBackend(1)) {}

  // Searches are those by tokens, too, and so are loads.
  // The n-th search from now on (0: the next, -1: one that is blocked) and
  // those after it fail so.
  void FailSearches(BackendStatus status, int n = 0);
  // The next n loads fail so.
  void FailLoads(BackendStatus status, int n);
  // Loads fail where that many copies are there.
  void HoldAtMost(size_t copies) { max_copies_ = copies; }
  // Loads of so many rows or more fail.
  void RefuseRows(size_t num_rows) { refused_rows_ = num_rows; }
  // Searches, or loads, wait until Unblock.
  void BlockSearches() { Block(&searches_block_); }
  void BlockLoads() { Block(&loads_block_); }
  void Unblock();
  // Waits until n calls are blocked.
  void WaitForBlocked(size_t n) const;

  int num_searches() const { return num_searches_; }
  // Of them, those of ranges.
  int num_range_searches() const { return num_range_searches_; }
  int num_loads() const { return num_loads_; }
  int num_build_calls() const { return num_build_calls_; }
  size_t num_copies() const { return *num_copies_; }
  int most_at_once() const { return most_at_once_; }

  const char* name() const override { return name_; }
  size_t device_bytes() const override { return 1000 * *num_copies_; }
  bool builds_graphs() const override { return true; }
  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport* report) const override;
  BackendStatus SearchRanges(const LoadedSegment& segment,
                             const QueryBatch& queries, const RangeLists& lists,
                             size_t k, const uint64_t* accepted, Neighbor* out,
                             BackendReport* report) const override;
  BackendStatus Score(const LoadedSegment&, const QueryBatch&, const uint32_t*,
                      const RowId*, float*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus KnnGraph(const LoadedSegment&, size_t, Neighbor*,
                         BackendReport*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin, RowId end,
                          size_t k, const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport* report) const override;
  BackendStatus SelectLinks(const LoadedSegment& segment, size_t num_lists,
                            const uint32_t* offsets, const Neighbor* lists,
                            const LinkRule& rule, Neighbor* out) const override;
  BackendStatus Assign(const LoadedSegment&, const float*, size_t, uint32_t*,
                       float*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus KMeans(const LoadedSegment& segment, size_t num_centroids,
                       size_t rounds, float* centroids, uint32_t* nearest,
                       double* inertia) const override;
  BackendStatus LoadTokens(const TokenDocuments& documents,
                           std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus MaxSim(const LoadedSegment& documents,
                       const TokenQueries& queries, const DocumentLists& lists,
                       size_t k, Neighbor* out,
                       BackendReport* report) const override;

 private:
  class Copy;

  // What `load` makes, unless it is told to fail.
  template <typename Loader>
  BackendStatus TryToLoad(const Loader& load,
                          std::shared_ptr<const LoadedSegment>* out);
  // The same of a search.
  template <typename Call>
  BackendStatus TryToSearch(const Call& call) const;

  void Block(bool* block);
  void WaitWhile(const bool& block) const;

  const char* const name_;
  const std::unique_ptr<DistanceBackend> cpu_;
  const std::shared_ptr<std::atomic<size_t>> num_copies_ =
      std::make_shared<std::atomic<size_t>>(0);
  std::atomic<size_t> max_copies_ = SIZE_MAX;
  std::atomic<size_t> refused_rows_ = SIZE_MAX;
  mutable std::atomic<int> num_searches_ = 0;
  mutable std::atomic<int> num_range_searches_ = 0;
  std::atomic<int> num_loads_ = 0;
  mutable std::atomic<int> num_build_calls_ = 0;
  mutable std::atomic<int> num_running_ = 0;
  mutable std::atomic<int> most_at_once_ = 0;
  std::atomic<int> first_failing_ = INT32_MAX;
  std::atomic<BackendStatus> search_status_ = BackendStatus::kOk;
  std::atomic<int> failing_loads_ = 0;
  std::atomic<BackendStatus> load_status_ = BackendStatus::kOk;
  mutable Mutex mu_;
  mutable CondVar changed_;
  bool searches_block_ = false;  // guarded by mu_, as the next
  bool loads_block_ = false;
  mutable size_t num_blocked_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace vicinal
