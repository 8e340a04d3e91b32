// Points on their way in and out, by columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/base/types.h"

namespace vicinal {

// One named vector of several points: little-endian elements, row-major.
// Borrows the bytes: the caller keeps them until the call that takes the
// batch returns (or its callback ran).
struct VectorColumn {
  std::string name;
  size_t dim = 0;
  ElementType type = ElementType::kFloat32;
  absl::string_view data;  // num_present * dim * ElementSize(type) bytes
  // Which points have this vector, ascending; empty: every point has it.
  std::vector<uint32_t> present;
};

// One sparse vector of n points, as rows of a matrix in CSR. Borrows the bytes.
struct SparseColumn {
  std::string name;
  // n + 1: row i has the entries indptr[i] to indptr[i + 1]; of an empty one
  // the point has no such vector.
  std::vector<uint64_t> indptr;
  absl::string_view indices;  // u32 per entry, strictly ascending in each row
  absl::string_view values;   // f32 per entry; zeros are dropped
};

// One multi-vector of n points: the tokens of all, one after the other. Borrows
// the bytes.
struct MultiColumn {
  std::string name;
  size_t dim = 0;
  ElementType type = ElementType::kFloat32;
  // n + 1: point i has the tokens offsets[i] to offsets[i + 1].
  std::vector<uint64_t> offsets;
  absl::string_view data;  // offsets[n] * dim * ElementSize(type) bytes
  // Which points have this vector, ascending; empty: those with a token.
  // (Only a point that is named here can be refused for having none.)
  std::vector<uint32_t> present;
};

// n points; an upsert replaces the whole point. When an id stands twice, the
// last one wins.
struct PointBatch {
  std::vector<PointId> ids;                 // n
  std::vector<VectorColumn> vectors;        // at most one per name
  std::vector<SparseColumn> sparse;         // at most one per name
  std::vector<MultiColumn> multi;           // at most one per name
  std::vector<absl::string_view> payloads;  // empty, or n JSON objects;
                                            // an empty one: no payload
};

// Index of an ItemError that concerns the batch and no single point of it.
inline constexpr size_t kWholeBatch = SIZE_MAX;

// Why one item of a batch was refused; the others are not affected.
struct ItemError {
  size_t index = 0;   // in the batch, or kWholeBatch
  std::string field;  // e.g. "vectors[0].data[17][3]"
  absl::Status status;
};

struct WriteResult {
  // Of the commit. When nothing was written: 0, or for a stream frame the
  // collection's current sequence.
  Sequence sequence = 0;
  // Points stored or deleted; an id that stands twice counts once. 0 for a
  // repeated stream frame.
  size_t num_written = 0;
  std::vector<ItemError> item_errors;  // by index
};

// A sparse vector on its way out.
struct SparseEntries {
  std::vector<uint32_t> dims;  // strictly ascending
  std::vector<float> weights;

  bool empty() const { return dims.empty(); }
};

// One point on its way out.
struct StoredPoint {
  PointId id;
  // Of the write that stored it; 0: not looked at (ScrollOrdered).
  Sequence sequence = 0;
  // By field number; empty bytes: the point has no such vector or it was not
  // asked for. Elements of the field's type, as they were upserted.
  std::vector<std::string> vectors;
  // By number; empty where `vectors` is.
  std::vector<SparseEntries> sparse;
  // By number: tokens of the field's type, as they were upserted; empty where
  // `vectors` is.
  std::vector<std::string> multi;
  std::string payload;  // JSON text; empty: none, or not asked for
  std::string key;      // by which Collection::ScrollOrdered ordered it
};

}  // namespace vicinal
