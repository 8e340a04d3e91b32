// Ends a call whose server has gone silent.
#pragma once

#include <chrono>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"

namespace grpc {
class ClientContext;
}

namespace vicinal::client {

// Cancels `context`, which must outlive it, when it was armed for `timeout`
// and neither armed again nor disarmed; zero: never. Thread-safe. Has a thread
// of its own, since a synchronous stream blocks those that use it.
class ProgressWatch {
 public:
  ProgressWatch(grpc::ClientContext* context,
                std::chrono::milliseconds timeout);
  ~ProgressWatch();
  ProgressWatch(const ProgressWatch&) = delete;
  ProgressWatch& operator=(const ProgressWatch&) = delete;

  // From now on it is the server's turn.
  void Arm();
  // It is not, so that time does not count.
  void Disarm();
  // Whether the call was cancelled for its silence.
  bool fired() const;

 private:
  using Clock = std::chrono::steady_clock;
  void Run();

  grpc::ClientContext* const context_;
  const std::chrono::milliseconds timeout_;
  mutable Mutex mu_;
  CondVar changed_;
  Clock::time_point deadline_ ABSL_GUARDED_BY(mu_) = Clock::time_point::max();
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  bool fired_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: the others must live when it starts
};

}  // namespace vicinal::client
