#include "src/base/thread_pool.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "src/base/check.h"
#include "src/base/mutex.h"

namespace vicinal {
namespace {

// Linux keeps niceness per thread. A refusal (a limit) leaves it as it is,
// which costs fairness and never correctness.
void AddNiceness(int nice) {
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  errno = 0;
  const int current = getpriority(PRIO_PROCESS, thread);
  if (errno == 0) setpriority(PRIO_PROCESS, thread, current + nice);
}

// One ParallelFor. Helpers may start after it returned: then `next` is used
// up and they must not touch `task`, which is the caller's.
struct ParallelLoop {
  ParallelLoop(size_t size, const std::function<void(size_t)>& body)
      : n(size), task(body) {}

  void Work() {
    size_t finished_here = 0;
    for (;;) {
      const size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= n) break;
      task(i);
      ++finished_here;
    }
    if (finished_here == 0) return;
    MutexLock lock(mu);
    finished += finished_here;
    if (finished == n) done.NotifyAll();
  }
  void Wait() {
    MutexLock lock(mu);
    while (finished < n) done.Wait(mu);
  }

  const size_t n;
  const std::function<void(size_t)>& task;
  std::atomic<size_t> next = 0;
  Mutex mu;
  CondVar done;
  size_t finished ABSL_GUARDED_BY(mu) = 0;
};

}  // namespace

ThreadPool::ThreadPool(size_t num_threads, int nice) {
  VICINAL_CHECK_GE(num_threads, size_t{1});
  threads_.reserve(num_threads);
  for (size_t i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this, nice] { Loop(nice); });
  }
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  work_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Schedule(std::function<void()> task) {
  {
    MutexLock lock(mu_);
    queue_.push_back(std::move(task));
  }
  work_.NotifyOne();
}

void ThreadPool::ParallelFor(size_t n,
                             const std::function<void(size_t)>& task) {
  if (n == 0) return;
  const auto loop = std::make_shared<ParallelLoop>(n, task);
  // The caller works too, so nothing waits for a thread of the pool: nested
  // loops finish even when every thread is inside one.
  const size_t helpers = std::min(n - 1, num_threads());
  for (size_t i = 0; i < helpers; ++i) {
    Schedule([loop] { loop->Work(); });
  }
  loop->Work();
  loop->Wait();
}

void ThreadPool::Loop(int nice) {
  if (nice != 0) AddNiceness(nice);
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mu_);
      while (queue_.empty() && !stopping_) work_.Wait(mu_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

}  // namespace vicinal
