// Room that searches use again, so that a search in the steady state does not
// allocate.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"

namespace vicinal {

// Scratches waiting for their next search: as many as searches ever ran at
// once. Thread-safe.
template <typename Scratch>
class ScratchPool {
 public:
  // One scratch for the life of the lease. Outlived by the pool.
  class Lease {
   public:
    explicit Lease(ScratchPool* pool) : pool_(pool), scratch_(pool->Take()) {}
    ~Lease() { pool_->Return(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch* get() const { return scratch_.get(); }

   private:
    ScratchPool* const pool_;
    std::unique_ptr<Scratch> scratch_;
  };

 private:
  std::unique_ptr<Scratch> Take() {
    MutexLock lock(mu_);
    if (free_.empty()) return std::make_unique<Scratch>();
    std::unique_ptr<Scratch> scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }
  void Return(std::unique_ptr<Scratch> scratch) {
    MutexLock lock(mu_);
    free_.push_back(std::move(scratch));
  }

  Mutex mu_;
  std::vector<std::unique_ptr<Scratch>> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
