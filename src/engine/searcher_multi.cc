// Stages of a Searcher that compare token vectors.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "src/base/cancel.h"
#include "src/base/status_macros.h"
#include "src/engine/limits.h"
#include "src/engine/multi_rows.h"
#include "src/engine/searcher.h"
#include "src/engine/searcher_stages.h"

namespace vicinal {
namespace {

// Products of two elements without a look at the clock: some milliseconds.
constexpr size_t kProductsPerCheck = size_t{1} << 26;
// Of similarities that one query may ask to see.
constexpr size_t kMaxMatchBytes = size_t{64} << 20;

// Polls by the work, as documents have from one to 65,535 tokens.
class WorkPoll {
 public:
  WorkPoll(const StopCondition& stop, const MultiQuery& query)
      : stop_(stop), per_token_(query.num_tokens() * query.tokens().dim) {}
  // Before the query is compared with so many tokens.
  absl::Status Before(size_t num_tokens) {
    products_ += num_tokens * per_token_;
    if (products_ < kProductsPerCheck) return absl::OkStatus();
    products_ = 0;
    return stop_.Check();
  }

 private:
  const StopCondition& stop_;
  const size_t per_token_;
  size_t products_ = kProductsPerCheck;
};

struct TokenQuestion {
  absl::string_view vector_name;
  const MultiVector* query = nullptr;  // null: no stage compares tokens
};

TokenQuestion OutermostTokens(const Query& query) {
  if (const auto* multi = std::get_if<MultiStage>(&query.stage)) {
    return {multi->vector_name, &multi->query};
  }
  if (const auto* rerank = std::get_if<RerankStage>(&query.stage)) {
    if (rerank->multi.has_value()) {
      return {rerank->vector_name, &*rerank->multi};
    }
    return OutermostTokens(*rerank->input);
  }
  if (const auto* rescore = std::get_if<RescoreStage>(&query.stage)) {
    return OutermostTokens(*rescore->input);
  }
  if (const auto* fuse = std::get_if<FuseStage>(&query.stage)) {
    for (const Query& input : fuse->inputs) {
      const TokenQuestion found = OutermostTokens(input);
      if (found.query != nullptr) return found;
    }
  }
  return {};
}

// What is wrong with the query; empty: nothing.
std::string ProblemOf(const MultiVector& query, size_t dim, bool is_cosine) {
  if (query.tokens.empty()) return "has no tokens; give it at least one";
  if (query.tokens.size() % dim != 0) {
    return absl::StrCat("has ", query.tokens.size(), " elements; tokens have ",
                        dim, " each");
  }
  const size_t n = query.tokens.size() / dim;
  for (size_t i = 0; i < n; ++i) {
    const auto token = std::span(query.tokens).subspan(i * dim, dim);
    if (!std::all_of(token.begin(), token.end(), [](float value) {
          return std::abs(value) <= kMaxTokenElement;
        })) {
      return absl::StrCat("has an element in token ", i,
                          " that is no number of at most ", kMaxTokenElement,
                          " in magnitude");
    }
    if (is_cosine && std::all_of(token.begin(), token.end(),
                                 [](float value) { return value == 0; })) {
      return absl::StrCat("has a zero vector as token ", i,
                          ", which has no cosine");
    }
  }
  if (!query.weights.empty() && query.weights.size() != n) {
    return absl::StrCat("has ", query.weights.size(), " weights for ", n,
                        " tokens; give none or one for each");
  }
  for (size_t i = 0; i < query.weights.size(); ++i) {
    if (query.weights[i] >= 0 && query.weights[i] <= kMaxQueryTokenWeight)
      continue;
    return absl::StrCat("has the weight ", query.weights[i], " for token ", i,
                        "; weights are 0 to ", kMaxQueryTokenWeight);
  }
  return "";
}

}  // namespace

absl::StatusOr<MultiQuery> Searcher::PrepareTokens(absl::string_view name,
                                                   const MultiVector& query,
                                                   size_t* m) const {
  const std::optional<size_t> found = schema_.FindMulti(name);
  if (!found.has_value()) {
    return CannotAsk(schema_, name, VectorKind::kMulti);
  }
  *m = *found;
  const MultiSpec& spec = layout_.multi[*m];
  if (const std::string problem = ProblemOf(query, spec.dim, spec.cosine);
      !problem.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the query for multi-vector \"", name, "\" ", problem));
  }
  return MultiQuery(spec, query.tokens, query.weights);
}

absl::StatusOr<Searcher::StageResult> Searcher::RetrieveMulti(
    const MultiStage& stage, size_t k, Context* context) const {
  MultiSearch search{.params = stage.params};
  VICINAL_ASSIGN_OR_RETURN(
      const MultiQuery tokens,
      PrepareTokens(stage.vector_name, stage.query, &search.m));
  search.query = &tokens;
  search.params.exact |= search.params.recall_target >= 1;
  SegmentQuery query;
  query.multi = &search;
  query.exact = search.params.exact;
  query.device = device_;
  query.device_required = schema_.gpu == GpuUse::kRequire;
  VICINAL_ASSIGN_OR_RETURN(
      StageResult result,
      FindNearest(query, k, FilterOf(stage.filter), {}, context));
  CutOff(stage.max_distance, &result.candidates);
  return result;
}

absl::StatusOr<std::vector<bool>> Searcher::AskDevicesForScores(
    const MultiQuery& query, size_t m,
    std::vector<Candidate>* candidates) const {
  std::vector<bool> is_scored(candidates->size());
  if (device_ == nullptr) return is_scored;
  absl::flat_hash_map<const Segment*, std::vector<size_t>> by_segment;
  for (size_t i = 0; i < candidates->size(); ++i) {
    by_segment[(*candidates)[i].segment].push_back(i);
  }
  const MultiSearch search{.m = m, .query = &query};
  SegmentQuery asked;
  asked.multi = &search;
  asked.device = device_;
  asked.device_required = schema_.gpu == GpuUse::kRequire;
  for (const auto& segment : pin_.view->sealed) {
    const auto found = by_segment.find(segment.get());
    if (found == by_segment.end()) continue;
    std::vector<RowId> rows;
    for (const size_t i : found->second) rows.push_back((*candidates)[i].row);
    VICINAL_ASSIGN_OR_RETURN(const std::vector<float> distances,
                             segment->ScoreTokensOnDevice(asked, rows, stop_));
    for (size_t j = 0; j < distances.size(); ++j) {
      const size_t i = found->second[j];
      (*candidates)[i].distance = Ordered(distances[j]);
      is_scored[i] = true;
    }
  }
  return is_scored;
}

absl::Status Searcher::ScoreTokens(const MultiQuery& query, size_t m,
                                   Context* context,
                                   std::vector<Candidate>* candidates) const {
  const auto tokens_of = [&](const Candidate& candidate) {
    return candidate.segment->multi(m).TokensOf(candidate.row);
  };
  std::erase_if(*candidates, [&](const Candidate& candidate) {
    return tokens_of(candidate).num_tokens == 0;
  });
  VICINAL_ASSIGN_OR_RETURN(const std::vector<bool> is_scored,
                           AskDevicesForScores(query, m, candidates));
  WorkPoll poll(stop_, query);
  for (size_t i = 0; i < candidates->size(); ++i) {
    if (is_scored[i]) continue;
    Candidate& candidate = (*candidates)[i];
    const TokenRows row = tokens_of(candidate);
    VICINAL_RETURN_IF_ERROR(poll.Before(row.num_tokens));
    candidate.distance = Ordered(-query.Score(row));
  }
  context->stats.distance_computations += candidates->size();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::optional<TokenMatches>>> Searcher::MatchTokens(
    const Query& query, std::span<const Candidate> candidates) const {
  const TokenQuestion question = OutermostTokens(query);
  if (question.query == nullptr) {
    return absl::InvalidArgumentError(
        "token matches are asked for, but no stage of the query compares "
        "tokens; ask a multi-vector, or leave them out");
  }
  size_t m = 0;
  VICINAL_ASSIGN_OR_RETURN(
      const MultiQuery tokens,
      PrepareTokens(question.vector_name, *question.query, &m));
  std::vector<std::optional<TokenMatches>> out(candidates.size());
  WorkPoll poll(stop_, tokens);
  size_t bytes = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const TokenRows row =
        candidates[i].segment->multi(m).TokensOf(candidates[i].row);
    if (row.num_tokens == 0) continue;
    bytes += tokens.num_tokens() * row.num_tokens * sizeof(float);
    if (bytes > kMaxMatchBytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "token matches of the first ", i + 1, " of ", candidates.size(),
          " hits take ", bytes, " bytes; at most ", kMaxMatchBytes,
          " are given: ask for fewer hits"));
    }
    VICINAL_RETURN_IF_ERROR(poll.Before(row.num_tokens));
    out[i] = {.num_query_tokens = tokens.num_tokens(),
              .num_document_tokens = row.num_tokens,
              .similarities = tokens.Similarities(row)};
  }
  return out;
}

}  // namespace vicinal
