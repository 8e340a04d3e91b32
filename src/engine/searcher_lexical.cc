// Stages of a Searcher that find points by terms, and feedback.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "index/lexical_field.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/engine/lexical_query.h"
#include "src/engine/multi_rows.h"
#include "src/engine/searcher.h"
#include "src/engine/searcher_stages.h"
#include "src/engine/text_plan.h"

namespace vicinal {
namespace {

double LengthOf(std::span<const float> values) {
  double squares = 0;
  for (const float value : values) {
    squares += static_cast<double>(value) * value;
  }
  return std::sqrt(squares);
}

// Of a vector in a field's own type, which is f32 or f16.
std::vector<float> AsFloats(const void* vector, const FieldLayout& field) {
  std::vector<float> out(field.dim);
  if (field.type == ElementType::kFloat32) {
    std::memcpy(out.data(), vector, field.row_bytes);
    return out;
  }
  const auto* halves = static_cast<const uint16_t*>(vector);
  for (size_t i = 0; i < field.dim; ++i) out[i] = HalfToFloat(halves[i]);
  return out;
}

absl::Status NoSuchText(absl::string_view path, absl::string_view collection) {
  return absl::InvalidArgumentError(absl::StrCat(
      "collection \"", collection, "\" has no text \"", path, "\""));
}

}  // namespace

std::vector<const Segment*> Searcher::Segments() const {
  std::vector<const Segment*> segments;
  for (const auto& segment : pin_.view->sealed) {
    segments.push_back(segment.get());
  }
  for (const auto& segment : pin_.view->frozen) {
    segments.push_back(segment.get());
  }
  for (const MemorySegment* segment = pin_.view->growing.get();
       segment != nullptr; segment = segment->next()) {
    segments.push_back(segment);
  }
  return segments;
}

absl::StatusOr<SparseEntries> Searcher::EntriesOf(const SparseStage& stage,
                                                  size_t s) const {
  if (!stage.text.has_value()) return stage.query;
  if (s >= encoders_.size() || encoders_[s] == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "sparse vector \"", stage.vector_name,
        "\" has no encoder, so it cannot be asked with text; give it one "
        "(SetSparseEncoder, vicinal encoder set) or ask with indices and "
        "values"));
  }
  TokenWeights encoded = encoders_[s]->EncodeQuery(*stage.text);
  return SparseEntries{std::move(encoded.ids), std::move(encoded.weights)};
}

absl::StatusOr<Searcher::StageResult> Searcher::RetrieveSparse(
    const SparseStage& stage, size_t k, Context* context) const {
  const std::optional<size_t> s = schema_.FindSparse(stage.vector_name);
  if (!s.has_value()) {
    return CannotAsk(schema_, stage.vector_name, VectorKind::kSparse);
  }
  VICINAL_ASSIGN_OR_RETURN(SparseEntries entries, EntriesOf(stage, *s));
  const std::vector<const Segment*> segments = Segments();
  const SparseParams params{.query_mass = stage.query_mass,
                            .candidates = stage.candidates};
  const auto find = [&](SparseEntries query, size_t wanted) {
    const SparsePlan plan(stage.vector_name, *s, std::move(query), params,
                          schema_.sparse[*s].idf, segments);
    SegmentQuery own;
    own.lexical = &plan;
    return FindNearest(own, wanted, FilterOf(stage.filter), {}, context);
  };
  if (stage.feedback.has_value()) {
    VICINAL_ASSIGN_OR_RETURN(const StageResult first,
                             find(entries, stage.feedback->documents));
    entries =
        LearnSparse(*stage.feedback, *s, std::move(entries), first.candidates);
  }
  VICINAL_ASSIGN_OR_RETURN(StageResult result, find(std::move(entries), k));
  CutOff(stage.max_distance, &result.candidates);
  return result;
}

absl::StatusOr<TextScope> Searcher::ScopeOf(const TextStage& stage) const {
  TextScope scope;
  std::vector<TextStage::Field> fields = stage.fields;
  if (fields.empty()) {
    for (const TextField& text : schema_.texts) fields.push_back({text.path});
  }
  if (fields.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "collection \"", schema_.name, "\" has no text to search in"));
  }
  std::optional<size_t> first;
  for (const TextStage::Field& field : fields) {
    const std::optional<size_t> t = schema_.FindText(field.path);
    if (!t.has_value()) return NoSuchText(field.path, schema_.name);
    const TextField& text = schema_.texts[*t];
    if (!first.has_value()) {
      first = t;
      scope.k1 = stage.k1.value_or(text.k1);
    } else if (text.analyzer != schema_.texts[*first].analyzer) {
      return absl::InvalidArgumentError(absl::StrCat(
          "texts \"", schema_.texts[*first].path, "\" and \"", text.path,
          "\" have different analyzers; search them by a query each and fuse "
          "these"));
    }
    scope.fields.push_back(
        {layout_.num_sparse + *t, field.boost, stage.b.value_or(text.b)});
  }
  return scope;
}

absl::StatusOr<Searcher::StageResult> Searcher::RetrieveText(
    const TextStage& stage, size_t k, Context* context) const {
  VICINAL_ASSIGN_OR_RETURN(TextScope scope, ScopeOf(stage));
  std::vector<size_t> fields;
  for (const TextScope::Field& field : scope.fields) fields.push_back(field.l);
  VICINAL_ASSIGN_OR_RETURN(TextNode root,
                           AnalyzeDemand(stage.demand, layout_, fields));
  const std::vector<const Segment*> segments = Segments();
  const std::string name =
      schema_.texts[scope.fields[0].l - layout_.num_sparse].path;
  TextPlan plan(name, std::move(scope), std::move(root), segments, stop_);
  VICINAL_RETURN_IF_ERROR(stop_.Check());
  SegmentQuery query;
  query.lexical = &plan;
  RowFilter* const filter = FilterOf(stage.filter);
  if (stage.feedback.has_value()) {
    VICINAL_ASSIGN_OR_RETURN(
        const StageResult first,
        FindNearest(query, stage.feedback->documents, filter, {}, context));
    std::vector<SegmentRow> rows;
    for (const Candidate& candidate : first.candidates) {
      rows.push_back({candidate.segment, candidate.row});
    }
    plan.LearnFrom(rows, stage.feedback->terms, stage.feedback->alpha,
                   stage.feedback->beta, segments, stop_);
    VICINAL_RETURN_IF_ERROR(stop_.Check());
  }
  VICINAL_ASSIGN_OR_RETURN(StageResult result,
                           FindNearest(query, k, filter, {}, context));
  CutOff(stage.max_distance, &result.candidates);
  return result;
}

absl::Status Searcher::ScoreSparse(const RerankStage& stage,
                                   std::vector<Candidate>* candidates) const {
  const std::optional<size_t> s = schema_.FindSparse(stage.vector_name);
  if (!s.has_value()) {
    return CannotAsk(schema_, stage.vector_name, VectorKind::kSparse);
  }
  const SparsePlan plan(stage.vector_name, *s, *stage.sparse, {.scan = true},
                        schema_.sparse[*s].idf, Segments());
  std::erase_if(*candidates, [&](const Candidate& candidate) {
    bool has_entries = false;
    candidate.segment->lexical(*s).ForEachEntry(
        candidate.row, [&](uint32_t, float) { has_entries = true; });
    return !has_entries;
  });
  for (Candidate& candidate : *candidates) {
    VICINAL_RETURN_IF_ERROR(stop_.Check());
    TopK top(1);
    SegmentQuery query;
    query.k = 1;
    VICINAL_RETURN_IF_ERROR(plan.Search(*candidate.segment, candidate.row,
                                        candidate.row + 1, query, stop_, &top,
                                        nullptr));
    const std::vector<Neighbor> found = top.TakeSorted();
    candidate.distance = found.empty() ? 0 : found[0].distance;
  }
  return absl::OkStatus();
}

std::vector<float> Searcher::LearnDense(
    const Feedback& feedback, size_t field, const void* query,
    std::span<const Candidate> found) const {
  const FieldLayout& layout = layout_.fields[field];
  // Under L2 places count, else directions.
  const bool is_l2 = layout.metric == Metric::kL2;
  std::vector<float> sum = AsFloats(query, layout);
  const auto scale_of = [&](std::span<const float> vector) {
    const double length = is_l2 ? 1 : LengthOf(vector);
    return length == 0 ? 0.0 : 1 / length;
  };
  const double own = feedback.alpha * scale_of(sum);
  for (float& value : sum) value = static_cast<float>(value * own);
  for (const Candidate& candidate : found) {
    const std::vector<float> vector =
        AsFloats(candidate.segment->VectorOf(field, candidate.row), layout);
    const double share =
        feedback.beta * scale_of(vector) / static_cast<double>(found.size());
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] = static_cast<float>(sum[i] + share * vector[i]);
    }
  }
  const double total = feedback.alpha + (found.empty() ? 0 : feedback.beta);
  double scale = 1;
  if (is_l2) scale = total > 0 ? 1 / total : 1;
  if (layout.normalized) scale = scale_of(sum);
  for (float& value : sum) value = static_cast<float>(value * scale);
  if (layout.type == ElementType::kFloat32) return sum;
  std::vector<float> halves((layout.dim + 1) / 2);
  auto* out = reinterpret_cast<uint16_t*>(halves.data());
  for (size_t i = 0; i < layout.dim; ++i) out[i] = FloatToHalf(sum[i]);
  return halves;
}

SparseEntries Searcher::LearnSparse(const Feedback& feedback, size_t l,
                                    SparseEntries query,
                                    std::span<const Candidate> found) const {
  std::map<uint32_t, double> mean;
  for (const Candidate& candidate : found) {
    const LexicalField& field = candidate.segment->lexical(l);
    std::vector<std::pair<uint32_t, float>> entries;
    double squares = 0;
    field.ForEachEntry(candidate.row, [&](uint32_t term, float weight) {
      entries.emplace_back(field.DimOf(term), weight);
      squares += static_cast<double>(weight) * weight;
    });
    for (const auto& [dim, weight] : entries) {
      // Negative ones would undo what makes skipping possible.
      if (weight <= 0) continue;
      mean[dim] +=
          weight / std::sqrt(squares) / static_cast<double>(found.size());
    }
  }
  const double length = LengthOf(query.weights);
  std::map<uint32_t, double> sum;
  for (size_t i = 0; i < query.dims.size() && length > 0; ++i) {
    sum[query.dims[i]] = feedback.alpha * query.weights[i] / length;
  }
  std::vector<std::pair<double, uint32_t>> heaviest;
  for (const auto& [dim, weight] : mean) {
    if (sum.contains(dim)) {
      sum[dim] += feedback.beta * weight;
    } else {
      heaviest.emplace_back(weight, dim);
    }
  }
  std::sort(heaviest.begin(), heaviest.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (heaviest.size() > feedback.terms) heaviest.resize(feedback.terms);
  for (const auto& [weight, dim] : heaviest) sum[dim] = feedback.beta * weight;
  SparseEntries out;
  for (const auto& [dim, weight] : sum) {
    out.dims.push_back(dim);
    out.weights.push_back(static_cast<float>(weight));
  }
  return out;
}

}  // namespace vicinal
