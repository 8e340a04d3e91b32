// The one thread that gives writes their order and makes them durable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/engine/collection.h"
#include "src/engine/write_batch_encoder.h"
#include "storage/record_store.h"

namespace vicinal {

class CollectionImpl;

// One write of one caller, checked and encoded.
struct WriteEntry {
  std::shared_ptr<CollectionImpl> collection;
  EncodedBatch points;             // to store, or ...
  std::vector<PointId> deletions;  // ... ids to delete, each once
  // Empty, or the version of each that is to be deleted: a newer one stays.
  std::vector<Ordinal> deleted_versions;
  // With UpsertCondition::kSequences: the version of each point that had the
  // sequence asked for when the caller looked; 0: none had.
  std::vector<Ordinal> looked_up;
  // Empty, or the version of each point that it was made from. Where another
  // one, or none, is current the point is stale: it is left out, and
  // item_errors has its index.
  std::vector<Ordinal> made_from;
  std::vector<bool> stale;  // by point; empty: none is. Set by the committer
  WriteOptions options;
  WriteCallback done;
  WriteResult result;  // item_errors are set already

  bool is_stale(size_t i) const { return !stale.empty() && stale[i]; }
  size_t size_bytes() const {
    return points.size_bytes() + 64 * (points.size() + deletions.size());
  }
};

// Takes everything that is queued, across collections, into ONE store batch:
// one fsync for all of them. Then applies it to memory and answers. Nothing
// else changes what segments hold, so this thread reads them without locks.
class Committer {
 public:
  Committer(RecordStore* store,
            std::function<void(absl::string_view point)> test_hook);
  // Commits what is queued, then stops.
  ~Committer();

  // Waits while the queue is full (64 MiB).
  void Submit(std::unique_ptr<WriteEntry> entry);
  // Runs `task` on the committer's thread after the writes queued so far.
  void Post(std::function<void()> task);

 private:
  struct Item {
    std::unique_ptr<WriteEntry> entry;  // or
    std::function<void()> task;
  };
  void Loop();
  // Entries for one commit, or one task alone; empty: stop.
  std::vector<Item> TakeItems();
  void Commit(std::vector<Item> items);

  RecordStore* const store_;
  const std::function<void(absl::string_view point)> test_hook_;
  Mutex mu_;
  CondVar work_;
  CondVar room_;
  std::deque<Item> queue_ ABSL_GUARDED_BY(mu_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: starts when the rest is ready
};

}  // namespace vicinal
