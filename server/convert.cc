#include "server/convert.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/convert_filter.h"
#include "server/json_struct.h"
#include "src/base/coding.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

constexpr size_t kUuidBytes = 16;

absl::string_view Text(const std::string& text) { return text; }

std::string At(const std::string& path, absl::string_view field, size_t i) {
  return absl::StrCat(path, ".", field, "[", i, "]");
}

ElementType ParseType(v1::ElementType type) {
  return type == v1::ELEMENT_TYPE_UNSPECIFIED ? ElementType::kFloat32
                                              : static_cast<ElementType>(type);
}

// Whether ParseType can be asked; a violation when not.
bool CheckType(v1::ElementType type, const std::string& path,
               FieldViolations* violations) {
  if (v1::ElementType_IsValid(type)) return true;
  violations->Add(
      path, absl::StrCat("is ", type, "; give one of vicinal.v1.ElementType"));
  return false;
}

std::string WhyRefused(float value, ElementType type) {
  if (!std::isfinite(value)) {
    return absl::StrCat("is ", value, "; only finite numbers are allowed");
  }
  const char* range = type == ElementType::kFloat16
                          ? "an f16 vector holds -65504 to 65504"
                      : type == ElementType::kInt8
                          ? "an int8 vector holds whole numbers -128 to 127"
                          : "a uint8 vector holds whole numbers 0 to 255";
  return absl::StrCat("is ", value, "; ", range);
}

// The loops below have neither branches nor calls, and their flags are as wide
// as the elements: GCC 12 vectorises them so.

bool AllFinite(std::span<const float> values) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  int bad = 0;
  for (const float value : values) bad |= !(std::fabs(value) <= kLargest);
  return bad == 0;
}

bool AllFinite(std::span<const uint16_t> halves) {
  uint16_t bad = 0;
  for (const uint16_t half : halves) bad |= (half & 0x7C00) == 0x7C00;
  return bad == 0;
}

bool AllZero(std::span<const float> values) {
  int other = 0;
  for (const float value : values) other |= value != 0;
  return other == 0;
}

template <typename Element>
void ToFloats(const char* bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = GetFixed<Element>(bytes + i * sizeof(Element));
  }
}

void ToFloats(const char* bytes, ElementType type, std::span<float> out) {
  switch (type) {
    case ElementType::kFloat32:
      std::memcpy(out.data(), bytes, out.size_bytes());
      return;
    case ElementType::kFloat16: {
      std::vector<uint16_t> halves(out.size());
      std::memcpy(halves.data(), bytes, halves.size() * sizeof(uint16_t));
      HalfToFloat(halves, out);
      return;
    }
    case ElementType::kInt8:
      return ToFloats<int8_t>(bytes, out);
    case ElementType::kUint8:
      return ToFloats<uint8_t>(bytes, out);
  }
}

// Whether all values are whole numbers of the type.
template <typename Element>
bool ToWhole(std::span<const float> values, char* out) {
  constexpr float kLowest = std::numeric_limits<Element>::min();
  constexpr float kHighest = std::numeric_limits<Element>::max();
  int bad = 0;
  for (const float value : values) {
    bad |= static_cast<int>(!(value >= kLowest)) |
           static_cast<int>(!(value <= kHighest));
  }
  if (bad != 0) return false;  // those have no int
  for (size_t i = 0; i < values.size(); ++i) {
    const int whole = static_cast<int>(values[i]);
    bad |= static_cast<float>(whole) != values[i];
    out[i] = static_cast<char>(whole);
  }
  return bad == 0;
}

// Whether all values can be stored as `type`; their elements in *out then.
bool FromFloats(std::span<const float> values, ElementType type,
                std::string* out) {
  if (type == ElementType::kFloat32) {
    out->assign(reinterpret_cast<const char*>(values.data()),
                values.size_bytes());
    return AllFinite(values);
  }
  out->resize(values.size() * ElementSize(type));
  switch (type) {
    case ElementType::kFloat32:
      break;
    case ElementType::kFloat16: {
      std::vector<uint16_t> halves(values.size());
      FloatToHalf(values, halves);
      std::memcpy(out->data(), halves.data(), out->size());
      return AllFinite(halves);
    }
    case ElementType::kInt8:
      return ToWhole<int8_t>(values, out->data());
    case ElementType::kUint8:
      return ToWhole<uint8_t>(values, out->data());
  }
  return false;
}

// One query of `dim` elements brought to the field's type, checked.
std::optional<std::string> ConvertQuery(absl::string_view bytes,
                                        ElementType type,
                                        const VectorField& field,
                                        const std::string& path,
                                        FieldViolations* violations) {
  std::string out;
  const bool whole = type == ElementType::kInt8 || type == ElementType::kUint8;
  if (whole && type == field.type && field.metric != Metric::kCosine) {
    out.assign(bytes.data(), bytes.size());
    return out;  // every value is one
  }
  std::vector<float> converted;
  std::span<const float> values;
  if (type == ElementType::kFloat32 &&
      reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0) {
    values = {reinterpret_cast<const float*>(bytes.data()), field.dim};
  } else {
    converted.resize(field.dim);
    ToFloats(bytes.data(), type, converted);
    values = converted;
  }
  if (!FromFloats(values, field.type, &out)) {
    for (size_t i = 0; i < field.dim; ++i) {
      if (FromFloats({&values[i], 1}, field.type, &out)) continue;
      violations->Add(absl::StrCat(path, "[", i, "]"),
                      WhyRefused(values[i], field.type));
      return std::nullopt;
    }
  }
  if (field.metric == Metric::kCosine && AllZero(values)) {
    violations->Add(path,
                    "is a zero vector, which has no direction and so no "
                    "cosine; give a query with a non-zero element");
    return std::nullopt;
  }
  return out;
}

std::optional<size_t> FindVector(const std::string& name,
                                 const CollectionSchema& schema,
                                 const std::string& path,
                                 FieldViolations* violations) {
  const std::optional<size_t> f = schema.FindVector(name);
  if (!f.has_value()) {
    std::string names;
    for (const VectorField& field : schema.vectors) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", "\"", field.name,
                      "\"");
    }
    violations->Add(path, absl::StrCat("is \"", name,
                                       "\", which the collection does not "
                                       "have; it has ",
                                       names));
  }
  return f;
}

std::optional<std::string> ParseQueryVector(const v1::QueryVector& query,
                                            const VectorField& field,
                                            const std::string& path,
                                            FieldViolations* violations) {
  if (query.values_size() > 0 && !query.data().empty()) {
    violations->Add(path, "has both values and data; give one of them");
    return std::nullopt;
  }
  if (!CheckType(query.type(), path + ".type", violations)) {
    return std::nullopt;
  }
  if (query.values_size() > 0 || query.data().empty()) {
    if (static_cast<size_t>(query.values_size()) != field.dim) {
      violations->Add(
          path + ".values",
          absl::StrCat("has ", query.values_size(), " elements; vector \"",
                       field.name, "\" of this collection has dimension ",
                       field.dim));
      return std::nullopt;
    }
    return ConvertQuery(
        absl::string_view(reinterpret_cast<const char*>(query.values().data()),
                          field.dim * sizeof(float)),
        ElementType::kFloat32, field, path + ".values", violations);
  }
  const ElementType type = ParseType(query.type());
  const size_t wanted = field.dim * ElementSize(type);
  if (query.data().size() != wanted) {
    violations->Add(path + ".data",
                    absl::StrCat("has ", query.data().size(),
                                 " bytes; one vector of dimension ", field.dim,
                                 " takes ", wanted, " in this element type"));
    return std::nullopt;
  }
  return ConvertQuery(query.data(), type, field, path + ".data", violations);
}

size_t ParseK(uint32_t k, const Limits& limits, const std::string& path,
              FieldViolations* violations) {
  if (k == 0 || k > limits.max_k) {
    violations->Add(path, absl::StrCat("is ", k, "; ask for 1 to ",
                                       limits.max_k, " points"));
  }
  return k;
}

void ParseQuality(const v1::Quality& quality, const Limits& limits,
                  const std::string& path, FieldViolations* violations,
                  RetrieveStage* stage) {
  switch (quality.kind_case()) {
    case v1::Quality::kRecallTarget:
      stage->recall_target = quality.recall_target();
      if (!(stage->recall_target > 0 && stage->recall_target <= 1)) {
        violations->Add(path + ".recall_target",
                        absl::StrCat("is ", stage->recall_target,
                                     "; give a share over 0 and at most 1"));
      }
      break;
    case v1::Quality::kEf:
      stage->ef = quality.ef();
      if (quality.ef() == 0 || quality.ef() > limits.max_ef) {
        violations->Add(
            path + ".ef",
            absl::StrCat("is ", quality.ef(), "; give 1 to ", limits.max_ef));
      }
      break;
    case v1::Quality::kNprobe:
      stage->nprobe = quality.nprobe();
      if (quality.nprobe() == 0 || quality.nprobe() > kMaxIvfLists) {
        violations->Add(path + ".nprobe",
                        absl::StrCat("is ", quality.nprobe(), "; give 1 to ",
                                     kMaxIvfLists));
      }
      break;
    case v1::Quality::kExact:
      stage->exact = true;
      if (!quality.exact()) {
        violations->Add(path + ".exact",
                        "is false; set it to true or leave it out");
      }
      break;
    case v1::Quality::KIND_NOT_SET:
      break;
  }
}

// Whether the quality is one that the vector's index knows.
void CheckQuality(const v1::Quality& quality, const VectorField& field,
                  const std::string& path, FieldViolations* violations) {
  if (quality.has_ef() && field.index == IndexKind::kIvf) {
    violations->Add(path + ".ef",
                    absl::StrCat("is for graphs, and vector \"", field.name,
                                 "\" has an IVF index; give nprobe or "
                                 "recall_target"));
  }
  if (quality.has_nprobe() && field.index == IndexKind::kHnsw) {
    violations->Add(
        path + ".nprobe",
        absl::StrCat("is for IVF indexes, and vector \"", field.name,
                     "\" has a graph; give ef or recall_target"));
  }
}

struct QueryBudget {
  size_t depth = 0;
  size_t stages = 0;
};

std::optional<Query> ParseStage(const v1::Query& query,
                                const CollectionSchema& schema,
                                const Limits& limits, const std::string& path,
                                size_t depth, size_t* stages,
                                FieldViolations* violations) {
  if (depth > limits.max_query_depth || ++*stages > limits.max_query_stages) {
    violations->Add(path,
                    absl::StrCat("makes the query too large; at most ",
                                 limits.max_query_stages, " stages, ",
                                 limits.max_query_depth, " above one another"));
    return std::nullopt;
  }
  switch (query.stage_case()) {
    case v1::Query::kRetrieve: {
      const v1::Retrieve& in = query.retrieve();
      const std::string at = path + ".retrieve";
      RetrieveStage stage;
      stage.vector_name = in.vector();
      stage.k = ParseK(in.k(), limits, at + ".k", violations);
      ParseQuality(in.quality(), limits, at + ".quality", violations, &stage);
      const auto f =
          FindVector(in.vector(), schema, at + ".vector", violations);
      if (!f.has_value()) return std::nullopt;
      CheckQuality(in.quality(), schema.vectors[*f], at + ".quality",
                   violations);
      if (in.has_filter()) {
        stage.filter = ParseFilter(in.filter(), at + ".filter", violations);
      }
      auto vector = ParseQueryVector(in.query(), schema.vectors[*f],
                                     at + ".query", violations);
      if (!vector.has_value()) return std::nullopt;
      stage.query = *std::move(vector);
      return Query{std::move(stage)};
    }
    case v1::Query::kFuse: {
      const v1::Fuse& in = query.fuse();
      const std::string at = path + ".fuse";
      FuseStage stage;
      stage.k = ParseK(in.k(), limits, at + ".k", violations);
      if (in.inputs_size() == 0) {
        violations->Add(at + ".inputs", "is empty; give at least one query");
      }
      if (in.weights_size() != 0 && in.weights_size() != in.inputs_size()) {
        violations->Add(at + ".weights",
                        absl::StrCat("has ", in.weights_size(),
                                     " elements; give none or one for each of "
                                     "the ",
                                     in.inputs_size(), " inputs"));
      }
      for (int i = 0; i < in.weights_size(); ++i) {
        if (!(in.weights(i) >= 0) || !std::isfinite(in.weights(i))) {
          violations->Add(At(at, "weights", i),
                          absl::StrCat("is ", in.weights(i),
                                       "; give a finite number, 0 or larger"));
        }
        stage.weights.push_back(in.weights(i));
      }
      if (in.rank_constant() != 0) stage.rank_constant = in.rank_constant();
      if (!(stage.rank_constant > 0) || !std::isfinite(stage.rank_constant)) {
        violations->Add(at + ".rank_constant",
                        absl::StrCat("is ", in.rank_constant(),
                                     "; give a number over 0, or 0 for 60"));
      }
      for (int i = 0; i < in.inputs_size(); ++i) {
        auto input =
            ParseStage(in.inputs(i), schema, limits, At(at, "inputs", i),
                       depth + 1, stages, violations);
        if (input.has_value()) stage.inputs.push_back(*std::move(input));
      }
      return Query{std::move(stage)};
    }
    case v1::Query::kRerank: {
      const v1::Rerank& in = query.rerank();
      const std::string at = path + ".rerank";
      RerankStage stage;
      stage.vector_name = in.vector();
      stage.k = ParseK(in.k(), limits, at + ".k", violations);
      auto input = ParseStage(in.input(), schema, limits, at + ".input",
                              depth + 1, stages, violations);
      const auto f =
          FindVector(in.vector(), schema, at + ".vector", violations);
      if (!input.has_value() || !f.has_value()) return std::nullopt;
      stage.input = std::make_unique<Query>(*std::move(input));
      auto vector = ParseQueryVector(in.query(), schema.vectors[*f],
                                     at + ".query", violations);
      if (!vector.has_value()) return std::nullopt;
      stage.query = *std::move(vector);
      return Query{std::move(stage)};
    }
    case v1::Query::STAGE_NOT_SET:
      break;
  }
  violations->Add(path, "has no stage; set retrieve, fuse or rerank");
  return std::nullopt;
}

v1::SegmentState ToProto(SegmentState state) {
  return static_cast<v1::SegmentState>(state);
}

google::protobuf::Timestamp ToTimestamp(int64_t unix_micros) {
  google::protobuf::Timestamp out;
  out.set_seconds(unix_micros / 1'000'000);
  out.set_nanos(static_cast<int32_t>(unix_micros % 1'000'000) * 1000);
  return out;
}

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

std::optional<Query> ParseQuery(const v1::Query& query,
                                const CollectionSchema& schema,
                                const Limits& limits, const std::string& path,
                                FieldViolations* violations) {
  size_t stages = 0;
  return ParseStage(query, schema, limits, path, 1, &stages, violations);
}

absl::StatusOr<std::vector<Query>> ParseSearchBatch(
    const v1::SearchBatchRequest& request, const CollectionSchema& schema,
    const Limits& limits) {
  FieldViolations violations;
  RetrieveStage prototype;
  prototype.vector_name = request.vector();
  prototype.k = ParseK(request.k(), limits, "k", &violations);
  ParseQuality(request.quality(), limits, "quality", &violations, &prototype);
  if (request.has_filter()) {
    prototype.filter = ParseFilter(request.filter(), "filter", &violations);
  }
  const v1::VectorColumn& queries = request.queries();
  if (queries.present_size() > 0 || !queries.name().empty()) {
    violations.Add("queries", "must have neither name nor present");
  }
  const auto f = FindVector(request.vector(), schema, "vector", &violations);
  CheckType(queries.type(), "queries.type", &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  const VectorField& field = schema.vectors[*f];
  CheckQuality(request.quality(), field, "quality", &violations);
  if (queries.dim() != field.dim) {
    violations.Add(
        "queries.dim",
        absl::StrCat("is ", queries.dim(), "; vector \"", field.name,
                     "\" of this collection has dimension ", field.dim));
    return violations.ToStatus();
  }
  const ElementType type = ParseType(queries.type());
  const size_t row_bytes = field.dim * ElementSize(type);
  const size_t n = queries.data().size() / row_bytes;
  if (n == 0 || queries.data().size() % row_bytes != 0) {
    violations.Add(
        "queries.data",
        absl::StrCat("has ", queries.data().size(),
                     " bytes; send one or more vectors of ", row_bytes));
  } else if (n > limits.max_queries_per_batch) {
    violations.Add("queries.data",
                   absl::StrCat("has ", n, " queries; at most ",
                                limits.max_queries_per_batch,
                                " are allowed: send smaller batches"));
  } else if (n * prototype.k > limits.max_results_per_batch) {
    violations.Add(
        "k", absl::StrCat("times the number of queries is ", n * prototype.k,
                          "; at most ", limits.max_results_per_batch,
                          " results are allowed in one batch"));
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  std::vector<Query> out;
  out.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    auto vector = ConvertQuery(
        Text(queries.data()).substr(i * row_bytes, row_bytes), type, field,
        absl::StrCat("queries.data[", i, "]"), &violations);
    if (!vector.has_value()) continue;
    RetrieveStage stage = prototype;
    stage.query = *std::move(vector);
    out.push_back(Query{std::move(stage)});
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

double ScoreOf(const Query& query, const CollectionSchema& schema,
               float distance) {
  const std::string* name = nullptr;
  if (const auto* retrieve = std::get_if<RetrieveStage>(&query.stage)) {
    name = &retrieve->vector_name;
  } else if (const auto* rerank = std::get_if<RerankStage>(&query.stage)) {
    name = &rerank->vector_name;
  } else {
    return -static_cast<double>(distance);
  }
  const auto f = schema.FindVector(*name);
  switch (f.has_value() ? schema.vectors[*f].metric : Metric::kL2) {
    case Metric::kL2:
      return distance;
    case Metric::kInnerProduct:
      return -static_cast<double>(distance);
    case Metric::kCosine:
      return 1.0 - static_cast<double>(distance);
  }
  return distance;
}

HnswParams ParseHnsw(const v1::HnswConfig& config) {
  HnswParams params;
  if (config.m() != 0) params.m = config.m();
  if (config.ef_construction() != 0) {
    params.ef_construction = config.ef_construction();
  }
  return params;
}

IvfParams ParseIvf(const v1::IvfConfig& config) {
  return {.num_lists = config.num_lists()};
}

// An unknown kind stays unknown, for the schema's validation to refuse.
CodecSpec ParseCodec(const v1::CodecConfig& config) {
  const int kind = config.kind();
  return {
      .kind = static_cast<CodecSpec::Kind>(kind < 0 || kind > 255 ? 255 : kind),
      .avg_bits = config.avg_bits()};
}

MemorySpec ParseMemory(const v1::MemoryConfig& config) {
  MemorySpec memory{.budget_bytes = config.budget_bytes()};
  const int tier = config.tier();
  if (tier != v1::MEMORY_TIER_UNSPECIFIED) {
    memory.tier =
        static_cast<MemoryTier>(tier < 1 || tier > 255 ? 255 : tier - 1);
  }
  return memory;
}

void ToProto(const ResourceEstimate& estimate, v1::ResourceEstimate* out) {
  out->set_ram_bytes(estimate.ram_bytes);
  out->set_mapped_bytes(estimate.mapped_bytes);
  out->set_disk_bytes(estimate.disk_bytes);
  out->set_build_seconds(estimate.build_seconds);
  for (const std::string& warning : estimate.warnings) {
    out->add_warnings(warning);
  }
}

CollectionSchema ParseSchema(const v1::Collection& collection,
                             const std::string& path,
                             FieldViolations* violations) {
  CollectionSchema schema;
  schema.name = collection.name();
  schema.memory = ParseMemory(collection.memory());
  for (int i = 0; i < collection.vectors_size(); ++i) {
    const v1::VectorConfig& in = collection.vectors(i);
    const std::string at = At(path, "vectors", static_cast<size_t>(i));
    VectorField field;
    field.index = IndexKind::kAuto;
    field.name = in.name();
    field.dim = in.dim();
    // Before the cast: the engine's types have fewer bits.
    if (v1::Metric_IsValid(in.metric())) {
      field.metric = static_cast<Metric>(in.metric());
    } else {
      violations->Add(
          at + ".metric",
          absl::StrCat("is ", in.metric(), "; give one of vicinal.v1.Metric"));
    }
    if (CheckType(in.type(), at + ".type", violations)) {
      field.type = ParseType(in.type());
    }
    if (in.index().has_flat()) field.index = IndexKind::kFlat;
    if (in.index().has_hnsw()) {
      field.index = IndexKind::kHnsw;
      field.hnsw = ParseHnsw(in.index().hnsw());
    }
    if (in.index().has_ivf()) {
      field.index = IndexKind::kIvf;
      field.ivf = ParseIvf(in.index().ivf());
    }
    field.codec = ParseCodec(in.codec());
    schema.vectors.push_back(std::move(field));
  }
  return schema;
}

void ToProto(const CollectionSchema& schema, const CollectionStats& stats,
             v1::Collection* out) {
  out->set_name(schema.name);
  out->set_uuid(schema.uuid);
  *out->mutable_create_time() = ToTimestamp(schema.created_unix_micros);
  for (const VectorField& field : schema.vectors) {
    v1::VectorConfig* vector = out->add_vectors();
    vector->set_name(field.name);
    vector->set_dim(static_cast<uint32_t>(field.dim));
    vector->set_metric(static_cast<v1::Metric>(field.metric));
    vector->set_type(static_cast<v1::ElementType>(field.type));
    if (field.index == IndexKind::kFlat) {
      vector->mutable_index()->mutable_flat();
    } else if (field.index == IndexKind::kAuto) {
      vector->mutable_index()->mutable_automatic();
    } else if (field.index == IndexKind::kIvf) {
      vector->mutable_index()->mutable_ivf()->set_num_lists(
          field.ivf.num_lists);
    } else {
      auto* hnsw = vector->mutable_index()->mutable_hnsw();
      hnsw->set_m(field.hnsw.m);
      hnsw->set_ef_construction(field.hnsw.ef_construction);
    }
    vector->mutable_codec()->set_kind(
        static_cast<v1::CodecKind>(field.codec.kind));
    vector->mutable_codec()->set_avg_bits(field.codec.avg_bits);
  }
  out->mutable_memory()->set_tier(static_cast<v1::MemoryTier>(
      static_cast<int>(schema.memory.tier) + v1::MEMORY_TIER_RAM));
  out->mutable_memory()->set_budget_bytes(schema.memory.budget_bytes);
  v1::CollectionStats* to = out->mutable_stats();
  to->set_num_points(stats.num_points);
  to->set_num_indexed_points(stats.num_indexed);
  to->set_sequence(stats.sequence);
  to->set_degraded(stats.degraded);
  uint64_t vector_bytes = 0, index_bytes = 0, code_bytes = 0, ram_bytes = 0,
           file_bytes = 0;
  for (const SegmentStats& segment : stats.segments) {
    v1::SegmentStats* s = to->add_segments();
    s->set_number(segment.number);
    s->set_state(ToProto(segment.state));
    s->set_num_rows(segment.num_rows);
    s->set_num_deleted(segment.num_deleted);
    s->set_vector_bytes(segment.vector_bytes);
    s->set_index_bytes(segment.index_bytes);
    s->set_file_bytes(segment.file_bytes);
    s->set_code_bytes(segment.code_bytes);
    s->set_ram_bytes(segment.ram_bytes);
    s->set_pinned_bytes(segment.pinned_bytes);
    for (const SegmentIndex index : segment.indexes) {
      s->add_indexes(static_cast<v1::SegmentIndex>(index));
    }
    ram_bytes += segment.ram_bytes;
    file_bytes += segment.file_bytes;
    code_bytes += segment.code_bytes;
    vector_bytes += segment.vector_bytes;
    index_bytes += segment.index_bytes;
  }
  for (const RecallStats& recall : stats.recall) {
    v1::RecallStats* r = to->add_recall();
    r->set_vector_name(schema.vectors[recall.field].name);
    r->set_num_queries(recall.num_queries);
    r->set_asked(recall.asked);
    r->set_found(recall.found);
    r->set_num_calibrations(recall.num_calibrations);
  }
  to->set_vector_bytes(vector_bytes);
  to->set_index_bytes(index_bytes);
  to->set_code_bytes(code_bytes);
  to->set_ram_bytes(ram_bytes);
  to->set_file_bytes(file_bytes);
  to->set_search_major_faults(stats.search_major_faults);
}

void ToProto(const OperationInfo& info, v1::Operation* out) {
  out->set_name(info.name);
  out->set_kind(info.kind);
  out->set_collection(info.collection);
  out->set_phase(info.phase);
  out->set_done_rows(info.done);
  out->set_total_rows(info.total);
  *out->mutable_start_time() = ToTimestamp(info.started_unix_micros);
  out->set_done(info.finished);
  if (!info.finished) return;
  *out->mutable_end_time() = ToTimestamp(info.finished_unix_micros);
  out->mutable_error()->set_code(static_cast<int>(info.status.code()));
  out->mutable_error()->set_message(std::string(info.status.message()));
}

}  // namespace vicinal
