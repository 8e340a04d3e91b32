// A filter checked against the fields that a schema declares, ready to be
// evaluated. Its conditions are sets of keys: the values of a field as bytes
// that sort as the values do (payload_key.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/bitmap.h"
#include "src/base/point_id.h"
#include "src/payload/filter.h"
#include "src/payload/payload_key.h"
#include "src/payload/payload_values.h"
#include "src/payload/text_condition.h"

namespace vicinal {

// ranges: ascending, apart.
bool IsInRanges(std::span<const KeyRange> ranges, absl::string_view key);

// What is known of the fields of some rows, by indexes. All set bits of rows,
// or return false: not known.
class FieldRows {
 public:
  virtual ~FieldRows() = default;
  // Rows that have a key in one of the ranges: ascending, apart.
  virtual bool AddRows(const PayloadField& field,
                       std::span<const KeyRange> ranges,
                       Bitmap* rows) const = 0;
  // Rows that have a place in the area (kTrue: anywhere).
  virtual bool AddRowsIn(const PayloadField& field, const FilterNode& area,
                         Bitmap* rows) const = 0;
  virtual bool AddRowsOf(const absl::flat_hash_set<PointId>& ids,
                         Bitmap* rows) const = 0;
  // Rows whose text has what is asked for.
  virtual bool AddRowsWith(const TextCondition& condition,
                           Bitmap* rows) const = 0;
};

// What a filter accepts as far as indexes know.
struct RowBounds {
  Bitmap certain;
  std::optional<Bitmap> possible;  // none: just the certain ones
};

// Const and thread-safe.
class BoundFilter {
 public:
  // InvalidArgument: over a limit, a literal that the field's type has not, or
  // with declared_only a field that is not in `fields`; also what `texts` says
  // of a MATCH. Without `texts` a filter is good for being checked only: no
  // text has anything.
  static absl::StatusOr<BoundFilter> Bind(
      const FilterNode& filter, std::span<const PayloadField> fields,
      const FilterLimits& limits = {}, bool declared_only = false,
      const TextConditionMaker* texts = nullptr);

  BoundFilter(BoundFilter&&) noexcept;
  BoundFilter& operator=(BoundFilter&&) noexcept;
  ~BoundFilter();

  // Whether it is true of every point; of none.
  bool accepts_all() const;
  bool accepts_none() const;
  // The key, where all that it says is that its field has this one.
  std::optional<std::string> OnlyKey() const;
  // Whether it says something of payloads, not of ids alone.
  bool needs_payload() const;
  // `payload`: JSON text of an object, or empty.
  bool Matches(const PointId& id, absl::string_view payload) const;
  // The same of a payload that others ask, too.
  bool Matches(const PointId& id, PayloadValues* payload) const;

  // Over num_rows rows, without a look at payloads.
  RowBounds Bounds(size_t num_rows, const FieldRows& fields) const;

  struct Node;

 private:
  explicit BoundFilter(std::unique_ptr<const Node> root);

  std::unique_ptr<const Node> root_;
};

}  // namespace vicinal
