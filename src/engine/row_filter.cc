#include "src/engine/row_filter.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

// Payloads read at a time: a millisecond or two.
constexpr size_t kChunkRows = 512;
// Between two looks at the deadline of who waits.
constexpr std::chrono::milliseconds kPatience{10};
// Longer than any commit takes from storage to memory.
constexpr std::chrono::seconds kMaxApply{5};

void Accept(RowId row, RowSet* set) {
  set->accepted.Set(row);
  ++set->count;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const RowSet>> RowFilter::RowsOf(
    const Segment& segment, size_t num_rows, const StopCondition& stop) {
  std::shared_ptr<const RowSet> known;
  {
    MutexLock lock(mu_);
    while (true) {
      const auto found = known_.find(segment.serial());
      if (found != known_.end()) known = found->second;
      if (known != nullptr && known->accepted.num_bits() >= num_rows) {
        return known;
      }
      if (!evaluating_) break;
      VICINAL_RETURN_IF_ERROR(stop.Check());
      evaluated_.WaitFor(mu_, kPatience);
    }
    evaluating_ = true;
  }
  const size_t num_known = known == nullptr ? 0 : known->accepted.num_bits();
  auto set = std::make_shared<RowSet>(
      known == nullptr
          ? RowSet{Bitmap(num_rows), 0}
          : RowSet{Bitmap(num_rows, known->accepted), known->count});
  const absl::Status status =
      Evaluate(segment, num_known, num_rows, stop, set.get());
  MutexLock lock(mu_);
  evaluating_ = false;
  evaluated_.NotifyAll();
  VICINAL_RETURN_IF_ERROR(status);
  known_[segment.serial()] = set;
  return set;
}

void RowFilter::ForgetOthers(const View& view) {
  MutexLock lock(mu_);
  if (view.version == view_version_) return;
  view_version_ = view.version;
  absl::flat_hash_set<uint64_t> serials;
  view.ForEachNewestFirst(
      [&](const auto& segment) { serials.insert(segment->serial()); });
  absl::erase_if(known_, [&](const auto& entry) {
    return !serials.contains(entry.first);
  });
}

absl::Status RowFilter::Evaluate(const Segment& segment, size_t begin,
                                 size_t end, const StopCondition& stop,
                                 RowSet* set) const {
  std::vector<RowId> rows;
  for (size_t first = begin; first < end; first += kChunkRows) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    rows.clear();
    for (size_t row = first; row < std::min(end, first + kChunkRows); ++row) {
      if (!segment.IsDead(static_cast<RowId>(row))) {
        rows.push_back(static_cast<RowId>(row));
      }
    }
    if (filter_.needs_payload()) {
      VICINAL_RETURN_IF_ERROR(EvaluatePayloads(segment, rows, stop, set));
      continue;
    }
    for (const RowId row : rows) {
      if (filter_.Matches(segment.IdOf(row), "")) Accept(row, set);
    }
  }
  return absl::OkStatus();
}

absl::Status RowFilter::EvaluatePayloads(const Segment& segment,
                                         const std::vector<RowId>& rows,
                                         const StopCondition& stop,
                                         RowSet* set) const {
  std::vector<Ordinal> ordinals;
  ordinals.reserve(rows.size());
  for (const RowId row : rows) ordinals.push_back(segment.OrdinalOf(row));
  VICINAL_ASSIGN_OR_RETURN(const auto payloads, store_.GetPayloads(ordinals));
  // A row without a payload has none, or was replaced since.
  std::vector<PointId> without;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!payloads[i].has_value()) without.push_back(segment.IdOf(rows[i]));
  }
  std::vector<std::optional<IdEntry>> entries;
  if (!without.empty()) {
    VICINAL_ASSIGN_OR_RETURN(entries, store_.LookupIds(without));
  }
  size_t next = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (payloads[i].has_value()) {
      if (filter_.Matches(segment.IdOf(rows[i]), *payloads[i])) {
        Accept(rows[i], set);
      }
      continue;
    }
    const size_t at = next++;
    if (entries[at].has_value() && entries[at]->ordinal == ordinals[i]) {
      if (filter_.Matches(without[at], "")) Accept(rows[i], set);
      continue;
    }
    // Its commit is in storage and about to be applied.
    const auto last = std::chrono::steady_clock::now() + kMaxApply;
    while (!segment.IsDead(rows[i]) &&
           std::chrono::steady_clock::now() < last) {
      VICINAL_RETURN_IF_ERROR(stop.Check());
      std::this_thread::yield();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<RowFilter>> RowFilterCache::Get(
    const FilterNode& filter, const CollectionStore& store) {
  std::string text = FilterToText(filter);
  if (text.size() > kMaxTextBytes) {
    VICINAL_ASSIGN_OR_RETURN(BoundFilter bound, BoundFilter::Bind(filter, {}));
    return std::make_shared<RowFilter>(std::move(bound), store);
  }
  MutexLock lock(mu_);
  const auto found =
      std::find_if(entries_.begin(), entries_.end(),
                   [&](const Entry& entry) { return entry.text == text; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front().filter;
  }
  VICINAL_ASSIGN_OR_RETURN(BoundFilter bound, BoundFilter::Bind(filter, {}));
  auto made = std::make_shared<RowFilter>(std::move(bound), store);
  entries_.push_front({std::move(text), made});
  if (entries_.size() > kMaxFilters) entries_.pop_back();
  return made;
}

}  // namespace vicinal
