// Searches of a sealed segment on devices.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/bitmap.h"
#include "src/base/status_macros.h"
#include "src/engine/device_searcher.h"
#include "src/engine/query.h"
#include "src/engine/sealed_segment.h"

namespace vicinal {
namespace {

// What of the range of num_rows rows the filter accepts; null: all.
std::shared_ptr<const Bitmap> BitsOf(const Filter& filter, size_t num_rows,
                                     LiveBits* live) {
  if (filter.AcceptsAllInRange()) return nullptr;
  if (filter.allowed == nullptr) return live->Of(*filter.deleted);
  auto bits = std::make_shared<Bitmap>(num_rows);
  bits->OrIn(filter.begin, std::min<size_t>(filter.end, num_rows), 0,
             *filter.allowed);
  if (filter.deleted != nullptr) bits->AndNot(*filter.deleted);
  return bits;
}

}  // namespace

double SealedSegment::CpuNs(const Field& field, const SegmentQuery& query,
                            const Filter& filter) const {
  // Of a vector and of a line of it, as in index/ivf.cc.
  constexpr double kVector = 15, kLine = 1.7;
  const double scan =
      static_cast<double>(filter.NumAccepted(field.vectors.num_rows)) *
      (kVector + kLine * static_cast<double>(field.vectors.stride_bytes) /
                     SearchCost::kLineBytes);
  if (Scans(query)) return scan;
  const SearchParams params = ParamsFor(field, query, filter);
  const double index = field.index->cost().Of(
      static_cast<double>(params.ef),
      static_cast<double>(std::max(params.rerank, query.k)));
  return std::min(scan, index);
}

absl::StatusOr<std::vector<Neighbor>> SealedSegment::SearchOnDevice(
    const SegmentQuery& query, const Together& together,
    const StopCondition& stop) const {
  const Field& field = fields_[query.field];
  std::optional<Bitmap> bits;
  const Filter filter = FilterOf(field, query.rows, &bits);
  return AskDevice(field, query, filter, together, stop);
}

absl::StatusOr<std::vector<Neighbor>> SealedSegment::AskDevice(
    const Field& field, const SegmentQuery& query, const Filter& filter,
    const Together& together, const StopCondition& stop) const {
  VectorSetView rows = field.vectors;
  rows.num_rows = filter.RangeRows(rows.num_rows);
  const DeviceWish wish = {
      .k = query.k,
      .device_ns = DeviceSearcher::CallNs(rows, together.num, query.k),
      .cpu_ns = CpuNs(field, query, filter) *
                static_cast<double>(together.num) /
                static_cast<double>(together.cpu_threads),
      .is_required = query.device_required && Scans(query)};
  VICINAL_ASSIGN_OR_RETURN(const PlacedSegment placed,
                           query.device->Find(field.device_copy, wish, stop));
  std::vector<Neighbor> found;
  if (placed.segment == nullptr) return found;
  const size_t row_bytes = layout_->fields[query.field].row_bytes;
  const auto accepted = BitsOf(filter, field.vectors.num_rows, &field.live);
  found.reserve(together.num * query.k);
  constexpr size_t kAtOnce = DeviceBatcher::kMaxQueries;
  for (size_t first = 0; first < together.num; first += kAtOnce) {
    VICINAL_ASSIGN_OR_RETURN(
        const auto answer,
        query.device->Search(
            placed.device,
            {.segment = placed.segment,
             .data = static_cast<const std::byte*>(together.vectors) +
                     first * row_bytes,
             .num = std::min(kAtOnce, together.num - first),
             .row_bytes = row_bytes,
             .k = query.k,
             .accepted = accepted,
             .range = {filter.begin, filter.end}},
            stop));
    if (!answer.has_value()) return std::vector<Neighbor>();
    found.insert(found.end(), answer->neighbors.begin(),
                 answer->neighbors.end());
    if (query.device_use != nullptr) {
      *query.device_use = {query.device->name(placed.device),
                           answer->batch_queries};
    }
  }
  if (field.to_row.empty()) return found;
  for (Neighbor& neighbor : found) {
    if (neighbor.row != kInvalidRow) neighbor.row = field.to_row[neighbor.row];
  }
  return found;
}

}  // namespace vicinal
