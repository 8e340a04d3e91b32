// Tombstones as a bitmap of the rows that are alive.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "src/base/bitmap.h"
#include "src/base/mutex.h"

namespace vicinal {

// Made when it is asked for and kept until another row dies, so that searches
// between two deaths share one. Thread-safe.
class LiveBits {
 public:
  // Without the rows whose death was over when this was called; always of the
  // same `dead`.
  std::shared_ptr<const Bitmap> Of(const AtomicBitmap& dead) {
    // Counted before it is copied: the copy has as many or more.
    const size_t num_dead = dead.Count();
    MutexLock lock(mu_);
    if (bits_ == nullptr || num_dead_ < num_dead) {
      auto bits = std::make_shared<Bitmap>(dead.num_bits());
      bits->Flip();
      bits->AndNot(dead);
      bits_ = std::move(bits);
      num_dead_ = num_dead;
    }
    return bits_;
  }

 private:
  Mutex mu_;
  size_t num_dead_ ABSL_GUARDED_BY(mu_) = 0;
  std::shared_ptr<const Bitmap> bits_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
