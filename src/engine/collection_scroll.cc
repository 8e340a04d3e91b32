// The callers' side of a collection: walks over its points.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/first_places.h"
#include "src/engine/pinned_rows.h"
#include "src/engine/row_filter.h"
#include "src/engine/row_order.h"

namespace vicinal {
namespace {

using VisitPage = std::function<absl::StatusOr<bool>(std::vector<StoredPoint>)>;

// Points of an ordered walk that are looked up at once; of those that are still
// to be filtered more than a small page.
constexpr size_t kMaxChunk = 512;
constexpr size_t kMinFiltered = 32;
// Where a filter leaves so few of a segment's rows that the walk over its index
// takes longer than reading their payloads does, per entry and per payload.
constexpr size_t kEntriesPerPayload = 1'024;

absl::Status CheckPageSize(size_t page_size) {
  if (page_size > 0) return absl::OkStatus();
  return absl::InvalidArgumentError("page_size is 0; it must be 1 or more");
}

}  // namespace

// Reads what is selected of points, chunk by chunk, and cuts pages.
class CollectionImpl::Pages {
 public:
  // Borrows all but the numbers.
  Pages(const CollectionImpl& collection, size_t page_size,
        const PointSelection& selection, const StoreSnapshot& snapshot,
        const StopCondition& stop, const VisitPage& visit)
      : collection_(collection),
        page_size_(page_size),
        max_bytes_(selection.max_bytes),
        selection_(selection),
        chunk_(std::min(page_size, collection.ReadChunk(selection))),
        snapshot_(snapshot),
        stop_(stop),
        visit_(visit) {
    selection_.max_bytes = SIZE_MAX;
  }

  // False: the visitor wants no more.
  absl::StatusOr<bool> Add(const PointId& id, IdEntry entry, std::string key) {
    points_.emplace_back(StoredPoint{.id = id,
                                     .sequence = entry.sequence,
                                     .vectors = {},
                                     .sparse = {},
                                     .multi = {},
                                     .payload = "",
                                     .key = std::move(key)});
    entries_.push_back(entry);
    if (points_.size() < chunk_) return true;
    return Flush();
  }
  // After the last one, unless Add returned false.
  absl::Status Finish() {
    VICINAL_ASSIGN_OR_RETURN(const bool more, Flush());
    return more && !page_.empty() ? Emit().status() : absl::OkStatus();
  }

 private:
  absl::StatusOr<bool> Emit() {
    page_bytes_ = 0;
    return visit_(std::exchange(page_, {}));
  }
  absl::StatusOr<bool> Flush() {
    VICINAL_RETURN_IF_ERROR(collection_.FillSelected(
        entries_, selection_, &snapshot_, stop_, points_));
    for (std::optional<StoredPoint>& point : points_) {
      const size_t bytes = BytesOf(*point);
      if (page_.size() == page_size_ ||
          (!page_.empty() && page_bytes_ + bytes > max_bytes_)) {
        VICINAL_ASSIGN_OR_RETURN(const bool more, Emit());
        if (!more) return false;
      }
      page_bytes_ += bytes;
      page_.push_back(*std::move(point));
    }
    entries_.clear();
    points_.clear();
    if (page_.size() < page_size_) return true;
    return Emit();
  }

  const CollectionImpl& collection_;
  const size_t page_size_;
  const size_t max_bytes_;
  PointSelection selection_;
  const size_t chunk_;
  const StoreSnapshot& snapshot_;
  const StopCondition& stop_;
  const VisitPage& visit_;
  std::vector<std::optional<IdEntry>> entries_;  // of the chunk
  std::vector<std::optional<StoredPoint>> points_;
  std::vector<StoredPoint> page_;
  size_t page_bytes_ = 0;
};

absl::Status CollectionImpl::Scroll(const std::optional<PointId>& after,
                                    size_t page_size,
                                    const PointSelection& selection,
                                    const StopCondition& stop,
                                    const VisitPage& visit,
                                    const FilterNode* filter) const {
  VICINAL_RETURN_IF_ERROR(CheckPageSize(page_size));
  VICINAL_ASSIGN_OR_RETURN(const Matching matching, FindMatching(filter, stop));
  Pages pages(*this, page_size, selection, *matching.snapshot, stop, visit);
  bool more = true;
  VICINAL_RETURN_IF_ERROR(VisitMatching(
      matching, after, stop,
      [&](const PointId& id, IdEntry entry) -> absl::StatusOr<bool> {
        VICINAL_ASSIGN_OR_RETURN(more, pages.Add(id, entry, ""));
        return more;
      }));
  return more ? pages.Finish() : absl::OkStatus();
}

absl::Status CollectionImpl::CheckOrderedField(
    const PayloadField& field) const {
  VICINAL_ASSIGN_OR_RETURN(const PayloadField now,
                           schema().FindIndexedField(field.path));
  if (now.type != field.type) {
    return absl::FailedPreconditionError(
        absl::StrCat("payload field \"", field.path, "\" is now of type ",
                     PayloadTypeName(now.type), "; ask again"));
  }
  if (field.type == PayloadType::kGeo) {
    return absl::InvalidArgumentError(
        absl::StrCat("payload field \"", field.path,
                     "\" is of type geo: places have no order; ask for a field "
                     "of another type"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CollectionImpl::GrownColumns> CollectionImpl::GrowColumns(
    const PayloadField& field, const StopCondition& stop) const {
  GrownColumns grown;
  absl::Status status;
  view_.Load()->ForEachNewestFirst([&](const auto& segment) {
    const size_t num_rows = segment->num_rows();
    if (!status.ok() || !segment->has_columns() || num_rows == 0) return;
    status = segment->keys().GrowColumns(
        {&field, 1}, num_rows,
        [&](size_t first, size_t last, SegmentKeys::VisitPayload visit) {
          return VisitPayloads(
              store_, *segment, first, last, stop,
              [&](RowId row) { return segment->IsDead(row); }, visit);
        });
    grown[segment->serial()] = num_rows;
  });
  VICINAL_RETURN_IF_ERROR(status);
  return grown;
}

std::vector<std::unique_ptr<RowSource>> CollectionImpl::SourcesOf(
    const PinnedRows& rows, const ScrollOrder& order, const GrownColumns& grown,
    size_t page_size) const {
  const FieldOrder by{order.field, order.descending};
  const StoreSnapshot& snapshot = *rows.snapshot;
  std::vector<std::unique_ptr<RowSource>> sources;
  for (const PinnedPart& part : rows.parts) {
    if (part.count == 0) continue;
    const size_t num_rows = part.rows.num_bits();
    if (part.segment->has_columns()) {
      const auto found = grown.find(part.segment->serial());
      const size_t num_grown = found == grown.end() ? 0 : found->second;
      if (num_grown > 0) sources.push_back(RowsByColumn(part, by, num_grown));
      // Written since the columns grew, or just then.
      if (num_grown < num_rows) {
        sources.push_back(RowsByPayload(part, by, num_grown, store_, snapshot));
      }
      continue;
    }
    std::shared_ptr<const FieldIndex> index =
        part.segment->keys().Find(order.field);
    // Entries that the walk passes for a page.
    const size_t num_passed =
        std::min(num_rows, num_rows / part.count * page_size);
    if (index == nullptr || part.count * kEntriesPerPayload < num_passed) {
      sources.push_back(RowsByPayload(part, by, 0, store_, snapshot));
    } else {
      sources.push_back(
          RowsByIndex(part, std::move(index), by, store_, snapshot, Count()));
    }
  }
  return sources;
}

absl::Status CollectionImpl::ScrollOrdered(const ScrollOrder& order,
                                           size_t page_size,
                                           const PointSelection& selection,
                                           const StopCondition& stop,
                                           const VisitPage& visit,
                                           const FilterNode* filter) const {
  VICINAL_RETURN_IF_ERROR(CheckPageSize(page_size));
  VICINAL_RETURN_IF_ERROR(CheckOrderedField(order.field));
  // Before the moment of the walk: a row that dies afterwards has its key.
  VICINAL_ASSIGN_OR_RETURN(const GrownColumns grown,
                           GrowColumns(order.field, stop));
  std::shared_ptr<RowFilter> row_filter;
  std::optional<PinnedRows> rows;
  if (filter != nullptr) {
    VICINAL_ASSIGN_OR_RETURN(row_filter,
                             row_filters_.Get(*filter, schema(), store_));
    VICINAL_ASSIGN_OR_RETURN(rows, PinAccepted(row_filter.get(), false, stop));
  }
  // Where the indexes do not know, points are filtered as the walk meets them.
  const BoundFilter* left = nullptr;
  if (!rows.has_value()) {
    VICINAL_ASSIGN_OR_RETURN(rows, PinLive(stop));
    if (row_filter != nullptr) left = &row_filter->filter();
  }
  std::optional<Place> after;
  if (order.after.has_value()) after = {order.after->key, order.after->id};
  const size_t chunk = std::clamp<size_t>(
      page_size, left == nullptr ? 1 : kMinFiltered, kMaxChunk);
  const size_t first_size = std::max(chunk, page_size);
  RowMerger merger(SourcesOf(*rows, order, grown, first_size),
                   PlaceOrder{order.descending}, after, first_size);
  Pages pages(*this, page_size, selection, *rows->snapshot, stop, visit);
  while (true) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    VICINAL_ASSIGN_OR_RETURN(std::vector<Place> places,
                             merger.Next(chunk, stop));
    const bool is_last = places.size() < chunk;
    if (left != nullptr) {
      VICINAL_RETURN_IF_ERROR(KeepMatching(*left, *rows->snapshot, &places));
    }
    for (Place& place : places) {
      // A look at the sequences would take as long as one at the payloads.
      VICINAL_ASSIGN_OR_RETURN(const bool more,
                               pages.Add(place.id, {.ordinal = place.ordinal},
                                         std::move(place.key)));
      if (!more) return absl::OkStatus();
    }
    if (is_last) return pages.Finish();
  }
}

absl::Status CollectionImpl::KeepMatching(const BoundFilter& filter,
                                          const StoreSnapshot& snapshot,
                                          std::vector<Place>* places) const {
  std::vector<Ordinal> ordinals;
  for (const Place& place : *places) ordinals.push_back(place.ordinal);
  VICINAL_ASSIGN_OR_RETURN(const auto payloads,
                           store_.GetPayloads(ordinals, &snapshot));
  size_t kept = 0;
  for (size_t i = 0; i < places->size(); ++i) {
    Place& place = (*places)[i];
    if (!filter.Matches(place.id, payloads[i].value_or(""))) continue;
    if (kept != i) (*places)[kept] = std::move(place);
    ++kept;
  }
  places->resize(kept);
  return absl::OkStatus();
}

}  // namespace vicinal
