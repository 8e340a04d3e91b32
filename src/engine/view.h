// The segments of a collection at one moment.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"
#include "src/engine/memory_segment.h"
#include "src/engine/sealed_segment.h"

namespace vicinal {

// Immutable once published; what the segments hold goes on changing only by
// tombstones and, in `growing`, by new rows at the end.
struct View {
  std::vector<std::shared_ptr<SealedSegment>> sealed;
  // Full, still scanned, waiting for their index. Oldest first.
  std::vector<std::shared_ptr<MemorySegment>> frozen;
  std::shared_ptr<MemorySegment> growing;
  uint64_t version = 0;  // one more with each view of the collection

  // Calls visit(const std::shared_ptr<S>&) for each segment, newest first.
  template <typename Visit>
  void ForEachNewestFirst(Visit visit) const {
    visit(growing);
    for (auto it = frozen.rbegin(); it != frozen.rend(); ++it) visit(*it);
    for (auto it = sealed.rbegin(); it != sealed.rend(); ++it) visit(*it);
  }
};

// The current view. The lock is held for the copy of one pointer only (25 ns;
// libstdc++ 12's atomic<shared_ptr> is a spin lock that ThreadSanitizer does
// not understand). Thread-safe.
class ViewHolder {
 public:
  std::shared_ptr<const View> Load() const {
    MutexLock lock(mu_);
    return view_;
  }
  void Store(std::shared_ptr<const View> view) {
    {
      MutexLock lock(mu_);
      view_.swap(view);
    }
    // The old view, and segments only it held, are freed outside the lock.
  }

 private:
  mutable Mutex mu_;
  std::shared_ptr<const View> view_ ABSL_GUARDED_BY(mu_);
};

}  // namespace vicinal
