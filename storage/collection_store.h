// What Vicinal keeps in the RecordStore, key by key. Integers in keys are
// big-endian, in values little-endian; `c` is the collection's number (u32).
//
//   kMeta
//     'F'                       format version of the data folder (u32)
//     'N'                       next free collection number (u32)
//     'C' c                     collection descriptor (schema; see Encode...)
//     'H' c                     head: last sequence (u64), next ordinal (u64)
//     'M' c                     manifest: sealed segments. Version 1 (u8), next
//                               segment number (u64), sealed_below (u64),
//                               number of segments (u32), and for each: number,
//                               rows, smallest and largest ordinal (4 x u64)
//     'E' c field               encoder of a sparse vector: the file it was
//                               given as; field (u8) counts sparse vectors
//     'S' c stream-id           last applied frame of an ingest stream (u64),
//                               unix time of that frame in us (i64)
//   kIds         c id           ordinal (u64), sequence (u64) of the current
//                               version; id as PointId::Encode
//   kRecords     c ordinal      sequence (u64), length-prefixed id, then per
//                               vector: field number (u8), bytes as stored
//                               (length-prefixed); CRC is RocksDB's. Lengths
//                               are varints, the id is PointId::Encode
//   kPayloads    c ordinal      JSON text; absent when there is no payload
//   kTombstones  c ordinal      empty: this version is dead, though a sealed
//                               segment may still hold its row
//
// Dropping a collection deletes 'C' c first, then its ranges; an open that
// finds ranges without 'C' c finishes the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "storage/record_store.h"

namespace vicinal {

using CollectionNumber = uint32_t;

// Where the current version of a point is.
struct IdEntry {
  Ordinal ordinal = 0;
  Sequence sequence = 0;
};

struct Head {
  Sequence sequence = 0;     // of the last committed batch
  Ordinal next_ordinal = 1;  // never given out before
};

// One sealed segment; segment_path.h says where its file is.
struct SegmentEntry {
  uint64_t number = 0;
  uint64_t num_rows = 0;
  Ordinal min_ordinal = 0;  // of its rows
  Ordinal max_ordinal = 0;
};

// The sealed segments of a collection. Every live version with an ordinal
// below sealed_below is a row of one of them; later ones are replayed into a
// growing segment on open.
struct Manifest {
  uint64_t next_segment_number = 1;
  Ordinal sealed_below = 1;
  std::vector<SegmentEntry> segments;

  std::string Encode() const;
  // DataLoss: not an encoding, or impossible (says what). FailedPrecondition:
  // of a newer version.
  static absl::StatusOr<Manifest> Decode(absl::string_view bytes);
};

// A stored version of a point, decoded in place: views into `record`.
struct RecordView {
  struct Vector {
    uint8_t field = 0;
    absl::string_view bytes;
  };
  Sequence sequence = 0;
  PointId id;
  std::vector<Vector> vectors;

  // DataLoss: not the value of a record; says at which byte it breaks.
  static absl::StatusOr<RecordView> Decode(absl::string_view record);
};
// Appends the value of a record without its leading sequence (which the
// committer adds): id, then vectors in order.
void AppendRecordBody(const PointId& id,
                      const std::vector<RecordView::Vector>& vectors,
                      std::string* out);

// Keys and typed access for one collection. A thin value: copies are cheap,
// the store must outlive it. Thread-safe. Reads return DataLoss when a key or
// value is not what the layout above says.
class CollectionStore {
 public:
  CollectionStore(RecordStore* store, CollectionNumber number)
      : store_(store), number_(number) {}

  CollectionNumber number() const { return number_; }
  RecordStore* store() const { return store_; }

  // Effects for a batch.
  void PutId(WriteBatch* batch, const PointId& id, IdEntry entry) const;
  void DeleteId(WriteBatch* batch, const PointId& id) const;
  void PutRecord(WriteBatch* batch, Ordinal ordinal, Sequence sequence,
                 absl::string_view body) const;
  void PutPayload(WriteBatch* batch, Ordinal ordinal,
                  absl::string_view json) const;
  // The version is dead: drops its record and payload, adds the tombstone.
  void KillVersion(WriteBatch* batch, Ordinal ordinal) const;
  void DeleteTombstone(WriteBatch* batch, Ordinal ordinal) const;
  void PutHead(WriteBatch* batch, const Head& head) const;
  void PutManifest(WriteBatch* batch, const Manifest& manifest) const;
  void PutStreamFrame(WriteBatch* batch, absl::string_view stream_id,
                      uint64_t frame, int64_t unix_micros) const;

  void PutEncoder(WriteBatch* batch, uint8_t field,
                  absl::string_view bytes) const;
  absl::StatusOr<std::optional<std::string>> GetEncoder(uint8_t field) const;

  absl::StatusOr<Head> GetHead(const StoreSnapshot* snapshot = nullptr) const;
  absl::StatusOr<Manifest> GetManifest() const;  // empty when never written
  absl::StatusOr<std::vector<std::optional<IdEntry>>> LookupIds(
      const std::vector<PointId>& ids,
      const StoreSnapshot* snapshot = nullptr) const;
  // Encoded records / payloads; nullopt where there is none.
  absl::StatusOr<std::vector<std::optional<std::string>>> GetRecords(
      const std::vector<Ordinal>& ordinals,
      const StoreSnapshot* snapshot = nullptr) const;
  absl::StatusOr<std::vector<std::optional<std::string>>> GetPayloads(
      const std::vector<Ordinal>& ordinals,
      const StoreSnapshot* snapshot = nullptr) const;
  // Calls visit(ordinal, record) for each record with ordinal >= first, in
  // order, until it returns an error.
  absl::Status ScanRecords(
      Ordinal first,
      const std::function<absl::Status(Ordinal, absl::string_view)>& visit)
      const;
  absl::Status ScanTombstones(
      const std::function<absl::Status(Ordinal)>& visit) const;
  // Points in the order of their encoded ids, from the first id > `after`
  // (from the start when absent).
  absl::Status ScanIds(
      const std::optional<PointId>& after, const StoreSnapshot* snapshot,
      const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
      const;  // visit returns false to stop
  absl::StatusOr<std::optional<uint64_t>> GetStreamFrame(
      absl::string_view stream_id) const;
  // Forgets streams whose last frame is older than this.
  absl::Status ForgetStreams(int64_t older_than_unix_micros) const;
  // Deletes everything of this collection but its descriptor, durably, and
  // gives its space back. Not while it is written to.
  absl::Status DeleteAll() const;

 private:
  RecordStore* store_;
  CollectionNumber number_;
};

// Descriptors: opaque bytes (the engine encodes its schema).
absl::Status PutDescriptor(RecordStore* store, CollectionNumber number,
                           absl::string_view descriptor);
absl::Status DeleteDescriptor(RecordStore* store, CollectionNumber number);
absl::StatusOr<std::vector<std::pair<CollectionNumber, std::string>>>
ListDescriptors(const RecordStore* store);
// Numbers that have data but no descriptor: drops that were cut short, to be
// finished by DeleteAll. Ascending.
absl::StatusOr<std::vector<CollectionNumber>> ListOrphans(
    const RecordStore* store);
// Durably reserves and returns a number never used before. One call at a time.
absl::StatusOr<CollectionNumber> NextCollectionNumber(RecordStore* store);

}  // namespace vicinal
