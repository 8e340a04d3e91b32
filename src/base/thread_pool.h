// A fixed set of threads that run queued functions in order.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"

namespace vicinal {

// Thread-safe. The destructor runs what is queued, then joins.
class ThreadPool {
 public:
  // nice: added to the threads' niceness (0 for queries, > 0 for background
  // work, which then yields to queries; threads they start inherit it).
  explicit ThreadPool(size_t num_threads, int nice = 0);
  ~ThreadPool();

  size_t num_threads() const { return threads_.size(); }
  void Schedule(std::function<void()> task);
  // Runs task(0) .. task(n - 1) on the pool and the calling thread; returns
  // when all are done. May be called from within a task.
  void ParallelFor(size_t n, const std::function<void(size_t)>& task);

 private:
  void Loop(int nice);

  Mutex mu_;
  CondVar work_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace vicinal
