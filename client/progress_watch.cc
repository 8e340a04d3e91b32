#include "client/progress_watch.h"

#include <grpcpp/client_context.h>

#include <chrono>
#include <thread>

#include "src/base/mutex.h"

namespace vicinal::client {

ProgressWatch::ProgressWatch(grpc::ClientContext* context,
                             std::chrono::milliseconds timeout)
    : context_(context), timeout_(timeout) {
  if (timeout_.count() > 0) thread_ = std::thread([this] { Run(); });
}

ProgressWatch::~ProgressWatch() {
  {
    MutexLock lock(mu_);
    ending_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void ProgressWatch::Arm() {
  MutexLock lock(mu_);
  const bool was_armed = deadline_ != Clock::time_point::max();
  deadline_ = Clock::now() + timeout_;
  // A thread that waits for an earlier time looks again by itself.
  if (!was_armed) changed_.NotifyAll();
}

void ProgressWatch::Disarm() {
  MutexLock lock(mu_);
  deadline_ = Clock::time_point::max();
}

bool ProgressWatch::fired() const {
  MutexLock lock(mu_);
  return fired_;
}

void ProgressWatch::Run() {
  MutexLock lock(mu_);
  while (!ending_) {
    if (deadline_ == Clock::time_point::max()) {
      changed_.Wait(mu_);
      continue;
    }
    const auto left = deadline_ - Clock::now();
    if (left.count() > 0) {
      changed_.WaitFor(mu_, left);
      continue;
    }
    fired_ = true;
    context_->TryCancel();
    return;
  }
}

}  // namespace vicinal::client
