#include "src/engine/pinned_rows.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

// Payloads read at a time: a millisecond or two.
constexpr size_t kChunkRows = 512;

}  // namespace

size_t PinnedRows::count() const {
  size_t count = 0;
  for (const PinnedPart& part : parts) count += part.count;
  return count;
}

bool PinnedRows::Contains(Ordinal ordinal) const {
  for (const PinnedPart& part : parts) {
    const std::optional<RowId> row = part.segment->FindOrdinal(ordinal);
    if (row.has_value()) {
      return *row < part.rows.num_bits() && part.rows.Test(*row);
    }
  }
  return false;
}

absl::Status VisitPayloadsAt(
    const CollectionStore& store, const StoreSnapshot& snapshot,
    const Segment& segment, std::span<const RowId> rows,
    const StopCondition& stop,
    absl::FunctionRef<void(RowId, absl::string_view)> visit) {
  std::vector<Ordinal> ordinals;
  while (!rows.empty()) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    const auto chunk = rows.first(std::min(kChunkRows, rows.size()));
    rows = rows.subspan(chunk.size());
    ordinals.clear();
    for (const RowId row : chunk) ordinals.push_back(segment.OrdinalOf(row));
    VICINAL_ASSIGN_OR_RETURN(const auto payloads,
                             store.GetPayloads(ordinals, &snapshot));
    for (size_t i = 0; i < chunk.size(); ++i) {
      visit(chunk[i], payloads[i].has_value() ? absl::string_view(*payloads[i])
                                              : absl::string_view());
    }
  }
  return absl::OkStatus();
}

}  // namespace vicinal
