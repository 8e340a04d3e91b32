// The engine's Collection: what the committer, the compactor and readers
// share of one collection.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/base/thread_pool.h"
#include "src/engine/collection.h"
#include "src/engine/commit_part.h"
#include "src/engine/committer.h"
#include "src/engine/database.h"
#include "src/engine/device_searcher.h"
#include "src/engine/field_aggregates.h"
#include "src/engine/layout.h"
#include "src/engine/pinned_rows.h"
#include "src/engine/recall_watch.h"
#include "src/engine/row_filter.h"
#include "src/engine/row_order.h"
#include "src/engine/searcher.h"
#include "src/engine/view.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter.h"
#include "storage/collection_store.h"

namespace vicinal {

class Compactor;

// What a collection needs of its database; outlives it in use.
struct EngineContext {
  const DatabaseOptions* options = nullptr;
  RecordStore* store = nullptr;
  Committer* committer = nullptr;
  Compactor* compactor = nullptr;
  ThreadPool* query_pool = nullptr;
  DeviceSearcher* device = nullptr;  // null: there is none
  // Memory of all segments that wait for their index.
  std::shared_ptr<std::atomic<size_t>> unindexed_bytes;
  // Database::DropPayloadIndex, for an operation that was cancelled.
  std::function<absl::Status(absl::string_view collection,
                             absl::string_view path)>
      drop_payload_index;
};

// Three parties, each with its own part below:
//  - callers, any thread: the Collection interface;
//  - the committer's thread: resolves ids and applies commits. It alone
//    appends rows and, but for the moment of a swap, sets tombstones;
//  - the compactor's thread: builds segments and swaps them in.
// apply_mu_ keeps apply and swap apart; neither does I/O under it.
class CollectionImpl final
    : public Collection,
      public std::enable_shared_from_this<CollectionImpl> {
 public:
  // Loads what storage and segment files hold; the folder is there. A damaged
  // segment is read
  // again from the records and waits for its rebuild. DataLoss: storage
  // itself is damaged. FailedPrecondition: a newer version's files.
  static absl::StatusOr<std::shared_ptr<CollectionImpl>> Open(
      const EngineContext* context, CollectionNumber number,
      CollectionSchema schema, std::string folder);

  // --- callers ---
  const CollectionSchema& schema() const override {
    return *schema_.load(std::memory_order_acquire);
  }
  bool HasRoom() const override;
  void UpsertAsync(const PointBatch& batch, WriteOptions options,
                   WriteCallback done) override;
  void DeleteAsync(std::vector<PointId> ids, WriteOptions options,
                   WriteCallback done) override;
  WriteOutcome DeleteMatching(const FilterNode& filter,
                              const WriteOptions& options,
                              const StopCondition& stop) override;
  WriteOutcome UpdatePayload(std::vector<PointId> ids,
                             const PayloadPatch& patch,
                             const WriteOptions& options,
                             const StopCondition& stop) override;
  WriteOutcome UpdatePayloadMatching(const FilterNode& filter,
                                     const PayloadPatch& patch,
                                     const WriteOptions& options,
                                     const StopCondition& stop) override;
  absl::StatusOr<uint64_t> LastFrame(
      absl::string_view stream_id) const override;
  absl::StatusOr<std::vector<std::optional<StoredPoint>>> Get(
      const std::vector<PointId>& ids, const PointSelection& selection,
      const StopCondition& stop) const override;
  absl::Status Scroll(
      const std::optional<PointId>& after, size_t page_size,
      const PointSelection& selection, const StopCondition& stop,
      const std::function<absl::StatusOr<bool>(std::vector<StoredPoint>)>&
          visit,
      const FilterNode* filter) const override;
  absl::Status ScrollOrdered(
      const ScrollOrder& order, size_t page_size,
      const PointSelection& selection, const StopCondition& stop,
      const std::function<absl::StatusOr<bool>(std::vector<StoredPoint>)>&
          visit,
      const FilterNode* filter) const override;
  uint64_t Count() const override {
    return num_points_.load(std::memory_order_acquire);
  }
  absl::StatusOr<uint64_t> CountMatching(
      const FilterNode& filter, const StopCondition& stop) const override;
  absl::StatusOr<FacetResult> Facet(const FacetQuery& query,
                                    const StopCondition& stop) const override;
  absl::StatusOr<std::vector<SearchResult>> Search(
      const std::vector<Query>& queries,
      const StopCondition& stop) const override;
  absl::StatusOr<std::vector<std::optional<StoredPoint>>> Fetch(
      const std::vector<Hit>& hits, const PointSelection& selection,
      const StopCondition& stop) const override;
  absl::StatusOr<std::vector<std::vector<HitPassage>>> Highlight(
      const Query& query, const std::vector<Hit>& hits,
      const HighlightOptions& options,
      const StopCondition& stop) const override;
  absl::StatusOr<std::shared_ptr<Operation>> Optimize(
      size_t max_segments) override;
  CollectionStats stats() const override;
  uint64_t resident_file_bytes() const override;

  // --- the database ---
  CollectionNumber number() const { return store_.number(); }
  const CollectionStore& store() const { return store_; }
  const std::string& folder() const { return folder_; }
  void SetSchema(CollectionSchema schema);  // one caller at a time
  // After it left the schema: its indexes, in memory and as files.
  void ForgetPayloadField(const PayloadField& field);
  // Durable before it is used. Errors: of the store.
  absl::Status SetEncoder(size_t s, absl::string_view bytes,
                          WordPieceVocabulary vocabulary);
  void MarkDropped() { dropped_.store(true, std::memory_order_release); }
  bool dropped() const { return dropped_.load(std::memory_order_acquire); }

  // --- the committer's thread ---
  std::unique_ptr<CommitPart> BeginCommit(size_t num_points, bool several);
  // Not OK: the entry is refused and has no effects.
  absl::Status AddEffects(WriteEntry* entry, CommitPart* part,
                          WriteBatch* batch);
  void AddHead(const CommitPart& part, WriteBatch* batch) const;
  void Apply(const CommitPart& part);
  // Later rows go to a new growing segment, with room for num_points more.
  void Freeze(size_t num_points);
  // The next version's ordinal.
  Ordinal next_ordinal() const { return head_.next_ordinal; }
  // Forgets ingest streams that were silent for a day.
  void ForgetOldStreams(int64_t now_unix_micros);

  // --- the compactor's thread ---
  std::shared_ptr<const View> view() const { return view_.Load(); }
  const std::shared_ptr<const Layout>& layout() const { return layout_; }
  const Manifest& manifest() const { return manifest_; }
  std::chrono::steady_clock::time_point last_write() const;
  std::chrono::steady_clock::time_point last_freeze() const;
  bool has_recovered() const {
    return num_recovered_.load(std::memory_order_relaxed) > 0;
  }
  RecallWatch& recall_watch() { return recall_watch_; }
  // The compactor is about to look at everything here.
  void ForgetTouch() { touched_.exchange(false, std::memory_order_acq_rel); }
  // Where a segment is to be that takes the place of others.
  SegmentPlacement PlacementFor(
      const std::vector<std::shared_ptr<SealedSegment>>& replaced) const;
  // Says so where it could not be placed as the schema asks.
  void CheckPlacement(const SealedSegment& segment) const;
  // From now on deaths are noted, for the segment that a build will bring.
  void BeginBuild();
  void AbandonBuild();
  // Publishes a built segment (null: nothing was alive) in place of the
  // sources: manifest first, durably, then the view. On an error nothing
  // changed; the build is abandoned either way.
  absl::Status FinishBuild(
      const std::vector<std::shared_ptr<MemorySegment>>& frozen,
      const std::vector<std::shared_ptr<SealedSegment>>& sealed,
      std::shared_ptr<SealedSegment> built,
      const std::vector<Ordinal>& dropped_ordinals);
  // Serves the rows of a segment whose vectors turned out to be damaged from
  // memory, read from the records, until they are rebuilt.
  absl::Status Recover(const std::shared_ptr<SealedSegment>& damaged);
  void WarnOfDamage(const absl::Status& damage) const;
  // Deletes all data of a dropped collection.
  absl::Status DeleteEverything();

 private:
  struct Recovered {
    std::shared_ptr<MemorySegment> segment;
    uint64_t damaged_number;
  };

  CollectionImpl(const EngineContext* context, CollectionNumber number,
                 CollectionSchema schema, std::string folder);

  // Of all sparse vectors; empty: none has one.
  SparseEncoders encoders() const;

  // Open, step by step.
  absl::Status Load();
  absl::Status LoadEncoders();
  absl::Status MapSegments(View* view, std::vector<SegmentEntry>* damaged);
  absl::Status RecoverAtOpen(const std::vector<SegmentEntry>& damaged,
                             View* view);
  absl::Status LoadTombstones(const View& view);
  absl::Status Replay(View* view);
  void RemoveOrphans() const;
  absl::Status AppendRecord(Ordinal ordinal, absl::string_view record,
                            MemorySegment* segment) const;

  std::shared_ptr<MemorySegment> NewMemorySegment(size_t num_points) const;
  size_t DefaultCapacity() const;
  // After a change that may give the compactor something to do. From any
  // thread.
  void Touch();
  // Changes a copy of the current view and publishes it.
  template <typename Edit>
  void EditView(Edit edit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(apply_mu_);
  static void KillOrdinal(const View& view, Ordinal ordinal);

  // Callers.
  absl::Status CheckUpsert(const WriteOptions& options) const;
  // Refuses what has no condition, and prepares the entry for its own.
  absl::Status PrepareCondition(const PointBatch& batch,
                                const WriteOptions& options,
                                WriteEntry* entry) const;
  struct Update;
  struct Version;
  // Updates those of the ids that exist and are accepted.
  absl::Status UpdatePoints(std::vector<PointId> ids, Update* update);
  // The next of `ids`, changed: as many as make one commit. Takes them from
  // the front; leaves out those that do not exist or are not accepted.
  absl::StatusOr<std::unique_ptr<WriteEntry>> ChangePoints(
      std::span<const PointId>* ids, const Update& update) const;
  // Those that exist, in order.
  absl::StatusOr<std::vector<Version>> ReadVersions(
      std::span<const PointId> ids, const StoreSnapshot& snapshot) const;
  absl::Status WaitForRoom(const StopCondition& stop) const;
  // What a point takes of a reply, but for some bytes of framing.
  static size_t BytesOf(const StoredPoint& point);
  // Points to read at once, so that what is read has some MiB at most.
  size_t ReadChunk(const PointSelection& selection) const;
  // Adds what is selected to points that are there, chunk by chunk. entries:
  // where each is. ResourceExhausted: past selection.max_bytes.
  absl::Status FillSelected(std::span<const std::optional<IdEntry>> entries,
                            const PointSelection& selection,
                            const StoreSnapshot* snapshot,
                            const StopCondition& stop,
                            std::span<std::optional<StoredPoint>> points) const;
  absl::Status FillChunk(std::span<const std::optional<IdEntry>> entries,
                         const PointSelection& selection,
                         const StoreSnapshot* snapshot,
                         std::span<std::optional<StoredPoint>> points) const;
  // Calls visit for the ids that the filter accepts (null: for all), in their
  // order, until it returns false or an error.
  absl::Status ScanMatching(
      const BoundFilter* filter, const std::optional<PointId>& after,
      const StoreSnapshot& snapshot, const StopCondition& stop,
      const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
      const;
  // All live rows as of the last commit.
  absl::StatusOr<PinnedRows> PinLive(const StopCondition& stop) const;
  // Those that the filter accepts; nullopt: the indexes leave open more than a
  // sixteenth of a segment's payloads (not with at_any_cost), or segments
  // change too fast.
  absl::StatusOr<std::optional<PinnedRows>> PinAccepted(
      RowFilter* filter, bool at_any_cost, const StopCondition& stop) const;
  // Leaves of a part what is accepted: by `known` as far as it reaches, by the
  // payloads of the other rows.
  absl::Status KeepAccepted(const RowFilter& filter, const RowSet* known,
                            const StoreSnapshot& snapshot,
                            const StopCondition& stop, PinnedPart* part) const;
  // What a filter accepts at one moment, for VisitMatching.
  struct Matching {
    std::shared_ptr<RowFilter> row_filter;  // null: all
    std::optional<PinnedRows> rows;  // nullopt: ids and payloads are to be read
    std::shared_ptr<const StoreSnapshot> snapshot;

    const BoundFilter* filter() const {
      return row_filter == nullptr ? nullptr : &row_filter->filter();
    }
  };
  absl::StatusOr<Matching> FindMatching(const FilterNode* filter,
                                        const StopCondition& stop) const;
  // As ScanMatching.
  absl::Status VisitMatching(
      const Matching& matching, const std::optional<PointId>& after,
      const StopCondition& stop,
      const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
      const;
  // Where storage has them. Internal: not where memory says.
  absl::StatusOr<std::vector<IdEntry>> EntriesOf(
      const std::vector<Place>& places, const StoreSnapshot& snapshot) const;
  // By the places of the rows: for few of them.
  absl::Status VisitById(
      const PinnedRows& rows, const std::optional<PointId>& after,
      const StopCondition& stop,
      const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
      const;
  class Pages;
  // Leaves the places whose payloads the filter accepts.
  absl::Status KeepMatching(const BoundFilter& filter,
                            const StoreSnapshot& snapshot,
                            std::vector<Place>* places) const;
  absl::Status CheckOrderedField(const PayloadField& field) const;
  // Rows of growing segments whose keys are in columns now, by serial.
  using GrownColumns = absl::flat_hash_map<uint64_t, size_t>;
  absl::StatusOr<GrownColumns> GrowColumns(const PayloadField& field,
                                           const StopCondition& stop) const;
  std::vector<std::unique_ptr<RowSource>> SourcesOf(const PinnedRows& rows,
                                                    const ScrollOrder& order,
                                                    const GrownColumns& grown,
                                                    size_t page_size) const;
  // The keys of a field and the rows that count of each segment, at one moment.
  // nullopt: a commit came between; *lacks_index: a segment has no index.
  absl::StatusOr<std::optional<std::vector<KeySource>>> PinKeys(
      const FacetQuery& query, RowFilter* filter, const StopCondition& stop,
      bool* lacks_index) const;
  // The same from all payloads in storage.
  absl::StatusOr<std::vector<KeySource>> ReadKeys(
      const FacetQuery& query, const StopCondition& stop) const;
  // Binds the filters of a query's leaves that are not there yet.
  absl::Status AddFilters(const Query& query, RowFilters* filters) const;
  absl::StatusOr<SearchResult> SearchGroups(const Searcher& searcher,
                                            const Query& query,
                                            ThreadPool* pool,
                                            const StopCondition& stop) const;
  // Committer's thread: whether the entry's stream frame comes next. False:
  // it is a repetition.
  absl::StatusOr<bool> IsNextFrame(const StreamFrame& frame,
                                   const CommitPart& part);

  const EngineContext* const context_;
  const CollectionStore store_;
  const std::string folder_;
  const std::shared_ptr<const Layout> layout_;

  // Older schemas stay: callers may hold references to them.
  std::vector<std::unique_ptr<const CollectionSchema>> schemas_;
  std::atomic<const CollectionSchema*> schema_;
  std::atomic<bool> dropped_ = false;
  // Whether the compactor was told of changes that it has not looked at.
  std::atomic<bool> touched_ = false;

  ViewHolder view_;
  // Odd while a commit is being applied; see Searcher.
  std::atomic<uint64_t> epoch_ = 0;
  std::atomic<Sequence> sequence_ = 0;
  std::atomic<uint64_t> num_points_ = 0;
  std::atomic<int64_t> last_write_ns_ = 0;
  std::atomic<int64_t> last_freeze_ns_ = 0;

  mutable RecallWatch recall_watch_;
  mutable RowFilterCache row_filters_;
  mutable std::atomic<uint64_t> search_major_faults_ = 0;
  mutable Mutex encoders_mu_;
  SparseEncoders encoders_ ABSL_GUARDED_BY(encoders_mu_);

  // Committer's thread.
  Head head_;
  absl::flat_hash_map<std::string, uint64_t> last_frames_;

  mutable Mutex apply_mu_;
  bool noting_deaths_ ABSL_GUARDED_BY(apply_mu_) = false;
  std::vector<Ordinal> deaths_ ABSL_GUARDED_BY(apply_mu_);

  // Compactor's thread (and Open).
  Manifest manifest_;
  std::vector<Recovered> recovered_;
  std::atomic<size_t> num_recovered_ = 0;
  std::vector<Ordinal> stale_tombstones_;  // of rows in no segment
};

}  // namespace vicinal
