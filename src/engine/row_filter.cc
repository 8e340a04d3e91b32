#include "src/engine/row_filter.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/engine/segment_keys.h"
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

// What a segment's indexes or columns know of rows from `first` on.
class KnownRows final : public FieldRows {
 public:
  KnownRows(const Segment& segment, RowId first)
      : segment_(segment), first_(first) {}

  bool AddRows(const PayloadField& field, std::span<const KeyRange> ranges,
               Bitmap* rows) const override {
    if (segment_.has_columns()) {
      return segment_.keys().AddRows(field, ranges, first_, rows);
    }
    const auto index = segment_.keys().Find(field);
    if (index != nullptr) index->AddRows(ranges, rows);
    return index != nullptr;
  }
  bool AddRowsIn(const PayloadField& field, const FilterNode& area,
                 Bitmap* rows) const override {
    if (segment_.has_columns()) {
      return segment_.keys().AddRowsIn(field, area, first_, rows);
    }
    const auto index = segment_.keys().Find(field);
    if (index != nullptr) index->AddRowsIn(area, rows);
    return index != nullptr;
  }
  bool AddRowsOf(const absl::flat_hash_set<PointId>& ids,
                 Bitmap* rows) const override {
    if (segment_.has_columns()) {
      for (size_t row = first_; row < rows->num_bits(); ++row) {
        const auto id = static_cast<RowId>(row);
        if (ids.contains(segment_.IdOf(id))) rows->Set(id);
      }
      return true;
    }
    for (const PointId& id : ids) {
      const std::optional<RowId> row = segment_.FindId(id, HashPointId(id));
      if (row.has_value()) rows->Set(*row);
    }
    return true;
  }

 private:
  const Segment& segment_;
  const RowId first_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const RowSet>> RowFilter::RowsOf(
    const Segment& segment, size_t num_rows, const StopCondition& stop,
    size_t max_reads) {
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
      known == nullptr ? RowSet{Bitmap(num_rows)}
                       : RowSet{Bitmap(num_rows, known->accepted), known->count,
                                known->num_payloads_read});
  const absl::StatusOr<bool> complete =
      Evaluate(segment, num_known, num_rows, max_reads, stop, set.get());
  MutexLock lock(mu_);
  evaluating_ = false;
  evaluated_.NotifyAll();
  VICINAL_RETURN_IF_ERROR(complete.status());
  if (!*complete) return nullptr;
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

absl::StatusOr<bool> RowFilter::Evaluate(const Segment& segment, size_t begin,
                                         size_t end, size_t max_reads,
                                         const StopCondition& stop,
                                         RowSet* set) const {
  VICINAL_RETURN_IF_ERROR(stop.Check());
  const auto is_dead = [&](RowId row) { return segment.IsDead(row); };
  if (!fields_.empty() && segment.has_columns()) {
    VICINAL_RETURN_IF_ERROR(segment.keys().GrowColumns(
        fields_, end,
        [&](size_t first, size_t last, SegmentKeys::VisitPayload visit) {
          return VisitPayloads(store_, segment, first, last, stop, is_dead,
                               visit);
        }));
  }
  const RowBounds bounds =
      filter_.Bounds(end, KnownRows(segment, static_cast<RowId>(begin)));
  bounds.certain.ForEachIn(begin, end, [&](RowId row) {
    if (!segment.IsDead(row)) Accept(row, set);
  });
  if (!bounds.possible.has_value()) return true;
  Bitmap open = *bounds.possible;
  open.AndNot(bounds.certain);
  std::vector<RowId> rows;
  open.ForEachIn(begin, end, [&](RowId row) {
    if (!segment.IsDead(row)) rows.push_back(row);
  });
  if (rows.size() > max_reads) return false;
  set->num_payloads_read += rows.size();
  VICINAL_RETURN_IF_ERROR(
      VisitPayloads(store_, segment, rows, stop, is_dead,
                    [&](RowId row, absl::string_view payload) {
                      if (filter_.Matches(segment.IdOf(row), payload)) {
                        Accept(row, set);
                      }
                    }));
  return true;
}

namespace {

absl::Status VisitChunk(
    const CollectionStore& store, const Segment& segment,
    std::span<const RowId> rows, const StopCondition& stop, IsDeadRow is_dead,
    absl::FunctionRef<void(RowId, absl::string_view)> visit) {
  std::vector<Ordinal> ordinals;
  ordinals.reserve(rows.size());
  for (const RowId row : rows) ordinals.push_back(segment.OrdinalOf(row));
  VICINAL_ASSIGN_OR_RETURN(const auto payloads, store.GetPayloads(ordinals));
  // A row without a payload has none, or was replaced since.
  std::vector<PointId> without;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!payloads[i].has_value()) without.push_back(segment.IdOf(rows[i]));
  }
  std::vector<std::optional<IdEntry>> entries;
  if (!without.empty()) {
    VICINAL_ASSIGN_OR_RETURN(entries, store.LookupIds(without));
  }
  size_t next = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (payloads[i].has_value()) {
      visit(rows[i], *payloads[i]);
      continue;
    }
    const size_t at = next++;
    if (entries[at].has_value() && entries[at]->ordinal == ordinals[i]) {
      visit(rows[i], "");
      continue;
    }
    // Its commit is in storage and about to be applied.
    const auto last = std::chrono::steady_clock::now() + kMaxApply;
    while (!is_dead(rows[i]) && std::chrono::steady_clock::now() < last) {
      VICINAL_RETURN_IF_ERROR(stop.Check());
      std::this_thread::yield();
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status VisitPayloads(
    const CollectionStore& store, const Segment& segment,
    std::span<const RowId> rows, const StopCondition& stop, IsDeadRow is_dead,
    absl::FunctionRef<void(RowId, absl::string_view)> visit) {
  for (size_t first = 0; first < rows.size(); first += kChunkRows) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    VICINAL_RETURN_IF_ERROR(VisitChunk(
        store, segment,
        rows.subspan(first, std::min(kChunkRows, rows.size() - first)), stop,
        is_dead, visit));
  }
  return absl::OkStatus();
}

absl::Status VisitPayloads(
    const CollectionStore& store, const Segment& segment, size_t begin,
    size_t end, const StopCondition& stop, IsDeadRow is_dead,
    absl::FunctionRef<void(RowId, absl::string_view)> visit) {
  std::vector<RowId> rows;
  for (size_t first = begin; first < end; first += kChunkRows) {
    rows.clear();
    for (size_t row = first; row < std::min(end, first + kChunkRows); ++row) {
      if (!is_dead(static_cast<RowId>(row))) {
        rows.push_back(static_cast<RowId>(row));
      }
    }
    VICINAL_RETURN_IF_ERROR(
        VisitPayloads(store, segment, rows, stop, is_dead, visit));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<RowFilter>> RowFilterCache::Get(
    const FilterNode& filter, const CollectionSchema& schema,
    const CollectionStore& store) {
  const auto make = [&]() -> absl::StatusOr<std::shared_ptr<RowFilter>> {
    VICINAL_ASSIGN_OR_RETURN(BoundFilter bound, BindToSchema(filter, schema));
    return std::make_shared<RowFilter>(std::move(bound), schema.payload_fields,
                                       store);
  };
  std::string text = FilterToText(filter);
  if (text.size() > kMaxTextBytes) return make();
  MutexLock lock(mu_);
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
        return entry.text == text && entry.schema == &schema;
      });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front().filter;
  }
  VICINAL_ASSIGN_OR_RETURN(std::shared_ptr<RowFilter> made, make());
  entries_.push_front({std::move(text), &schema, made});
  if (entries_.size() > kMaxFilters) entries_.pop_back();
  return made;
}

absl::StatusOr<BoundFilter> BindToSchema(const FilterNode& filter,
                                         const CollectionSchema& schema) {
  return BoundFilter::Bind(filter, schema.payload_fields, {},
                           schema.indexed_filters_only);
}

namespace {

void CollectUnindexed(const FilterNode& node, const std::string& prefix,
                      const CollectionSchema& schema,
                      std::vector<std::string>* out) {
  const std::string path = prefix + node.path;
  const bool is_element = node.kind == FilterNode::Kind::kElement;
  const bool is_indexed =
      !is_element && prefix.empty() &&
      absl::c_any_of(schema.payload_fields, [&](const PayloadField& field) {
        return field.path == path;
      });
  if (!node.path.empty() && !is_element && !is_indexed &&
      !absl::c_linear_search(*out, path)) {
    out->push_back(path);
  }
  for (const FilterNode& child : node.children) {
    CollectUnindexed(child, is_element ? path + "." : prefix, schema, out);
  }
}

}  // namespace

std::vector<std::string> UnindexedPaths(const FilterNode& filter,
                                        const CollectionSchema& schema) {
  std::vector<std::string> out;
  CollectUnindexed(filter, "", schema, &out);
  return out;
}

}  // namespace vicinal
