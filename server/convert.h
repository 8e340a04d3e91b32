// Requests to the engine's types and back. Everything from outside is checked
// here, once; violations carry paths in terms of the request.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/errors.h"
#include "src/base/point_id.h"
#include "src/engine/collection.h"
#include "src/engine/limits.h"
#include "src/engine/memory_plan.h"
#include "src/engine/operations.h"
#include "src/engine/point_batch.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/operation.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

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
};

// What a request wants of each point, with field numbers resolved.
struct Selection {
  PointSelection points;
  bool rows = false;
  bool any() const { return points.payload || !points.vectors.empty(); }
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

// --- queries

std::optional<Query> ParseQuery(const v1::Query& query,
                                const CollectionSchema& schema,
                                const Limits& limits, const std::string& path,
                                FieldViolations* violations);
absl::StatusOr<std::vector<Query>> ParseSearchBatch(
    const v1::SearchBatchRequest& request, const CollectionSchema& schema,
    const Limits& limits);
// The score a user sees for a distance of the engine.
double ScoreOf(const Query& query, const CollectionSchema& schema,
               float distance);

// --- schemas and operations

// Violations are of what the engine's types cannot say; ValidateSchema finds
// the others.
CollectionSchema ParseSchema(const v1::Collection& collection,
                             const std::string& path,
                             FieldViolations* violations);
void ToProto(const CollectionSchema& schema, const CollectionStats& stats,
             v1::Collection* out);
HnswParams ParseHnsw(const v1::HnswConfig& config);
IvfParams ParseIvf(const v1::IvfConfig& config);
CodecSpec ParseCodec(const v1::CodecConfig& config);
MemorySpec ParseMemory(const v1::MemoryConfig& config);
void ToProto(const ResourceEstimate& estimate, v1::ResourceEstimate* out);
void ToProto(const OperationInfo& info, v1::Operation* out);

}  // namespace vicinal
