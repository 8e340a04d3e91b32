// Room that analyses use again: break iterators and stemmers are dear to make,
// and serve one thread at a time. The twin of index/scratch_pool.h, which this
// folder may not include, for what is not made by default.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"

namespace vicinal {

// Scratches waiting for their next use: as many as were ever used at once.
// Thread-safe.
template <typename Scratch>
class TextScratchPool {
 public:
  using Maker = std::function<std::unique_ptr<Scratch>()>;
  explicit TextScratchPool(Maker maker) : maker_(std::move(maker)) {}

  // One scratch for the life of the lease. Outlived by the pool.
  class Lease {
   public:
    explicit Lease(TextScratchPool* pool)
        : pool_(pool), scratch_(pool->Take()) {}
    ~Lease() {
      if (scratch_ != nullptr) pool_->Return(std::move(scratch_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    // Keeps it from later uses.
    void Discard() { scratch_.reset(); }
    Scratch* get() const { return scratch_.get(); }

   private:
    TextScratchPool* const pool_;
    std::unique_ptr<Scratch> scratch_;
  };

 private:
  std::unique_ptr<Scratch> Take() {
    {
      MutexLock lock(mu_);
      if (!free_.empty()) {
        std::unique_ptr<Scratch> scratch = std::move(free_.back());
        free_.pop_back();
        return scratch;
      }
    }
    return maker_();
  }
  void Return(std::unique_ptr<Scratch> scratch) {
    MutexLock lock(mu_);
    free_.push_back(std::move(scratch));
  }

  const Maker maker_;
  Mutex mu_;
  std::vector<std::unique_ptr<Scratch>> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
