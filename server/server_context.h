// What the services share.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "server/errors.h"
#include "src/base/cancel.h"
#include "src/base/mutex.h"
#include "src/base/thread_pool.h"
#include "src/engine/collection.h"
#include "src/engine/database.h"

namespace vicinal {

// How many calls of a kind may run at once; the others are refused with
// RetryInfo, so that overload never piles up. Thread-safe.
class Admission {
 public:
  // A place, given back when destroyed.
  class Place {
   public:
    explicit Place(Admission* admission) : admission_(admission) {}
    ~Place() {
      if (admission_ != nullptr) admission_->running_.fetch_sub(1);
    }
    Place(Place&& other) noexcept : admission_(other.admission_) {
      other.admission_ = nullptr;
    }
    Place& operator=(Place&&) = delete;

   private:
    Admission* admission_;
  };

  Admission(absl::string_view what, size_t limit)
      : what_(what), limit_(limit) {}
  // ResourceExhausted with RetryInfo: no place is free.
  absl::StatusOr<Place> Enter();

 private:
  const std::string what_;
  const size_t limit_;
  std::atomic<size_t> running_ = 0;
};

// Whom to tell that the server begins to stop. Thread-safe.
class StopListeners {
 public:
  // `stop` runs at most once, on the thread that calls Stop; it may still run
  // when Remove has returned. The number is for Remove.
  uint64_t Add(std::function<void()> stop);
  void Remove(uint64_t number);
  void Stop();

 private:
  Mutex mu_;
  uint64_t last_number_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, std::function<void()>> listeners_ ABSL_GUARDED_BY(mu_);
};

// Borrowed by every service; thread-safe.
struct ServerState {
  explicit ServerState(Database* db);

  Database* const database;
  const int64_t start_unix_micros;
  Admission searches;
  Admission streams;
  std::atomic<bool> stopping = false;
  StopListeners stop_listeners;
  // Parses and encodes the frames of ingest streams.
  ThreadPool ingest;
  // Searches that would hold up gRPC's threads.
  ThreadPool long_searches;

  // NotFound (COLLECTION_NOT_FOUND) or InvalidArgument for an empty name;
  // `field` is the request's field that held the name.
  absl::StatusOr<std::shared_ptr<Collection>> FindCollection(
      const std::string& name, const std::string& field) const;
  // Of one reply: one message, less what is in every one.
  ReplyBudget NewReplyBudget() const;
  // The error of a change of the data folder with its reason.
  absl::Status ExplainStoreError(absl::Status status) const;
  // The same for a write of points; with RetryInfo where a retry helps.
  absl::Status ExplainWriteError(absl::Status status) const;
};

// Deadline and cancellation of a call, for the engine.
StopCondition StopOf(grpc::ServerContextBase* context);

}  // namespace vicinal
