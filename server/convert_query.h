// Queries from the wire, checked against the schema that they are asked of,
// and the scores of what they find.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/errors.h"
#include "src/engine/limits.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

std::optional<Query> ParseQuery(const v1::SearchRequest& request,
                                const CollectionSchema& schema,
                                const Limits& limits,
                                FieldViolations* violations);
absl::StatusOr<std::vector<Query>> ParseSearchBatch(
    const v1::SearchBatchRequest& request, const CollectionSchema& schema,
    const Limits& limits);
// The score a user sees for a distance of the engine.
double ScoreOf(const Query& query, const CollectionSchema& schema,
               float distance);

}  // namespace vicinal
