// Multi-vectors of points and queries, from the wire and to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/errors.h"
#include "src/engine/limits.h"
#include "src/engine/point_batch.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

// --- points

// Borrows the message; its content is the engine's to check. nullopt, and a
// violation: the type is none.
std::optional<MultiColumn> ParseMultiColumn(const v1::MultiVectorColumn& column,
                                            const std::string& path,
                                            FieldViolations* violations);

// Multi-vectors of points that come row by row, made columns. Life: Add for
// each point, in order, then Take.
class MultiRows {
 public:
  explicit MultiRows(const CollectionSchema& schema);

  // path: of the point.
  void Add(const v1::PointRow& row, const std::string& path,
           FieldViolations* violations);
  // The columns that any point has. *owned keeps what they borrow; origins: of
  // each column and point, which multi-vector of the point it was.
  std::vector<MultiColumn> Take(std::deque<std::string>* owned,
                                std::vector<std::vector<size_t>>* origins);

 private:
  struct Column {
    std::vector<uint64_t> offsets = {0};
    std::string data;
    std::vector<uint32_t> present;
    std::vector<size_t> origins;
  };
  const CollectionSchema& schema_;
  std::vector<Column> columns_;  // by number
};

// What the engine's path says of a multi-vector behind its point, "[7][3]" or
// "", in terms of a v1::MultiVector: ".tokens[7].values[3]" or "".
std::string TokenPath(absl::string_view engine_path);

// Of multi-vector m.
void ToColumn(const MultiVectorField& field, size_t m,
              const std::vector<std::optional<StoredPoint>>& points,
              v1::MultiVectorColumn* out);
// tokens: as StoredPoint has them.
void ToProto(const MultiVectorField& field, absl::string_view tokens,
             v1::MultiVector* out);

// --- queries

// The number of the multi-vector in the schema; nullopt, and a violation: none.
std::optional<size_t> FindMulti(const std::string& name,
                                const CollectionSchema& schema,
                                const std::string& path,
                                FieldViolations* violations);
// Checked: 1 to limits.max_query_tokens tokens of the field's dimension,
// finite, for cosine none of them zero; weights finite and >= 0.
std::optional<MultiVector> ParseMultiQuery(const v1::MultiVectorQuery& query,
                                           const MultiVectorField& field,
                                           const Limits& limits,
                                           const std::string& path,
                                           FieldViolations* violations);
// All but k. nullopt, and violations, where it cannot be asked.
std::optional<MultiStage> ParseMultiStage(const v1::RetrieveMulti& in,
                                          const CollectionSchema& schema,
                                          const Limits& limits,
                                          const std::string& path,
                                          FieldViolations* violations);
// Whether any stage of the query compares tokens.
bool ComparesTokens(const Query& query);

}  // namespace vicinal
