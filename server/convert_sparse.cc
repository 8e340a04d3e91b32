#include "server/convert_sparse.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/convert.h"

namespace vicinal {
namespace {

// A repeated field's bytes, as columns have them.
template <typename Field>
void AppendBytes(const Field& field, std::string* out) {
  out->append(reinterpret_cast<const char*>(field.data()),
              static_cast<size_t>(field.size()) * sizeof(*field.data()));
}

template <typename T>
void AppendVector(const std::vector<T>& values, std::string* out) {
  out->append(reinterpret_cast<const char*>(values.data()),
              values.size() * sizeof(T));
}

}  // namespace

SparseColumn ParseSparseColumn(const v1::SparseColumn& column) {
  SparseColumn out;
  out.name = column.name();
  out.indptr.assign(column.indptr().begin(), column.indptr().end());
  out.indices = column.indices();
  out.values = column.values();
  return out;
}

SparseRows::SparseRows(const CollectionSchema& schema)
    : schema_(schema), columns_(schema.sparse.size()) {}

void SparseRows::Add(const v1::PointRow& row, const std::string& path,
                     FieldViolations* violations) {
  std::vector<size_t> origins(columns_.size(), 0);
  std::vector<bool> is_there(columns_.size(), false);
  for (int v = 0; v < row.sparse_vectors_size(); ++v) {
    const v1::SparseVector& vector = row.sparse_vectors(v);
    const std::string at = At(path, "sparse_vectors", static_cast<size_t>(v));
    const auto s = FindSparse(vector.name(), schema_, at + ".name", violations);
    if (!s.has_value()) continue;
    if (is_there[*s]) {
      violations->Add(at + ".name", "stands twice in this point");
      continue;
    }
    is_there[*s] = true;
    if (vector.indices_size() != vector.values_size()) {
      violations->Add(
          at + ".values",
          absl::StrCat("has ", vector.values_size(), " elements beside ",
                       vector.indices_size(), " indices; give one for each"));
      continue;
    }
    origins[*s] = static_cast<size_t>(v);
    AppendBytes(vector.indices(), &columns_[*s].indices);
    AppendBytes(vector.values(), &columns_[*s].values);
  }
  for (size_t s = 0; s < columns_.size(); ++s) {
    columns_[s].indptr.push_back(columns_[s].indices.size() / sizeof(uint32_t));
    columns_[s].origins.push_back(origins[s]);
  }
}

std::vector<SparseColumn> SparseRows::Take(
    std::deque<std::string>* owned, std::vector<std::vector<size_t>>* origins) {
  std::vector<SparseColumn> out;
  for (size_t s = 0; s < columns_.size(); ++s) {
    Column& column = columns_[s];
    if (column.indices.empty()) continue;
    SparseColumn& to = out.emplace_back();
    to.name = schema_.sparse[s].name;
    to.indptr = std::move(column.indptr);
    to.indices = owned->emplace_back(std::move(column.indices));
    to.values = owned->emplace_back(std::move(column.values));
    origins->push_back(std::move(column.origins));
  }
  return out;
}

std::optional<size_t> FindSparse(const std::string& name,
                                 const CollectionSchema& schema,
                                 const std::string& path,
                                 FieldViolations* violations) {
  const std::optional<size_t> s = schema.FindSparse(name);
  if (s.has_value()) return s;
  if (schema.FindMulti(name).has_value()) {
    violations->Add(path,
                    absl::StrCat("is \"", name,
                                 "\", a multi-vector, which is written in "
                                 "multi_vectors and searched by "
                                 "retrieve_multi, or by rerank with multi"));
    return std::nullopt;
  }
  std::string names;
  for (const SparseField& field : schema.sparse) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", "\"", field.name, "\"");
  }
  violations->Add(path,
                  absl::StrCat("is \"", name,
                               "\", a sparse vector that the collection does "
                               "not have; it has ",
                               names.empty() ? "none" : names));
  return std::nullopt;
}

std::optional<SparseEntries> ParseSparseQuery(const v1::SparseQuery& query,
                                              const Limits& limits,
                                              const std::string& path,
                                              FieldViolations* violations) {
  const size_t before = violations->count();
  const int n = query.indices_size();
  if (n == 0 || static_cast<size_t>(n) > limits.max_sparse_entries) {
    violations->Add(path + ".indices",
                    absl::StrCat("has ", n, " elements; give 1 to ",
                                 limits.max_sparse_entries));
  } else if (query.values_size() != n) {
    violations->Add(
        path + ".values",
        absl::StrCat("has ", query.values_size(), " elements beside ", n,
                     " indices; give one for each"));
  }
  for (int i = 0; i < query.values_size() && i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    if (i > 0 && query.indices(i) <= query.indices(i - 1)) {
      violations->Add(
          At(path, "indices", at),
          absl::StrCat("is ", query.indices(i), " after ", query.indices(i - 1),
                       "; indices must ascend, none twice"));
      break;
    }
    if (!(std::abs(query.values(i)) <= kMaxSparseWeight)) {
      violations->Add(At(path, "values", at),
                      absl::StrCat("is ", query.values(i),
                                   "; give a number of "
                                   "at most ",
                                   kMaxSparseWeight));
      break;
    }
  }
  if (violations->count() != before) return std::nullopt;
  SparseEntries out;
  out.dims.assign(query.indices().begin(), query.indices().end());
  out.weights.assign(query.values().begin(), query.values().end());
  return out;
}

void ToProto(const std::string& name, const SparseEntries& entries,
             v1::SparseVector* out) {
  out->set_name(name);
  out->mutable_indices()->Assign(entries.dims.begin(), entries.dims.end());
  out->mutable_values()->Assign(entries.weights.begin(), entries.weights.end());
}

void ToColumn(const std::string& name, size_t s,
              const std::vector<std::optional<StoredPoint>>& points,
              v1::SparseColumn* out) {
  out->set_name(name);
  uint64_t end = 0;
  out->add_indptr(end);
  for (const auto& point : points) {
    if (point.has_value() && s < point->sparse.size()) {
      const SparseEntries& entries = point->sparse[s];
      end += entries.dims.size();
      AppendVector(entries.dims, out->mutable_indices());
      AppendVector(entries.weights, out->mutable_values());
    }
    out->add_indptr(end);
  }
}

}  // namespace vicinal
