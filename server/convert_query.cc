#include "server/convert_query.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"
#include "server/convert_expression.h"
#include "server/convert_filter.h"
#include "server/convert_lexical.h"
#include "server/convert_multi.h"
#include "server/convert_quality.h"
#include "server/convert_recommend.h"
#include "server/convert_sparse.h"
#include "server/convert_vector.h"
#include "src/base/status_macros.h"
#include "src/payload/filter_checker.h"

namespace vicinal {
namespace {

size_t ParseK(uint32_t k, const Limits& limits, const std::string& path,
              FieldViolations* violations) {
  if (k == 0 || k > limits.max_k) {
    violations->Add(path, absl::StrCat("is ", k, "; ask for 1 to ",
                                       limits.max_k, " points"));
  }
  return k;
}

// k, from which the first `offset` hits are to be left out.
size_t AddOffset(size_t k, uint32_t offset, const Limits& limits,
                 FieldViolations* violations) {
  if (offset > 0 && k + offset > limits.max_k) {
    violations->Add(
        "offset", absl::StrCat("and k are ", k + offset, " together; at most ",
                               limits.max_k, " are allowed"));
  }
  return k + offset;
}

// The distance that stands for a score, as ScoreOf makes it.
double DistanceOf(float score, Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return score;
    case Metric::kInnerProduct:
      return -static_cast<double>(score);
    case Metric::kCosine:
      return 1.0 - static_cast<double>(score);
  }
  return score;
}

// in: a message with a score_threshold; path: of it.
template <typename Message>
std::optional<double> ParseThreshold(const Message& in,
                                     const VectorField& field,
                                     const std::string& path,
                                     FieldViolations* violations) {
  if (!in.has_score_threshold()) return std::nullopt;
  if (!std::isfinite(in.score_threshold())) {
    violations->Add(path, absl::StrCat("is ", in.score_threshold(),
                                       "; give a finite number, or leave it "
                                       "out"));
    return std::nullopt;
  }
  return DistanceOf(in.score_threshold(), field.metric);
}

Diversity ParseMmr(const v1::Mmr& mmr, const Limits& limits,
                   const std::string& path, FieldViolations* violations) {
  Diversity diversity;
  if (mmr.has_lambda()) diversity.lambda = mmr.lambda();
  if (!(diversity.lambda >= 0 && diversity.lambda <= 1)) {
    violations->Add(path + ".lambda", absl::StrCat("is ", diversity.lambda,
                                                   "; give a number from 0 to "
                                                   "1, or leave it out"));
  }
  if (mmr.candidates() > limits.max_diversity_candidates) {
    violations->Add(
        path + ".candidates",
        absl::StrCat("is ", mmr.candidates(), "; at most ",
                     limits.max_diversity_candidates, " are allowed"));
  }
  if (mmr.candidates() > 0) diversity.candidates = mmr.candidates();
  return diversity;
}

// The query that is being parsed.
struct QueryScope {
  const CollectionSchema& schema;
  const Limits& limits;
  const ReadPoints& read;
  bool grouped = false;  // the outermost stage then has no k of its own
  FieldViolations* violations = nullptr;
  size_t num_stages = 0;
  absl::Status status;  // of what was read
};

// depth: of the stage, from 1.
size_t ParseStageK(uint32_t k, const std::string& path, size_t depth,
                   const QueryScope& scope) {
  if (depth > 1 || !scope.grouped) {
    return ParseK(k, scope.limits, path, scope.violations);
  }
  if (k != 0) {
    scope.violations->Add(
        path, absl::StrCat("is ", k,
                           " beside group_by, which finds as many "
                           "hits as its groups take; leave it out"));
  }
  return 1;
}

std::optional<Query> ParseStage(const v1::Query& query, const std::string& path,
                                size_t depth, QueryScope* scope) {
  const CollectionSchema& schema = scope->schema;
  const Limits& limits = scope->limits;
  FieldViolations* const violations = scope->violations;
  if (depth > limits.max_query_depth ||
      ++scope->num_stages > limits.max_query_stages) {
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
      stage.k = ParseStageK(in.k(), at + ".k", depth, *scope);
      ParseQuality(in.quality(), limits, at + ".quality", violations, &stage);
      stage.force = ParsePlan(in.plan(), at + ".plan", violations);
      const auto f =
          FindVector(in.vector(), schema, at + ".vector", violations);
      if (!f.has_value()) return std::nullopt;
      CheckQuality(in.quality(), schema.vectors[*f], at + ".quality",
                   violations);
      stage.max_distance = ParseThreshold(in, schema.vectors[*f],
                                          at + ".score_threshold", violations);
      if (in.has_feedback()) {
        stage.feedback =
            ParseFeedback(in.feedback(), limits, at + ".feedback", violations);
        const ElementType type = schema.vectors[*f].type;
        if (type != ElementType::kFloat32 && type != ElementType::kFloat16) {
          violations->Add(at + ".feedback",
                          "is for vectors of f32 or f16; leave it out");
        }
      }
      if (in.has_filter()) {
        stage.filter = ParseFilter(in.filter(), at + ".filter", violations);
      }
      if (in.has_recommend()) {
        if (in.has_query()) {
          violations->Add(at + ".recommend", "stands beside query; give one");
        }
        scope->status.Update(ParseRecommend(in.recommend(), schema, *f, limits,
                                            scope->read, at + ".recommend",
                                            violations, &stage));
        return Query{std::move(stage)};
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
      stage.k = ParseStageK(in.k(), at + ".k", depth, *scope);
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
      if (in.kind() != v1::FUSION_UNSPECIFIED) {
        if (!v1::Fusion_IsValid(in.kind())) {
          violations->Add(at + ".kind",
                          absl::StrCat("is ", in.kind(),
                                       "; give one of vicinal.v1.Fusion"));
        }
        stage.kind = static_cast<FusionKind>(in.kind());
      }
      stage.max_distance = ParseScoreThreshold(in, at, violations);
      for (int i = 0; i < in.inputs_size(); ++i) {
        auto input =
            ParseStage(in.inputs(i), At(at, "inputs", i), depth + 1, scope);
        if (input.has_value()) stage.inputs.push_back(*std::move(input));
      }
      return Query{std::move(stage)};
    }
    case v1::Query::kRerank: {
      const v1::Rerank& in = query.rerank();
      const std::string at = path + ".rerank";
      RerankStage stage;
      stage.vector_name = in.vector();
      stage.k = ParseStageK(in.k(), at + ".k", depth, *scope);
      auto input = ParseStage(in.input(), at + ".input", depth + 1, scope);
      if (in.has_multi()) {
        const auto m =
            FindMulti(in.vector(), schema, at + ".vector", violations);
        if (in.has_query() || in.has_sparse() || in.has_mmr()) {
          violations->Add(at + ".multi",
                          "stands beside query, sparse or mmr, which are for "
                          "other vectors; give one");
        }
        stage.max_distance = ParseScoreThreshold(in, at, violations);
        if (!m.has_value()) return std::nullopt;
        stage.multi = ParseMultiQuery(in.multi(), schema.multi[*m], limits,
                                      at + ".multi", violations);
        if (!input.has_value() || !stage.multi.has_value()) {
          return std::nullopt;
        }
        stage.input = std::make_unique<Query>(*std::move(input));
        return Query{std::move(stage)};
      }
      if (in.has_sparse()) {
        FindSparse(in.vector(), schema, at + ".vector", violations);
        if (in.has_query() || in.has_mmr()) {
          violations->Add(at + ".sparse",
                          "stands beside query or mmr, which are for dense "
                          "vectors");
        }
        stage.sparse =
            ParseSparseQuery(in.sparse(), limits, at + ".sparse", violations);
        stage.max_distance = ParseScoreThreshold(in, at, violations);
        if (!input.has_value() || !stage.sparse.has_value()) {
          return std::nullopt;
        }
        stage.input = std::make_unique<Query>(*std::move(input));
        return Query{std::move(stage)};
      }
      const auto f =
          FindVector(in.vector(), schema, at + ".vector", violations);
      if (!input.has_value() || !f.has_value()) return std::nullopt;
      stage.input = std::make_unique<Query>(*std::move(input));
      stage.max_distance = ParseThreshold(in, schema.vectors[*f],
                                          at + ".score_threshold", violations);
      if (in.has_mmr()) {
        stage.diversity = ParseMmr(in.mmr(), limits, at + ".mmr", violations);
      }
      auto vector = ParseQueryVector(in.query(), schema.vectors[*f],
                                     at + ".query", violations);
      if (!vector.has_value()) return std::nullopt;
      stage.query = *std::move(vector);
      return Query{std::move(stage)};
    }
    case v1::Query::kRetrieveSparse: {
      const v1::RetrieveSparse& in = query.retrieve_sparse();
      const std::string at = path + ".retrieve_sparse";
      auto stage = ParseSparseStage(in, schema, limits, at, violations);
      const size_t k = ParseStageK(in.k(), at + ".k", depth, *scope);
      if (!stage.has_value()) return std::nullopt;
      stage->k = k;
      return Query{*std::move(stage)};
    }
    case v1::Query::kRetrieveText: {
      const v1::RetrieveText& in = query.retrieve_text();
      const std::string at = path + ".retrieve_text";
      auto stage = ParseTextStage(in, schema, limits, at, violations);
      const size_t k = ParseStageK(in.k(), at + ".k", depth, *scope);
      if (!stage.has_value()) return std::nullopt;
      stage->k = k;
      return Query{*std::move(stage)};
    }
    case v1::Query::kRetrieveMulti: {
      const v1::RetrieveMulti& in = query.retrieve_multi();
      const std::string at = path + ".retrieve_multi";
      auto stage = ParseMultiStage(in, schema, limits, at, violations);
      const size_t k = ParseStageK(in.k(), at + ".k", depth, *scope);
      if (!stage.has_value()) return std::nullopt;
      stage->k = k;
      return Query{*std::move(stage)};
    }
    case v1::Query::kRescore: {
      const v1::Rescore& in = query.rescore();
      const std::string at = path + ".rescore";
      RescoreStage stage;
      stage.k = ParseStageK(in.k(), at + ".k", depth, *scope);
      stage.max_distance = ParseScoreThreshold(in, at, violations);
      auto input = ParseStage(in.input(), at + ".input", depth + 1, scope);
      auto score = ParseScoreExpression(in.score(), at + ".score", violations);
      if (!input.has_value() || !score.has_value()) return std::nullopt;
      stage.input = std::make_unique<Query>(*std::move(input));
      stage.score = *std::move(score);
      return Query{std::move(stage)};
    }
    case v1::Query::STAGE_NOT_SET:
      break;
  }
  violations->Add(path,
                  "has no stage; set retrieve, retrieve_sparse, "
                  "retrieve_text, retrieve_multi, fuse, rerank or rescore");
  return std::nullopt;
}

std::optional<GroupBy> ParseGroupBy(const v1::SearchRequest& request,
                                    const Limits& limits,
                                    FieldViolations* violations) {
  if (!request.has_group_by()) return std::nullopt;
  const v1::GroupBy& in = request.group_by();
  const absl::Status path = FilterChecker(FilterLimits()).CheckPath(in.path());
  if (!path.ok()) violations->Add("group_by.path", path.message());
  if (in.num_groups() == 0) {
    violations->Add("group_by.num_groups", "is 0; ask for 1 or more groups");
  }
  if (in.group_size() == 0) {
    violations->Add("group_by.group_size",
                    "is 0; ask for 1 or more hits of a group");
  }
  const uint64_t num_hits = uint64_t{in.num_groups()} * in.group_size();
  if (num_hits > limits.max_k) {
    violations->Add("group_by",
                    absl::StrCat("asks for ", num_hits, " hits; at most ",
                                 limits.max_k, " are allowed"));
  }
  if (request.offset() > 0) {
    violations->Add("offset", absl::StrCat("is ", request.offset(),
                                           " beside group_by, which has no "
                                           "pages; ask for more groups"));
  }
  return GroupBy{in.path(), in.group_size(), in.num_groups()};
}

// Batches are of dense vectors; says how the others are searched.
void CheckIsBatched(const std::string& name, const CollectionSchema& schema,
                    FieldViolations* violations) {
  const auto refuse = [&](const char* what, const char* stage) {
    violations->Add(
        "vector",
        absl::StrCat("is \"", name, "\", ", what,
                     "; SearchBatch takes dense vectors only: send a Search "
                     "with ",
                     stage, " for each query"));
  };
  if (schema.FindVector(name).has_value()) return;
  if (schema.FindMulti(name).has_value()) {
    refuse("a multi-vector", "retrieve_multi");
  } else if (schema.FindSparse(name).has_value()) {
    refuse("a sparse vector", "retrieve_sparse");
  } else if (schema.FindText(name).has_value()) {
    refuse("a text", "retrieve_text");
  }
}

}  // namespace

absl::StatusOr<Query> ParseQuery(const v1::SearchRequest& request,
                                 const CollectionSchema& schema,
                                 const Limits& limits, const ReadPoints& read,
                                 FieldViolations* violations) {
  QueryScope scope{schema, limits, read, request.has_group_by(), violations};
  std::optional<GroupBy> group_by = ParseGroupBy(request, limits, violations);
  auto parsed = ParseStage(request.query(), "query", 1, &scope);
  VICINAL_RETURN_IF_ERROR(scope.status);
  if (parsed.has_value()) {
    parsed->offset = request.offset();
    parsed->group_by = std::move(group_by);
    std::visit(
        [&](auto& stage) {
          stage.k = AddOffset(stage.k, request.offset(), limits, violations);
        },
        parsed->stage);
  }
  VICINAL_RETURN_IF_ERROR(violations->ToStatus());
  return *std::move(parsed);
}

absl::StatusOr<std::vector<Query>> ParseSearchBatch(
    const v1::SearchBatchRequest& request, const CollectionSchema& schema,
    const Limits& limits) {
  FieldViolations violations;
  RetrieveStage prototype;
  prototype.vector_name = request.vector();
  prototype.k = AddOffset(ParseK(request.k(), limits, "k", &violations),
                          request.offset(), limits, &violations);
  ParseQuality(request.quality(), limits, "quality", &violations, &prototype);
  if (request.has_filter()) {
    prototype.filter = ParseFilter(request.filter(), "filter", &violations);
  }
  const v1::VectorColumn& queries = request.queries();
  if (queries.present_size() > 0 || !queries.name().empty()) {
    violations.Add("queries", "must have neither name nor present");
  }
  CheckIsBatched(request.vector(), schema, &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  const auto f = FindVector(request.vector(), schema, "vector", &violations);
  CheckType(queries.type(), "queries.type", &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  const VectorField& field = schema.vectors[*f];
  CheckQuality(request.quality(), field, "quality", &violations);
  prototype.max_distance =
      ParseThreshold(request, field, "score_threshold", &violations);
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
        absl::string_view(queries.data()).substr(i * row_bytes, row_bytes),
        type, field, absl::StrCat("queries.data[", i, "]"), &violations);
    if (!vector.has_value()) continue;
    RetrieveStage stage = prototype;
    stage.query = *std::move(vector);
    out.push_back(Query{.stage = std::move(stage), .offset = request.offset()});
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

double ScoreOf(const Query& query, const CollectionSchema& schema,
               float distance) {
  const std::string* name = nullptr;
  const auto* rerank = std::get_if<RerankStage>(&query.stage);
  if (const auto* retrieve = std::get_if<RetrieveStage>(&query.stage)) {
    name = &retrieve->vector_name;
  } else if (rerank != nullptr && !rerank->sparse.has_value() &&
             !rerank->multi.has_value()) {
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

}  // namespace vicinal
