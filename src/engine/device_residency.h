// Which segments have a copy on the device.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "src/base/cancel.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// Where the copy of one field of one segment is. The segment owns it, so that
// the copy goes when the segment does.
class DeviceCopy {
 public:
  // rows: of f32 or f16, at least one; they stay as long as `owner`.
  DeviceCopy(SegmentRows rows, std::weak_ptr<const void> owner)
      : rows_(rows), owner_(std::move(owner)) {}

  const SegmentRows& rows() const { return rows_; }

 private:
  friend class DeviceResidency;
  enum class State : uint8_t { kAway, kComing, kThere, kRefused };

  const SegmentRows rows_;
  const std::weak_ptr<const void> owner_;
  // Guarded by the residency's mutex.
  State state_ = State::kAway;
  std::shared_ptr<const LoadedSegment> loaded_;
  uint64_t last_use_ = 0;
  size_t num_waiting_ = 0;  // searches that wait for it
  std::chrono::steady_clock::time_point refused_until_;
};

struct ResidencyStats {
  size_t num_segments = 0;    // fields of segments, that is
  size_t resident_bytes = 0;  // of them
  uint64_t num_loads = 0;
  uint64_t num_evictions = 0;
};

// Loads copies on a thread of its own, one at a time. Where the device has no
// room for another it asks EvictOldest for some. Borrows the device and the
// clock. Thread-safe; no lock is held while the device works.
class DeviceResidency {
 public:
  DeviceResidency(DistanceBackend* device, const Clock* clock)
      : device_(device), clock_(clock) {}
  // Frees all copies, also of segments that live on.
  ~DeviceResidency();

  // What does not fit even alone is not tried again for so long.
  static constexpr std::chrono::seconds kRetryDelay{60};

  // The copy; null: it is on its way from now on, or was refused.
  std::shared_ptr<const LoadedSegment> Find(
      const std::shared_ptr<DeviceCopy>& copy);
  // The same, but waits for what is on its way. Errors: `stop` said so.
  absl::StatusOr<std::shared_ptr<const LoadedSegment>> WaitFor(
      const std::shared_ptr<DeviceCopy>& copy, const StopCondition& stop);
  // Lets go of the copy that was used least recently and that nobody waits for,
  // and returns when the device has it no more; false: there is none. For
  // SharedDevice::WhenFull.
  bool EvictOldest();
  // Lets go of all copies.
  void Clear();
  ResidencyStats stats() const;

 private:
  std::shared_ptr<const LoadedSegment> FindOrOrder(
      const std::shared_ptr<DeviceCopy>& copy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The thread.
  void LoadOrdered();
  void LoadOne(const std::shared_ptr<DeviceCopy>& copy);
  // Those that are there. What it returns is freed where the lock is not held:
  // it may be the last to have it.
  std::vector<std::shared_ptr<DeviceCopy>> Alive()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<const LoadedSegment> Release(DeviceCopy& copy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  DistanceBackend* const device_;
  const Clock* const clock_;
  mutable Mutex mu_;
  CondVar ordered_;
  CondVar arrived_;
  std::thread thread_ ABSL_GUARDED_BY(mu_);  // from the first order on
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<std::weak_ptr<DeviceCopy>> orders_ ABSL_GUARDED_BY(mu_);
  // Those that are there, and some that died since.
  std::vector<std::weak_ptr<DeviceCopy>> there_ ABSL_GUARDED_BY(mu_);
  uint64_t num_uses_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t num_loads_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t num_evictions_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace vicinal
