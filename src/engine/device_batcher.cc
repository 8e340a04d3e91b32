#include "src/engine/device_batcher.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace vicinal {
namespace {

// Between two looks at a StopCondition.
constexpr std::chrono::milliseconds kPoll{5};
// Smaller k cost the device the same.
constexpr size_t kLeastKClass = 16;
// Kinds whose last batch is remembered.
constexpr size_t kMaxKinds = 256;

}  // namespace

struct DeviceBatcher::Batch {
  DeviceQueries shared;  // but for data; num: of all, k: the largest
  Kind kind;
  std::vector<std::byte> data;
  std::chrono::steady_clock::time_point opened;
  size_t num_callers = 0;     // whose queries are in it
  size_t wanted_callers = 1;  // for which it waits
  size_t num_waiting = 0;     // callers that have not gone away
  // kTold: one of its callers is to make the call.
  enum class State : uint8_t { kOpen, kTold, kRuns, kDone };
  State state = State::kOpen;
  CondVar changed;
  BackendStatus status = BackendStatus::kOk;
  std::vector<Neighbor> neighbors;
};

std::shared_ptr<DeviceBatcher::Batch> DeviceBatcher::Join(
    const DeviceQueries& queries) {
  const Kind kind = {queries.segment.get(),
                     std::bit_ceil(std::max(queries.k, kLeastKClass)),
                     queries.accepted.get()};
  const auto found =
      std::find_if(open_.begin(), open_.end(), [&](const auto& batch) {
        return batch->kind == kind &&
               batch->shared.num + queries.num <= kMaxQueries;
      });
  std::shared_ptr<Batch> batch;
  if (found != open_.end()) {
    batch = *found;
    batch->shared.num += queries.num;
    batch->shared.k = std::max(batch->shared.k, queries.k);
  } else {
    batch = std::make_shared<Batch>();
    batch->shared = queries;
    batch->kind = kind;
    batch->opened = clock_->Now();
    const auto last = last_callers_.find(kind);
    if (last != last_callers_.end()) batch->wanted_callers = last->second;
    open_.push_back(batch);
  }
  const auto* bytes = static_cast<const std::byte*>(queries.data);
  batch->data.insert(batch->data.end(), bytes,
                     bytes + queries.num * queries.row_bytes);
  ++batch->num_callers;
  ++batch->num_waiting;
  return batch;
}

std::chrono::nanoseconds DeviceBatcher::DelayLeft(const Batch& batch) const {
  if (batch.num_callers >= batch.wanted_callers ||
      batch.shared.num >= kMaxQueries) {
    return std::chrono::nanoseconds(0);
  }
  return std::max<std::chrono::nanoseconds>(
      std::chrono::nanoseconds(0), batch.opened + kMaxDelay - clock_->Now());
}

void DeviceBatcher::Call(Batch& batch) {
  batch.state = Batch::State::kRuns;
  Close(batch);
  is_busy_ = true;
  if (batch.num_callers == 1) {
    last_callers_.erase(batch.kind);
  } else {
    if (last_callers_.size() >= kMaxKinds) last_callers_.clear();
    last_callers_[batch.kind] = batch.num_callers;
  }
  ++stats_.num_batches;
  stats_.num_queries += batch.shared.num;
  mu_.Unlock();
  batch.neighbors.resize(batch.shared.num * batch.shared.k);
  const Bitmap* accepted = batch.shared.accepted.get();
  batch.status = device_->Search(
      *batch.shared.segment, {batch.data.data(), batch.shared.num},
      batch.shared.k, accepted == nullptr ? nullptr : accepted->words(),
      batch.neighbors.data(), nullptr);
  batch.shared.segment.reset();  // it may be evicted before all have read this
  mu_.Lock();
  batch.state = Batch::State::kDone;
  batch.changed.NotifyAll();
  GiveTurn();
}

void DeviceBatcher::Close(const Batch& batch) {
  std::erase_if(open_,
                [&](const auto& other) { return other.get() == &batch; });
}

void DeviceBatcher::GiveTurn() {
  is_busy_ = false;
  for (const auto& batch : open_) {
    if (DelayLeft(*batch).count() > 0) {
      batch->changed.NotifyOne();  // somebody must watch the clock
      continue;
    }
    is_busy_ = true;
    batch->state = Batch::State::kTold;
    batch->changed.NotifyOne();
    return;
  }
}

void DeviceBatcher::Leave(Batch& batch) {
  --batch.num_waiting;
  const bool was_told = batch.state == Batch::State::kTold;
  if (!was_told && batch.state != Batch::State::kOpen) return;
  if (batch.num_waiting > 0) {
    batch.changed.NotifyOne();  // in place of the one that leaves
    return;
  }
  Close(batch);
  if (was_told) GiveTurn();
}

absl::StatusOr<BackendStatus> DeviceBatcher::Search(
    const DeviceQueries& queries, const StopCondition& stop,
    DeviceAnswer* out) {
  MutexLock lock(mu_);
  const std::shared_ptr<Batch> batch = Join(queries);
  const size_t first = batch->shared.num - queries.num;
  ++stats_.num_waiting;
  absl::Status status;
  while (status.ok() && batch->state != Batch::State::kDone) {
    const bool is_open = batch->state == Batch::State::kOpen;
    const auto delay = DelayLeft(*batch);
    if (batch->state == Batch::State::kTold ||
        (is_open && !is_busy_ && delay.count() == 0)) {
      Call(*batch);
      break;
    }
    batch->changed.WaitFor(mu_, is_open && !is_busy_ ? delay : kPoll);
    if (batch->state != Batch::State::kDone) status = stop.Check();
  }
  --stats_.num_waiting;
  Leave(*batch);
  if (!status.ok()) return status;
  if (batch->status != BackendStatus::kOk) return batch->status;
  const size_t batch_k = batch->shared.k;
  out->batch_queries = batch->shared.num;
  out->neighbors.clear();
  out->neighbors.reserve(queries.num * queries.k);
  for (size_t q = first; q < first + queries.num; ++q) {
    const auto begin =
        batch->neighbors.begin() + static_cast<std::ptrdiff_t>(q * batch_k);
    out->neighbors.insert(out->neighbors.end(), begin,
                          begin + static_cast<std::ptrdiff_t>(queries.k));
  }
  return BackendStatus::kOk;
}

BatchStats DeviceBatcher::stats() const {
  MutexLock lock(mu_);
  return stats_;
}

}  // namespace vicinal
