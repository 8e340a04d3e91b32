#include "src/engine/row_order.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

// Most rows that a source brings at once.
constexpr size_t kMaxFill = 65'536;
// Entries between two looks at the deadline: some milliseconds.
constexpr size_t kEntriesPerCheck = size_t{1} << 20;
constexpr size_t kIdsPerCheck = 4'096;
// A key of more rows than this, and than a share of all points, is read in the
// order of ids instead of having the ids of all its rows compared.
constexpr size_t kManyRows = 16'384;
constexpr size_t kScanShare = 32;

class IdSource final : public RowSource {
 public:
  explicit IdSource(const PinnedPart& part) : part_(part) {}

  absl::Status Fill(const StopCondition& stop,
                    FirstPlaces* places) const override {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    part_.rows.ForEach(
        [&](RowId row) { places->Offer("", *part_.segment, row); });
    return absl::OkStatus();
  }

 private:
  const PinnedPart& part_;
};

class IndexSource final : public RowSource {
 public:
  IndexSource(const PinnedPart& part, std::shared_ptr<const FieldIndex> index,
              bool descending, const CollectionStore& store,
              const StoreSnapshot& snapshot, size_t num_points)
      : part_(part),
        index_(std::move(index)),
        descending_(descending),
        store_(store),
        snapshot_(snapshot),
        num_points_(num_points) {
    if (const FieldIndex::Extremes* extremes = index_->extremes()) {
      counts_ = descending ? &extremes->largest : &extremes->smallest;
    }
  }

  absl::Status Fill(const StopCondition& stop,
                    FirstPlaces* places) const override {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    size_t entries = 0;  // since the last check
    for (size_t step = FirstStep(*places); step < index_->num_keys(); ++step) {
      const size_t i = descending_ ? index_->num_keys() - 1 - step : step;
      const size_t num_rows = index_->rows(i).size();
      entries += num_rows + 1;
      if (entries > kEntriesPerCheck) {
        VICINAL_RETURN_IF_ERROR(stop.Check());
        entries = 0;
      }
      if (num_rows > kManyRows) {
        VICINAL_RETURN_IF_ERROR(FillFromKey(i, stop, places));
      } else {
        ForEachRow(i, [&](RowId row) {
          places->Offer(index_->key(i), *part_.segment, row);
        });
      }
      if (places->full()) break;
    }
    return absl::OkStatus();
  }

 private:
  // How many keys come before the first that matters, in the order.
  size_t FirstStep(const FirstPlaces& places) const {
    if (!places.after().has_value()) return 0;
    const std::string& key = places.after()->key;
    const size_t bound = index_->LowerBound(key);
    if (!descending_) return bound;
    const bool found = bound < index_->num_keys() && index_->key(bound) == key;
    return index_->num_keys() - bound - (found ? 1 : 0);
  }

  template <typename Visit>
  void ForEachRow(size_t i, const Visit& visit) const {
    const std::span<const RowId> rows = index_->rows(i);
    const size_t entry = index_->first_entry(i);
    for (size_t j = 0; j < rows.size(); ++j) {
      if (!part_.rows.Test(rows[j])) continue;
      if (counts_ == nullptr || counts_->Test(static_cast<RowId>(entry + j))) {
        visit(rows[j]);
      }
    }
  }

  absl::Status FillFromKey(size_t i, const StopCondition& stop,
                           FirstPlaces* places) const {
    const absl::string_view key = index_->key(i);
    Bitmap rows(part_.rows.num_bits());
    if (counts_ == nullptr) {
      // Without a branch per row: measured, a third of the time.
      for (const RowId row : index_->rows(i)) rows.Set(row);
      rows.And(part_.rows);
    } else {
      ForEachRow(i, [&](RowId row) { rows.Set(row); });
    }
    const size_t count = rows.Count();
    if (count <= kManyRows || count < num_points_ / kScanShare) {
      rows.ForEach([&](RowId row) { places->Offer(key, *part_.segment, row); });
      return absl::OkStatus();
    }
    std::optional<PointId> after;
    if (places->after().has_value() && places->after()->key == key) {
      after = places->after()->id;
    }
    size_t num_ids = 0;
    return store_.ScanIds(
        after, &snapshot_,
        [&](const PointId& id, IdEntry entry) -> absl::StatusOr<bool> {
          if (++num_ids % kIdsPerCheck == 0) {
            VICINAL_RETURN_IF_ERROR(stop.Check());
          }
          const std::optional<RowId> row =
              part_.segment->FindOrdinal(entry.ordinal);
          if (row.has_value() && rows.Test(*row)) {
            places->Offer(key, id, entry.ordinal);
          }
          return !places->full();
        });
  }

  const PinnedPart& part_;
  const std::shared_ptr<const FieldIndex> index_;
  const bool descending_;
  const CollectionStore& store_;
  const StoreSnapshot& snapshot_;
  const size_t num_points_;
  const Bitmap* counts_ = nullptr;  // by entry; null: each does
};

// The first key of each row, of keys that come row by row.
class FirstKeys {
 public:
  FirstKeys(const PinnedPart& part, bool descending, FirstPlaces* places)
      : part_(part), order_{descending}, places_(places) {}

  void Add(RowId row, absl::string_view key) {
    if (row != row_) Flush();
    if (!found_ || order_.CompareKeys(key, key_) < 0) {
      key_.assign(key.data(), key.size());
    }
    found_ = true;
    row_ = row;
  }
  void Flush() {
    if (found_) places_->Offer(key_, *part_.segment, row_);
    found_ = false;
  }

 private:
  const PinnedPart& part_;
  const PlaceOrder order_;
  FirstPlaces* const places_;
  bool found_ = false;
  RowId row_ = 0;
  std::string key_;
};

class ColumnSource final : public RowSource {
 public:
  ColumnSource(const PinnedPart& part, const FieldOrder& order, size_t num_rows)
      : part_(part), order_(order), num_rows_(num_rows) {}

  absl::Status Fill(const StopCondition& stop,
                    FirstPlaces* places) const override {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    FirstKeys keys(part_, order_.descending, places);
    const bool known = part_.segment->keys().VisitColumn(
        order_.field, num_rows_, [&](RowId row, absl::string_view key) {
          if (part_.rows.Test(row)) keys.Add(row, key);
        });
    keys.Flush();
    if (known) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "the index of payload field \"", order_.field.path,
        "\" was dropped while points were read in its order; create it and "
        "ask again"));
  }

 private:
  const PinnedPart& part_;
  const FieldOrder order_;
  const size_t num_rows_;
};

class PayloadSource final : public RowSource {
 public:
  PayloadSource(const PinnedPart& part, const FieldOrder& order,
                size_t first_row, const CollectionStore& store,
                const StoreSnapshot& snapshot)
      : part_(part), order_(order), store_(store), snapshot_(snapshot) {
    part.rows.ForEachIn(first_row, part.rows.num_bits(),
                        [&](RowId row) { rows_.push_back(row); });
  }

  absl::Status Fill(const StopCondition& stop,
                    FirstPlaces* places) const override {
    FirstKeys keys(part_, order_.descending, places);
    VICINAL_RETURN_IF_ERROR(VisitPayloadsAt(
        store_, snapshot_, *part_.segment, rows_, stop,
        [&](RowId row, absl::string_view payload) {
          ForEachKey(
              payload, {&order_.field, 1},
              [&](size_t, absl::string_view key) { keys.Add(row, key); });
        }));
    keys.Flush();
    return absl::OkStatus();
  }

 private:
  const PinnedPart& part_;
  const FieldOrder order_;
  std::vector<RowId> rows_;
  const CollectionStore& store_;
  const StoreSnapshot& snapshot_;
};

}  // namespace

std::unique_ptr<RowSource> RowsById(const PinnedPart& part) {
  return std::make_unique<IdSource>(part);
}

std::unique_ptr<RowSource> RowsByIndex(const PinnedPart& part,
                                       std::shared_ptr<const FieldIndex> index,
                                       const FieldOrder& order,
                                       const CollectionStore& store,
                                       const StoreSnapshot& snapshot,
                                       size_t num_points) {
  return std::make_unique<IndexSource>(part, std::move(index), order.descending,
                                       store, snapshot, num_points);
}

std::unique_ptr<RowSource> RowsByColumn(const PinnedPart& part,
                                        const FieldOrder& order,
                                        size_t num_rows) {
  return std::make_unique<ColumnSource>(part, order, num_rows);
}

std::unique_ptr<RowSource> RowsByPayload(const PinnedPart& part,
                                         const FieldOrder& order,
                                         size_t first_row,
                                         const CollectionStore& store,
                                         const StoreSnapshot& snapshot) {
  return std::make_unique<PayloadSource>(part, order, first_row, store,
                                         snapshot);
}

RowMerger::RowMerger(std::vector<std::unique_ptr<RowSource>> sources,
                     PlaceOrder order, const std::optional<Place>& after,
                     size_t first_size)
    : order_(order) {
  heads_.reserve(sources.size());
  for (auto& source : sources) {
    Head head;
    head.source = std::move(source);
    head.after = after;
    head.size = std::clamp<size_t>(first_size, 1, kMaxFill);
    heads_.push_back(std::move(head));
  }
}

absl::Status RowMerger::Refill(const StopCondition& stop, Head* head) const {
  FirstPlaces places(order_, head->after, head->size);
  VICINAL_RETURN_IF_ERROR(head->source->Fill(stop, &places));
  head->more = places.full();
  head->places = places.Take();
  head->next = 0;
  if (!head->places.empty()) head->after = head->places.back();
  head->size = std::min(kMaxFill, head->size * 4);
  return absl::OkStatus();
}

absl::StatusOr<RowMerger::Head*> RowMerger::FindFirst(
    const StopCondition& stop) {
  Head* first = nullptr;
  for (Head& head : heads_) {
    if (head.next == head.places.size() && head.more) {
      VICINAL_RETURN_IF_ERROR(Refill(stop, &head));
    }
    if (head.next == head.places.size()) continue;
    if (first == nullptr ||
        order_.IsBefore(head.places[head.next], first->places[first->next])) {
      first = &head;
    }
  }
  return first;
}

absl::StatusOr<std::vector<Place>> RowMerger::Next(size_t count,
                                                   const StopCondition& stop) {
  std::vector<Place> places;
  while (places.size() < count) {
    VICINAL_ASSIGN_OR_RETURN(Head* const first, FindFirst(stop));
    if (first == nullptr) break;
    places.push_back(std::move(first->places[first->next++]));
  }
  return places;
}

}  // namespace vicinal
