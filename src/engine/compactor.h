// The background of the engine: builds and merges segments, checks files,
// removes dropped collections. One thread at low priority.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/base/mutex.h"
#include "src/base/thread_pool.h"
#include "src/engine/collection_impl.h"
#include "src/engine/database.h"
#include "src/engine/operations.h"

namespace vicinal {

// What is built when: frozen segments are taken together, a second after the
// last one was frozen or when sixteen wait (during a bulk load one build then
// takes many of them, instead of taking the processor from the load), with
// every sealed segment that is not larger than what was gathered so far. A row
// is therefore rebuilt only into a segment of at least twice the size: O(log n)
// times in all, and few segments remain. A sealed segment with a fifth of its
// rows dead is rebuilt, too.
class Compactor {
 public:
  Compactor(const EngineContext* context, OperationRegistry* operations);
  ~Compactor() { Stop(); }
  // Cancels the build under way and waits for it; nothing is done afterwards.
  void Stop();

  void Add(std::vector<std::shared_ptr<CollectionImpl>> collections);
  // Cancels its build; its data is deleted soon. It is marked as dropped and
  // no commit for it is under way.
  void Drop(std::shared_ptr<CollectionImpl> collection);
  // Cancels the build of a collection, if that is what runs.
  void CancelBuild(const CollectionImpl* collection);
  // There may be something to do, now. Tells of no collection: see Touch.
  void Wake();
  // A collection has changed: it is looked at in the next round.
  void Touch(CollectionNumber number);
  std::shared_ptr<Operation> Optimize(
      std::shared_ptr<CollectionImpl> collection, size_t max_segments);
  // Of a field that was just declared. Done when every sealed segment has all
  // of its indexes; cancelled, the field is declared no more.
  std::shared_ptr<Operation> IndexPayloads(
      std::shared_ptr<CollectionImpl> collection, PayloadField field);

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Job {
    std::shared_ptr<CollectionImpl> collection;
    std::vector<std::shared_ptr<MemorySegment>> frozen;
    std::vector<std::shared_ptr<SealedSegment>> sealed;
    std::shared_ptr<Operation> operation;  // of Optimize; else made when run
  };
  struct OptimizeRequest {
    std::shared_ptr<Operation> operation;
    size_t max_segments = 1;
    // Versions below this are to be sealed.
    Ordinal target = 0;
  };
  struct IndexRequest {
    std::shared_ptr<Operation> operation;
    PayloadField field;
  };
  // What the thread knows of one collection.
  struct State {
    std::shared_ptr<CollectionImpl> collection;
    Time not_before;  // after a failed build
    std::chrono::milliseconds backoff{0};
    bool seal_posted = false;
    Time next_stream_cleaning;
    Time next_recall_check;
    Time next_recovery;  // of a segment whose records cannot be read
    std::optional<OptimizeRequest> optimizing;
    Time no_indexing_before;  // after one failed
    std::vector<IndexRequest> indexing;
    bool active = false;  // in active_
  };

  void Loop();
  // One thing to do; false: nothing is due.
  bool DoOne();
  bool DeleteDropped();
  void TakeRequests();
  void Activate(State* state);
  // Whether nothing is to be done until the collection is touched.
  bool IsQuiet(const State& state, Time now) const;
  // Streams of the next few collections, idle ones too, and whether something
  // is due there that no touch told of.
  void LookAround(Time now);
  void SealIdle(State* state, Time now);
  // Many growing segments, each too small for an index, must not use up
  // max_unindexed_bytes for ever: when nothing waits for a build, the largest
  // are sealed until half of it is free.
  void SealForRoom();
  void PostFreeze(std::shared_ptr<CollectionImpl> collection);
  void CleanStreams(State* state, Time now);
  std::optional<Job> PickJob(State* state, Time now);
  void AddFrozen(const View& view, Job* job) const;
  void AddSealed(const View& view, const OptimizeRequest* request,
                 Job* job) const;
  // Whether one segment is to become of all there are.
  bool FitOne(const View& view, const Layout& layout) const;
  // Ends the request when it was fulfilled, cancelled or cannot be.
  void CheckOptimized(State* state, bool has_job);
  void RunJob(State* state, Job job);
  absl::Status BuildAndSwap(const Job& job, Operation* operation);
  // Reads a segment's vectors. False: they are damaged, and its rows are served
  // from the records until they are built again. An error: the records cannot
  // be read either; the segment stays, and is never merged.
  absl::StatusOr<bool> Verify(CollectionImpl* collection,
                              const std::shared_ptr<SealedSegment>& segment);
  // The same for all that a build copies, as it gives the copy a checksum of
  // its own: always, however long ago they were read before.
  absl::StatusOr<bool> VerifySources(const Job& job);
  // One segment that lacks an index of a payload field; false: none does.
  bool IndexOne(State* state, Time now);
  // Ends the requests for which nothing is left to do, or that were cancelled.
  void CheckIndexed(State* state, bool all_done);
  // Segments that were not read since the open, when nothing else is due: some
  // MiB of all that wait. False: none does.
  bool VerifySome(Time now);
  // One of a collection: its bytes. Nothing: all were read.
  std::optional<size_t> VerifyOne(State* state, Time now);
  // Asks a query again, exactly, when nothing else is due.
  void WatchRecall(State* state, Time now);
  size_t num_build_threads() const;
  bool stopping() const;
  void Hook(absl::string_view point) const;
  // How long to wait when nothing is due.
  std::chrono::milliseconds WaitTime() const;

  const EngineContext* const context_;
  OperationRegistry* const operations_;
  // The thread's. Rounds are over the active ones only, as most of many
  // collections are idle.
  std::map<CollectionNumber, std::unique_ptr<State>> states_;
  std::vector<State*> active_;
  CollectionNumber last_looked_at_ = 0;
  CancelToken stop_watching_;

  mutable Mutex mu_;
  CondVar wake_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::shared_ptr<CollectionImpl>> added_ ABSL_GUARDED_BY(mu_);
  std::vector<CollectionNumber> touched_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<CollectionImpl>> dropped_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<std::shared_ptr<CollectionImpl>, OptimizeRequest>>
      requests_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<std::shared_ptr<CollectionImpl>, IndexRequest>>
      index_requests_ ABSL_GUARDED_BY(mu_);
  const CollectionImpl* building_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::shared_ptr<Operation> build_operation_ ABSL_GUARDED_BY(mu_);
  // Segments that the build takes which runs, if nobody asked for it; and
  // whether it was cancelled because another does its work with more of them.
  std::optional<size_t> num_sources_ ABSL_GUARDED_BY(mu_);
  bool is_superseded_ ABSL_GUARDED_BY(mu_) = false;

  std::unique_ptr<ThreadPool> thread_;  // one, niceness 10
};

}  // namespace vicinal
