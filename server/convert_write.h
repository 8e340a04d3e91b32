// Conditions of upserts and changes of payloads from the wire.
#pragma once

#include <cstddef>
#include <optional>

#include "server/errors.h"
#include "src/engine/collection.h"
#include "src/engine/limits.h"
#include "src/engine/payload_patch.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal {

// Violations are of what the engine cannot name; it finds those of the points.
UpsertCondition ParseCondition(const v1::UpsertRequest& request,
                               size_t num_points, FieldViolations* violations);

// nullopt, and a violation, where it is none.
std::optional<PayloadPatch> ParsePatch(const v1::UpdatePayloadRequest& request,
                                       const Limits& limits,
                                       FieldViolations* violations);

}  // namespace vicinal
