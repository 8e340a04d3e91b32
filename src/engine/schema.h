// What a collection's points look like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/hnsw.h"
#include "src/base/types.h"
#include "src/engine/limits.h"

namespace vicinal {

enum class IndexKind : uint8_t { kHnsw = 1, kFlat = 2 };

// One named dense vector.
struct VectorField {
  std::string name;  // may be empty: the only vector of a simple collection
  size_t dim = 0;
  Metric metric = Metric::kL2;
  // What is stored; other wire types are converted, and rejected with
  // InvalidArgument when a value is not representable.
  ElementType type = ElementType::kFloat32;
  IndexKind index = IndexKind::kHnsw;
  HnswParams hnsw;
};

struct CollectionSchema {
  std::string name;  // [A-Za-z0-9_.-]{1,128}, not starting with '.' or '-'
  std::string uuid;  // given by Create; names the collection for ever
  int64_t created_unix_micros = 0;
  std::vector<VectorField> vectors;  // 1..16; order is the field number

  // Index into vectors; nullopt when there is none of that name.
  std::optional<size_t> FindVector(absl::string_view name) const;
  std::string Encode() const;
  static absl::StatusOr<CollectionSchema> Decode(absl::string_view bytes);
};

// A rejected part of a request: what the caller must change. `field` is a
// path in the terms of the request, e.g. "vectors[0].dim".
struct FieldViolation {
  std::string field;
  std::string description;
};

// Everything wrong with a schema that Create would be given (uuid and times
// are not looked at); empty when it is fine.
std::vector<FieldViolation> ValidateSchema(const CollectionSchema& schema,
                                           const Limits& limits);

}  // namespace vicinal
