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
#include "absl/strings/str_cat.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/engine/segment_keys.h"
#include "src/engine/text_tree.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

// Payloads read at a time: a millisecond or two.
constexpr size_t kChunkRows = 512;
// Between two looks at the deadline of who waits.
constexpr std::chrono::milliseconds kPatience{10};
// Longer than any commit takes from storage to memory.
constexpr std::chrono::seconds kMaxApply{5};
// What evaluating a filter of a few rows costs, in rows of a whole segment.
constexpr size_t kWithinRows = 8'192;

// What a segment's indexes or columns know of rows from `first` on; bit 0
// stands for row `base`, which is 0 for columns. Nothing of texts once `stop`
// said so.
class KnownRows final : public FieldRows {
 public:
  KnownRows(const Segment& segment, RowId first, RowId base,
            const StopCondition& stop)
      : segment_(segment), first_(first), base_(base), stop_(stop) {}

  bool AddRows(const PayloadField& field, std::span<const KeyRange> ranges,
               Bitmap* rows) const override {
    if (segment_.has_columns()) {
      return segment_.keys().AddRows(field, ranges, first_, rows);
    }
    const auto index = segment_.keys().Find(field);
    if (index != nullptr) index->AddRows(ranges, base_, rows);
    return index != nullptr;
  }
  bool AddRowsIn(const PayloadField& field, const FilterNode& area,
                 Bitmap* rows) const override {
    if (segment_.has_columns()) {
      return segment_.keys().AddRowsIn(field, area, first_, rows);
    }
    const auto index = segment_.keys().Find(field);
    if (index != nullptr) index->AddRowsIn(area, base_, rows);
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
      if (row.has_value() && *row - base_ < rows->num_bits()) {
        rows->Set(*row - base_);
      }
    }
    return true;
  }

  bool AddRowsWith(const TextCondition& condition,
                   Bitmap* rows) const override {
    const auto& match = static_cast<const TextMatch&>(condition);
    const RowId end = base_ + static_cast<RowId>(rows->num_bits());
    const absl::StatusOr<Bitmap> found =
        match.RowsOf(segment_, first_, end, stop_);
    if (!found.ok()) return false;
    found->ForEach([&](RowId row) { rows->Set(row - base_); });
    return true;
  }

 private:
  const Segment& segment_;
  const RowId first_;
  const RowId base_;
  const StopCondition& stop_;
};

// Whether every row between the first and the last of `rows`, ascending ones,
// is one of them or dead.
bool AreTogether(std::span<const RowId> rows, const Segment& segment) {
  if (rows.back() - rows.front() + 1 == rows.size()) return true;
  for (size_t i = 1; i < rows.size(); ++i) {
    for (RowId row = rows[i - 1] + 1; row < rows[i]; ++row) {
      if (!segment.IsDead(row)) return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const RowSet>> RowFilter::RowsOf(
    const Segment& segment, size_t num_rows, const StopCondition& stop,
    size_t max_reads) {
  if (partition_.has_value() && !segment.has_columns()) {
    VICINAL_ASSIGN_OR_RETURN(auto rows, RowsOfPartition(segment, stop));
    if (rows != nullptr) return rows;
  }
  std::shared_ptr<const RowSet> known;
  {
    MutexLock lock(mu_);
    while (true) {
      const auto found = known_.find(segment.serial());
      if (found != known_.end()) known = found->second;
      if (known != nullptr && known->num_rows >= num_rows) return known;
      if (!evaluating_) break;
      VICINAL_RETURN_IF_ERROR(stop.Check());
      evaluated_.WaitFor(mu_, kPatience);
    }
    evaluating_ = true;
  }
  auto set = std::make_shared<RowSet>();
  auto bits = std::make_shared<Bitmap>(num_rows);
  size_t num_known = 0;
  if (known != nullptr) {
    *set = *known;
    *bits = Bitmap(num_rows, *known->bits);
    num_known = known->num_rows;
  }
  const absl::StatusOr<bool> complete = Evaluate(
      segment, num_known, num_rows, max_reads, stop, bits.get(), set.get());
  set->bits = std::move(bits);
  set->num_rows = num_rows;
  MutexLock lock(mu_);
  evaluating_ = false;
  evaluated_.NotifyAll();
  VICINAL_RETURN_IF_ERROR(complete.status());
  if (!*complete) return nullptr;
  known_[segment.serial()] = set;
  return set;
}

absl::StatusOr<std::shared_ptr<const RowSet>> RowFilter::RowsOfPartition(
    const Segment& segment, const StopCondition& stop) const {
  const auto index = segment.keys().Find(partition_->field);
  if (index == nullptr) return nullptr;
  auto set = std::make_shared<RowSet>();
  set->num_rows = segment.num_rows();
  const size_t i = index->LowerBound(partition_->key);
  if (i == index->num_keys() || index->key(i) != partition_->key) {
    set->end = 0;
    return set;
  }
  const std::span<const RowId> rows = index->rows(i);
  if (!AreTogether(rows, segment)) return nullptr;
  set->begin = rows.front();
  set->end = rows.back() + 1;
  set->count = set->end - set->begin;
  if (partition_->rest == nullptr) return set;
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<const RowSet> rest,
      partition_->rest->RowsWithin(segment, set->begin, set->end, stop));
  set->bits = rest->bits;
  set->end = std::min(set->end, rest->end);
  set->begin = std::min(set->end, std::max(set->begin, rest->begin));
  set->count = set->bits == nullptr ? set->end - set->begin
                                    : set->bits->CountIn(set->begin, set->end);
  set->num_payloads_read = rest->num_payloads_read;
  return set;
}

absl::StatusOr<std::shared_ptr<const RowSet>> RowFilter::RowsWithin(
    const Segment& segment, RowId begin, RowId end, const StopCondition& stop) {
  const size_t num_rows = segment.num_rows();
  bool is_within = false;
  {
    MutexLock lock(mu_);
    const auto found = known_.find(segment.serial());
    if (found != known_.end()) return found->second;
    size_t& done = done_within_[segment.serial()];
    done += end - begin + kWithinRows;
    is_within = done <= num_rows;
  }
  if (!is_within) return RowsOf(segment, num_rows, stop);
  auto set = std::make_shared<RowSet>();
  auto bits = std::make_shared<Bitmap>(num_rows);
  VICINAL_RETURN_IF_ERROR(
      Evaluate(segment, begin, end, SIZE_MAX, stop, bits.get(), set.get())
          .status());
  set->bits = std::move(bits);
  set->num_rows = num_rows;
  set->begin = begin;
  set->end = end;
  return set;
}

void RowFilter::ForgetOthers(const View& view) {
  if (partition_.has_value() && partition_->rest != nullptr) {
    partition_->rest->ForgetOthers(view);
  }
  MutexLock lock(mu_);
  if (view.version == view_version_) return;
  view_version_ = view.version;
  absl::flat_hash_set<uint64_t> serials;
  view.ForEachNewestFirst(
      [&](const auto& segment) { serials.insert(segment->serial()); });
  const auto is_gone = [&](const auto& entry) {
    return !serials.contains(entry.first);
  };
  absl::erase_if(known_, is_gone);
  absl::erase_if(done_within_, is_gone);
}

absl::StatusOr<bool> RowFilter::Evaluate(const Segment& segment, size_t begin,
                                         size_t end, size_t max_reads,
                                         const StopCondition& stop,
                                         Bitmap* bits, RowSet* set) const {
  VICINAL_RETURN_IF_ERROR(stop.Check());
  const auto accept = [&](RowId row) {
    bits->Set(row);
    ++set->count;
  };
  const auto is_dead = [&](RowId row) { return segment.IsDead(row); };
  if (!fields_.empty() && segment.has_columns()) {
    VICINAL_RETURN_IF_ERROR(segment.keys().GrowColumns(
        fields_, end,
        [&](size_t first, size_t last, SegmentKeys::VisitPayload visit) {
          return VisitPayloads(store_, segment, first, last, stop, is_dead,
                               visit);
        }));
  }
  // Of a part of a segment the bitmaps are of this part.
  const RowId base =
      segment.has_columns() ? 0 : static_cast<RowId>(begin / 64 * 64);
  const RowBounds bounds = filter_.Bounds(
      end - base, KnownRows(segment, static_cast<RowId>(begin), base, stop));
  VICINAL_RETURN_IF_ERROR(stop.Check());
  if (segment.num_deleted() == 0) {
    bits->OrIn(begin, end, base, bounds.certain);
    set->count += bounds.certain.CountIn(begin - base, end - base);
  } else {
    bounds.certain.ForEachIn(begin - base, end - base, [&](RowId bit) {
      if (!segment.IsDead(base + bit)) accept(base + bit);
    });
  }
  if (!bounds.possible.has_value()) return true;
  Bitmap open = *bounds.possible;
  open.AndNot(bounds.certain);
  std::vector<RowId> rows;
  open.ForEachIn(begin - base, end - base, [&](RowId bit) {
    if (!segment.IsDead(base + bit)) rows.push_back(base + bit);
  });
  if (rows.size() > max_reads) return false;
  set->num_payloads_read += rows.size();
  VICINAL_RETURN_IF_ERROR(
      VisitPayloads(store_, segment, rows, stop, is_dead,
                    [&](RowId row, absl::string_view payload) {
                      if (filter_.Matches(segment.IdOf(row), payload)) {
                        accept(row);
                      }
                    }));
  return true;
}

absl::StatusOr<std::vector<std::optional<std::string>>> PayloadsOfVersions(
    const CollectionStore& store, const std::vector<Ordinal>& ordinals,
    absl::FunctionRef<PointId(size_t i)> id_of) {
  VICINAL_ASSIGN_OR_RETURN(auto payloads, store.GetPayloads(ordinals));
  // A version without a payload has none, or was replaced since.
  std::vector<size_t> without;
  std::vector<PointId> ids;
  for (size_t i = 0; i < ordinals.size(); ++i) {
    if (payloads[i].has_value()) continue;
    without.push_back(i);
    ids.push_back(id_of(i));
  }
  if (without.empty()) return payloads;
  VICINAL_ASSIGN_OR_RETURN(const auto entries, store.LookupIds(ids));
  for (size_t j = 0; j < without.size(); ++j) {
    const size_t i = without[j];
    if (entries[j].has_value() && entries[j]->ordinal == ordinals[i]) {
      payloads[i].emplace();
    }
  }
  return payloads;
}

namespace {

absl::Status VisitChunk(
    const CollectionStore& store, const Segment& segment,
    std::span<const RowId> rows, const StopCondition& stop, IsDeadRow is_dead,
    absl::FunctionRef<void(RowId, absl::string_view)> visit) {
  std::vector<Ordinal> ordinals;
  ordinals.reserve(rows.size());
  for (const RowId row : rows) ordinals.push_back(segment.OrdinalOf(row));
  VICINAL_ASSIGN_OR_RETURN(const auto payloads,
                           PayloadsOfVersions(store, ordinals, [&](size_t i) {
                             return segment.IdOf(rows[i]);
                           }));
  for (size_t i = 0; i < rows.size(); ++i) {
    if (payloads[i].has_value()) {
      visit(rows[i], *payloads[i]);
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

namespace {

// Whether the filter says that the partition key has one value.
bool IsOfPartition(const FilterNode& filter, const CollectionSchema& schema) {
  return !schema.partition_key.empty() && filter.path == schema.partition_key &&
         ((filter.kind == FilterNode::Kind::kCompare &&
           filter.op == FilterNode::Op::kEqual) ||
          (filter.kind == FilterNode::Kind::kIn &&
           filter.literals.size() == 1));
}

// What a filter joins by AND, however nested; else itself.
void CollectJoined(const FilterNode& filter,
                   std::vector<const FilterNode*>* out) {
  if (filter.kind != FilterNode::Kind::kAnd) {
    out->push_back(&filter);
    return;
  }
  for (const FilterNode& child : filter.children) CollectJoined(child, out);
}

FilterNode Join(const std::vector<const FilterNode*>& nodes) {
  if (nodes.size() == 1) return *nodes[0];
  FilterNode joined;
  joined.kind = FilterNode::Kind::kAnd;
  for (const FilterNode* node : nodes) joined.children.push_back(*node);
  return joined;
}

}  // namespace

absl::StatusOr<std::shared_ptr<RowFilter>> RowFilterCache::Get(
    const FilterNode& filter, const CollectionSchema& schema,
    const CollectionStore& store) {
  std::string text = FilterToText(filter);
  if (text.size() > kMaxTextBytes) return Make(filter, schema, store);
  {
    MutexLock lock(mu_);
    const auto found =
        std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
          return entry.text == text && entry.schema == &schema;
        });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
      return entries_.front().filter;
    }
  }
  VICINAL_ASSIGN_OR_RETURN(std::shared_ptr<RowFilter> made,
                           Make(filter, schema, store));
  MutexLock lock(mu_);
  entries_.push_front({std::move(text), &schema, made});
  if (entries_.size() > kMaxFilters) entries_.pop_back();
  return made;
}

absl::StatusOr<std::shared_ptr<RowFilter>> RowFilterCache::Make(
    const FilterNode& filter, const CollectionSchema& schema,
    const CollectionStore& store) {
  VICINAL_ASSIGN_OR_RETURN(BoundFilter bound,
                           BindToSchema(filter, schema, layout_));
  std::optional<RowFilter::Partition> partition;
  std::vector<const FilterNode*> joined;
  CollectJoined(filter, &joined);
  const auto node = absl::c_find_if(joined, [&](const FilterNode* condition) {
    return IsOfPartition(*condition, schema);
  });
  if (node != joined.end()) {
    std::optional<std::string> key = bound.OnlyKey();
    if (joined.size() > 1) {
      VICINAL_ASSIGN_OR_RETURN(const BoundFilter alone,
                               BindToSchema(**node, schema, layout_));
      key = alone.OnlyKey();
    }
    joined.erase(node);
    const FilterNode rest = Join(joined);
    // What reads payloads reads those of the partition only.
    if (key.has_value() && UnindexedPaths(rest, schema).empty()) {
      partition.emplace(*schema.FindPartitionKey(), *std::move(key), nullptr);
      if (!joined.empty()) {
        VICINAL_ASSIGN_OR_RETURN(partition->rest, Get(rest, schema, store));
      }
    }
  }
  return std::make_shared<RowFilter>(std::move(bound), schema.payload_fields,
                                     store, std::move(partition));
}

TextConditionMaker TextsOf(const CollectionSchema& schema,
                           const Layout& layout) {
  return [&schema, &layout](absl::string_view path,
                            absl::string_view expression)
             -> absl::StatusOr<std::shared_ptr<const TextCondition>> {
    const std::optional<size_t> t = schema.FindText(path);
    if (!t.has_value()) {
      return absl::InvalidArgumentError(
          "the collection has no such text; declare it when the collection is "
          "created (texts)");
    }
    const size_t l = layout.num_sparse + *t;
    const TextDemand demand{.expression = std::string(expression), .all = true};
    VICINAL_ASSIGN_OR_RETURN(TextNode root,
                             AnalyzeDemand(demand, layout, {&l, 1}));
    return std::make_shared<const TextMatch>(layout, l, std::move(root));
  };
}

absl::StatusOr<BoundFilter> BindToSchema(const FilterNode& filter,
                                         const CollectionSchema& schema,
                                         const Layout& layout) {
  const TextConditionMaker texts = TextsOf(schema, layout);
  return BoundFilter::Bind(filter, schema.payload_fields, {},
                           schema.indexed_filters_only, &texts);
}

namespace {

void CollectUnindexed(const FilterNode& node, const std::string& prefix,
                      const CollectionSchema& schema,
                      std::vector<std::string>* out) {
  const std::string path = prefix + node.path;
  const bool is_element = node.kind == FilterNode::Kind::kElement;
  if (node.kind == FilterNode::Kind::kMatch) return;  // has one of its own
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
