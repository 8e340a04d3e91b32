// Queries that come at the same time share one call of the device.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/mutex.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// One query of a copy of tokens.
struct DeviceTokenQuery {
  const float* weights = nullptr;  // of each token
  size_t num = 0;                  // 0: rows are searched
  // Documents to compare; null: all of them.
  std::shared_ptr<const std::vector<RowId>> documents;
};

// Queries of one caller about one segment. Those with equal segments and equal
// `accepted` (the same object, or none) share calls, whatever their ranges; of
// tokens, those that compare all documents, and those that compare some.
struct DeviceQueries {
  std::shared_ptr<const LoadedSegment> segment;
  const void* data = nullptr;  // num x row_bytes; of tokens their floats
  size_t num = 1;              // of tokens: 1
  size_t row_bytes = 0;        // of tokens: of all of them
  size_t k = 10;               // 1..kMaxBackendK
  // A bit for each row of the segment; null: all may be returned.
  std::shared_ptr<const Bitmap> accepted;
  // Of these, rows that may be returned; `end` may be past the last row.
  RowRange range = {0, kInvalidRow};
  DeviceTokenQuery tokens;
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
// goes next, a batch a call. Nothing waits while the device is free: holding a
// query back for others that may come was measured and gains nothing
// (docs/gpu-notes.md). The threads that ask make the calls: there are no
// others. Borrows the device. Thread-safe; no lock is held while the device
// works.
class DeviceBatcher {
 public:
  explicit DeviceBatcher(const DistanceBackend* device) : device_(device) {}

  // Queries of one call, but for those of one caller: at 1,000,000 x 768 and
  // 450e12 operations a second 4 ms, which is as long as others wait.
  static constexpr size_t kMaxQueries = 1024;
  // The same of tokens, of which two queries at most are compared at once: of
  // 1 GB 14 ms.
  static constexpr size_t kMaxTokenQueries = 64;

  // Not kOk: *out is undefined, ask the CPU. Errors: `stop` said so while the
  // queries waited; a call that runs is waited for only by who made it.
  absl::StatusOr<BackendStatus> Search(const DeviceQueries& queries,
                                       const StopCondition& stop,
                                       DeviceAnswer* out);
  BatchStats stats() const;

 private:
  struct TokenParts;
  struct Batch;

  // The open batch that takes these queries, with a copy of them in it, or a
  // new one.
  std::shared_ptr<Batch> Join(const DeviceQueries& queries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // From now on it takes no more queries.
  void Close(const Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Until it is done, or this caller is to make the call: true.
  absl::StatusOr<bool> WaitFor(Batch& batch, const StopCondition& stop);
  // Makes the call of a closed batch, for which the device was taken.
  void Call(Batch& batch);
  // The device is free: the oldest batch gets it.
  void GiveTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A caller that does not wait any more.
  void Leave(Batch& batch);

  const DistanceBackend* const device_;
  std::atomic<size_t> num_waiting_ = 0;
  mutable Mutex mu_;  // locked before that of a batch
  // Whether a call runs, or a batch was told to make one. While it is not, no
  // batch is open.
  bool is_busy_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<std::shared_ptr<Batch>> open_ ABSL_GUARDED_BY(mu_);  // by age
  uint64_t num_batches_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t num_queries_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace vicinal
