// Data-parallel loops of building and calibrating an index.
//
// Threads of our own and not OpenMP's: a build runs beside queries, and there
// libgomp's threads, which spin at the end of every loop, take the cores that
// the loop waits for (measured with four more busy threads on 2 cores: builds
// 4x slower). And ThreadSanitizer understands these.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>

#include "src/base/thread_pool.h"

namespace vicinal {

// The calling thread and num_threads - 1 of its own, which live as long as
// this. Used by one thread.
class Workers {
 public:
  explicit Workers(size_t num_threads)
      : size_(std::max<size_t>(1, num_threads)) {
    if (size_ > 1) pool_.emplace(size_ - 1);
  }

  size_t size() const { return size_; }

  // Calls task(begin, end, worker) for consecutive ranges of at most `chunk`
  // that cover 0 .. n, in any order and worker < size(); ranges with the same
  // worker never overlap in time. Returns when all are done.
  void For(size_t n, size_t chunk,
           const std::function<void(size_t, size_t, size_t)>& task) {
    std::atomic<size_t> next = 0;
    const auto work = [&](size_t worker) {
      for (;;) {
        const size_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
        if (begin >= n) return;
        task(begin, std::min(n, begin + chunk), worker);
      }
    };
    if (!pool_.has_value() || n <= chunk) {
      work(0);
    } else {
      pool_->ParallelFor(size_, work);
    }
  }

 private:
  const size_t size_;
  std::optional<ThreadPool> pool_;
};

}  // namespace vicinal
