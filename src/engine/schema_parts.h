// Parts of a schema's encoding and validation; for schema*.cc.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/engine/limits.h"
#include "src/engine/schema.h"

namespace vicinal {

// Why `name` cannot be used; empty when it can.
std::string NameProblem(absl::string_view name, size_t max_bytes);
// Why `path` names no field of a payload; empty when it does.
std::string PathProblem(absl::string_view path);

// Sparse vectors and texts, as CollectionSchema::Encode says.
void EncodeLexical(const CollectionSchema& schema, std::string* out);
bool DecodeLexical(absl::string_view* bytes, CollectionSchema* schema);
void ValidateLexical(const CollectionSchema& schema, const Limits& limits,
                     std::vector<FieldViolation>* out);

// The same of multi-vectors; after the others.
void EncodeMulti(const CollectionSchema& schema, std::string* out);
bool DecodeMulti(absl::string_view* bytes, CollectionSchema* schema);
void ValidateMulti(const CollectionSchema& schema, const Limits& limits,
                   std::vector<FieldViolation>* out);

}  // namespace vicinal
