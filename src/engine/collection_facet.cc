// The callers' side of a collection: values of indexed payload fields.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/field_aggregates.h"
#include "src/engine/row_filter.h"

namespace vicinal {
namespace {

// Attempts to look at all segments between two commits.
constexpr int kAttempts = 8;

absl::Status CheckPrefix(const FacetQuery& query) {
  const PayloadField& field = query.field;
  if (!query.prefix.empty() && field.type != PayloadType::kKeyword) {
    return absl::InvalidArgumentError(absl::StrCat(
        "payload field \"", field.path, "\" is of type ",
        PayloadTypeName(field.type),
        "; only keywords have a prefix: leave it out or give a filter"));
  }
  return absl::OkStatus();
}

// The rows of a segment that are alive and accepted; nullopt: all.
std::optional<Bitmap> RowsThatCount(const Segment& segment, size_t num_rows,
                                    const RowSet* accepted) {
  if (accepted == nullptr && segment.num_deleted() == 0) return std::nullopt;
  std::optional<Bitmap> rows;
  if (accepted != nullptr) {
    rows.emplace(std::max(num_rows, accepted->num_rows));
    accepted->ForEach([&](RowId row) { rows->Set(row); });
  } else {
    rows.emplace(num_rows);
    rows->Flip();
  }
  if (segment.num_deleted() > 0) rows->AndNot(segment.dead());
  return rows;
}

// nullopt: the field was dropped.
std::optional<std::vector<FacetValue>> CountColumn(
    const Segment& segment, size_t num_rows, const std::optional<Bitmap>& rows,
    const FacetQuery& query) {
  KeyTally tally;
  const bool known = segment.keys().VisitColumn(
      query.field, num_rows, [&](RowId row, absl::string_view key) {
        if ((!rows.has_value() || rows->Test(row)) &&
            absl::StartsWith(key, query.prefix)) {
          tally.Add(row, key);
        }
      });
  if (!known) return std::nullopt;
  return tally.Take();
}

}  // namespace

absl::StatusOr<FacetResult> CollectionImpl::Facet(
    const FacetQuery& query, const StopCondition& stop) const {
  VICINAL_RETURN_IF_ERROR(stop.Check());
  VICINAL_RETURN_IF_ERROR(CheckOrderedField(query.field));
  VICINAL_RETURN_IF_ERROR(CheckPrefix(query));
  std::shared_ptr<RowFilter> filter;
  if (query.filter != nullptr) {
    VICINAL_ASSIGN_OR_RETURN(filter,
                             row_filters_.Get(*query.filter, schema(), store_));
  }
  bool lacks_index = false;
  // What a filter accepts and the columns are mostly known after the first
  // attempt.
  for (int attempt = 0; attempt < kAttempts && !lacks_index; ++attempt) {
    VICINAL_ASSIGN_OR_RETURN(auto sources,
                             PinKeys(query, filter.get(), stop, &lacks_index));
    if (sources.has_value()) {
      return MergeFacets(*std::move(sources), query, stop);
    }
  }
  VICINAL_ASSIGN_OR_RETURN(auto sources, ReadKeys(query, stop));
  return MergeFacets(std::move(sources), query, stop);
}

absl::StatusOr<std::optional<std::vector<KeySource>>> CollectionImpl::PinKeys(
    const FacetQuery& query, RowFilter* filter, const StopCondition& stop,
    bool* lacks_index) const {
  struct Pinned {
    const Segment* segment = nullptr;
    size_t num_rows = 0;
    std::shared_ptr<const FieldIndex> index;  // null: a column
    std::optional<Bitmap> rows;
  };
  const uint64_t epoch = epoch_.load(std::memory_order_acquire);
  const std::shared_ptr<const View> view = view_.Load();
  if (filter != nullptr) filter->ForgetOthers(*view);
  std::vector<Pinned> all;
  const auto pin = [&](const Segment& segment) -> absl::Status {
    Pinned pinned{&segment, segment.num_rows(), nullptr, std::nullopt};
    if (pinned.num_rows == 0) return absl::OkStatus();
    if (segment.has_columns()) {
      VICINAL_RETURN_IF_ERROR(segment.keys().GrowColumns(
          {&query.field, 1}, pinned.num_rows,
          [&](size_t first, size_t last, SegmentKeys::VisitPayload visit) {
            return VisitPayloads(
                store_, segment, first, last, stop,
                [&](RowId row) { return segment.IsDead(row); }, visit);
          }));
    } else {
      pinned.index = segment.keys().Find(query.field);
      if (pinned.index == nullptr) *lacks_index = true;
    }
    std::shared_ptr<const RowSet> accepted;
    if (filter != nullptr && !*lacks_index) {
      VICINAL_ASSIGN_OR_RETURN(accepted,
                               filter->RowsOf(segment, pinned.num_rows, stop));
    }
    pinned.rows = RowsThatCount(segment, pinned.num_rows, accepted.get());
    all.push_back(std::move(pinned));
    return absl::OkStatus();
  };
  absl::Status status;
  view->ForEachNewestFirst([&](const auto& segment) {
    if (status.ok() && !*lacks_index) status = pin(*segment);
  });
  VICINAL_RETURN_IF_ERROR(status);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (*lacks_index || epoch % 2 != 0 ||
      epoch_.load(std::memory_order_relaxed) != epoch) {
    return std::nullopt;
  }
  // From here on nothing that is looked at changes any more.
  std::vector<KeySource> sources;
  for (Pinned& pinned : all) {
    if (pinned.index != nullptr) {
      sources.emplace_back(std::move(pinned.index), std::move(pinned.rows),
                           query.prefix);
      continue;
    }
    VICINAL_RETURN_IF_ERROR(stop.Check());
    auto counts =
        CountColumn(*pinned.segment, pinned.num_rows, pinned.rows, query);
    if (!counts.has_value()) return std::nullopt;
    sources.emplace_back(*std::move(counts));
  }
  return sources;
}

absl::StatusOr<std::vector<KeySource>> CollectionImpl::ReadKeys(
    const FacetQuery& query, const StopCondition& stop) const {
  std::optional<BoundFilter> bound;
  if (query.filter != nullptr) {
    VICINAL_ASSIGN_OR_RETURN(bound,
                             BindToSchema(*query.filter, schema(), *layout_));
  }
  constexpr size_t kChunk = 512;
  const std::unique_ptr<StoreSnapshot> snapshot = context_->store->Snapshot();
  KeyTally tally;
  uint64_t row = 0;
  std::vector<Ordinal> ordinals;
  const auto flush = [&]() -> absl::Status {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    VICINAL_ASSIGN_OR_RETURN(const auto payloads,
                             store_.GetPayloads(ordinals, snapshot.get()));
    for (const std::optional<std::string>& payload : payloads) {
      ForEachKey(payload.value_or(""), {&query.field, 1},
                 [&](size_t, absl::string_view key) {
                   if (absl::StartsWith(key, query.prefix)) tally.Add(row, key);
                 });
      ++row;
    }
    ordinals.clear();
    return absl::OkStatus();
  };
  const auto visit = [&](const PointId&,
                         IdEntry entry) -> absl::StatusOr<bool> {
    ordinals.push_back(entry.ordinal);
    if (ordinals.size() == kChunk) {
      VICINAL_RETURN_IF_ERROR(flush());
    }
    return true;
  };
  VICINAL_RETURN_IF_ERROR(ScanMatching(bound.has_value() ? &*bound : nullptr,
                                       std::nullopt, *snapshot, stop, visit));
  VICINAL_RETURN_IF_ERROR(flush());
  std::vector<KeySource> sources;
  sources.emplace_back(tally.Take());
  return sources;
}

}  // namespace vicinal
