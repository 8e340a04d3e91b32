// Which segments have a copy on a device, and on which.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "src/base/cancel.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/distance/gpu/backend.h"
#include "src/engine/shared_device.h"

namespace vicinal {

// What a copy is of: at least one row or one document.
using DeviceContent = std::variant<SegmentRows, TokenDocuments>;

// Where the copy of one field of one segment is. The segment owns it, so that
// the copy goes when the segment does.
class DeviceCopy {
 public:
  // content: it stays as long as `owner`.
  DeviceCopy(const DeviceContent& content, std::weak_ptr<const void> owner)
      : content_(content), owner_(std::move(owner)) {}

  const DeviceContent& content() const { return content_; }

 private:
  friend class DeviceResidency;
  enum class State : uint8_t { kAway, kComing, kThere, kRefused };

  const DeviceContent content_;
  const std::weak_ptr<const void> owner_;
  // Guarded by the residency's mutex.
  State state_ = State::kAway;
  size_t device_ = 0;  // where it is, or is to be; of none that is away
  std::shared_ptr<const LoadedSegment> loaded_;
  uint64_t last_use_ = 0;
  size_t num_waiting_ = 0;  // searches that wait for it
  std::chrono::steady_clock::time_point refused_until_;
  std::chrono::seconds next_delay_{0};  // below kRetryDelay: that
};

struct ResidencyStats {
  size_t num_segments = 0;    // fields of segments, that is
  size_t resident_bytes = 0;  // of them
  uint64_t num_loads = 0;
  uint64_t num_evictions = 0;
};

// A copy as searches use it; segment null: there is none.
struct PlacedSegment {
  std::shared_ptr<const LoadedSegment> segment;
  size_t device = 0;  // its number
};

// Puts each copy on the device that has the most room, where it stays until it
// is let go of; all have the same budget. A thread for each device loads one
// copy at a time. Where a device has no room for another it asks EvictOldest
// for some. Borrows the devices and the clock. Thread-safe; no lock is held
// while a device works.
class DeviceResidency {
 public:
  // Nothing is loaded on the devices yet.
  DeviceResidency(std::vector<SharedDevice*> devices, const Clock* clock);
  // Frees all copies, also of segments that live on.
  ~DeviceResidency();

  // What found no room is not tried again for so long; what does not fit even
  // alone for twice as long each time, as each attempt costs all others their
  // place, and meanwhile nothing as large is.
  static constexpr std::chrono::seconds kRetryDelay{60};
  static constexpr std::chrono::seconds kLongestRetryDelay{64 * 60};

  // The copy; none: it is on its way from now on, or was refused.
  PlacedSegment Find(const std::shared_ptr<DeviceCopy>& copy);
  // The copy; none: it is not there, and stays away.
  PlacedSegment FindLoaded(const std::shared_ptr<DeviceCopy>& copy);
  // As Find, but waits for what is on its way. Errors: `stop` said so.
  absl::StatusOr<PlacedSegment> WaitFor(const std::shared_ptr<DeviceCopy>& copy,
                                        const StopCondition& stop);
  // Lets go of the device's copy that was used least recently and that nobody
  // waits for, and returns when the device has it no more; false: there is
  // none. For SharedDevice::WhenFull.
  bool EvictOldest(size_t device);
  // Lets go of all copies of the device.
  void Clear(size_t device);
  ResidencyStats stats(size_t device) const;

 private:
  struct Order {
    std::weak_ptr<DeviceCopy> copy;
    size_t size_bytes = 0;  // that it is going to take
  };
  // What is known of one device.
  struct Place {
    size_t idle_bytes = 0;  // of the device, where nothing is loaded
    std::thread thread;     // from the first order on
    std::deque<Order> orders;
    size_t coming_bytes = 0;  // of orders, and of the load that runs
    // Those that are there, and some that died since.
    std::vector<std::weak_ptr<DeviceCopy>> there;
    // So many bytes did not fit when nothing else was there.
    size_t too_many_bytes = std::numeric_limits<size_t>::max();
    std::chrono::steady_clock::time_point too_many_until;
    uint64_t num_loads = 0;
    uint64_t num_evictions = 0;
  };

  PlacedSegment FindOrOrder(const std::shared_ptr<DeviceCopy>& copy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether so many bytes did not fit on the device a while ago.
  bool IsTooMuch(const Place& place, size_t size_bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of those that are not lost and may have room; nullopt: there is none.
  std::optional<size_t> DeviceWithMostRoom(size_t size_bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What found no room on the device: when it may be tried again.
  void Refuse(size_t device, size_t size_bytes, DeviceCopy* copy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The thread of a device.
  void LoadOrdered(size_t device);
  void LoadOne(const Order& order, size_t device);
  // Those that are there. What it returns is freed where the lock is not held:
  // it may be the last to have it.
  std::vector<std::shared_ptr<DeviceCopy>> Alive(size_t device)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<const LoadedSegment> Release(DeviceCopy& copy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::vector<SharedDevice*> devices_;
  const Clock* const clock_;
  mutable Mutex mu_;
  CondVar ordered_;
  CondVar arrived_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Place> places_ ABSL_GUARDED_BY(mu_);  // by number of the device
  uint64_t num_uses_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace vicinal
