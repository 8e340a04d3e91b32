// Values of a payload field counted over the segments of a collection: their
// sorted keys are merged, so that nothing is held but the values asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/engine/collection.h"
#include "src/payload/field_index.h"

namespace vicinal {

// Counts the rows that have each key, where there is no index. The keys of a
// row come together; one that stands twice counts once. Not thread-safe.
class KeyTally {
 public:
  void Add(uint64_t row, absl::string_view key);
  // By key; the tally is then empty.
  std::vector<FacetValue> Take();

 private:
  struct Count {
    uint64_t count = 0;
    uint64_t last_row = UINT64_MAX;
  };
  absl::flat_hash_map<std::string, Count> counts_;
};

// A walk over the keys of one segment, ascending, with the rows that count.
class KeySource {
 public:
  // rows: those that count; nullopt: all. Only keys that begin with `prefix`.
  KeySource(std::shared_ptr<const FieldIndex> index, std::optional<Bitmap> rows,
            absl::string_view prefix);
  // Counted already.
  explicit KeySource(std::vector<FacetValue> counts)
      : counts_(std::move(counts)), end_(counts_.size()) {}

  size_t num_left() const { return end_ - next_; }
  // Whether every key has a row that counts, and how many is known.
  bool counts_all() const { return index_ == nullptr || !rows_.has_value(); }
  // Of the i-th key from here on; it stays where it is while the source lives.
  absl::string_view key(size_t i = 0) const {
    return index_ != nullptr ? index_->key(next_ + i) : counts_[next_ + i].key;
  }
  uint64_t Count() const;
  bool CountsAny() const;
  size_t num_rows() const {
    return counts_all() ? 0 : index_->rows(next_).size();
  }
  void Next() { ++next_; }

 private:
  std::shared_ptr<const FieldIndex> index_;
  std::optional<Bitmap> rows_;
  std::vector<FacetValue> counts_;
  size_t next_ = 0;
  size_t end_ = 0;
};

// What the sources have together; of the query, limit, max_bytes and `after`.
// Errors: `stop` said so.
absl::StatusOr<FacetResult> MergeFacets(std::vector<KeySource> sources,
                                        const FacetQuery& query,
                                        const StopCondition& stop);

}  // namespace vicinal
