// A device as everything in a database uses it, builds and searches.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// Calls that a device refused or failed at, and the CPU did instead.
struct DeviceRefusals {
  uint64_t num_unsupported = 0;
  uint64_t num_no_memory = 0;
  uint64_t num_lost = 0;
};

// Passes calls on to a backend, which computes one at a time anyway: in the
// order in which they came, so that a build's, which follow each other closely,
// do not keep searches out. Counts what is refused. A device that is lost is
// told of once and not asked again. What the engine does not ask for, searches
// by codes and moments, is not passed on: kUnsupported. Borrows the backend.
// Thread-safe.
class SharedDevice final : public DistanceBackend {
 public:
  // warn: told in a sentence that the device is lost; empty: nobody is.
  SharedDevice(DistanceBackend* backend,
               std::function<void(absl::string_view message)> warn)
      : backend_(backend), warn_(std::move(warn)) {}

  // make_room: asked when a load finds no memory, which is then tried again;
  // false: there is nothing to give up. Before the first load.
  void WhenFull(std::function<bool()> make_room) {
    make_room_ = std::move(make_room);
  }

  bool is_lost() const { return lost_.load(std::memory_order_relaxed); }
  DeviceRefusals refusals() const;
  // Those that run or wait for their turn, but for loads.
  size_t num_calls() const;

  const char* name() const override { return backend_->name(); }
  size_t device_bytes() const override { return backend_->device_bytes(); }
  bool builds_graphs() const override { return backend_->builds_graphs(); }
  // Out of turn: it copies more than it computes.
  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport* report) const override;
  BackendStatus SearchRanges(const LoadedSegment& segment,
                             const QueryBatch& queries, const RangeLists& lists,
                             size_t k, const uint64_t* accepted, Neighbor* out,
                             BackendReport* report) const override;
  BackendStatus Score(const LoadedSegment& segment, const QueryBatch& queries,
                      const uint32_t* offsets, const RowId* rows,
                      float* out) const override;
  BackendStatus KnnGraph(const LoadedSegment& segment, size_t k, Neighbor* out,
                         BackendReport* report) const override;
  BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin, RowId end,
                          size_t k, const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport* report) const override;
  BackendStatus SelectLinks(const LoadedSegment& segment, size_t num_lists,
                            const uint32_t* offsets, const Neighbor* lists,
                            const LinkRule& rule, Neighbor* out) const override;
  BackendStatus Assign(const LoadedSegment& segment, const float* centroids,
                       size_t num_centroids, uint32_t* nearest,
                       float* distances) const override;
  BackendStatus Encode(const LoadedSegment& segment, const RowCoding& coding,
                       uint8_t* records) const override;
  // Others wait for all rounds: ask for one at a time.
  BackendStatus KMeans(const LoadedSegment& segment, size_t num_centroids,
                       size_t rounds, float* centroids, uint32_t* nearest,
                       double* inertia) const override;
  // Out of turn, as Load.
  BackendStatus LoadTokens(const TokenDocuments& documents,
                           std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus MaxSim(const LoadedSegment& documents,
                       const TokenQueries& queries, const DocumentLists& lists,
                       size_t k, Neighbor* out,
                       BackendReport* report) const override;

 private:
  // Waits for its turn while it lives.
  class Turn;

  // Makes the call when its turn has come.
  template <typename Call>
  BackendStatus InTurn(const Call& call) const;
  // Makes the call of a load, again as long as others make room.
  template <typename Call>
  BackendStatus WithRoom(const Call& call);
  // Counts what became of a call, and returns it.
  BackendStatus Note(BackendStatus status) const;

  DistanceBackend* const backend_;
  const std::function<void(absl::string_view message)> warn_;
  std::function<bool()> make_room_;
  mutable std::atomic<bool> lost_ = false;
  mutable std::atomic<uint64_t> num_unsupported_ = 0;
  mutable std::atomic<uint64_t> num_no_memory_ = 0;
  mutable std::atomic<uint64_t> num_lost_ = 0;
  mutable Mutex mu_;
  mutable CondVar next_;
  mutable uint64_t num_came_ ABSL_GUARDED_BY(mu_) = 0;
  mutable uint64_t num_left_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace vicinal
