#include "src/engine/device_batcher.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <numeric>
#include <utility>

#include "src/base/status_macros.h"

namespace vicinal {
namespace {

// Between two looks at a StopCondition.
constexpr std::chrono::milliseconds kPoll{5};
// Smaller k cost the device the same, or nearly; of tokens.
constexpr size_t kLeastKClass = 16, kLeastTokenKClass = 64;
// Documents that the queries of one call list together, but for those of one
// caller: some hundredths of a second, which others wait.
constexpr size_t kMaxListed = size_t{1} << 20;

size_t NumListed(const DeviceQueries& queries) {
  return queries.tokens.documents == nullptr ? 0
                                             : queries.tokens.documents->size();
}

size_t ClassOf(const DeviceQueries& queries) {
  const size_t least =
      queries.tokens.num > 0 ? kLeastTokenKClass : kLeastKClass;
  return std::bit_ceil(std::max(queries.k, least));
}

}  // namespace

// Of the queries of a batch about tokens.
struct DeviceBatcher::TokenParts {
  void Add(const DeviceTokenQuery& tokens) {
    ends.push_back(ends.back() + static_cast<uint32_t>(tokens.num));
    weights.insert(weights.end(), tokens.weights, tokens.weights + tokens.num);
    documents.push_back(tokens.documents);
    if (tokens.documents != nullptr) num_listed += tokens.documents->size();
  }
  BackendStatus Ask(const DistanceBackend& device, const LoadedSegment& segment,
                    const void* data, size_t k, Neighbor* out) const {
    std::vector<uint32_t> list_ends;
    std::vector<RowId> listed;
    if (documents.front() != nullptr) {
      list_ends.push_back(0);
      for (const auto& list : documents) {
        listed.insert(listed.end(), list->begin(), list->end());
        list_ends.push_back(static_cast<uint32_t>(listed.size()));
      }
    }
    const TokenQueries queries = {.tokens = static_cast<const float*>(data),
                                  .offsets = ends.data(),
                                  .weights = weights.data(),
                                  .num_queries = documents.size()};
    DocumentLists lists;
    if (!list_ends.empty()) lists = {list_ends.data(), listed.data()};
    return device.MaxSim(segment, queries, lists, k, out, nullptr);
  }

  std::vector<uint32_t> ends = {0};  // of each query's tokens
  std::vector<float> weights;
  std::vector<std::shared_ptr<const std::vector<RowId>>> documents;
  size_t num_listed = 0;  // of all queries
};

struct DeviceBatcher::Batch {
  bool Takes(const DeviceQueries& queries) const {
    return shared.segment == queries.segment &&
           shared.accepted == queries.accepted &&
           (shared.tokens.documents == nullptr) ==
               (queries.tokens.documents == nullptr) &&
           ClassOf(shared) == ClassOf(queries) &&
           shared.num + queries.num <=
               (queries.tokens.num > 0 ? kMaxTokenQueries : kMaxQueries) &&
           tokens.num_listed + NumListed(queries) <= kMaxListed;
  }

  // What the device answers.
  BackendStatus Ask(const DistanceBackend& device);

  // Guarded by the batcher's mutex while it is open; then of who makes the
  // call, and when that is done, const. Of `shared` not data, range and tokens;
  // num: of all, k: the largest.
  DeviceQueries shared;
  std::vector<RowRange> ranges;  // of each query
  std::vector<std::byte> data;
  TokenParts tokens;
  BackendStatus status = BackendStatus::kOk;
  std::vector<Neighbor> neighbors;

  // Of its own, so that those whose answer is there do not stand in the way of
  // those that come.
  Mutex mu;
  CondVar changed;
  // kTold: one of its callers is to make the call.
  enum class State : uint8_t { kOpen, kTold, kRuns, kDone };
  State state ABSL_GUARDED_BY(mu) = State::kOpen;
  size_t num_callers ABSL_GUARDED_BY(mu) = 0;  // that have not gone away
};

std::shared_ptr<DeviceBatcher::Batch> DeviceBatcher::Join(
    const DeviceQueries& queries) {
  const auto found =
      std::find_if(open_.begin(), open_.end(),
                   [&](const auto& batch) { return batch->Takes(queries); });
  std::shared_ptr<Batch> batch;
  if (found != open_.end()) {
    batch = *found;
    batch->shared.num += queries.num;
    batch->shared.k = std::max(batch->shared.k, queries.k);
  } else {
    batch = std::make_shared<Batch>();
    batch->shared = queries;
    open_.push_back(batch);
  }
  const auto* bytes = static_cast<const std::byte*>(queries.data);
  batch->data.insert(batch->data.end(), bytes,
                     bytes + queries.num * queries.row_bytes);
  if (queries.tokens.num > 0) {
    batch->tokens.Add(queries.tokens);
  } else {
    const auto num_rows = static_cast<RowId>(queries.segment->num_rows());
    batch->ranges.insert(batch->ranges.end(), queries.num,
                         {std::min(queries.range.begin, num_rows),
                          std::min(queries.range.end, num_rows)});
  }
  MutexLock lock(batch->mu);
  ++batch->num_callers;
  return batch;
}

BackendStatus DeviceBatcher::Batch::Ask(const DistanceBackend& device) {
  neighbors.resize(shared.num * shared.k);
  const LoadedSegment& segment = *shared.segment;
  if (shared.tokens.num > 0) {
    return tokens.Ask(device, segment, data.data(), shared.k, neighbors.data());
  }
  const QueryBatch queries = {data.data(), shared.num};
  const uint64_t* const accepted =
      shared.accepted == nullptr ? nullptr : shared.accepted->words();
  const RowRange all = {0, static_cast<RowId>(segment.num_rows())};
  if (std::all_of(ranges.begin(), ranges.end(),
                  [&](const RowRange& range) { return range == all; })) {
    return device.Search(segment, queries, shared.k, accepted, neighbors.data(),
                         nullptr);
  }
  std::vector<uint32_t> offsets(queries.num_queries + 1);
  std::iota(offsets.begin(), offsets.end(), 0);
  return device.SearchRanges(segment, queries, {offsets.data(), ranges.data()},
                             shared.k, accepted, neighbors.data(), nullptr);
}

void DeviceBatcher::Close(const Batch& batch) {
  std::erase_if(open_,
                [&](const auto& other) { return other.get() == &batch; });
}

void DeviceBatcher::Call(Batch& batch) {
  batch.status = batch.Ask(*device_);
  batch.shared.segment.reset();  // it may be evicted before all have read this
  {
    // The device first: those who wait for this answer are many.
    MutexLock lock(mu_);
    GiveTurn();
  }
  {
    MutexLock lock(batch.mu);
    batch.state = Batch::State::kDone;
  }
  batch.changed.NotifyAll();
}

void DeviceBatcher::GiveTurn() {
  is_busy_ = !open_.empty();
  if (!is_busy_) return;
  const std::shared_ptr<Batch> next = open_.front();
  open_.pop_front();
  ++num_batches_;
  num_queries_ += next->shared.num;
  MutexLock lock(next->mu);
  next->state = Batch::State::kTold;
  next->changed.NotifyOne();
}

void DeviceBatcher::Leave(Batch& batch) {
  MutexLock lock(mu_);
  bool was_told;
  {
    MutexLock batch_lock(batch.mu);
    --batch.num_callers;
    was_told = batch.state == Batch::State::kTold;
    if (!was_told && batch.state != Batch::State::kOpen) return;
    if (batch.num_callers > 0) {
      batch.changed.NotifyOne();  // in place of the one that leaves
      return;
    }
  }
  Close(batch);
  if (was_told) GiveTurn();
}

absl::StatusOr<bool> DeviceBatcher::WaitFor(Batch& batch,
                                            const StopCondition& stop) {
  MutexLock lock(batch.mu);
  while (true) {
    if (batch.state == Batch::State::kDone) return false;
    if (batch.state == Batch::State::kTold) {
      VICINAL_RETURN_IF_ERROR(stop.Check());  // another calls
      batch.state = Batch::State::kRuns;
      return true;
    }
    if (batch.changed.WaitFor(batch.mu, kPoll)) continue;
    VICINAL_RETURN_IF_ERROR(stop.Check());
  }
}

absl::StatusOr<BackendStatus> DeviceBatcher::Search(
    const DeviceQueries& queries, const StopCondition& stop,
    DeviceAnswer* out) {
  std::shared_ptr<Batch> batch;
  size_t first;
  {
    MutexLock lock(mu_);
    batch = Join(queries);
    first = batch->shared.num - queries.num;
    if (!is_busy_) GiveTurn();
  }
  num_waiting_.fetch_add(1, std::memory_order_relaxed);
  const absl::StatusOr<bool> calls = WaitFor(*batch, stop);
  if (!calls.ok()) {
    Leave(*batch);
  } else if (*calls) {
    Call(*batch);
  }
  num_waiting_.fetch_sub(1, std::memory_order_relaxed);
  VICINAL_RETURN_IF_ERROR(calls.status());
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
  return {.num_batches = num_batches_,
          .num_queries = num_queries_,
          .num_waiting = num_waiting_.load(std::memory_order_relaxed)};
}

}  // namespace vicinal
