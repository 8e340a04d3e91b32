#include "src/engine/field_aggregates.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal {
namespace {

// Rows and keys between two looks at the deadline: a millisecond or two.
constexpr size_t kWorkPerCheck = size_t{1} << 20;
// What a key costs, in rows.
constexpr size_t kWorkPerKey = 16;

// The first values in the order of a facet. Keys come ascending and are
// borrowed.
class FirstValues {
 public:
  // One more value than the limit is kept, to tell whether there are others.
  explicit FirstValues(const FacetQuery& query)
      : capacity_(query.limit + 1), after_(query.after) {}

  void Add(absl::string_view key, uint64_t count) {
    if (after_.has_value() &&
        !(count < after_->count ||
          (count == after_->count && key > after_->key))) {
      return;
    }
    if (values_.size() == capacity_) {
      // The key is above all that are there.
      if (count <= values_.front().count) return;
      std::pop_heap(values_.begin(), values_.end(), IsBefore);
      values_.pop_back();
    }
    values_.push_back({key, count});
    std::push_heap(values_.begin(), values_.end(), IsBefore);
  }

  void Take(const FacetQuery& query, FacetResult* result) {
    std::sort_heap(values_.begin(), values_.end(), IsBefore);
    size_t bytes = 0;
    for (const Value& value : values_) {
      bytes += value.key.size();
      if (result->values.size() == query.limit ||
          (bytes > query.max_bytes && !result->values.empty())) {
        result->more = true;
        return;
      }
      result->values.push_back({std::string(value.key), value.count});
    }
  }

 private:
  struct Value {
    absl::string_view key;
    uint64_t count;
  };
  static bool IsBefore(const Value& a, const Value& b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
  }

  const size_t capacity_;
  const std::optional<FacetValue>& after_;
  std::vector<Value> values_;  // a heap, the last in the order at its front
};

// Calls visit(key, count) for each key that has rows, ascending. Without
// `counts` a count is only over 0.
template <typename Visit>
absl::Status Merge(std::vector<KeySource>* sources, bool counts,
                   const StopCondition& stop, const Visit& visit) {
  std::vector<KeySource*> heap;
  for (KeySource& source : *sources) {
    if (source.num_left() > 0) heap.push_back(&source);
  }
  const auto is_after = [](const KeySource* a, const KeySource* b) {
    return a->key() > b->key();
  };
  std::make_heap(heap.begin(), heap.end(), is_after);
  size_t work = 0;
  while (!heap.empty()) {
    const absl::string_view key = heap.front()->key();
    uint64_t count = 0;
    do {
      std::pop_heap(heap.begin(), heap.end(), is_after);
      KeySource* source = heap.back();
      work += kWorkPerKey;
      if (counts) {
        work += source->num_rows();
        count += source->Count();
      } else if (count == 0) {
        count += source->CountsAny() ? 1 : 0;
      }
      source->Next();
      if (source->num_left() == 0) {
        heap.pop_back();
      } else {
        std::push_heap(heap.begin(), heap.end(), is_after);
      }
    } while (!heap.empty() && heap.front()->key() == key);
    if (count > 0) visit(key, count);
    if (work >= kWorkPerCheck) {
      work = 0;
      VICINAL_RETURN_IF_ERROR(stop.Check());
    }
  }
  return absl::OkStatus();
}

}  // namespace

void KeyTally::Add(uint64_t row, absl::string_view key) {
  Count& count = counts_[key];
  if (count.last_row == row) return;
  count.last_row = row;
  ++count.count;
}

std::vector<FacetValue> KeyTally::Take() {
  std::vector<FacetValue> values;
  values.reserve(counts_.size());
  for (const auto& [key, count] : counts_) {
    values.push_back({key, count.count});
  }
  counts_.clear();
  std::sort(
      values.begin(), values.end(),
      [](const FacetValue& a, const FacetValue& b) { return a.key < b.key; });
  return values;
}

KeySource::KeySource(std::shared_ptr<const FieldIndex> index,
                     std::optional<Bitmap> rows, absl::string_view prefix)
    : index_(std::move(index)), rows_(std::move(rows)) {
  const KeyRange range = KeysWithPrefix(prefix);
  next_ = index_->LowerBound(range.begin);
  end_ = range.end.has_value() ? index_->LowerBound(*range.end)
                               : index_->num_keys();
}

uint64_t KeySource::Count() const {
  if (index_ == nullptr) return counts_[next_].count;
  const std::span<const RowId> rows = index_->rows(next_);
  if (!rows_.has_value()) return rows.size();
  uint64_t count = 0;
  for (const RowId row : rows) count += rows_->Test(row);
  return count;
}

bool KeySource::CountsAny() const {
  if (counts_all()) return true;
  const std::span<const RowId> rows = index_->rows(next_);
  return std::any_of(rows.begin(), rows.end(),
                     [&](RowId row) { return rows_->Test(row); });
}

absl::StatusOr<FacetResult> MergeFacets(std::vector<KeySource> sources,
                                        const FacetQuery& query,
                                        const StopCondition& stop) {
  std::erase_if(sources,
                [](const KeySource& source) { return source.num_left() == 0; });
  FacetResult result;
  if (sources.empty()) return result;
  if (query.limit == 0 && sources.size() == 1 && sources[0].counts_all()) {
    result.num_distinct = sources[0].num_left();
    result.min = std::string(sources[0].key());
    result.max = std::string(sources[0].key(sources[0].num_left() - 1));
    return result;
  }
  FirstValues first(query);
  absl::string_view min, max;
  VICINAL_RETURN_IF_ERROR(Merge(&sources, query.limit > 0, stop,
                                [&](absl::string_view key, uint64_t count) {
                                  if (result.num_distinct++ == 0) min = key;
                                  max = key;
                                  if (query.limit > 0) first.Add(key, count);
                                }));
  if (result.num_distinct == 0) return result;
  result.min = std::string(min);
  result.max = std::string(max);
  first.Take(query, &result);
  return result;
}

}  // namespace vicinal
