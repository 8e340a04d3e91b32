// Queries that are given by examples.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/errors.h"
#include "src/base/point_id.h"
#include "src/engine/collection.h"
#include "src/engine/limits.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

// Collection::Get.
using ReadPoints =
    std::function<absl::StatusOr<std::vector<std::optional<StoredPoint>>>(
        const std::vector<PointId>& ids, const PointSelection& selection)>;

// Fills the stage's query and excluded_ids from the examples of vector `f`;
// what is wrong with them goes to `violations`. Errors: of `read`.
absl::Status ParseRecommend(const v1::Recommend& recommend,
                            const CollectionSchema& schema, size_t f,
                            const Limits& limits, const ReadPoints& read,
                            const std::string& path,
                            FieldViolations* violations, RetrieveStage* stage);

}  // namespace vicinal
