#include "server/server_context.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "src/base/clock.h"

namespace vicinal {
namespace {

// A search takes about one core, so more of them at once only wait.
constexpr size_t kSearchesPerCore = 64;
// With a GPU long searches mostly wait for it, and those that wait together
// share a call.
constexpr size_t kLongSearchesWithDevice = 128;
// Each holds a thread (scroll, wait) or a credit of unwritten frames (write).
constexpr size_t kMaxStreams = 64;

}  // namespace

absl::StatusOr<Admission::Place> Admission::Enter() {
  if (running_.fetch_add(1) >= limit_) {
    running_.fetch_sub(1);
    return OverloadedError(
        absl::StrCat("The server already runs ", limit_, " ", what_,
                     ", its limit; retry later or send fewer at once."),
        std::chrono::milliseconds(100));
  }
  return Place(this);
}

uint64_t StopListeners::Add(std::function<void()> stop) {
  MutexLock lock(mu_);
  listeners_.emplace(++last_number_, std::move(stop));
  return last_number_;
}

void StopListeners::Remove(uint64_t number) {
  MutexLock lock(mu_);
  listeners_.erase(number);
}

void StopListeners::Stop() {
  std::map<uint64_t, std::function<void()>> listeners;
  {
    MutexLock lock(mu_);
    listeners.swap(listeners_);
  }
  for (const auto& [number, stop] : listeners) stop();
}

ServerState::ServerState(Database* db)
    : database(db),
      start_unix_micros(db->options().clock->UnixMicros()),
      searches("searches",
               kSearchesPerCore *
                   std::max<size_t>(1, std::thread::hardware_concurrency())),
      streams("streams", kMaxStreams),
      ingest(std::max<size_t>(2, std::thread::hardware_concurrency())),
      long_searches(std::max<size_t>(
          db->options().devices.empty() ? 2 : kLongSearchesWithDevice,
          std::thread::hardware_concurrency())) {}

absl::StatusOr<std::shared_ptr<Collection>> ServerState::FindCollection(
    const std::string& name, const std::string& field) const {
  if (stopping.load()) return ShuttingDownError();
  if (name.empty()) {
    return FieldError(field, "is empty; give the name of a collection");
  }
  auto collection = database->GetCollection(name);
  if (!collection.ok()) {
    return WithReason(collection.status(), reason::kCollectionNotFound,
                      {{"collection", name}});
  }
  return collection;
}

ReplyBudget ServerState::NewReplyBudget() const {
  // The profile, the token, and tags and lengths of the outer messages.
  constexpr size_t kFramingBytes = 512;
  const size_t limit = database->options().limits.max_message_bytes;
  return ReplyBudget(limit - std::min(limit, kFramingBytes));
}

absl::Status ServerState::ExplainStoreError(absl::Status status) const {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return WithReason(std::move(status), reason::kDiskFull);
    case absl::StatusCode::kFailedPrecondition:
      if (database->stats().write_health.ok()) return status;
      return WithReason(std::move(status), reason::kReadOnly);
    case absl::StatusCode::kNotFound:
      return WithReason(std::move(status), reason::kCollectionNotFound);
    default:
      return status;
  }
}

absl::Status ServerState::ExplainWriteError(absl::Status status) const {
  if (database->stats().write_health.ok()) {
    if (absl::IsResourceExhausted(status)) {
      return WithRetryAfter(
          WithReason(std::move(status), reason::kIndexBacklog),
          std::chrono::seconds(1));
    }
    if (absl::IsFailedPrecondition(status)) {
      return WithReason(std::move(status), reason::kFrameOutOfOrder);
    }
  }
  return ExplainStoreError(std::move(status));
}

namespace {

// Asks gRPC now and then: each IsCancelled of a synchronous call polls the
// call's completion queue, which costs tens of microseconds. Thread-safe.
class CancelPoll {
 public:
  explicit CancelPoll(grpc::ServerContextBase* context) : context_(context) {}

  bool cancelled() {
    if (cancelled_.load(std::memory_order_relaxed)) return true;
    const Clock::time_point now = Clock::now();
    Clock::time_point next = next_.load(std::memory_order_relaxed);
    if (now < next || !next_.compare_exchange_strong(next, now + kInterval) ||
        !context_->IsCancelled()) {
      return false;
    }
    cancelled_.store(true, std::memory_order_relaxed);
    return true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kInterval{5};

  grpc::ServerContextBase* const context_;
  std::atomic<Clock::time_point> next_ = Clock::now() + kInterval;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace

StopCondition StopOf(grpc::ServerContextBase* context) {
  StopCondition stop;
  const auto deadline = context->deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    stop.deadline =
        std::chrono::steady_clock::now() +
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(
            deadline - std::chrono::system_clock::now());
  }
  stop.cancelled = [poll = std::make_shared<CancelPoll>(context)] {
    return poll->cancelled();
  };
  return stop;
}

}  // namespace vicinal
