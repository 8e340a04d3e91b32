#include "src/engine/row_filter.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

// Payloads read at a time: a millisecond or two.
constexpr size_t kChunkRows = 512;

}  // namespace

absl::StatusOr<std::shared_ptr<const RowSet>> RowFilter::RowsOf(
    const Segment& segment, size_t num_rows) {
  MutexLock lock(mu_);
  std::shared_ptr<const RowSet>& known = known_[&segment];
  const size_t num_known = known == nullptr ? 0 : known->accepted.num_bits();
  if (known != nullptr && num_known >= num_rows) return known;
  auto set = std::make_shared<RowSet>(num_rows);
  if (known != nullptr) set->rows = known->rows;
  VICINAL_RETURN_IF_ERROR(Evaluate(segment, num_known, num_rows, &set->rows));
  for (const RowId row : set->rows) set->accepted.Set(row);
  known = std::move(set);
  return known;
}

absl::Status RowFilter::Evaluate(const Segment& segment, size_t begin,
                                 size_t end,
                                 std::vector<RowId>* accepted) const {
  std::vector<RowId> rows;
  for (size_t first = begin; first < end; first += kChunkRows) {
    VICINAL_RETURN_IF_ERROR(stop_.Check());
    rows.clear();
    for (size_t row = first; row < std::min(end, first + kChunkRows); ++row) {
      if (!segment.IsDead(static_cast<RowId>(row))) {
        rows.push_back(static_cast<RowId>(row));
      }
    }
    if (filter_.needs_payload()) {
      VICINAL_RETURN_IF_ERROR(EvaluatePayloads(segment, rows, accepted));
      continue;
    }
    for (const RowId row : rows) {
      if (filter_.Matches(segment.IdOf(row), "")) accepted->push_back(row);
    }
  }
  return absl::OkStatus();
}

absl::Status RowFilter::EvaluatePayloads(const Segment& segment,
                                         const std::vector<RowId>& rows,
                                         std::vector<RowId>* accepted) const {
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
        accepted->push_back(rows[i]);
      }
      continue;
    }
    const size_t at = next++;
    if (entries[at].has_value() && entries[at]->ordinal == ordinals[i]) {
      if (filter_.Matches(without[at], "")) accepted->push_back(rows[i]);
      continue;
    }
    // Its commit is in storage and about to be applied.
    while (!segment.IsDead(rows[i])) {
      VICINAL_RETURN_IF_ERROR(stop_.Check());
      std::this_thread::yield();
    }
  }
  return absl::OkStatus();
}

}  // namespace vicinal
