#include "server/convert_multi.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"
#include "server/convert_elements.h"
#include "server/convert_filter.h"
#include "server/convert_lexical.h"
#include "server/convert_quality.h"

namespace vicinal {
namespace {

// Of each stage of one search.
constexpr size_t kMaxMultiCandidates = 1'000'000;

std::string WrongDim(size_t dim, const MultiVectorField& field) {
  return absl::StrCat("has ", dim, " elements; tokens of multi-vector \"",
                      field.name, "\" of this collection have ", field.dim);
}

// The tokens of a query, as floats; nullopt, and violations, where they have
// not the field's form. Their values are not looked at.
std::optional<std::vector<float>> ReadTokens(const v1::MultiVectorQuery& query,
                                             const MultiVectorField& field,
                                             const Limits& limits,
                                             const std::string& path,
                                             FieldViolations* violations) {
  const auto check_count = [&](size_t n) {
    if (n >= 1 && n <= limits.max_query_tokens) return true;
    violations->Add(path, absl::StrCat("has ", n, " tokens; give 1 to ",
                                       limits.max_query_tokens));
    return false;
  };
  std::vector<float> out;
  if (query.data().empty()) {
    const auto n = static_cast<size_t>(query.tokens_size());
    if (!check_count(n)) return std::nullopt;
    out.reserve(n * field.dim);
    for (size_t t = 0; t < n; ++t) {
      const auto& values = query.tokens(static_cast<int>(t)).values();
      if (static_cast<size_t>(values.size()) != field.dim) {
        violations->Add(At(path, "tokens", t) + ".values",
                        WrongDim(static_cast<size_t>(values.size()), field));
        return std::nullopt;
      }
      out.insert(out.end(), values.begin(), values.end());
    }
    return out;
  }
  if (query.tokens_size() > 0) {
    violations->Add(path, "has both tokens and data; give one of them");
    return std::nullopt;
  }
  if (!CheckTokenType(query.type(), path + ".type", violations)) {
    return std::nullopt;
  }
  if (query.dim() != field.dim) {
    violations->Add(
        path + ".dim",
        absl::StrCat("is ", query.dim(), "; tokens of multi-vector \"",
                     field.name, "\" of this collection have ", field.dim,
                     " elements"));
    return std::nullopt;
  }
  const ElementType type = ParseType(query.type());
  const size_t token_bytes = field.dim * ElementSize(type);
  if (query.data().size() % token_bytes != 0) {
    violations->Add(
        path + ".data",
        absl::StrCat("has ", query.data().size(), " bytes; a token takes ",
                     token_bytes, " in this element type"));
    return std::nullopt;
  }
  const size_t n = query.data().size() / token_bytes;
  if (!check_count(n)) return std::nullopt;
  out.resize(n * field.dim);
  ToFloats(query.data().data(), type, out);
  return out;
}

// Whether each value can be compared.
bool CheckTokens(std::span<const float> tokens, const MultiVectorField& field,
                 const v1::MultiVectorQuery& query, const std::string& path,
                 FieldViolations* violations) {
  const bool is_data = !query.data().empty();
  for (size_t t = 0; t * field.dim < tokens.size(); ++t) {
    const auto token = tokens.subspan(t * field.dim, field.dim);
    const std::string at =
        is_data ? absl::StrCat(path, ".data[", t, "]") : At(path, "tokens", t);
    for (size_t i = 0; i < token.size(); ++i) {
      if (std::abs(token[i]) <= kMaxTokenElement) continue;
      violations->Add(
          absl::StrCat(at, is_data ? "[" : ".values[", i, "]"),
          absl::StrCat("is ", token[i], "; give a number from ",
                       -kMaxTokenElement, " to ", kMaxTokenElement));
      return false;
    }
    if (field.metric == Metric::kCosine && AllZero(token)) {
      violations->Add(at,
                      "is a zero vector, which has no direction and so no "
                      "cosine; leave the token out");
      return false;
    }
  }
  return true;
}

bool CheckWeights(const v1::MultiVectorQuery& query, size_t num_tokens,
                  const std::string& path, FieldViolations* violations) {
  const auto num_weights = static_cast<size_t>(query.weights_size());
  if (num_weights == 0) return true;
  if (num_weights != num_tokens) {
    violations->Add(path + ".weights",
                    absl::StrCat("has ", num_weights,
                                 " elements; give none or one for each of the ",
                                 num_tokens, " tokens"));
    return false;
  }
  for (size_t t = 0; t < num_weights; ++t) {
    const float weight = query.weights(static_cast<int>(t));
    if (weight >= 0 && weight <= kMaxQueryTokenWeight) continue;
    violations->Add(At(path, "weights", t),
                    absl::StrCat("is ", weight, "; give a number from 0 to ",
                                 kMaxQueryTokenWeight));
    return false;
  }
  return true;
}

void ParseEffort(const v1::RetrieveMulti& in, const Limits& limits,
                 const std::string& path, FieldViolations* violations,
                 MultiSearchParams* params) {
  RetrieveStage effort;  // of which these are a part
  if (in.quality().has_ef()) {
    violations->Add(path + ".quality.ef",
                    "is for graphs, which multi-vectors do not have; give "
                    "recall_target or candidates");
  } else if (in.quality().has_nprobe()) {
    violations->Add(path + ".quality.nprobe",
                    "is for IVF indexes, which multi-vectors do not have; give "
                    "recall_target or candidates");
  } else {
    ParseQuality(in.quality(), limits, path + ".quality", violations, &effort);
  }
  params->recall_target = effort.recall_target;
  params->exact = effort.exact || effort.recall_target == 1;
  params->force = ParsePlan(in.plan(), path + ".plan", violations);
  const auto take = [&](uint32_t value, absl::string_view name, size_t* out) {
    *out = value;
    if (value == 0) return;
    if (params->exact) {
      violations->Add(absl::StrCat(path, ".", name),
                      absl::StrCat("is ", value,
                                   " beside a quality that compares all "
                                   "points; leave it out"));
    } else if (value > kMaxMultiCandidates) {
      violations->Add(absl::StrCat(path, ".", name),
                      absl::StrCat("is ", value, "; at most ",
                                   kMaxMultiCandidates, " are allowed"));
    }
  };
  take(in.rescore(), "rescore", &params->rescore);
  take(in.candidates(), "candidates", &params->candidates);
  take(in.exact_candidates(), "exact_candidates", &params->exact_candidates);
}

}  // namespace

std::optional<MultiColumn> ParseMultiColumn(const v1::MultiVectorColumn& column,
                                            const std::string& path,
                                            FieldViolations* violations) {
  if (!CheckTokenType(column.type(), path + ".type", violations)) {
    return std::nullopt;
  }
  MultiColumn out;
  out.name = column.name();
  out.dim = column.dim();
  out.type = ParseType(column.type());
  out.offsets.assign(column.offsets().begin(), column.offsets().end());
  out.data = column.data();
  out.present.assign(column.present().begin(), column.present().end());
  return out;
}

MultiRows::MultiRows(const CollectionSchema& schema)
    : schema_(schema), columns_(schema.multi.size()) {}

void MultiRows::Add(const v1::PointRow& row, const std::string& path,
                    FieldViolations* violations) {
  if (columns_.empty() && row.multi_vectors_size() == 0) return;
  std::vector<size_t> origins(columns_.size(), 0);
  std::vector<bool> is_there(columns_.size(), false);
  for (int v = 0; v < row.multi_vectors_size(); ++v) {
    const v1::MultiVector& vector = row.multi_vectors(v);
    const std::string at = At(path, "multi_vectors", static_cast<size_t>(v));
    const auto m = FindMulti(vector.name(), schema_, at + ".name", violations);
    if (!m.has_value()) continue;
    if (is_there[*m]) {
      violations->Add(at + ".name", "stands twice in this point");
      continue;
    }
    is_there[*m] = true;
    origins[*m] = static_cast<size_t>(v);
    Column& column = columns_[*m];
    for (int t = 0; t < vector.tokens_size(); ++t) {
      const auto& values = vector.tokens(t).values();
      const auto dim = static_cast<size_t>(values.size());
      if (dim != schema_.multi[*m].dim) {
        violations->Add(At(at, "tokens", static_cast<size_t>(t)) + ".values",
                        WrongDim(dim, schema_.multi[*m]));
        break;
      }
      column.data.append(reinterpret_cast<const char*>(values.data()),
                         dim * sizeof(float));
    }
  }
  for (size_t m = 0; m < columns_.size(); ++m) {
    Column& column = columns_[m];
    if (is_there[m]) {
      column.present.push_back(static_cast<uint32_t>(column.origins.size()));
    }
    column.origins.push_back(origins[m]);
    column.offsets.push_back(column.data.size() /
                             (schema_.multi[m].dim * sizeof(float)));
  }
}

std::vector<MultiColumn> MultiRows::Take(
    std::deque<std::string>* owned, std::vector<std::vector<size_t>>* origins) {
  std::vector<MultiColumn> out;
  for (size_t m = 0; m < columns_.size(); ++m) {
    Column& column = columns_[m];
    if (column.present.empty()) continue;
    MultiColumn& to = out.emplace_back();
    to.name = schema_.multi[m].name;
    to.dim = schema_.multi[m].dim;
    to.type = ElementType::kFloat32;
    to.offsets = std::move(column.offsets);
    to.data = owned->emplace_back(std::move(column.data));
    to.present = std::move(column.present);
    origins->push_back(std::move(column.origins));
  }
  return out;
}

std::string TokenPath(absl::string_view engine_path) {
  std::string out;
  for (const absl::string_view name : {".tokens", ".values"}) {
    const size_t end = engine_path.find(']');
    if (engine_path.empty() || engine_path[0] != '[' ||
        end == absl::string_view::npos) {
      break;
    }
    absl::StrAppend(&out, name, engine_path.substr(0, end + 1));
    engine_path.remove_prefix(end + 1);
  }
  absl::StrAppend(&out, engine_path);
  return out;
}

void ToColumn(const MultiVectorField& field, size_t m,
              const std::vector<std::optional<StoredPoint>>& points,
              v1::MultiVectorColumn* out) {
  out->set_name(field.name);
  out->set_dim(static_cast<uint32_t>(field.dim));
  out->set_type(static_cast<v1::ElementType>(field.type));
  const size_t token_bytes = field.dim * ElementSize(field.type);
  out->mutable_offsets()->Reserve(static_cast<int>(points.size() + 1));
  out->add_offsets(0);
  for (const auto& point : points) {
    if (point.has_value() && m < point->multi.size()) {
      out->mutable_data()->append(point->multi[m]);
    }
    out->add_offsets(out->data().size() / token_bytes);
  }
}

void ToProto(const MultiVectorField& field, absl::string_view tokens,
             v1::MultiVector* out) {
  out->set_name(field.name);
  const size_t token_bytes = field.dim * ElementSize(field.type);
  for (; tokens.size() >= token_bytes; tokens.remove_prefix(token_bytes)) {
    auto* values = out->add_tokens()->mutable_values();
    values->Resize(static_cast<int>(field.dim), 0);
    ToFloats(tokens.data(), field.type, {values->mutable_data(), field.dim});
  }
}

std::optional<size_t> FindMulti(const std::string& name,
                                const CollectionSchema& schema,
                                const std::string& path,
                                FieldViolations* violations) {
  const std::optional<size_t> m = schema.FindMulti(name);
  if (m.has_value()) return m;
  std::string what = "a multi-vector that the collection does not have";
  if (schema.FindVector(name).has_value()) {
    what =
        "a dense vector, which is written in vectors and searched by "
        "retrieve, or by rerank with query";
  } else if (schema.FindSparse(name).has_value()) {
    what =
        "a sparse vector, which is written in sparse_vectors and searched "
        "by retrieve_sparse, or by rerank with sparse";
  }
  std::string names;
  for (const MultiVectorField& field : schema.multi) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", "\"", field.name, "\"");
  }
  violations->Add(path, absl::StrCat("is \"", name, "\", ", what,
                                     "; its multi-vectors are ",
                                     names.empty() ? "none" : names));
  return std::nullopt;
}

std::optional<MultiVector> ParseMultiQuery(const v1::MultiVectorQuery& query,
                                           const MultiVectorField& field,
                                           const Limits& limits,
                                           const std::string& path,
                                           FieldViolations* violations) {
  auto tokens = ReadTokens(query, field, limits, path, violations);
  if (!tokens.has_value()) return std::nullopt;
  const bool tokens_ok = CheckTokens(*tokens, field, query, path, violations);
  const bool weights_ok =
      CheckWeights(query, tokens->size() / field.dim, path, violations);
  if (!tokens_ok || !weights_ok) return std::nullopt;
  return MultiVector{*std::move(tokens),
                     {query.weights().begin(), query.weights().end()}};
}

std::optional<MultiStage> ParseMultiStage(const v1::RetrieveMulti& in,
                                          const CollectionSchema& schema,
                                          const Limits& limits,
                                          const std::string& path,
                                          FieldViolations* violations) {
  const size_t before = violations->count();
  MultiStage stage;
  stage.vector_name = in.vector();
  ParseEffort(in, limits, path, violations, &stage.params);
  if (in.has_filter()) {
    stage.filter = ParseFilter(in.filter(), path + ".filter", violations);
  }
  stage.max_distance = ParseScoreThreshold(in, path, violations);
  const auto m = FindMulti(in.vector(), schema, path + ".vector", violations);
  if (m.has_value()) {
    auto query = ParseMultiQuery(in.query(), schema.multi[*m], limits,
                                 path + ".query", violations);
    if (query.has_value()) stage.query = *std::move(query);
  }
  if (violations->count() != before) return std::nullopt;
  return stage;
}

bool ComparesTokens(const Query& query) {
  if (std::holds_alternative<MultiStage>(query.stage)) return true;
  if (const auto* fuse = std::get_if<FuseStage>(&query.stage)) {
    return absl::c_any_of(fuse->inputs, ComparesTokens);
  }
  if (const auto* rerank = std::get_if<RerankStage>(&query.stage)) {
    return rerank->multi.has_value() || ComparesTokens(*rerank->input);
  }
  if (const auto* rescore = std::get_if<RescoreStage>(&query.stage)) {
    return ComparesTokens(*rescore->input);
  }
  return false;
}

}  // namespace vicinal
