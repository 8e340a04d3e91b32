// A caller that waits for the outcome of its write.
#pragma once

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"
#include "src/engine/collection.h"

namespace vicinal {

// Its callback is called once, before Wait returns. Thread-safe.
class WriteWaiter {
 public:
  WriteCallback callback() {
    return [this](WriteOutcome outcome) {
      MutexLock lock(mu_);
      outcome_ = std::move(outcome);
      cv_.NotifyAll();
    };
  }
  WriteOutcome Wait() {
    MutexLock lock(mu_);
    while (!outcome_.has_value()) cv_.Wait(mu_);
    return *std::move(outcome_);
  }

 private:
  Mutex mu_;
  CondVar cv_;
  std::optional<WriteOutcome> outcome_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
