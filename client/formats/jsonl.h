// JSON Lines: one object per line with id, vector(s) and payload.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/formats/vector_reader.h"

namespace vicinal::client {

// Vectors are float32. Uses `expected_fields` and `jsonl` of the options.
// Empty lines are passed over. Ids and payloads must stand in all rows or the
// row gets none (a missing payload is an empty one; a missing id is an error
// when row 0 has one).
absl::StatusOr<std::unique_ptr<VectorReader>> OpenJsonl(
    const std::string& path, const OpenOptions& options);

// Appends the JSON of an id: 7, "text" or {"uuid": "..."}.
void AppendIdJson(const PointId& id, std::string* out);
// Appends text as a JSON string.
void AppendJsonString(absl::string_view text, std::string* out);
// Appends a float so that reading it gives the same float.
void AppendFloatJson(float value, std::string* out);

}  // namespace vicinal::client
