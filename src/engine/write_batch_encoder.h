// The edge of the engine for writes: checks a batch of points against the
// schema and the limits and turns it into what storage and memory will keep.
// Runs on the callers' threads, in parallel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/engine/layout.h"
#include "src/engine/lexical_rows.h"
#include "src/engine/limits.h"
#include "src/engine/point_batch.h"
#include "src/engine/schema.h"

namespace vicinal {

// Points ready to commit: each id once, all valid. Owns its bytes; movable.
class EncodedBatch {
 public:
  size_t size() const { return ids.size(); }
  absl::string_view body(size_t i) const {
    return absl::string_view(bodies).substr(
        body_offsets[i], body_offsets[i + 1] - body_offsets[i]);
  }
  absl::string_view payload(size_t i) const {
    return absl::string_view(payloads).substr(
        payload_offsets[i], payload_offsets[i + 1] - payload_offsets[i]);
  }
  // The vector of field f of point i in the layout's form; null: none.
  const std::byte* vector(size_t i, size_t f) const;
  // The tokens of multi-vector m of point i; empty: it has none.
  absl::string_view tokens(size_t i, size_t m) const {
    const auto& [begin, size] = token_ranges[i * num_multi + m];
    return absl::string_view(bodies).substr(begin, size);
  }
  size_t size_bytes() const { return bodies.size() + payloads.size(); }

  size_t num_fields = 0;
  size_t num_multi = 0;
  std::vector<PointId> ids;
  std::vector<uint64_t> hashes;         // HashPointId of each
  std::string bodies;                   // AppendRecordBody of each
  std::vector<size_t> body_offsets;     // size() + 1
  std::string payloads;                 // JSON texts
  std::vector<size_t> payload_offsets;  // size() + 1
  LexicalRows lexical;                  // of each

 private:
  friend class BatchEncoder;
  friend class StoredEncoder;
  // By point and field: where the vector begins in `bodies` or, with
  // kInNormalized, in `normalized`; kNone: there is none.
  static constexpr size_t kNone = ~size_t{0};
  static constexpr size_t kInNormalized = size_t{1} << 63;
  std::vector<size_t> vector_offsets;
  // By point and multi-vector, in `bodies`.
  std::vector<std::pair<size_t, size_t>> token_ranges;
  std::unique_ptr<float[]> normalized;
};

// Everything wrong with a batch. Structural errors (an unknown vector name, a
// column of the wrong length, ...) refuse all of it: their index is
// kWholeBatch.
struct EncodeOutcome {
  absl::Status status;  // not OK: nothing may be written
  std::vector<ItemError> item_errors;
};

// The batch's valid points into *out. With `atomic` any bad item makes the
// status InvalidArgument.
EncodeOutcome EncodeBatch(const CollectionSchema& schema, const Layout& layout,
                          const Limits& limits, const PointBatch& batch,
                          bool atomic, EncodedBatch* out);

// Why a payload is refused; OK for a JSON object within the limits.
absl::Status ValidatePayload(absl::string_view json, const Limits& limits);

}  // namespace vicinal
