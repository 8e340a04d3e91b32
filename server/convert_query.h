// Queries from the wire, checked against the schema that they are asked of,
// and the scores of what they find.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/convert_recommend.h"
#include "server/errors.h"
#include "src/engine/limits.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

// read: of the collection, for examples that are given by ids. Errors: of
// `read`; else of `violations`, with those that are in there before.
absl::StatusOr<Query> ParseQuery(const v1::SearchRequest& request,
                                 const CollectionSchema& schema,
                                 const Limits& limits, const ReadPoints& read,
                                 FieldViolations* violations);
absl::StatusOr<std::vector<Query>> ParseSearchBatch(
    const v1::SearchBatchRequest& request, const CollectionSchema& schema,
    const Limits& limits);
// The score a user sees for a distance of the engine.
double ScoreOf(const Query& query, const CollectionSchema& schema,
               float distance);

}  // namespace vicinal
