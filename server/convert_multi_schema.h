// What multi-vectors of a collection are, from the wire and to it.
#pragma once

#include <string>

#include "server/errors.h"
#include "src/engine/schema.h"
#include "vicinal/v1/collection.pb.h"

namespace vicinal {

// Adds to schema->multi; path: of the collection. What the wire can say and
// the engine's types cannot is refused, the rest is ValidateSchema's.
void ParseMultiVectors(const v1::Collection& collection,
                       const std::string& path, FieldViolations* violations,
                       CollectionSchema* schema);
void ToProto(const MultiVectorField& field, v1::MultiVectorConfig* out);

}  // namespace vicinal
