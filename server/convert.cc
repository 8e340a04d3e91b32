#include "server/convert.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/convert_elements.h"
#include "server/convert_multi.h"
#include "server/convert_sparse.h"
#include "server/json_struct.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

constexpr size_t kUuidBytes = 16;

// "name[12]rest" -> 12 and "rest"; nullopt when it does not start so.
std::optional<size_t> ConsumeIndex(absl::string_view name,
                                   absl::string_view* path) {
  if (!absl::StartsWith(*path, name)) return std::nullopt;
  absl::string_view rest = path->substr(name.size());
  if (rest.empty() || rest[0] != '[') return std::nullopt;
  size_t value = 0;
  const auto [end, error] =
      std::from_chars(rest.data() + 1, rest.data() + rest.size(), value);
  if (error != std::errc() || end == rest.data() + rest.size() || *end != ']') {
    return std::nullopt;
  }
  *path = rest.substr(static_cast<size_t>(end - rest.data()) + 1);
  return value;
}

}  // namespace

std::string At(const std::string& path, absl::string_view field, size_t i) {
  return absl::StrCat(path, ".", field, "[", i, "]");
}

ElementType ParseType(v1::ElementType type) {
  return type == v1::ELEMENT_TYPE_UNSPECIFIED ? ElementType::kFloat32
                                              : static_cast<ElementType>(type);
}

bool CheckType(v1::ElementType type, const std::string& path,
               FieldViolations* violations) {
  if (type != v1::ELEMENT_TYPE_BFLOAT16) {
    return CheckTokenType(type, path, violations);
  }
  violations->Add(path,
                  "is BFLOAT16, which only multi-vectors have; give FLOAT32, "
                  "FLOAT16, INT8 or UINT8");
  return false;
}

bool CheckTokenType(v1::ElementType type, const std::string& path,
                    FieldViolations* violations) {
  if (v1::ElementType_IsValid(type)) return true;
  violations->Add(
      path, absl::StrCat("is ", type, "; give one of vicinal.v1.ElementType"));
  return false;
}

std::optional<size_t> FindVector(const std::string& name,
                                 const CollectionSchema& schema,
                                 const std::string& path,
                                 FieldViolations* violations) {
  const std::optional<size_t> f = schema.FindVector(name);
  if (!f.has_value() && schema.FindMulti(name).has_value()) {
    violations->Add(path,
                    absl::StrCat("is \"", name,
                                 "\", a multi-vector, which is written in "
                                 "multi_vectors and searched by "
                                 "retrieve_multi, or by rerank with multi"));
  } else if (!f.has_value() && schema.FindSparse(name).has_value()) {
    violations->Add(path,
                    absl::StrCat("is \"", name,
                                 "\", a sparse vector, which is written in "
                                 "sparse_vectors and searched by "
                                 "retrieve_sparse, or by rerank with sparse"));
  } else if (!f.has_value()) {
    std::string names;
    for (const VectorField& field : schema.vectors) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", "\"", field.name,
                      "\"");
    }
    violations->Add(path,
                    absl::StrCat("is \"", name,
                                 "\", which the collection does not "
                                 "have; it has ",
                                 names.empty() ? "no dense vectors" : names));
  }
  return f;
}

std::optional<PointId> ParsePointId(const v1::PointId& id,
                                    const std::string& path,
                                    FieldViolations* violations) {
  absl::StatusOr<PointId> parsed = PointId();
  std::string field = path;
  switch (id.kind_case()) {
    case v1::PointId::kNumber:
      return PointId(id.number());
    case v1::PointId::kUuid:
      field += ".uuid";
      parsed = PointId::ParseUuid(id.uuid());
      break;
    case v1::PointId::kString:
      field += ".string";
      parsed = PointId::FromString(id.string());
      break;
    case v1::PointId::KIND_NOT_SET:
      violations->Add(path, "is empty; set number, uuid or string");
      return std::nullopt;
  }
  if (!parsed.ok()) {
    violations->Add(field, parsed.status().message());
    return std::nullopt;
  }
  return *std::move(parsed);
}

std::vector<PointId> ParsePointIds(const v1::PointIds& ids,
                                   const std::string& path,
                                   const Limits& limits,
                                   FieldViolations* violations) {
  std::vector<PointId> out;
  const int forms = (ids.numbers_size() > 0) + !ids.uuids().empty() +
                    (ids.strings_size() > 0) + (ids.ids_size() > 0);
  if (forms > 1) {
    violations->Add(path,
                    "has ids in several columns; use one of numbers, uuids, "
                    "strings, ids");
    return out;
  }
  if (ids.uuids().size() % kUuidBytes != 0) {
    violations->Add(path + ".uuids", absl::StrCat("has ", ids.uuids().size(),
                                                  " bytes; a UUID takes 16"));
    return out;
  }
  const size_t n = static_cast<size_t>(ids.numbers_size()) +
                   ids.uuids().size() / kUuidBytes +
                   static_cast<size_t>(ids.strings_size()) +
                   static_cast<size_t>(ids.ids_size());
  if (n > limits.max_batch_points) {
    violations->Add(
        path, absl::StrCat("has ", n, " ids; at most ", limits.max_batch_points,
                           " are allowed: send smaller batches"));
    return out;
  }
  out.reserve(n);
  for (uint64_t number : ids.numbers()) out.emplace_back(number);
  for (size_t i = 0; i + kUuidBytes <= ids.uuids().size(); i += kUuidBytes) {
    PointId::Uuid uuid;
    std::memcpy(uuid.data(), ids.uuids().data() + i, kUuidBytes);
    out.emplace_back(uuid);
  }
  for (int i = 0; i < ids.strings_size(); ++i) {
    auto id = PointId::FromString(ids.strings(i));
    if (!id.ok()) {
      violations->Add(At(path, "strings", i), id.status().message());
    } else {
      out.push_back(*std::move(id));
    }
  }
  for (int i = 0; i < ids.ids_size(); ++i) {
    auto id = ParsePointId(ids.ids(i), At(path, "ids", i), violations);
    if (id.has_value()) out.push_back(*std::move(id));
  }
  return out;
}

void ToProto(const PointId& id, v1::PointId* out) {
  if (id.is_number()) {
    out->set_number(id.number());
  } else if (id.is_uuid()) {
    out->set_uuid(id.ToString());
  } else {
    out->set_string(id.string());
  }
}

void ToProto(const std::vector<PointId>& ids, v1::PointIds* out) {
  const auto all = [&](bool (PointId::*is)() const) {
    return std::all_of(ids.begin(), ids.end(),
                       [&](const PointId& id) { return (id.*is)(); });
  };
  if (all(&PointId::is_number)) {
    out->mutable_numbers()->Reserve(static_cast<int>(ids.size()));
    for (const PointId& id : ids) out->add_numbers(id.number());
  } else if (all(&PointId::is_uuid)) {
    for (const PointId& id : ids) {
      out->mutable_uuids()->append(
          reinterpret_cast<const char*>(id.uuid().data()), kUuidBytes);
    }
  } else if (all(&PointId::is_string)) {
    for (const PointId& id : ids) out->add_strings(id.string());
  } else {
    for (const PointId& id : ids) ToProto(id, out->add_ids());
  }
}

absl::StatusOr<ParsedBatch> ParsedBatch::Parse(const v1::PointBatch& points,
                                               const CollectionSchema& schema,
                                               const Limits& limits,
                                               const std::string& path) {
  ParsedBatch out;
  out.path_ = path;
  FieldViolations violations;
  if (points.has_columns() && points.rows_size() > 0) {
    violations.Add(path, "has both columns and rows; give one of them");
  } else if (points.rows_size() > 0) {
    out.rows_ = true;
    out.ParseRows(points, schema, limits, &violations);
  } else {
    out.ParseColumns(points.columns(), limits, &violations);
  }
  if (violations.empty() && out.batch_.ids.empty()) {
    violations.Add(path, "has no points; send at least one");
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

void ParsedBatch::ParseColumns(const v1::PointColumns& columns,
                               const Limits& limits,
                               FieldViolations* violations) {
  const std::string path = path_ + ".columns";
  batch_.ids = ParsePointIds(columns.ids(), path + ".ids", limits, violations);
  for (int c = 0; c < columns.vectors_size(); ++c) {
    const v1::VectorColumn& in = columns.vectors(c);
    if (!CheckType(in.type(), At(path, "vectors", c) + ".type", violations)) {
      continue;
    }
    VectorColumn column;
    column.name = in.name();
    column.dim = in.dim();
    column.type = ParseType(in.type());
    column.data = in.data();
    column.present.assign(in.present().begin(), in.present().end());
    batch_.vectors.push_back(std::move(column));
  }
  for (const v1::SparseColumn& column : columns.sparse_vectors()) {
    batch_.sparse.push_back(ParseSparseColumn(column));
  }
  for (int c = 0; c < columns.multi_vectors_size(); ++c) {
    auto column = ParseMultiColumn(columns.multi_vectors(c),
                                   At(path, "multi_vectors", c), violations);
    if (column.has_value()) batch_.multi.push_back(*std::move(column));
  }
  for (const std::string& payload : columns.payloads()) {
    batch_.payloads.emplace_back(payload);
  }
}

void ParsedBatch::ParseRows(const v1::PointBatch& points,
                            const CollectionSchema& schema,
                            const Limits& limits, FieldViolations* violations) {
  const size_t num_fields = schema.vectors.size();
  std::vector<std::string> data(num_fields);
  std::vector<std::vector<uint32_t>> present(num_fields);
  std::vector<std::vector<std::pair<size_t, size_t>>> origins(num_fields);
  bool any_payload = false;
  std::vector<std::string> payloads;
  SparseRows sparse(schema);
  MultiRows multi(schema);
  const size_t n = static_cast<size_t>(points.rows_size());
  if (n > limits.max_batch_points) {
    violations->Add(
        path_ + ".rows",
        absl::StrCat("has ", n, " points; at most ", limits.max_batch_points,
                     " are allowed: send smaller batches"));
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    const v1::PointRow& row = points.rows(static_cast<int>(i));
    const std::string path = At(path_, "rows", i);
    auto id = ParsePointId(row.id(), path + ".id", violations);
    batch_.ids.push_back(id.value_or(PointId()));
    for (int v = 0; v < row.vectors_size(); ++v) {
      const v1::Vector& vector = row.vectors(v);
      const std::string at = At(path, "vectors", v);
      const auto f =
          FindVector(vector.name(), schema, at + ".name", violations);
      if (!f.has_value()) continue;
      if (static_cast<size_t>(vector.values_size()) != schema.vectors[*f].dim) {
        violations->Add(
            at + ".values",
            absl::StrCat("has ", vector.values_size(), " elements; vector \"",
                         vector.name(), "\" of this collection has dimension ",
                         schema.vectors[*f].dim));
        continue;
      }
      if (!present[*f].empty() && present[*f].back() == i) {
        violations->Add(at + ".name", "stands twice in this point");
        continue;
      }
      present[*f].push_back(static_cast<uint32_t>(i));
      origins[*f].push_back({i, static_cast<size_t>(v)});
      data[*f].append(reinterpret_cast<const char*>(vector.values().data()),
                      sizeof(float) * schema.vectors[*f].dim);
    }
    sparse.Add(row, path, violations);
    multi.Add(row, path, violations);
    payloads.emplace_back();
    if (row.has_payload()) {
      auto json = StructToJson(row.payload(), limits.max_payload_depth);
      if (!json.ok()) {
        violations->Add(path + ".payload", json.status().message());
        continue;
      }
      any_payload = true;
      payloads.back() = *std::move(json);
    }
  }
  for (size_t f = 0; f < num_fields; ++f) {
    if (present[f].empty()) continue;
    VectorColumn column;
    column.name = schema.vectors[f].name;
    column.dim = schema.vectors[f].dim;
    column.type = ElementType::kFloat32;
    column.data = owned_.emplace_back(std::move(data[f]));
    if (present[f].size() != n) column.present = std::move(present[f]);
    batch_.vectors.push_back(std::move(column));
    origins_.push_back(std::move(origins[f]));
  }
  batch_.sparse = sparse.Take(&owned_, &sparse_origins_);
  batch_.multi = multi.Take(&owned_, &multi_origins_);
  if (any_payload) {
    for (std::string& payload : payloads) {
      batch_.payloads.emplace_back(owned_.emplace_back(std::move(payload)));
    }
  }
}

std::string ParsedBatch::RequestPath(absl::string_view engine_path) const {
  if (!rows_) return absl::StrCat(path_, ".columns.", engine_path);
  absl::string_view rest = engine_path;
  if (const auto i = ConsumeIndex("ids", &rest)) {
    return At(path_, "rows", *i) + ".id";
  }
  rest = engine_path;
  if (const auto i = ConsumeIndex("payloads", &rest)) {
    return At(path_, "rows", *i) + ".payload";
  }
  rest = engine_path;
  if (const auto c = ConsumeIndex("vectors", &rest)) {
    const auto position = ConsumeIndex(".data", &rest);
    if (position.has_value() && *c < origins_.size() &&
        *position < origins_[*c].size()) {
      const auto [row, vector] = origins_[*c][*position];
      return absl::StrCat(At(At(path_, "rows", row), "vectors", vector),
                          ".values", rest);
    }
  }
  rest = engine_path;
  if (const auto c = ConsumeIndex("sparse_vectors", &rest)) {
    const auto row = ConsumeIndex("", &rest);
    if (row.has_value() && *c < sparse_origins_.size() &&
        *row < sparse_origins_[*c].size()) {
      return At(At(path_, "rows", *row), "sparse_vectors",
                sparse_origins_[*c][*row]);
    }
  }
  rest = engine_path;
  if (const auto c = ConsumeIndex("multi_vectors", &rest)) {
    const auto row = ConsumeIndex(".data", &rest);
    if (row.has_value() && *c < multi_origins_.size() &&
        *row < multi_origins_[*c].size()) {
      return At(At(path_, "rows", *row), "multi_vectors",
                multi_origins_[*c][*row]) +
             TokenPath(rest);
    }
  }
  return absl::StrCat(path_, ".rows");
}

Selection ParseSelector(const v1::PointSelector& selector,
                        const CollectionSchema& schema, const std::string& path,
                        FieldViolations* violations) {
  Selection out;
  out.points.payload = selector.with_payload();
  out.rows = selector.form() == v1::REPLY_FORM_ROWS;
  if (selector.with_all_vectors() && selector.vectors_size() > 0) {
    violations->Add(path + ".vectors",
                    "must be empty when with_all_vectors is set");
  }
  for (int i = 0; i < selector.vectors_size(); ++i) {
    if (const auto s = schema.FindSparse(selector.vectors(i))) {
      auto& numbers = out.points.sparse;
      if (std::find(numbers.begin(), numbers.end(), *s) == numbers.end()) {
        numbers.push_back(*s);
      }
      continue;
    }
    if (const auto m = schema.FindMulti(selector.vectors(i))) {
      auto& numbers = out.points.multi;
      if (std::find(numbers.begin(), numbers.end(), *m) == numbers.end()) {
        numbers.push_back(*m);
      }
      continue;
    }
    const auto f = FindVector(selector.vectors(i), schema,
                              At(path, "vectors", i), violations);
    if (!f.has_value()) continue;
    auto& fields = out.points.vectors;
    if (std::find(fields.begin(), fields.end(), *f) == fields.end()) {
      fields.push_back(*f);
    }
  }
  if (selector.with_all_vectors()) {
    for (size_t f = 0; f < schema.vectors.size(); ++f) {
      out.points.vectors.push_back(f);
    }
    for (size_t s = 0; s < schema.sparse.size(); ++s) {
      out.points.sparse.push_back(s);
    }
    for (size_t m = 0; m < schema.multi.size(); ++m) {
      out.points.multi.push_back(m);
    }
  }
  return out;
}

void ToColumns(const CollectionSchema& schema, const Selection& selection,
               const std::vector<std::optional<StoredPoint>>& points,
               bool with_ids, v1::PointColumns* out) {
  if (with_ids) {
    std::vector<PointId> ids;
    ids.reserve(points.size());
    for (const auto& point : points) {
      if (point.has_value()) ids.push_back(point->id);
    }
    ToProto(ids, out->mutable_ids());
  }
  for (size_t f : selection.points.vectors) {
    v1::VectorColumn* column = out->add_vectors();
    column->set_name(schema.vectors[f].name);
    column->set_dim(static_cast<uint32_t>(schema.vectors[f].dim));
    column->set_type(static_cast<v1::ElementType>(schema.vectors[f].type));
    const size_t row_bytes =
        schema.vectors[f].dim * ElementSize(schema.vectors[f].type);
    column->mutable_data()->reserve(points.size() * row_bytes);
    std::vector<uint32_t> present;
    for (size_t i = 0; i < points.size(); ++i) {
      if (!points[i].has_value() || points[i]->vectors[f].empty()) continue;
      present.push_back(static_cast<uint32_t>(i));
      column->mutable_data()->append(points[i]->vectors[f]);
    }
    if (present.empty()) {
      out->mutable_vectors()->RemoveLast();
    } else if (present.size() != points.size()) {
      column->mutable_present()->Assign(present.begin(), present.end());
    }
  }
  for (const size_t s : selection.points.sparse) {
    ToColumn(schema.sparse[s].name, s, points, out->add_sparse_vectors());
  }
  for (const size_t m : selection.points.multi) {
    ToColumn(schema.multi[m], m, points, out->add_multi_vectors());
  }
  if (!selection.points.payload) return;
  for (const auto& point : points) {
    out->add_payloads(point.has_value() ? point->payload : std::string());
  }
}

absl::Status ToRow(const CollectionSchema& schema, const Selection& selection,
                   const StoredPoint& point, v1::PointRow* out) {
  ToProto(point.id, out->mutable_id());
  for (size_t f : selection.points.vectors) {
    if (point.vectors[f].empty()) continue;
    const VectorField& field = schema.vectors[f];
    v1::Vector* vector = out->add_vectors();
    vector->set_name(field.name);
    vector->mutable_values()->Resize(static_cast<int>(field.dim), 0);
    ToFloats(point.vectors[f].data(), field.type,
             {vector->mutable_values()->mutable_data(), field.dim});
  }
  for (const size_t s : selection.points.sparse) {
    if (s >= point.sparse.size() || point.sparse[s].empty()) continue;
    ToProto(schema.sparse[s].name, point.sparse[s], out->add_sparse_vectors());
  }
  for (const size_t m : selection.points.multi) {
    if (m >= point.multi.size() || point.multi[m].empty()) continue;
    ToProto(schema.multi[m], point.multi[m], out->add_multi_vectors());
  }
  if (selection.points.payload && !point.payload.empty()) {
    return JsonToStruct(point.payload, out->mutable_payload());
  }
  return absl::OkStatus();
}

absl::Status ToProto(const CollectionSchema& schema, const Selection& selection,
                     const std::vector<std::optional<StoredPoint>>& points,
                     ReplyBudget* budget, v1::PointBatch* out) {
  if (!selection.rows) {
    ToColumns(schema, selection, points, true, out->mutable_columns());
    return budget->Spend(out->ByteSizeLong());
  }
  for (const auto& point : points) {
    if (!point.has_value()) continue;
    v1::PointRow* row = out->add_rows();
    VICINAL_RETURN_IF_ERROR(ToRow(schema, selection, *point, row));
    VICINAL_RETURN_IF_ERROR(budget->Spend(row->ByteSizeLong()));
  }
  return absl::OkStatus();
}

}  // namespace vicinal
