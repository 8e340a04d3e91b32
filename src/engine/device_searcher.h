// Exact searches of sealed segments on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/base/clock.h"
#include "src/distance/gpu/backend.h"
#include "src/engine/device_batcher.h"
#include "src/engine/device_residency.h"
#include "src/engine/shared_device.h"

namespace vicinal {

struct DeviceStats {
  std::string name;  // "cuda:0"; empty: there is no device
  bool is_lost = false;
  size_t device_bytes = 0;  // segments and room to work in
  ResidencyStats residency;
  BatchStats batches;
  DeviceRefusals refusals;
};

// A search as it decides whether the device is worth asking.
struct DeviceWish {
  size_t num_queries = 1;
  size_t k = 10;
  double cpu_ns = 0;  // that the CPU would take for all of them
  bool is_required =
      false;  // whatever it costs, and if it must be loaded first
};

// A database's use of its device: what is loaded, what is asked and whether it
// pays. Whatever it does not answer the CPU does, with the same result. Free
// of storage and of the rest of the engine. Borrows the backend and the clock.
// Thread-safe.
class DeviceSearcher {
 public:
  DeviceSearcher(DistanceBackend* backend, const Clock* clock,
                 std::function<void(absl::string_view message)> warn)
      : device_(backend, std::move(warn)),
        residency_(&device_, clock),
        batcher_(&device_, clock) {
    device_.WhenFull([this] { return residency_.EvictOldest(); });
  }

  const char* name() const { return device_.name(); }
  // For builds.
  SharedDevice& device() { return device_; }

  // The time of one call with that many queries, in nanoseconds.
  static double CallNs(const VectorSetView& rows, size_t num_queries, size_t k);

  // What to ask, where asking pays; null: the CPU is faster, the segment is on
  // its way there, or the device cannot. copy: null where a field has none.
  // Errors: `stop` said so while a required segment was loaded.
  absl::StatusOr<std::shared_ptr<const LoadedSegment>> Find(
      const std::shared_ptr<DeviceCopy>& copy, const DeviceWish& wish,
      const StopCondition& stop);
  // Of a segment that Find found; nullopt: ask the CPU. Errors: `stop` said so.
  absl::StatusOr<std::optional<DeviceAnswer>> Search(
      const DeviceQueries& queries, const StopCondition& stop);
  DeviceStats stats() const;

 private:
  SharedDevice device_;
  DeviceResidency residency_;
  DeviceBatcher batcher_;
};

}  // namespace vicinal
