// Rows [0, n) of a collection with their vectors, ids and tombstones: what
// searches read and what the committer marks as dead.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "index/index.h"
#include "index/multi_field.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/point_id.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/engine/collection.h"
#include "src/engine/segment_keys.h"

namespace vicinal {

class DeviceSearcher;
class LexicalField;
class LexicalQuery;
struct DeviceUse;
struct RowSet;

// A search of a multi-vector.
struct MultiSearch {
  size_t m = 0;  // of Layout::multi
  const MultiQuery* query = nullptr;
  MultiSearchParams params;  // but for k
};

// What one leaf of a query asks of one segment. Borrows the query.
struct SegmentQuery {
  size_t field = 0;
  // Not null: by terms instead, which of the rest leaves k and rows.
  const LexicalQuery* lexical = nullptr;
  // Not null: by token vectors instead, as above.
  const MultiSearch* multi = nullptr;
  MultiStats* multi_stats = nullptr;  // told of that; may be null
  // dim elements of the field's type; of length 1 for normalized fields.
  const void* vector = nullptr;
  size_t k = 10;
  bool exact = false;
  std::optional<size_t> ef;      // of graphs; else from recall_target
  std::optional<size_t> nprobe;  // of lists; else from recall_target
  double recall_target = 0.95;   // 1: exact
  ForcedPlan force = ForcedPlan::kNone;
  // The rows to find, of all that are searched; null: all.
  const RowSet* rows = nullptr;
  // Not null: may answer for sealed segments, what is asked of tokens, too.
  DeviceSearcher* device = nullptr;
  bool device_required = false;     // see GpuUse::kRequire
  DeviceUse* device_use = nullptr;  // told of it; may be null
};

// A version of a point lives in exactly one segment of a view. Readers are
// safe from any thread; Kill is for one thread at a time (the committer, or
// who excludes it by the collection's apply lock).
class Segment {
 public:
  Segment() = default;
  virtual ~Segment() = default;
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // No other segment of this process has had it.
  uint64_t serial() const { return serial_; }

  virtual size_t num_rows() const = 0;  // dead ones too
  virtual size_t num_deleted() const = 0;
  virtual PointId IdOf(RowId row) const = 0;
  virtual Ordinal OrdinalOf(RowId row) const = 0;
  virtual bool IsDead(RowId row) const = 0;
  // The dead rows; of num_rows() bits or more.
  virtual const AtomicBitmap& dead() const = 0;
  // row_bytes of the field's layout; null: this point has no such vector.
  virtual const std::byte* VectorOf(size_t field, RowId row) const = 0;
  // The layout's sparse vector or text l.
  virtual const LexicalField& lexical(size_t l) const = 0;
  // The layout's multi-vector m.
  virtual const MultiField& multi(size_t m) const = 0;
  virtual std::optional<RowId> FindOrdinal(Ordinal ordinal) const = 0;
  // The live row of `id`, whose HashPointId is `hash`. Memory segments: only
  // for the thread that appends.
  virtual std::optional<RowId> FindId(const PointId& id,
                                      uint64_t hash) const = 0;
  // Returns false when the row was dead already.
  virtual bool Kill(RowId row) = 0;

  // Pushes the k nearest live rows: RowIds of this segment.
  virtual absl::Status Search(const SegmentQuery& query,
                              const StopCondition& stop, TopK* out,
                              SearchStats* stats) const = 0;
  // Whether Search gives exact answers to this query.
  virtual bool IsExact(const SegmentQuery& query) const = 0;
  virtual SegmentStats stats() const = 0;

  // Whether keys() are columns; else indexes.
  virtual bool has_columns() const { return false; }
  SegmentKeys& keys() const { return keys_; }

  size_t num_live() const { return num_rows() - num_deleted(); }

 private:
  static uint64_t NextSerial() {
    static std::atomic<uint64_t> next = 1;
    return next.fetch_add(1, std::memory_order_relaxed);
  }

  const uint64_t serial_ = NextSerial();
  mutable SegmentKeys keys_;
};

}  // namespace vicinal
