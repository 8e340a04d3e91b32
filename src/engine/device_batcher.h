// Queries that come at the same time share one call of the device.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/top_k.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// Queries of one caller about one segment. Those with equal segments and equal
// `accepted` (the same object, or none) share calls.
struct DeviceQueries {
  std::shared_ptr<const LoadedSegment> segment;
  const void* data = nullptr;  // num x row_bytes
  size_t num = 1;
  size_t row_bytes = 0;
  size_t k = 10;  // 1..kMaxBackendK
  // A bit for each row of the segment; null: all may be returned.
  std::shared_ptr<const Bitmap> accepted;
};

struct DeviceAnswer {
  // k for each query, nearest first, filled up with kInvalidRow.
  std::vector<Neighbor> neighbors;
  size_t batch_queries = 0;  // of the call that found them
};

struct BatchStats {
  uint64_t num_batches = 0;  // calls of the device
  uint64_t num_queries = 0;  // in them
  size_t num_waiting = 0;    // calls of Search that wait now
};

// One call at a time runs on the device; what comes meanwhile is collected and
// goes next, a batch a call. Where the last batch of a kind had several
// callers, the next one waits up to kMaxDelay for as many. The
// threads that ask make the calls: there are no others. Borrows the device and
// the clock. Thread-safe; no lock is held while the device works.
class DeviceBatcher {
 public:
  DeviceBatcher(const DistanceBackend* device, const Clock* clock)
      : device_(device), clock_(clock) {}

  static constexpr std::chrono::milliseconds kMaxDelay{1};
  // Queries of one call, but for those of one caller: at 1,000,000 x 768 and
  // 450e12 operations a second 4 ms, which is as long as others wait.
  static constexpr size_t kMaxQueries = 1024;

  // Not kOk: *out is undefined, ask the CPU. Errors: `stop` said so while the
  // queries waited; a call that runs is waited for only by who made it.
  absl::StatusOr<BackendStatus> Search(const DeviceQueries& queries,
                                       const StopCondition& stop,
                                       DeviceAnswer* out);
  BatchStats stats() const;

 private:
  // What may share a call: segment, class of k, accepted.
  using Kind = std::tuple<const void*, size_t, const void*>;
  struct Batch;

  // The open batch that takes these queries, with a copy of them in it, or a
  // new one.
  std::shared_ptr<Batch> Join(const DeviceQueries& queries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // That a batch still waits for others; 0: it is ready.
  std::chrono::nanoseconds DelayLeft(const Batch& batch) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // From now on it takes no more queries.
  void Close(const Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Makes the call; the lock is let go of meanwhile.
  void Call(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The device is free: the oldest batch that is ready goes.
  void GiveTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A caller that does not wait any more.
  void Leave(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const DistanceBackend* const device_;
  const Clock* const clock_;
  mutable Mutex mu_;
  // Whether a call runs, or a batch was told to make one.
  bool is_busy_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<std::shared_ptr<Batch>> open_ ABSL_GUARDED_BY(mu_);  // by age
  // How many callers the last batch had, of kinds of late.
  std::map<Kind, size_t> last_callers_ ABSL_GUARDED_BY(mu_);
  BatchStats stats_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
