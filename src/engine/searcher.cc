#include "src/engine/searcher.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/check.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/distance/distance.h"
#include "src/engine/multi_rows.h"
#include "src/engine/searcher_stages.h"

namespace vicinal {
namespace {

// A hand-over to another thread costs about 10 us; segments smaller than this
// are searched faster than that.
constexpr size_t kMinRowsToShare = 10'000;
// The same where several devices may answer, whose calls take 100 us at least.
constexpr size_t kMinRowsToShareCalls = 1'000;
// The same of documents of many tokens.
constexpr size_t kMinDocumentsToShare = 500;

// Rows of one segment that are asked for where scores at the end are equal, so
// that ids decide: texts of a few words often have equal scores.
constexpr size_t kSomeTied = 1'024, kMaxTied = 16'384;

bool IsZero(absl::string_view vector, ElementType type) {
  if (type == ElementType::kFloat16) {
    for (size_t i = 0; i + 1 < vector.size(); i += 2) {
      if (vector[i] != 0 || (vector[i + 1] & 0x7F) != 0) return false;
    }
    return true;
  }
  return vector.find_first_not_of('\0') == absl::string_view::npos;
}

bool IsFinite(absl::string_view vector, ElementType type) {
  if (type == ElementType::kFloat16) {
    for (size_t i = 0; i + 1 < vector.size(); i += 2) {
      if ((vector[i + 1] & 0x7C) == 0x7C) return false;
    }
    return true;
  }
  if (type != ElementType::kFloat32) return true;
  for (size_t i = 0; i < vector.size(); i += sizeof(float)) {
    float value;
    std::memcpy(&value, vector.data() + i, sizeof(value));
    if (!std::isfinite(value)) return false;
  }
  return true;
}

// Where somebody wants to know; else it does not look at the clock.
class Stopwatch {
 public:
  explicit Stopwatch(bool runs) {
    if (runs) start_ = std::chrono::steady_clock::now();
  }
  double micros() const {
    if (!start_.has_value()) return 0;
    return std::chrono::duration<double, std::micro>(
               std::chrono::steady_clock::now() - *start_)
        .count();
  }

 private:
  std::optional<std::chrono::steady_clock::time_point> start_;
};

// One search of one segment.
struct SegmentSearch {
  TopK top;
  SearchStats stats = {};
  SegmentExplanation about = {};
  absl::Status status = {};
};

// Leaves of the segment's first rows what the filter accepts, which the result
// holds for the query.
absl::StatusOr<std::shared_ptr<const RowSet>> ApplyFilter(
    RowFilter& filter, const Segment& segment, size_t num_rows,
    const StopCondition& stop, SegmentQuery* query, SegmentExplanation* about) {
  VICINAL_ASSIGN_OR_RETURN(std::shared_ptr<const RowSet> rows,
                           filter.RowsOf(segment, num_rows, stop));
  query->rows = rows.get();
  about->num_accepted = rows->count;
  about->num_payloads_read = rows->num_payloads_read;
  return rows;
}

}  // namespace

void Searcher::Explain(const SegmentQuery& query, const Segment& segment,
                       const SearchStats& stats, SegmentExplanation about,
                       Context* context) const {
  if (query.multi != nullptr) {
    about.vector_name = schema_.multi[query.multi->m].name;
    about.encoder = segment.multi(query.multi->m).Describe();
  } else if (query.lexical != nullptr) {
    about.vector_name = std::string(query.lexical->name());
  } else {
    about.vector_name = schema_.vectors[query.field].name;
  }
  about.num_rows = segment.num_rows();
  about.plan = stats.plan;
  about.expanded_nodes = stats.expanded_nodes;
  about.distance_computations = stats.distance_computations;
  context->explanation.push_back(std::move(about));
}

absl::StatusOr<SearchResult> Searcher::Run(const Query& query,
                                           ThreadPool* pool) const {
  return Run(query, KOf(query), pool);
}

absl::StatusOr<SearchResult> Searcher::Run(const Query& query, size_t k,
                                           ThreadPool* pool) const {
  VICINAL_RETURN_IF_ERROR(stop_.Check());
  Context context{.pool = pool,
                  .explain = query.explain,
                  .want_legs = query.explain || WantsLegs(query)};
  VICINAL_ASSIGN_OR_RETURN(StageResult found, Evaluate(query, k, &context));
  const float shift = ShiftOf(query, schema_, layout_);
  SearchResult result;
  result.exact = found.exact;
  result.sequence = pin_.sequence;
  result.stats = context.stats;
  result.explanation = std::move(context.explanation);
  const size_t offset = std::min(query.offset, found.candidates.size());
  result.hits.reserve(found.candidates.size() - offset);
  const auto shown = std::span(found.candidates).subspan(offset);
  std::vector<std::optional<TokenMatches>> matches(shown.size());
  if (query.token_matches) {
    VICINAL_ASSIGN_OR_RETURN(matches, MatchTokens(query, shown));
  }
  for (size_t i = 0; i < shown.size(); ++i) {
    result.hits.push_back({std::move(shown[i].id), shown[i].ordinal,
                           shown[i].distance + shift, std::move(shown[i].legs),
                           std::move(matches[i])});
  }
  if (query.explain) result.legs = std::move(found.legs);
  return result;
}

absl::StatusOr<Searcher::StageResult> Searcher::Evaluate(
    const Query& query, size_t k, Context* context) const {
  if (const auto* stage = std::get_if<RetrieveStage>(&query.stage)) {
    return Retrieve(*stage, k, context);
  }
  if (const auto* stage = std::get_if<FuseStage>(&query.stage)) {
    return Fuse(*stage, k, context);
  }
  if (const auto* stage = std::get_if<RerankStage>(&query.stage)) {
    return Rerank(*stage, k, context);
  }
  if (const auto* stage = std::get_if<SparseStage>(&query.stage)) {
    return RetrieveSparse(*stage, k, context);
  }
  if (const auto* stage = std::get_if<TextStage>(&query.stage)) {
    return RetrieveText(*stage, k, context);
  }
  if (const auto* stage = std::get_if<MultiStage>(&query.stage)) {
    return RetrieveMulti(*stage, k, context);
  }
  return Rescore(std::get<RescoreStage>(query.stage), k, context);
}

RowFilter* Searcher::FilterOf(
    const std::shared_ptr<const FilterNode>& filter) const {
  if (filter == nullptr) return nullptr;
  const auto found = filters_.find(filter.get());
  VICINAL_CHECK(found != filters_.end());
  return found->second.get();
}

absl::StatusOr<size_t> Searcher::PrepareVector(absl::string_view vector_name,
                                               absl::string_view query,
                                               std::vector<float>* normalized,
                                               const void** vector) const {
  const std::optional<size_t> f = schema_.FindVector(vector_name);
  if (!f.has_value()) {
    return CannotAsk(schema_, vector_name, VectorKind::kDense);
  }
  const FieldLayout& field = layout_.fields[*f];
  if (query.size() != field.row_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the query for vector \"", vector_name, "\" has ", query.size(),
        " bytes; ", field.dim, " elements take ", field.row_bytes));
  }
  if (!IsFinite(query, field.type)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the query for vector \"", vector_name,
                     "\" has an element that is not a finite number"));
  }
  if (field.metric == Metric::kCosine && IsZero(query, field.type)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the query for vector \"", vector_name,
                     "\" is a zero vector, which has no cosine"));
  }
  *vector = query.data();
  if (field.normalized) {
    normalized->resize(2 * field.dim);
    float* aligned = normalized->data() + field.dim;
    std::memcpy(aligned, query.data(), field.row_bytes);
    NormalizeInto(aligned, field.dim, normalized->data());
    *vector = normalized->data();
  }
  return *f;
}

absl::StatusOr<Searcher::StageResult> Searcher::Retrieve(
    const RetrieveStage& stage, size_t k, Context* context) const {
  std::vector<float> normalized;
  const void* vector = nullptr;
  VICINAL_ASSIGN_OR_RETURN(
      const size_t field,
      PrepareVector(stage.vector_name, stage.query, &normalized, &vector));
  SegmentQuery query = QueryOf(stage, field, k);
  query.vector = vector;
  RowFilter* const filter = FilterOf(stage.filter);
  // The watch asks queries again, and does not keep filters.
  if (filter == nullptr &&
      std::any_of(
          pin_.view->sealed.begin(), pin_.view->sealed.end(),
          [&](const auto& segment) { return !segment->IsExact(query); })) {
    watch_->Offer(query);
  }
  const absl::flat_hash_set<PointId> excluded(stage.excluded_ids.begin(),
                                              stage.excluded_ids.end());
  std::vector<float> learned;
  if (stage.feedback.has_value()) {
    VICINAL_ASSIGN_OR_RETURN(const StageResult first,
                             FindNearest(query, stage.feedback->documents,
                                         filter, excluded, context));
    learned = LearnDense(*stage.feedback, query.field, query.vector,
                         first.candidates);
    query.vector = learned.data();
  }
  const auto ahead = ahead_.find(&stage);
  VICINAL_ASSIGN_OR_RETURN(
      StageResult result,
      FindNearest(query, k, filter, excluded, context,
                  ahead == ahead_.end() ? nullptr : &ahead->second));
  CutOff(stage.max_distance, query.field, &result.candidates);
  return result;
}

SegmentQuery Searcher::QueryOf(const RetrieveStage& stage, size_t field,
                               size_t k) const {
  SegmentQuery query;
  query.field = field;
  query.exact = stage.exact;
  query.ef = stage.ef;
  query.nprobe = stage.nprobe;
  query.recall_target = stage.recall_target;
  query.k = k;
  query.force = stage.force;
  query.device = device_;
  query.device_required = schema_.gpu == GpuUse::kRequire;
  return query;
}

absl::StatusOr<Searcher::StageResult> Searcher::FindNearest(
    SegmentQuery query, size_t k, RowFilter* filter,
    const absl::flat_hash_set<PointId>& excluded, Context* context,
    const AskedAhead* ahead) const {
  const size_t wanted = k + excluded.size();
  // Versions that were replaced meanwhile can crowd out others; then ask for
  // as many more. Each round is needed only when writers were faster than it.
  // One more by terms, to see whether the last of them has equals.
  for (size_t surplus = query.lexical != nullptr ? 1 : 0;;) {
    query.k = wanted + surplus;
    StageResult result;
    std::vector<Found> found;
    VICINAL_RETURN_IF_ERROR(
        SearchSegments(query, filter, ahead, context, &found, &result.exact));
    const bool may_be_more = found.size() >= query.k;
    if (query.lexical != nullptr && query.k < kMaxTied &&
        HasCutTies(found, query.k, wanted)) {
      surplus += query.k < kSomeTied ? kSomeTied : kMaxTied;
      continue;
    }
    size_t num_dropped = 0;
    result.candidates = Select(std::move(found), wanted, &num_dropped);
    if (result.candidates.size() == wanted || num_dropped == 0 ||
        !may_be_more) {
      if (!excluded.empty()) {
        std::erase_if(result.candidates, [&](const Candidate& candidate) {
          return excluded.contains(candidate.id);
        });
        if (result.candidates.size() > k) result.candidates.resize(k);
      }
      return result;
    }
    surplus = 2 * surplus + num_dropped;
  }
}

absl::Status Searcher::SearchSegments(const SegmentQuery& query,
                                      RowFilter* filter,
                                      const AskedAhead* ahead, Context* context,
                                      std::vector<Found>* found,
                                      bool* exact) const {
  // It was asked for fewer: versions that were replaced crowd them out.
  if (ahead != nullptr && ahead->k != query.k) ahead = nullptr;
  VICINAL_RETURN_IF_ERROR(
      SearchSealed(query, filter, ahead, context, found, exact));
  return SearchMemory(query, filter, context, found, exact);
}

bool Searcher::IsWorthSharing(const SegmentQuery& query,
                              const SealedSegment& segment) const {
  size_t min_rows =
      query.multi != nullptr ? kMinDocumentsToShare : kMinRowsToShare;
  if (query.device != nullptr && query.device->num_devices() > 1 &&
      (segment.IsExact(query) || query.force == ForcedPlan::kScan)) {
    min_rows = kMinRowsToShareCalls;
  }
  return segment.num_rows() >= min_rows;
}

absl::Status Searcher::SearchSealed(const SegmentQuery& query,
                                    RowFilter* filter, const AskedAhead* ahead,
                                    Context* context, std::vector<Found>* found,
                                    bool* exact) const {
  const auto& sealed = pin_.view->sealed;
  const auto is_known = [&](size_t i) {
    return ahead != nullptr && !ahead->nearest[i].empty();
  };
  size_t num_large = 0;
  for (size_t i = 0; i < sealed.size(); ++i) {
    num_large += !is_known(i) && IsWorthSharing(query, *sealed[i]);
  }
  std::vector<SegmentSearch> searches;
  searches.reserve(sealed.size());
  for (const auto& segment : sealed) {
    searches.push_back({TopK(std::min(query.k, segment->num_rows()))});
  }
  const auto search = [&](size_t i) {
    auto& [top, stats, about, status] = searches[i];
    SegmentQuery own = query;
    own.k = top.k();
    if (own.k == 0) return;
    own.multi_stats = &about.multi;
    own.device_use = &about.device;
    const Stopwatch watch(context->explain);
    about.num_accepted = sealed[i]->num_live();
    absl::StatusOr<std::shared_ptr<const RowSet>> rows;
    if (filter != nullptr) {
      rows = ApplyFilter(*filter, *sealed[i], sealed[i]->num_rows(), stop_,
                         &own, &about);
      about.filter_micros = watch.micros();
      status = rows.status();
      if (!rows.ok() || (*rows)->count == 0) return;
    }
    if (is_known(i)) {
      TakeAhead(*ahead, i, &top, &stats, &about);
    } else {
      status = sealed[i]->Search(own, stop_, &top, &stats);
    }
    about.search_micros = watch.micros() - about.filter_micros;
  };
  if (num_large >= 2 && context->pool != nullptr) {
    context->pool->ParallelFor(sealed.size(), search);
  } else {
    for (size_t i = 0; i < sealed.size(); ++i) search(i);
  }
  for (size_t i = 0; i < sealed.size(); ++i) {
    auto& [top, stats, about, status] = searches[i];
    VICINAL_RETURN_IF_ERROR(status);
    *exact = *exact &&
             (stats.plan == SearchPlan::kDevice || sealed[i]->IsExact(query));
    context->stats.distance_computations += stats.distance_computations;
    context->stats.expanded_nodes += stats.expanded_nodes;
    for (const Neighbor& neighbor : top.TakeSorted()) {
      found->push_back(
          {Ordered(neighbor.distance), neighbor.row, sealed[i].get()});
    }
    if (!context->explain) continue;
    about.number = sealed[i]->entry().number;
    Explain(query, *sealed[i], stats, std::move(about), context);
  }
  return absl::OkStatus();
}

absl::Status Searcher::SearchMemory(const SegmentQuery& query,
                                    RowFilter* filter, Context* context,
                                    std::vector<Found>* found,
                                    bool* exact) const {
  TopK top(query.k);
  const auto search = [&](const MemorySegment& segment, size_t begin,
                          size_t end) -> absl::Status {
    SegmentQuery own = query;
    std::shared_ptr<const RowSet> rows;
    SegmentExplanation about;
    about.num_accepted = end - begin;
    own.multi_stats = &about.multi;
    *exact = *exact && segment.IsExact(query);
    const Stopwatch watch(context->explain);
    if (filter != nullptr) {
      VICINAL_ASSIGN_OR_RETURN(
          rows, ApplyFilter(*filter, segment, end, stop_, &own, &about));
      about.filter_micros = watch.micros();
    }
    SearchStats stats;
    VICINAL_RETURN_IF_ERROR(
        segment.SearchRows(own, begin, end, stop_, &top, &stats));
    context->stats.distance_computations += stats.distance_computations;
    about.search_micros = watch.micros() - about.filter_micros;
    if (query.lexical == nullptr && query.multi == nullptr) {
      stats.plan = SearchPlan::kScan;
    }
    if (context->explain) {
      Explain(query, segment, stats, std::move(about), context);
    }
    return absl::OkStatus();
  };
  const auto take = [&](const MemorySegment& segment) {
    for (const Neighbor& neighbor : top.TakeSorted()) {
      found->push_back({Ordered(neighbor.distance), neighbor.row, &segment});
    }
  };
  for (const auto& segment : pin_.view->frozen) {
    VICINAL_RETURN_IF_ERROR(search(*segment, 0, segment->num_rows()));
    take(*segment);
  }
  const MemorySegment* segment = pin_.view->growing.get();
  size_t num_done = 0;
  while (true) {
    // Once `next` is set no rows come to this one, so read it first.
    const MemorySegment* next = segment->next();
    const size_t num_rows = segment->num_rows();
    if (num_rows > num_done) {
      VICINAL_RETURN_IF_ERROR(search(*segment, num_done, num_rows));
      num_done = num_rows;
      continue;
    }
    take(*segment);
    if (next == nullptr) return absl::OkStatus();
    segment = next;
    num_done = 0;
  }
}

bool Searcher::HasCutTies(const std::vector<Found>& found, size_t k,
                          size_t wanted) {
  if (found.size() < wanted || wanted == 0) return false;
  std::vector<float> distances;
  distances.reserve(found.size());
  struct OfSegment {
    size_t count = 0;
    float farthest = -std::numeric_limits<float>::infinity();
  };
  absl::flat_hash_map<const Segment*, OfSegment> segments;
  for (const Found& f : found) {
    distances.push_back(f.distance);
    OfSegment& segment = segments[f.segment];
    ++segment.count;
    segment.farthest = std::max(segment.farthest, f.distance);
  }
  const auto last = distances.begin() + static_cast<ptrdiff_t>(wanted) - 1;
  std::nth_element(distances.begin(), last, distances.end());
  return std::any_of(segments.begin(), segments.end(), [&](const auto& entry) {
    return entry.second.count >= k && entry.second.farthest == *last;
  });
}

std::vector<Searcher::Candidate> Searcher::Select(std::vector<Found> found,
                                                  size_t k,
                                                  size_t* num_dropped) const {
  std::atomic_thread_fence(std::memory_order_acquire);
  const bool undisturbed = pin_.epoch % 2 == 0 &&
                           epoch_.load(std::memory_order_relaxed) == pin_.epoch;
  if (undisturbed && found.size() > k) {
    // Each point is there once; ids are needed up to the k-th distance only.
    std::nth_element(
        found.begin(), found.begin() + k - 1, found.end(),
        [](const Found& a, const Found& b) { return a.distance < b.distance; });
    const float last = found[k - 1].distance;
    std::erase_if(found, [&](const Found& f) { return f.distance > last; });
  }
  std::vector<Candidate> candidates;
  candidates.reserve(found.size());
  for (const Found& f : found) {
    candidates.push_back({f.distance, f.segment, f.row,
                          f.segment->OrdinalOf(f.row), f.segment->IdOf(f.row)});
  }
  if (!undisturbed) {
    absl::flat_hash_map<PointId, Ordinal> newest;
    newest.reserve(candidates.size());
    for (const Candidate& candidate : candidates) {
      Ordinal& ordinal = newest[candidate.id];
      ordinal = std::max(ordinal, candidate.ordinal);
    }
    *num_dropped = std::erase_if(candidates, [&](const Candidate& candidate) {
      return newest.at(candidate.id) != candidate.ordinal;
    });
  }
  SortNearestFirst(&candidates, k);
  return candidates;
}

void Searcher::CutOff(std::optional<double> max_distance, size_t field,
                      std::vector<Candidate>* candidates) const {
  if (!max_distance.has_value()) return;
  const float shift = ShiftOf(layout_.fields[field]);
  std::erase_if(*candidates, [&](const Candidate& candidate) {
    // Rounded as in the hit.
    return static_cast<float>(candidate.distance + shift) > *max_distance;
  });
}

absl::StatusOr<Searcher::StageResult> Searcher::Rerank(const RerankStage& stage,
                                                       size_t k,
                                                       Context* context) const {
  std::vector<float> normalized;
  const void* vector = nullptr;
  size_t f = 0;
  std::optional<MultiQuery> tokens;
  if (stage.multi.has_value()) {
    VICINAL_ASSIGN_OR_RETURN(
        tokens, PrepareTokens(stage.vector_name, *stage.multi, &f));
  } else if (!stage.sparse.has_value()) {
    VICINAL_ASSIGN_OR_RETURN(
        f, PrepareVector(stage.vector_name, stage.query, &normalized, &vector));
  }
  VICINAL_ASSIGN_OR_RETURN(StageResult result,
                           Evaluate(*stage.input, KOf(*stage.input), context));
  if (context->want_legs) NoteLegs(*stage.input, "input", &result);
  if (tokens.has_value() || stage.sparse.has_value()) {
    VICINAL_RETURN_IF_ERROR(
        tokens.has_value()
            ? ScoreTokens(*tokens, f, context, &result.candidates)
            : ScoreSparse(stage, &result.candidates));
    CutOff(stage.max_distance, &result.candidates);
    SortNearestFirst(&result.candidates, k);
    return result;
  }
  const FieldLayout& field = layout_.fields[f];
  const DistanceOps& ops = OpsFor(field.search_metric, field.type);
  std::erase_if(result.candidates, [&](const Candidate& candidate) {
    return candidate.segment->VectorOf(f, candidate.row) == nullptr;
  });
  for (Candidate& candidate : result.candidates) {
    candidate.distance = Ordered(ops.one(
        vector, candidate.segment->VectorOf(f, candidate.row), field.dim));
  }
  context->stats.distance_computations += result.candidates.size();
  CutOff(stage.max_distance, f, &result.candidates);
  if (!stage.diversity.has_value()) {
    SortNearestFirst(&result.candidates, k);
    return result;
  }
  SortNearestFirst(&result.candidates, stage.diversity->candidates);
  VICINAL_RETURN_IF_ERROR(
      Diversify(*stage.diversity, f, k, context, &result.candidates));
  return result;
}

absl::Status Searcher::Diversify(const Diversity& diversity, size_t field,
                                 size_t k, Context* context,
                                 std::vector<Candidate>* candidates) const {
  const FieldLayout& layout = layout_.fields[field];
  const DistanceOps& ops = OpsFor(layout.search_metric, layout.type);
  const auto vector_of = [&](const Candidate& candidate) {
    return candidate.segment->VectorOf(field, candidate.row);
  };
  std::vector<Candidate>& rest = *candidates;  // nearest first
  // Of each of the rest to the nearest chosen one.
  std::vector<float> apart(rest.size(), std::numeric_limits<float>::infinity());
  std::vector<Candidate> chosen;
  while (chosen.size() < k && !rest.empty()) {
    VICINAL_RETURN_IF_ERROR(stop_.Check());
    size_t best = 0;  // nobody was chosen: the nearest
    double best_cost = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < rest.size() && !chosen.empty(); ++i) {
      const double cost = diversity.lambda * rest[i].distance -
                          (1 - diversity.lambda) * apart[i];
      if (cost < best_cost) {
        best = i;
        best_cost = cost;
      }
    }
    chosen.push_back(std::move(rest[best]));
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(best));
    apart.erase(apart.begin() + static_cast<ptrdiff_t>(best));
    for (size_t i = 0; i < rest.size(); ++i) {
      apart[i] =
          std::min(apart[i], Ordered(ops.one(vector_of(chosen.back()),
                                             vector_of(rest[i]), layout.dim)));
    }
    context->stats.distance_computations += rest.size();
  }
  rest = std::move(chosen);
  return absl::OkStatus();
}

}  // namespace vicinal
