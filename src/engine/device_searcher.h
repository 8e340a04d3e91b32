// Exact searches of sealed segments on devices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  std::string name;  // "cuda:0"
  bool is_lost = false;
  size_t device_bytes = 0;  // segments and room to work in
  ResidencyStats residency;
  BatchStats batches;
  DeviceRefusals refusals;
};

// Most tokens of a query by multi-vectors that devices compare; one with more
// would fail a call for all in it (src/distance/gpu/maxsim_kernels.h).
inline constexpr size_t kMaxDeviceQueryTokens = 1024;

// A search as it decides whether a device is worth asking.
struct DeviceWish {
  size_t k = 10;
  double device_ns = 0;  // that the device takes for all queries
  double cpu_ns = 0;     // that the CPU would take for them
  // Whatever it costs, and if it must be loaded first.
  bool is_required = false;
  bool may_load = true;  // else what is there is asked, or nothing
};

// A database's use of its devices, which are alike: what is loaded where, what
// is asked and whether it pays. Whatever they do not answer the CPU does, with
// the same result. Free of storage and of the rest of the engine. Borrows the
// backends and the clock. Thread-safe.
class DeviceSearcher {
 public:
  // backends: one at least; their numbers are their places in it.
  DeviceSearcher(const std::vector<DistanceBackend*>& backends,
                 const Clock* clock,
                 const std::function<void(absl::string_view message)>& warn);

  size_t num_devices() const { return devices_.size(); }
  const char* name(size_t device) const {
    return devices_[device]->shared.name();
  }
  // Whether all are.
  bool is_lost() const;
  // The device that has least to do, for a build; null: all are lost.
  SharedDevice* LeastBusy() const;

  // The time of one call with that many queries, in nanoseconds.
  static double CallNs(const VectorSetView& rows, size_t num_queries, size_t k);
  // The same of one query of tokens of dim elements: of num_tokens tokens, all
  // or, where they are of a list, of num_listed documents.
  static double TokenCallNs(size_t dim, size_t num_query_tokens,
                            size_t num_tokens, size_t num_listed, size_t k);

  // What to ask, where asking pays; none: the CPU is faster, the segment is on
  // its way there, or no device can. copy: null where a field has none. Errors:
  // `stop` said so while a required segment was loaded.
  absl::StatusOr<PlacedSegment> Find(const std::shared_ptr<DeviceCopy>& copy,
                                     const DeviceWish& wish,
                                     const StopCondition& stop);
  // Of a segment that Find found on this device; nullopt: ask the CPU. Errors:
  // `stop` said so.
  absl::StatusOr<std::optional<DeviceAnswer>> Search(
      size_t device, const DeviceQueries& queries, const StopCondition& stop);
  std::vector<DeviceStats> stats() const;  // of each device

 private:
  struct Device {
    Device(DistanceBackend* backend,
           const std::function<void(absl::string_view message)>& warn)
        : shared(backend, warn), batcher(&shared) {}

    SharedDevice shared;
    DeviceBatcher batcher;
  };

  std::vector<std::unique_ptr<Device>> devices_;
  std::unique_ptr<DeviceResidency> residency_;
};

}  // namespace vicinal
