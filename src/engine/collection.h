// One collection: its schema, its points in storage and its segments in
// memory.
//
// Thread-safe. Writes go through the database's one committer, which gives
// them their order; searches take an immutable view (an atomic shared_ptr to
// the segment list) and no lock. A write is durable and visible to every
// search that starts after its call returned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/engine/operations.h"
#include "src/engine/payload_patch.h"
#include "src/engine/point_batch.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "src/payload/filter.h"
#include "src/payload/payload_key.h"
#include "storage/record_store.h"

namespace vicinal {

// Identifies a frame of an ingest stream, so that a repeated one is not
// applied twice: frames of a stream are numbered 1, 2, ... without gaps.
struct StreamFrame {
  std::string stream_id;
  uint64_t frame = 0;
};

// What an upsert demands of the points that it would replace, judged when its
// turn to commit has come.
struct UpsertCondition {
  enum class Kind : uint8_t {
    kNone,
    kMustExist,     // replaces only
    kMustNotExist,  // inserts only
    kSequences,     // replaces the versions that `sequences` names
  };
  Kind kind = Kind::kNone;
  // With kSequences, one per point of the batch: StoredPoint::sequence; 0:
  // there must be no such point.
  std::vector<Sequence> sequences;
};

struct WriteOptions {
  Durability durability = Durability::kFsynced;
  // true: any bad item refuses the whole batch (InvalidArgument; item_errors
  // are then in the result given to the callback). false: the others are
  // written.
  bool atomic = true;
  // Set for frames of a stream; committed in the same batch.
  std::optional<StreamFrame> stream_frame;
  // true: the caller waited until Collection::HasRoom, so the write is taken
  // even if others were quicker. false: it is refused while there is no room.
  bool waited_for_room = false;
  // Of upserts that are atomic and no frame of a stream.
  UpsertCondition condition;
};

// Status is not OK: nothing was written; item_errors may say why.
struct WriteOutcome {
  absl::Status status;
  WriteResult result;
};
using WriteCallback = std::function<void(WriteOutcome)>;

struct PointSelection {
  bool payload = false;
  // Field numbers to return; empty: none.
  std::vector<size_t> vectors;
  std::vector<size_t> sparse;  // numbers of sparse vectors
  std::vector<size_t> multi;   // numbers of multi-vectors

  bool wants_record() const {
    return !vectors.empty() || !sparse.empty() || !multi.empty();
  }
  // Most bytes of ids, vectors and payloads: of all points together in Get
  // and Fetch, which otherwise return ResourceExhausted soon after they read
  // so many; of one page in Scroll, but for a single larger point.
  size_t max_bytes = SIZE_MAX;
};

enum class SegmentState : uint8_t { kGrowing = 1, kSealing = 2, kSealed = 3 };

// How a segment searches a field.
enum class SegmentIndex : uint8_t { kNone = 0, kGraph = 1, kLists = 2 };

struct SegmentStats {
  uint64_t number = 0;  // 0 while in memory only
  SegmentState state = SegmentState::kGrowing;
  uint64_t num_rows = 0;
  uint64_t num_deleted = 0;
  uint64_t vector_bytes = 0;  // raw vectors, in memory or mapped
  uint64_t index_bytes = 0;   // links and the like
  uint64_t code_bytes = 0;    // what graphs walk on, where there are codes
  uint64_t file_bytes = 0;    // 0 while in memory only
  uint64_t ram_bytes = 0;     // copies of codes and links; else they are mapped
  uint64_t pinned_bytes = 0;  // locked in memory
  std::vector<SegmentIndex> indexes;  // by field; empty while in memory only
  // By multi-vector, for people: the encoder, and what was tried and found;
  // empty: none.
  std::vector<std::string> encoders;
};

// How well recall targets of one field were met, by queries that were asked
// again exactly.
struct RecallStats {
  size_t field = 0;
  uint64_t num_queries = 0;
  double asked = 0;               // mean recall_target
  double found = 0;               // mean recall of a segment's answers
  uint64_t num_calibrations = 0;  // for missed targets, since the open
};

struct PayloadIndexStats {
  PayloadField field;
  bool ready = false;        // every sealed segment has it
  uint64_t num_indexed = 0;  // rows of segments that have it
  uint64_t file_bytes = 0;
};

struct CollectionStats {
  uint64_t num_points = 0;   // live
  uint64_t num_indexed = 0;  // live rows of sealed segments
  Sequence sequence = 0;     // last committed
  // Page faults of searches that waited for a disk, but for what other threads
  // than the caller's did for a single query.
  uint64_t search_major_faults = 0;
  std::vector<SegmentStats> segments;
  std::vector<RecallStats> recall;  // of fields whose recall was looked at
  std::vector<PayloadIndexStats> payload_indexes;  // as in the schema
  std::vector<uint32_t> encoder_tokens;  // by sparse vector; 0: no encoder
  bool degraded = false;                 // an index file is being rebuilt
};

// A value of a payload field, as its key (payload/payload_key.h), and how many
// points have it.
struct FacetValue {
  std::string key;
  uint64_t count = 0;

  friend bool operator==(const FacetValue&, const FacetValue&) = default;
};

// What Collection::Facet is asked.
struct FacetQuery {
  PayloadField field;                  // as the schema declares it
  const FilterNode* filter = nullptr;  // of which points; null: of all
  std::string prefix;                  // of keywords: only those that begin so
  size_t limit = 10;                   // most values; 0: none
  // Most bytes of keys of the values together; a single one may have more.
  size_t max_bytes = SIZE_MAX;
  std::optional<FacetValue> after;  // only values that come after it
};

// What Collection::Highlight is asked.
struct HighlightOptions {
  std::vector<std::string> paths;  // of texts; empty: those that are searched
  size_t num_passages = 1;         // of a text, at most
  size_t passage_chars = 200;
  size_t max_bytes = SIZE_MAX;  // of the payloads that are read
};

// A part of a text.
struct HitPassage {
  std::string path;
  size_t value = 0;  // which string of the text
  size_t begin = 0;  // its first byte in that string
  std::string text;
  std::vector<std::pair<size_t, size_t>> matches;  // in bytes of `text`
};

struct FacetResult {
  // By count, the most first, then by key.
  std::vector<FacetValue> values;
  bool more = false;          // others come after these
  uint64_t num_distinct = 0;  // values in all, whatever limit and `after`
  // The smallest and the largest of them all; nullopt: there is none.
  std::optional<std::string> min;
  std::optional<std::string> max;
};

// The order of Collection::ScrollOrdered: by the keys of an indexed field, then
// by id, which ascends in any case. Of several values of a point the first in
// the order counts; points without a value are left out.
struct ScrollOrder {
  struct Place {
    std::string key;
    PointId id;
  };
  PayloadField field;  // as the schema declares it
  bool descending = false;
  std::optional<Place> after;  // only points that come after it
};

class Collection {
 public:
  virtual ~Collection() = default;

  virtual const CollectionSchema& schema() const = 0;

  // Whether upserts are taken: not while too much data waits for its index
  // (DatabaseOptions::max_unindexed_bytes). Ask again from time to time.
  virtual bool HasRoom() const = 0;
  // Replaces or inserts points. The batch's memory may be freed when the call
  // returns (it is encoded first). `done` runs on the committer's thread:
  // it must be quick and must not call back into the collection.
  // ResourceExhausted: too much data waits for its index, or the disk is
  // full; FailedPrecondition: the store is read-only after an I/O error, or
  // a stream frame is out of order; NotFound: the collection was dropped.
  // Where options.condition does not hold, nothing is written, and item_errors
  // has the first point of which it does not: AlreadyExists of kMustNotExist,
  // FailedPrecondition of kMustExist, Aborted of kSequences. InvalidArgument:
  // an id stands twice under a condition.
  virtual void UpsertAsync(const PointBatch& batch, WriteOptions options,
                           WriteCallback done) = 0;
  virtual void DeleteAsync(std::vector<PointId> ids, WriteOptions options,
                           WriteCallback done) = 0;
  // The same, waiting for the outcome.
  WriteOutcome Upsert(const PointBatch& batch, WriteOptions options = {});
  // num_written counts the points that existed; others are no error.
  WriteOutcome Delete(std::vector<PointId> ids, WriteOptions options = {});

  // Deletes the points that the filter accepts, as of the moment of the call; a
  // point that is replaced meanwhile stays as it is then. Commits of at most
  // limits.max_batch_points ids: where one fails, those before it stay, and
  // num_written says how many. Reads the payloads that the indexes leave open.
  // InvalidArgument: see BoundFilter::Bind.
  virtual WriteOutcome DeleteMatching(const FilterNode& filter,
                                      const WriteOptions& options,
                                      const StopCondition& stop) = 0;

  // Changes the payloads of points; their vectors stay bit for bit. A point is
  // read, changed and stored again as a new version, which takes what an
  // upsert of it takes: its vectors are copied and indexed once more. Where
  // another write was quicker it is read and changed anew, so that none is
  // lost. Commits of some MiB and at most limits.max_batch_points points:
  // where one fails, those before it stay, and num_written says how many; a
  // repetition does no harm. num_written counts the points that existed.
  // Of the options, durability counts. InvalidArgument: the payload of the
  // point that the message names would pass the limit. ResourceExhausted: as
  // Upsert, before the first commit; the others wait for room.
  virtual WriteOutcome UpdatePayload(std::vector<PointId> ids,
                                     const PayloadPatch& patch,
                                     const WriteOptions& options,
                                     const StopCondition& stop) = 0;
  // Those that the filter accepts as of the moment of the call, and still
  // does when they are changed. InvalidArgument: also as BoundFilter::Bind.
  virtual WriteOutcome UpdatePayloadMatching(const FilterNode& filter,
                                             const PayloadPatch& patch,
                                             const WriteOptions& options,
                                             const StopCondition& stop) = 0;

  // Last frame of an ingest stream that was committed; 0: none.
  virtual absl::StatusOr<uint64_t> LastFrame(
      absl::string_view stream_id) const = 0;

  // One element per id, in order; nullopt where there is no such point.
  // ResourceExhausted: they have more than selection.max_bytes.
  virtual absl::StatusOr<std::vector<std::optional<StoredPoint>>> Get(
      const std::vector<PointId>& ids, const PointSelection& selection,
      const StopCondition& stop = {}) const = 0;
  // Points in id order from the first id > after, one consistent snapshot for
  // the whole walk. visit gets pages of at most page_size points and
  // selection.max_bytes, and returns false to stop. filter: null, or which
  // points; where the indexes leave more than a sixteenth of them open, the
  // payloads of the walk are read. InvalidArgument: see BoundFilter::Bind.
  virtual absl::Status Scroll(
      const std::optional<PointId>& after, size_t page_size,
      const PointSelection& selection, const StopCondition& stop,
      const std::function<absl::StatusOr<bool>(std::vector<StoredPoint>)>&
          visit,
      const FilterNode* filter = nullptr) const = 0;
  // The same in another order, without sequences; their `key` says where they
  // stand in it, so that a later walk may go on behind any of them. A page
  // takes what the filter takes and a look at as many entries of the field's
  // indexes as points are passed; of segments that still grow, and of those
  // whose index is not there yet, a look at every key or payload.
  // FailedPrecondition: the field has no index. InvalidArgument: it is of
  // places; also as BoundFilter::Bind.
  virtual absl::Status ScrollOrdered(
      const ScrollOrder& order, size_t page_size,
      const PointSelection& selection, const StopCondition& stop,
      const std::function<absl::StatusOr<bool>(std::vector<StoredPoint>)>&
          visit,
      const FilterNode* filter = nullptr) const = 0;
  virtual uint64_t Count() const = 0;  // live points
  // Those that the filter accepts, at one moment.
  virtual absl::StatusOr<uint64_t> CountMatching(
      const FilterNode& filter, const StopCondition& stop) const = 0;
  // The values of an indexed field and how many points have each, at one
  // moment; a point counts for each of its values. Takes a pass over the keys
  // of the field's indexes, and over their rows where there is a filter or a
  // row is dead. Where an index is not there yet, or commits leave no moment
  // between them, it reads all payloads instead. FailedPrecondition: the field
  // has no index. InvalidArgument: it is of places, or of no keywords and there
  // is a prefix; also as BoundFilter::Bind.
  virtual absl::StatusOr<FacetResult> Facet(
      const FacetQuery& query, const StopCondition& stop) const = 0;

  // One result per query, in order. Uses the calling thread and the
  // database's query pool. InvalidArgument: unknown vector name, a query of the
  // wrong size or a filter that cannot be bound (the edge checks them first).
  virtual absl::StatusOr<std::vector<SearchResult>> Search(
      const std::vector<Query>& queries, const StopCondition& stop) const = 0;
  // Payloads and vectors of found versions, one element per hit; nullopt
  // where that version was replaced or deleted meanwhile. Errors as Get.
  virtual absl::StatusOr<std::vector<std::optional<StoredPoint>>> Fetch(
      const std::vector<Hit>& hits, const PointSelection& selection,
      const StopCondition& stop = {}) const = 0;

  // Where the texts of the hits of a query have what its text stages ask for;
  // an element per hit, empty where that version was replaced meanwhile. Errors
  // as Fetch; InvalidArgument: a path is no text.
  virtual absl::StatusOr<std::vector<std::vector<HitPassage>>> Highlight(
      const Query& query, const std::vector<Hit>& hits,
      const HighlightOptions& options, const StopCondition& stop) const = 0;

  // Seals everything written so far and merges until at most `max_segments`
  // sealed segments are left (one, unless a segment would pass the size
  // limit). Runs in the background; returns its operation.
  virtual absl::StatusOr<std::shared_ptr<Operation>> Optimize(
      size_t max_segments) = 0;

  virtual CollectionStats stats() const = 0;
  // Bytes of its files that are in memory now; asks the system for each page.
  virtual uint64_t resident_file_bytes() const = 0;
};

}  // namespace vicinal
