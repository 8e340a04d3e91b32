// Stages of a Searcher that combine and rescore what others found.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/engine/formula.h"
#include "src/engine/fusion.h"
#include "src/engine/row_filter.h"
#include "src/engine/searcher.h"
#include "src/engine/searcher_stages.h"

namespace vicinal {
namespace {

// Payloads read at a time.
constexpr size_t kPayloadChunk = 256;
// Scores end there, as distances are floats.
constexpr double kMost = std::numeric_limits<float>::max();

template <typename Stage>
const Stage* StageOf(const Query& query) {
  return std::get_if<Stage>(&query.stage);
}

}  // namespace

size_t KOf(const Query& query) {
  return std::visit([](const auto& stage) { return stage.k; }, query.stage);
}

bool WantsLegs(const Query& query) {
  if (const auto* fuse = StageOf<FuseStage>(query)) {
    return absl::c_any_of(fuse->inputs, WantsLegs);
  }
  if (const auto* rerank = StageOf<RerankStage>(query)) {
    return WantsLegs(*rerank->input);
  }
  // Most name none, but then there are few candidates, too.
  return StageOf<RescoreStage>(query) != nullptr;
}

std::optional<size_t> DenseFieldOf(const Query& query,
                                   const CollectionSchema& schema) {
  if (const auto* retrieve = StageOf<RetrieveStage>(query)) {
    return schema.FindVector(retrieve->vector_name);
  }
  const auto* rerank = StageOf<RerankStage>(query);
  if (rerank == nullptr || rerank->sparse.has_value() ||
      rerank->multi.has_value()) {
    return std::nullopt;
  }
  return schema.FindVector(rerank->vector_name);
}

float ShiftOf(const Query& query, const CollectionSchema& schema,
              const Layout& layout) {
  const std::optional<size_t> f = DenseFieldOf(query, schema);
  return f.has_value() ? ShiftOf(layout.fields[*f]) : 0;
}

double FusionScore(const Query& query, const CollectionSchema& schema,
                   float distance) {
  const std::optional<size_t> f = DenseFieldOf(query, schema);
  const bool is_cosine =
      f.has_value() && schema.vectors[*f].metric == Metric::kCosine;
  return (is_cosine ? 1.0 : 0.0) - static_cast<double>(distance);
}

ScoreBounds FusionBounds(const Query& query, const CollectionSchema& schema) {
  const bool by_terms = StageOf<SparseStage>(query) != nullptr ||
                        StageOf<TextStage>(query) != nullptr;
  if (by_terms) return {.least = 0.0, .best = std::nullopt};
  const std::optional<size_t> f = DenseFieldOf(query, schema);
  if (!f.has_value()) return {};
  switch (schema.vectors[*f].metric) {
    case Metric::kCosine:
      return {.least = -1.0, .best = 1.0};
    case Metric::kL2:
      return {.least = std::nullopt, .best = 0.0};
    case Metric::kInnerProduct:
      break;
  }
  return {};
}

void Searcher::CutOff(std::optional<double> max_distance,
                      std::vector<Candidate>* candidates) {
  if (!max_distance.has_value()) return;
  std::erase_if(*candidates, [&](const Candidate& candidate) {
    return candidate.distance > *max_distance;
  });
}

void Searcher::NoteLegs(const Query& input, absl::string_view path,
                        StageResult* result) const {
  const float shift = ShiftOf(input, schema_, layout_);
  std::vector<SearchResult::Leg> legs;
  legs.push_back({std::string(path), &input});
  for (SearchResult::Leg& leg : result->legs) {
    legs.push_back({absl::StrCat(path, ".", leg.path), leg.query});
  }
  result->legs = std::move(legs);
  for (size_t i = 0; i < result->candidates.size(); ++i) {
    Candidate& candidate = result->candidates[i];
    candidate.legs.insert(
        candidate.legs.begin(),
        {.rank = i + 1, .distance = candidate.distance + shift});
  }
}

absl::StatusOr<Searcher::StageResult> Searcher::Fuse(const FuseStage& stage,
                                                     size_t k,
                                                     Context* context) const {
  if (!stage.weights.empty() && stage.weights.size() != stage.inputs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a fuse stage has ", stage.weights.size(), " weights for ",
                     stage.inputs.size(), " inputs"));
  }
  struct Fused {
    double score = 0;
    Candidate candidate;
    std::vector<LegScore> legs;
  };
  StageResult result;
  absl::flat_hash_map<PointId, Fused> by_id;
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    const Query& query = stage.inputs[i];
    VICINAL_ASSIGN_OR_RETURN(StageResult input,
                             Evaluate(query, KOf(query), context));
    result.exact = result.exact && input.exact;
    const float shift = ShiftOf(query, schema_, layout_);
    std::vector<double> scores;
    scores.reserve(input.candidates.size());
    for (const Candidate& candidate : input.candidates) {
      scores.push_back(FusionScore(query, schema_, candidate.distance + shift));
    }
    const std::vector<double> normalized = NormalizeScores(
        stage.kind, scores, stage.rank_constant, FusionBounds(query, schema_));
    if (context->want_legs) {
      NoteLegs(query, absl::StrCat("inputs[", i, "]"), &input);
    }
    const size_t first_leg = result.legs.size();
    absl::c_move(input.legs, std::back_inserter(result.legs));
    const double weight = stage.weights.empty() ? 1.0 : stage.weights[i];
    for (size_t rank = 0; rank < input.candidates.size(); ++rank) {
      Candidate& candidate = input.candidates[rank];
      Fused& fused = by_id[candidate.id];
      fused.score += std::clamp(weight * normalized[rank], -kMost, kMost);
      if (context->want_legs) {
        candidate.legs[0].normalized = normalized[rank];
        fused.legs.resize(first_leg);
        absl::c_move(candidate.legs, std::back_inserter(fused.legs));
      }
      if (fused.candidate.segment == nullptr ||
          fused.candidate.ordinal < candidate.ordinal) {
        fused.candidate = std::move(candidate);
      }
    }
  }
  result.candidates.reserve(by_id.size());
  for (auto& [id, fused] : by_id) {
    fused.candidate.distance =
        static_cast<float>(std::clamp(-fused.score, -kMost, kMost));
    fused.legs.resize(result.legs.size());
    fused.candidate.legs = std::move(fused.legs);
    result.candidates.push_back(std::move(fused.candidate));
  }
  CutOff(stage.max_distance, &result.candidates);
  SortNearestFirst(&result.candidates, k);
  return result;
}

absl::StatusOr<Searcher::StageResult> Searcher::Rescore(
    const RescoreStage& stage, size_t k, Context* context) const {
  const TextConditionMaker texts = TextsOf(schema_, layout_);
  VICINAL_ASSIGN_OR_RETURN(
      const BoundExpression expression,
      BoundExpression::Bind(stage.score, schema_.payload_fields, &texts));
  VICINAL_ASSIGN_OR_RETURN(StageResult result,
                           Evaluate(*stage.input, KOf(*stage.input), context));
  const std::vector<SearchResult::Leg> legs = result.legs;
  for (const std::string& name : expression.legs()) {
    const auto has_name = [&](const SearchResult::Leg& leg) {
      return leg.path == name;
    };
    if (absl::c_none_of(legs, has_name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the expression reads the score of leg \"", name,
                       "\", which its input does not have"));
    }
  }
  const float shift = ShiftOf(*stage.input, schema_, layout_);
  std::vector<Candidate>& candidates = result.candidates;
  std::vector<bool> has_score(candidates.size(), false);
  std::vector<float> distances(candidates.size());
  for (size_t begin = 0; begin < candidates.size(); begin += kPayloadChunk) {
    VICINAL_RETURN_IF_ERROR(stop_.Check());
    const size_t end = std::min(candidates.size(), begin + kPayloadChunk);
    std::vector<std::optional<std::string>> payloads(end - begin);
    if (expression.needs_payload()) {
      std::vector<Ordinal> ordinals;
      for (size_t i = begin; i < end; ++i) {
        ordinals.push_back(candidates[i].ordinal);
      }
      VICINAL_ASSIGN_OR_RETURN(
          payloads, PayloadsOfVersions(store_, ordinals, [&](size_t i) {
            return candidates[begin + i].id;
          }));
    }
    for (size_t i = begin; i < end; ++i) {
      if (expression.needs_payload()) {
        VICINAL_RETURN_IF_ERROR(stop_.Check());
        // Replaced or deleted since it was found: nothing can be said of it.
        if (!payloads[i - begin].has_value()) continue;
      }
      const Candidate& candidate = candidates[i];
      const auto leg_score = [&](absl::string_view name) -> double {
        for (size_t l = 0; l < legs.size(); ++l) {
          if (legs[l].path != name) continue;
          const LegScore& leg = candidate.legs[l];
          return leg.rank == 0
                     ? 0
                     : FusionScore(*legs[l].query, schema_, leg.distance);
        }
        return 0;
      };
      const FormulaInput input{
          .score =
              FusionScore(*stage.input, schema_, candidate.distance + shift),
          .payload = payloads[i - begin].has_value()
                         ? absl::string_view(*payloads[i - begin])
                         : absl::string_view(),
          .id = candidate.id,
          .leg_score = leg_score};
      const std::optional<double> score = expression.Evaluate(input);
      // Over what a float holds it is no finite score.
      has_score[i] = score.has_value() && std::abs(*score) <= kMost;
      if (has_score[i]) distances[i] = static_cast<float>(-*score);
    }
  }
  if (context->want_legs) NoteLegs(*stage.input, "input", &result);
  size_t kept = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!has_score[i]) continue;
    if (kept != i) candidates[kept] = std::move(candidates[i]);
    candidates[kept++].distance = distances[i];
  }
  candidates.resize(kept);
  CutOff(stage.max_distance, &candidates);
  SortNearestFirst(&candidates, k);
  return result;
}

}  // namespace vicinal
