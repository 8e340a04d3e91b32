// Sparse vectors from the wire and to it.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/errors.h"
#include "src/engine/limits.h"
#include "src/engine/point_batch.h"
#include "src/engine/schema.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

// Borrows the message; its content is the engine's to check.
SparseColumn ParseSparseColumn(const v1::SparseColumn& column);

// Sparse vectors of points that come row by row, made columns. Life: Add for
// each point, in order, then Take.
class SparseRows {
 public:
  explicit SparseRows(const CollectionSchema& schema);

  // path: of the point.
  void Add(const v1::PointRow& row, const std::string& path,
           FieldViolations* violations);
  // The columns that any point has. *owned keeps what they borrow; origins: of
  // each column and point, which sparse vector of the point it was.
  std::vector<SparseColumn> Take(std::deque<std::string>* owned,
                                 std::vector<std::vector<size_t>>* origins);

 private:
  struct Column {
    std::vector<uint64_t> indptr = {0};
    std::string indices;
    std::string values;
    std::vector<size_t> origins;
  };
  const CollectionSchema& schema_;
  std::vector<Column> columns_;  // by number
};

std::optional<size_t> FindSparse(const std::string& name,
                                 const CollectionSchema& schema,
                                 const std::string& path,
                                 FieldViolations* violations);
// Checked: strictly ascending, finite, not too many, at least one.
std::optional<SparseEntries> ParseSparseQuery(const v1::SparseQuery& query,
                                              const Limits& limits,
                                              const std::string& path,
                                              FieldViolations* violations);
void ToProto(const std::string& name, const SparseEntries& entries,
             v1::SparseVector* out);
// Of sparse vector s.
void ToColumn(const std::string& name, size_t s,
              const std::vector<std::optional<StoredPoint>>& points,
              v1::SparseColumn* out);

}  // namespace vicinal
