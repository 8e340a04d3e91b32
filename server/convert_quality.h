// What a search may cost, from the wire.
#pragma once

#include <string>

#include "server/errors.h"
#include "src/engine/limits.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

// Into recall_target, ef, nprobe and exact of the stage.
void ParseQuality(const v1::Quality& quality, const Limits& limits,
                  const std::string& path, FieldViolations* violations,
                  RetrieveStage* stage);
// Whether the quality is one that the vector's index knows.
void CheckQuality(const v1::Quality& quality, const VectorField& field,
                  const std::string& path, FieldViolations* violations);
ForcedPlan ParsePlan(v1::ForcedPlan plan, const std::string& path,
                     FieldViolations* violations);

}  // namespace vicinal
