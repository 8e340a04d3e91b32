// Scrolls from the wire, and the tokens by which they go on.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"
#include "src/base/point_id.h"
#include "src/engine/collection.h"
#include "src/engine/limits.h"
#include "src/engine/schema.h"
#include "src/payload/filter.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal {

// A request of Scroll.
struct ParsedScroll {
  // InvalidArgument: fields are wrong. FailedPrecondition
  // (PAYLOAD_INDEX_MISSING): the field of the order has no index.
  static absl::StatusOr<ParsedScroll> Parse(const v1::ScrollRequest& request,
                                            const CollectionSchema& schema,
                                            const Limits& limits);
  // For a call that goes on behind the point.
  std::string TokenBehind(const StoredPoint& point) const;

  Selection selection;
  std::shared_ptr<const FilterNode> filter;  // null: all points
  std::optional<PointId> after;              // of the order by id
  std::optional<ScrollOrder> order;          // nullopt: by id
  size_t page_size = 0;                      // at most the limit of points
  // Of collection, filter and order: what a page token is good for.
  std::string asked;
};

// With the reason and metadata of a field without an index.
absl::Status IndexMissing(const absl::Status& status,
                          const CollectionSchema& schema,
                          absl::string_view path);
// Of a field that has an index, before it is looked for.
void CheckIndexedPath(absl::string_view path, const std::string& field,
                      FieldViolations* violations);

}  // namespace vicinal
