// Which partition of a collection each row of its segments belongs to.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/cancel.h"
#include "src/engine/schema.h"
#include "src/engine/segment.h"
#include "storage/collection_store.h"

namespace vicinal {

// Of each segment's rows the number of their partition, from 0, in the order of
// their keys over all segments; of rows with several keys the least counts, and
// those without one come last. Empty: the schema has no partition key. From
// indexes and columns, or payloads where these are missing. Cancelled: the
// token was set. Other errors: of the store.
absl::StatusOr<std::vector<std::vector<uint32_t>>> RankPartitions(
    const CollectionSchema& schema, const CollectionStore& store,
    const std::vector<std::shared_ptr<Segment>>& segments,
    const CancelToken* cancel);

}  // namespace vicinal
