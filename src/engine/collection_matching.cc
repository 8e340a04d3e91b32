// The callers' side of a collection: the points that a filter accepts.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/first_places.h"
#include "src/engine/pinned_rows.h"
#include "src/engine/row_filter.h"
#include "src/engine/row_order.h"

namespace vicinal {
namespace {

// Ids looked up, or payloads read, at a time: a millisecond or two.
constexpr size_t kChunk = 512;
constexpr size_t kIdsPerCheck = 4'096;
// Longer than any commit takes from storage to memory.
constexpr std::chrono::seconds kMaxApply{5};
// Attempts to evaluate a filter before segments change.
constexpr int kAttempts = 8;
// Rows that are evaluated after all, by their payloads.
constexpr size_t kMaxUnknownRows = 4'096;
// Payloads read for what indexes leave open: one of so many rows of a segment,
// and so many where it is small. A page from the payloads themselves may end
// soon, and reads them in an order that is kinder to the cache.
constexpr size_t kReadShare = 16;
constexpr size_t kMinReads = 512;
// Rows are sorted by id where they are no more than this share of all points,
// or so few; otherwise all ids are read in their order.
constexpr size_t kSortShare = 32;
constexpr size_t kMinSorted = 1'024;

}  // namespace

absl::StatusOr<PinnedRows> CollectionImpl::PinLive(
    const StopCondition& stop) const {
  const auto last = std::chrono::steady_clock::now() + kMaxApply;
  while (true) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    PinnedRows pinned;
    Sequence sequence = 0;
    {
      // Some 20 us for a million rows: attempts without the lock could come
      // between commits in vain for ever.
      MutexLock lock(apply_mu_);
      pinned.snapshot = context_->store->Snapshot();
      sequence = sequence_.load(std::memory_order_relaxed);
      view_.Load()->ForEachNewestFirst([&](const auto& segment) {
        const size_t num_rows = segment->num_rows();
        if (num_rows == 0) return;
        Bitmap rows(num_rows);
        rows.Flip();
        if (segment->num_deleted() > 0) rows.AndNot(segment->dead());
        pinned.parts.push_back({segment, std::move(rows), 0});
      });
    }
    VICINAL_ASSIGN_OR_RETURN(const Head head,
                             store_.GetHead(pinned.snapshot.get()));
    if (head.sequence == sequence) {
      for (PinnedPart& part : pinned.parts) part.count = part.rows.Count();
      return pinned;
    }
    // A commit is in storage and waits for the lock.
    if (std::chrono::steady_clock::now() > last) {
      return absl::InternalError(absl::StrCat(
          "commit ", head.sequence, " of collection \"", schema().name,
          "\" is in storage, but in memory only commit ", sequence));
    }
    std::this_thread::yield();
  }
}

absl::StatusOr<std::optional<PinnedRows>> CollectionImpl::PinAccepted(
    RowFilter* filter, bool at_any_cost, const StopCondition& stop) const {
  using Known = absl::flat_hash_map<uint64_t, std::shared_ptr<const RowSet>>;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    // Before the moment, so that a row that is alive then was alive here.
    Known known;
    bool too_dear = false;
    absl::Status status;
    const std::shared_ptr<const View> view = view_.Load();
    filter->ForgetOthers(*view);
    view->ForEachNewestFirst([&](const auto& segment) {
      const size_t num_rows = segment->num_rows();
      if (!status.ok() || too_dear || num_rows == 0) return;
      auto set = filter->RowsOf(
          *segment, num_rows, stop,
          at_any_cost ? SIZE_MAX : std::max(kMinReads, num_rows / kReadShare));
      status = set.status();
      if (!status.ok()) return;
      too_dear = *set == nullptr;
      known[segment->serial()] = *std::move(set);
    });
    VICINAL_RETURN_IF_ERROR(status);
    if (too_dear) return std::optional<PinnedRows>();
    VICINAL_ASSIGN_OR_RETURN(PinnedRows pinned, PinLive(stop));
    const auto set_of = [&](const PinnedPart& part) -> const RowSet* {
      const auto found = known.find(part.segment->serial());
      return found == known.end() ? nullptr : found->second.get();
    };
    size_t num_unknown = 0;
    for (const PinnedPart& part : pinned.parts) {
      const RowSet* set = set_of(part);
      num_unknown +=
          part.rows.num_bits() - (set == nullptr ? 0 : set->num_rows);
    }
    if (num_unknown > kMaxUnknownRows) continue;
    for (PinnedPart& part : pinned.parts) {
      VICINAL_RETURN_IF_ERROR(
          KeepAccepted(*filter, set_of(part), *pinned.snapshot, stop, &part));
    }
    return std::optional<PinnedRows>(std::move(pinned));
  }
  return std::optional<PinnedRows>();
}

absl::Status CollectionImpl::KeepAccepted(const RowFilter& filter,
                                          const RowSet* known,
                                          const StoreSnapshot& snapshot,
                                          const StopCondition& stop,
                                          PinnedPart* part) const {
  const size_t num_rows = part->rows.num_bits();
  const size_t num_known = known == nullptr ? 0 : known->num_rows;
  Bitmap accepted(num_rows);
  if (known != nullptr) {
    known->ForEach([&](RowId row) { accepted.Set(row); });
  }
  std::vector<RowId> unknown;
  part->rows.ForEachIn(num_known, num_rows,
                       [&](RowId row) { unknown.push_back(row); });
  VICINAL_RETURN_IF_ERROR(VisitPayloadsAt(
      store_, snapshot, *part->segment, unknown, stop,
      [&](RowId row, absl::string_view payload) {
        if (filter.filter().Matches(part->segment->IdOf(row), payload)) {
          accepted.Set(row);
        }
      }));
  part->rows.And(accepted);
  part->count = part->rows.Count();
  return absl::OkStatus();
}

absl::StatusOr<CollectionImpl::Matching> CollectionImpl::FindMatching(
    const FilterNode* filter, const StopCondition& stop) const {
  Matching matching;
  if (filter != nullptr) {
    VICINAL_ASSIGN_OR_RETURN(matching.row_filter,
                             row_filters_.Get(*filter, schema(), store_));
    const BoundFilter& bound = *matching.filter();
    if (!bound.accepts_all() && !bound.accepts_none()) {
      VICINAL_ASSIGN_OR_RETURN(
          matching.rows, PinAccepted(matching.row_filter.get(), false, stop));
    }
  }
  matching.snapshot = matching.rows.has_value() ? matching.rows->snapshot
                                                : context_->store->Snapshot();
  return matching;
}

absl::Status CollectionImpl::VisitMatching(
    const Matching& matching, const std::optional<PointId>& after,
    const StopCondition& stop,
    const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
    const {
  if (!matching.rows.has_value()) {
    return ScanMatching(matching.filter(), after, *matching.snapshot, stop,
                        visit);
  }
  const PinnedRows& rows = *matching.rows;
  const size_t count = rows.count();
  if (count <= kMinSorted || count <= Count() / kSortShare) {
    return VisitById(rows, after, stop, visit);
  }
  size_t num_ids = 0;
  return store_.ScanIds(
      after, matching.snapshot.get(),
      [&](const PointId& id, IdEntry entry) -> absl::StatusOr<bool> {
        if (++num_ids % kIdsPerCheck == 0) {
          VICINAL_RETURN_IF_ERROR(stop.Check());
        }
        if (!rows.Contains(entry.ordinal)) return true;
        return visit(id, entry);
      });
}

absl::Status CollectionImpl::VisitById(
    const PinnedRows& rows, const std::optional<PointId>& after,
    const StopCondition& stop,
    const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
    const {
  std::vector<std::unique_ptr<RowSource>> sources;
  for (const PinnedPart& part : rows.parts) {
    if (part.count > 0) sources.push_back(RowsById(part));
  }
  std::optional<Place> place;
  if (after.has_value()) place = Place{.id = *after};
  RowMerger merger(std::move(sources), PlaceOrder(), place, kMinSorted);
  // A page may be small.
  for (size_t chunk = 16;; chunk = std::min(kChunk, chunk * 4)) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    VICINAL_ASSIGN_OR_RETURN(const std::vector<Place> places,
                             merger.Next(chunk, stop));
    VICINAL_ASSIGN_OR_RETURN(const std::vector<IdEntry> entries,
                             EntriesOf(places, *rows.snapshot));
    for (size_t i = 0; i < places.size(); ++i) {
      VICINAL_ASSIGN_OR_RETURN(const bool more,
                               visit(places[i].id, entries[i]));
      if (!more) return absl::OkStatus();
    }
    if (places.size() < chunk) return absl::OkStatus();
  }
}

absl::StatusOr<std::vector<IdEntry>> CollectionImpl::EntriesOf(
    const std::vector<Place>& places, const StoreSnapshot& snapshot) const {
  std::vector<PointId> ids;
  ids.reserve(places.size());
  for (const Place& place : places) ids.push_back(place.id);
  VICINAL_ASSIGN_OR_RETURN(const auto found, store_.LookupIds(ids, &snapshot));
  std::vector<IdEntry> entries;
  entries.reserve(places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    if (!found[i].has_value() || found[i]->ordinal != places[i].ordinal) {
      return absl::InternalError(absl::StrCat(
          "point ", ids[i].ToString(), " is not stored as it is in memory"));
    }
    entries.push_back(*found[i]);
  }
  return entries;
}

absl::Status CollectionImpl::ScanMatching(
    const BoundFilter* filter, const std::optional<PointId>& after,
    const StoreSnapshot& snapshot, const StopCondition& stop,
    const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
    const {
  if (filter == nullptr || filter->accepts_all()) {
    return store_.ScanIds(after, &snapshot, visit);
  }
  if (filter->accepts_none()) return absl::OkStatus();
  std::vector<PointId> ids;
  std::vector<IdEntry> entries;
  std::vector<Ordinal> ordinals;
  const auto flush = [&]() -> absl::StatusOr<bool> {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    std::vector<std::optional<std::string>> payloads(ids.size());
    if (filter->needs_payload()) {
      VICINAL_ASSIGN_OR_RETURN(payloads,
                               store_.GetPayloads(ordinals, &snapshot));
    }
    bool more = true;
    for (size_t i = 0; i < ids.size() && more; ++i) {
      if (!filter->Matches(ids[i], payloads[i].value_or(""))) continue;
      VICINAL_ASSIGN_OR_RETURN(more, visit(ids[i], entries[i]));
    }
    ids.clear();
    entries.clear();
    ordinals.clear();
    return more;
  };
  bool more = true;
  VICINAL_RETURN_IF_ERROR(store_.ScanIds(
      after, &snapshot,
      [&](const PointId& id, IdEntry entry) -> absl::StatusOr<bool> {
        ids.push_back(id);
        entries.push_back(entry);
        ordinals.push_back(entry.ordinal);
        if (ids.size() == kChunk) {
          VICINAL_ASSIGN_OR_RETURN(more, flush());
        }
        return more;
      }));
  return more ? flush().status() : absl::OkStatus();
}

absl::StatusOr<uint64_t> CollectionImpl::CountMatching(
    const FilterNode& filter, const StopCondition& stop) const {
  VICINAL_ASSIGN_OR_RETURN(const std::shared_ptr<RowFilter> rows,
                           row_filters_.Get(filter, schema(), store_));
  VICINAL_ASSIGN_OR_RETURN(const auto pinned,
                           PinAccepted(rows.get(), true, stop));
  if (pinned.has_value()) return pinned->count();
  const std::unique_ptr<StoreSnapshot> snapshot = context_->store->Snapshot();
  uint64_t count = 0;
  VICINAL_RETURN_IF_ERROR(
      ScanMatching(&rows->filter(), std::nullopt, *snapshot, stop,
                   [&](const PointId&, IdEntry) -> absl::StatusOr<bool> {
                     ++count;
                     return true;
                   }));
  return count;
}

}  // namespace vicinal
