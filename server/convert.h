// Requests to the engine's types and back: ids, points, and what the other
// conversions (convert_*.h) share. Everything from outside is checked here,
// once; violations carry paths in terms of the request.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/errors.h"
#include "src/base/point_id.h"
#include "src/engine/collection.h"
#include "src/engine/limits.h"
#include "src/engine/point_batch.h"
#include "src/engine/schema.h"
#include "vicinal/v1/common.pb.h"

namespace vicinal {

// --- parts of requests

// "path.field[i]".
std::string At(const std::string& path, absl::string_view field, size_t i);
// Of a type that CheckType has taken; not said: f32.
ElementType ParseType(v1::ElementType type);
// Whether ParseType can be asked; a violation when not. The first: of elements
// of dense vectors, the second: of tokens.
bool CheckType(v1::ElementType type, const std::string& path,
               FieldViolations* violations);
bool CheckTokenType(v1::ElementType type, const std::string& path,
                    FieldViolations* violations);
// The number of the vector in the schema; nullopt, and a violation: none.
std::optional<size_t> FindVector(const std::string& name,
                                 const CollectionSchema& schema,
                                 const std::string& path,
                                 FieldViolations* violations);

// --- ids

// Checks and converts; bad ids are added to `violations` below `path`.
std::vector<PointId> ParsePointIds(const v1::PointIds& ids,
                                   const std::string& path,
                                   const Limits& limits,
                                   FieldViolations* violations);
std::optional<PointId> ParsePointId(const v1::PointId& id,
                                    const std::string& path,
                                    FieldViolations* violations);
void ToProto(const PointId& id, v1::PointId* out);
// Columns of one kind when the ids are of one kind.
void ToProto(const std::vector<PointId>& ids, v1::PointIds* out);

// --- points

// An upsert as the engine takes it. Borrows the message it was made from.
class ParsedBatch {
 public:
  // Violations of the request itself; the engine finds those of its content.
  static absl::StatusOr<ParsedBatch> Parse(const v1::PointBatch& points,
                                           const CollectionSchema& schema,
                                           const Limits& limits,
                                           const std::string& path);

  const PointBatch& batch() const { return batch_; }
  // A path of the engine ("vectors[0].data[17][3]") in terms of the request.
  std::string RequestPath(absl::string_view engine_path) const;

 private:
  void ParseColumns(const v1::PointColumns& columns, const Limits& limits,
                    FieldViolations* violations);
  void ParseRows(const v1::PointBatch& points, const CollectionSchema& schema,
                 const Limits& limits, FieldViolations* violations);

  std::string path_;
  bool rows_ = false;
  PointBatch batch_;
  std::deque<std::string> owned_;  // what batch_ borrows in the row form
  // Row form: by column and position, which vector of which row it was.
  std::vector<std::vector<std::pair<size_t, size_t>>> origins_;
  // Row form: by sparse column and row, which sparse vector of the row it was.
  std::vector<std::vector<size_t>> sparse_origins_;
  // Likewise of multi-vectors.
  std::vector<std::vector<size_t>> multi_origins_;
};

// What a request wants of each point, with field numbers resolved.
struct Selection {
  PointSelection points;
  bool rows = false;
  bool any() const {
    return points.payload || !points.vectors.empty() ||
           !points.sparse.empty() || !points.multi.empty();
  }
};
Selection ParseSelector(const v1::PointSelector& selector,
                        const CollectionSchema& schema, const std::string& path,
                        FieldViolations* violations);

// ids may be left out of the columns (search results carry them elsewhere).
void ToColumns(const CollectionSchema& schema, const Selection& selection,
               const std::vector<std::optional<StoredPoint>>& points,
               bool with_ids, v1::PointColumns* out);
absl::Status ToRow(const CollectionSchema& schema, const Selection& selection,
                   const StoredPoint& point, v1::PointRow* out);
// Errors of the budget, and of a payload that is no JSON.
absl::Status ToProto(const CollectionSchema& schema, const Selection& selection,
                     const std::vector<std::optional<StoredPoint>>& points,
                     ReplyBudget* budget, v1::PointBatch* out);

}  // namespace vicinal
