// Which rows of a collection's segments a filter accepts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/mutex.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/engine/layout.h"
#include "src/engine/schema.h"
#include "src/engine/segment.h"
#include "src/engine/view.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter.h"
#include "src/payload/text_condition.h"
#include "storage/collection_store.h"

namespace vicinal {

// The accepted of a segment's first rows. Rows that died since are in it.
struct RowSet {
  size_t num_rows = 0;  // that were looked at
  // A bit for each of them; null: all of begin .. end are accepted.
  std::shared_ptr<const Bitmap> bits;
  // Others are not accepted.
  RowId begin = 0;
  RowId end = kInvalidRow;
  size_t count = 0;
  size_t num_payloads_read = 0;

  // Calls visit(row) for the accepted ones, ascending.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    const size_t last = std::min<size_t>(end, num_rows);
    if (bits != nullptr) {
      bits->ForEachIn(begin, last, visit);
    } else {
      for (size_t row = begin; row < last; ++row) {
        visit(static_cast<RowId>(row));
      }
    }
  }
  Filter AsFilter(const AtomicBitmap* deleted) const {
    return {bits.get(), count, deleted, begin, end};
  }
};

// Evaluates a segment when it is first asked about, by the indexes of declared
// fields as far as they know and for the other rows from the payloads in
// storage (4 us and the parsing of each), and remembers the answer: what a
// row's payload is never changes, a change makes another row. Thread-safe.
class RowFilter {
 public:
  // A filter of the form `partition key = value AND rest`, where rest needs no
  // payloads.
  struct Partition {
    PayloadField field;
    std::string key;
    std::shared_ptr<RowFilter> rest;  // null: there is none
  };

  // Borrows the store and the fields, those that the filter was bound to.
  RowFilter(BoundFilter filter, std::span<const PayloadField> fields,
            const CollectionStore& store,
            std::optional<Partition> partition = std::nullopt)
      : filter_(std::move(filter)),
        fields_(fields),
        store_(store),
        partition_(std::move(partition)) {}

  // Of the rows below num_rows, which are published. A row that a commit is
  // just replacing is left out once it is dead: whoever reads the growing
  // segment afterwards meets the new one. Null: it would have to read more than
  // max_reads payloads for what the indexes leave open.
  absl::StatusOr<std::shared_ptr<const RowSet>> RowsOf(
      const Segment& segment, size_t num_rows, const StopCondition& stop,
      size_t max_reads = SIZE_MAX);
  const BoundFilter& filter() const { return filter_; }
  // Forgets segments that are not in the view.
  void ForgetOthers(const View& view);

 private:
  // The rows of the partition, by its index: where they lie together, and then
  // in a time that does not depend on the segment's other rows. Null: they do
  // not.
  absl::StatusOr<std::shared_ptr<const RowSet>> RowsOfPartition(
      const Segment& segment, const StopCondition& stop) const;
  // The rows begin .. end of a sealed segment, or all of it where that is known
  // or, by what was done of parts of it before, worth knowing.
  absl::StatusOr<std::shared_ptr<const RowSet>> RowsWithin(
      const Segment& segment, RowId begin, RowId end,
      const StopCondition& stop);
  // Sets the bits of the accepted rows begin .. end, and counts them; false:
  // over max_reads.
  absl::StatusOr<bool> Evaluate(const Segment& segment, size_t begin,
                                size_t end, size_t max_reads,
                                const StopCondition& stop, Bitmap* bits,
                                RowSet* set) const;

  const BoundFilter filter_;
  const std::span<const PayloadField> fields_;
  const CollectionStore& store_;
  const std::optional<Partition> partition_;
  Mutex mu_;
  CondVar evaluated_;
  // Somebody evaluates; whoever comes second waits.
  bool evaluating_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t view_version_ ABSL_GUARDED_BY(mu_) = 0;
  // By the segment's serial.
  absl::flat_hash_map<uint64_t, std::shared_ptr<const RowSet>> known_
      ABSL_GUARDED_BY(mu_);
  // By serial: what was evaluated of parts of the segment, in rows.
  absl::flat_hash_map<uint64_t, size_t> done_within_ ABSL_GUARDED_BY(mu_);
};

// Paths of a filter that have no index, each once, in their order.
std::vector<std::string> UnindexedPaths(const FilterNode& filter,
                                        const CollectionSchema& schema);

// What a MATCH asks of a text of the schema. Borrows both.
TextConditionMaker TextsOf(const CollectionSchema& schema,
                           const Layout& layout);
// InvalidArgument: see BoundFilter::Bind.
absl::StatusOr<BoundFilter> BindToSchema(const FilterNode& filter,
                                         const CollectionSchema& schema,
                                         const Layout& layout);

// The payloads of versions of points, by their numbers in `ordinals`: empty
// where there is none, nullopt where the version was replaced or deleted since.
absl::StatusOr<std::vector<std::optional<std::string>>> PayloadsOfVersions(
    const CollectionStore& store, const std::vector<Ordinal>& ordinals,
    absl::FunctionRef<PointId(size_t i)> id_of);

// Calls visit(row, payload) for those of the rows that are alive, in their
// order. One whose payload a commit has just replaced is left out when
// is_dead(row), which is waited for. Errors: of the store, and `stop` said so.
using IsDeadRow = absl::FunctionRef<bool(RowId)>;
absl::Status VisitPayloads(
    const CollectionStore& store, const Segment& segment,
    std::span<const RowId> rows, const StopCondition& stop, IsDeadRow is_dead,
    absl::FunctionRef<void(RowId, absl::string_view)> visit);
// The same of rows begin .. end.
absl::Status VisitPayloads(
    const CollectionStore& store, const Segment& segment, size_t begin,
    size_t end, const StopCondition& stop, IsDeadRow is_dead,
    absl::FunctionRef<void(RowId, absl::string_view)> visit);

// The filters of late of one collection, so that a filter that is asked again
// costs nothing but its new rows: at most 32, each a bit per row; none of them
// longer than 64 KiB as text. Borrows the layout. Thread-safe.
class RowFilterCache {
 public:
  static constexpr size_t kMaxFilters = 32;
  static constexpr size_t kMaxTextBytes = size_t{64} << 10;

  explicit RowFilterCache(const Layout& layout) : layout_(layout) {}

  // Borrows the schema and the store. Errors: of BoundFilter::Bind.
  absl::StatusOr<std::shared_ptr<RowFilter>> Get(const FilterNode& filter,
                                                 const CollectionSchema& schema,
                                                 const CollectionStore& store);

 private:
  // The filter bound, and divided where it is one of a partition.
  absl::StatusOr<std::shared_ptr<RowFilter>> Make(
      const FilterNode& filter, const CollectionSchema& schema,
      const CollectionStore& store);

  struct Entry {
    std::string text;                // FilterToText, which tells filters apart
    const CollectionSchema* schema;  // that it was bound to
    std::shared_ptr<RowFilter> filter;
  };

  const Layout& layout_;
  Mutex mu_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mu_);  // the latest first
};

}  // namespace vicinal
