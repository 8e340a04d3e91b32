// The limits of a filter, the same in the same words for both of its forms.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/payload/filter.h"

namespace vicinal {

// Counts what one filter has while it is made, so that a hostile one is left
// at its first node too many. Every error is InvalidArgument, and does not say
// where: that is for the form. Not thread-safe.
class FilterChecker {
 public:
  explicit FilterChecker(const FilterLimits& limits) : limits_(limits) {}

  const FilterLimits& limits() const { return limits_; }
  // One more node; how deep it stands, from 1.
  absl::Status AddNode();
  absl::Status CheckDepth(size_t depth) const;
  // One more value: what a filter can say (finite, UTF-8), not too long, nor
  // with those before it too many.
  absl::Status AddLiteral(const Literal& literal);
  // The same of an id, which is a valid one.
  absl::Status AddId(const PointId& id);
  // Names between dots, none of them empty, not too long.
  absl::Status CheckPath(absl::string_view path) const;

 private:
  absl::Status CountValue(size_t string_bytes);

  const FilterLimits limits_;
  size_t num_nodes_ = 0;
  size_t num_literals_ = 0;
  size_t string_bytes_ = 0;
};

}  // namespace vicinal
