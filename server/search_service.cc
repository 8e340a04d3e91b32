#include "server/search_service.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/duration.pb.h"
#include "server/convert.h"
#include "server/convert_multi.h"
#include "server/convert_query.h"
#include "server/errors.h"
#include "src/base/status_macros.h"
#include "src/engine/row_filter.h"

namespace vicinal {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Of the queries of a batch: some milliseconds of search.
constexpr size_t kMaxShortBatchBytes = size_t{512} << 10;

// Of which Mmr chooses: every one of them may be compared with every other.
constexpr uint32_t kMaxShortCandidates = 256;

// Whether a stage compares with every point.
bool Scans(const v1::Quality& quality, const std::string& vector,
           const CollectionSchema& schema) {
  const std::optional<size_t> f = schema.FindVector(vector);
  return quality.exact() || quality.recall_target() == 1 ||
         schema.gpu == GpuUse::kRequire ||  // may wait for it
         (f.has_value() && !HasIndex(schema.vectors[*f]));
}

bool Scans(const v1::Query& query, const CollectionSchema& schema) {
  switch (query.stage_case()) {
    case v1::Query::kRetrieve:
      return query.retrieve().has_filter() ||
             query.retrieve().plan() == v1::FORCED_PLAN_SCAN ||
             Scans(query.retrieve().quality(), query.retrieve().vector(),
                   schema);
    case v1::Query::kFuse:
      return absl::c_any_of(query.fuse().inputs(), [&](const v1::Query& input) {
        return Scans(input, schema);
      });
    case v1::Query::kRerank:
      return query.rerank().has_sparse() || query.rerank().has_multi() ||
             query.rerank().mmr().candidates() > kMaxShortCandidates ||
             Scans(query.rerank().input(), schema);
    // Of a million points some tenths of a millisecond to some milliseconds.
    case v1::Query::kRetrieveSparse:
    case v1::Query::kRetrieveText:
    case v1::Query::kRetrieveMulti:
    case v1::Query::kRescore:
      return true;
    case v1::Query::STAGE_NOT_SET:
      return false;
  }
  return false;
}

absl::StatusOr<std::vector<std::optional<StoredPoint>>> FetchWithin(
    const ReplyBudget& budget, const Collection& collection,
    const std::vector<Hit>& hits, PointSelection selection,
    const StopCondition& stop) {
  selection.max_bytes = budget.left();
  auto points = collection.Fetch(hits, selection, stop);
  if (absl::IsResourceExhausted(points.status())) return budget.TooLarge();
  return points;
}

absl::Status FillResult(const Collection& collection, const Query& query,
                        const Selection& selection, const SearchResult& from,
                        const StopCondition& stop, ReplyBudget* budget,
                        v1::SearchResult* out) {
  const CollectionSchema& schema = collection.schema();
  out->set_exact(from.exact);
  std::vector<std::optional<StoredPoint>> points;
  if (selection.any()) {
    VICINAL_ASSIGN_OR_RETURN(points, FetchWithin(*budget, collection, from.hits,
                                                 selection.points, stop));
  }
  if (selection.rows) {
    for (size_t i = 0; i < from.hits.size(); ++i) {
      v1::SearchHit* hit = out->add_hits();
      ToProto(from.hits[i].id, hit->mutable_id());
      hit->set_score(ScoreOf(query, schema, from.hits[i].distance));
      if (!points.empty() && points[i].has_value()) {
        VICINAL_RETURN_IF_ERROR(
            ToRow(schema, selection, *points[i], hit->mutable_point()));
      }
      VICINAL_RETURN_IF_ERROR(budget->Spend(hit->ByteSizeLong()));
    }
    return absl::OkStatus();
  }
  std::vector<PointId> ids;
  ids.reserve(from.hits.size());
  out->mutable_scores()->Reserve(static_cast<int>(from.hits.size()));
  for (const Hit& hit : from.hits) {
    ids.push_back(hit.id);
    out->add_scores(static_cast<float>(ScoreOf(query, schema, hit.distance)));
  }
  ToProto(ids, out->mutable_ids());
  if (selection.any()) {
    ToColumns(schema, selection, points, false, out->mutable_points());
  }
  return budget->Spend(out->ByteSizeLong());
}

// budget: of the whole reply.
absl::Status FillGroups(const std::vector<HitGroup>& groups,
                        ReplyBudget* budget, v1::SearchResult* out) {
  for (const HitGroup& group : groups) {
    v1::HitGroup* to = out->add_groups();
    if (const auto* text = std::get_if<std::string>(&group.value)) {
      to->mutable_value()->set_string_value(*text);
    } else if (const auto* number = std::get_if<int64_t>(&group.value)) {
      to->mutable_value()->set_int_value(*number);
    } else {
      to->mutable_value()->set_bool_value(std::get<bool>(group.value));
    }
    to->set_num_hits(static_cast<uint32_t>(group.num_hits));
    VICINAL_RETURN_IF_ERROR(budget->Spend(to->ByteSizeLong()));
  }
  return absl::OkStatus();
}

// budget: of the whole reply.
absl::Status FillLegs(const SearchResult& result,
                      const CollectionSchema& schema, ReplyBudget* budget,
                      v1::SearchResult* out) {
  for (size_t l = 0; l < result.legs.size(); ++l) {
    const SearchResult::Leg& leg = result.legs[l];
    v1::LegScores* to = out->add_legs();
    to->set_leg(leg.path);
    const size_t last_dot = leg.path.rfind('.');
    const absl::string_view own = absl::string_view(leg.path).substr(
        last_dot == std::string::npos ? 0 : last_dot + 1);
    const bool is_fused = absl::StartsWith(own, "inputs[");
    for (const Hit& hit : result.hits) {
      const LegScore& score = hit.legs[l];
      to->add_ranks(static_cast<uint32_t>(score.rank));
      to->add_scores(score.rank == 0
                         ? 0
                         : static_cast<float>(
                               ScoreOf(*leg.query, schema, score.distance)));
      if (is_fused) to->add_normalized(score.normalized);
    }
    VICINAL_RETURN_IF_ERROR(budget->Spend(to->ByteSizeLong()));
  }
  return absl::OkStatus();
}

HighlightOptions ParseHighlight(const v1::Highlight& in,
                                const CollectionSchema& schema,
                                FieldViolations* violations) {
  constexpr uint32_t kMaxPassages = 100, kMinChars = 20, kMaxChars = 10'000;
  HighlightOptions out;
  for (int i = 0; i < in.fields_size(); ++i) {
    if (!schema.FindText(in.fields(i)).has_value()) {
      violations->Add(At("highlight", "fields", static_cast<size_t>(i)),
                      absl::StrCat("is \"", in.fields(i),
                                   "\", which is no text of the collection"));
    }
    if (!absl::c_linear_search(out.paths, in.fields(i))) {
      out.paths.push_back(in.fields(i));
    }
  }
  if (in.num_passages() != 0) out.num_passages = in.num_passages();
  if (out.num_passages > kMaxPassages) {
    violations->Add("highlight.num_passages",
                    absl::StrCat("is ", out.num_passages, "; at most ",
                                 kMaxPassages, " are allowed"));
  }
  if (in.passage_chars() != 0) out.passage_chars = in.passage_chars();
  if (out.passage_chars < kMinChars || out.passage_chars > kMaxChars) {
    violations->Add("highlight.passage_chars",
                    absl::StrCat("is ", out.passage_chars, "; give ", kMinChars,
                                 " to ", kMaxChars));
  }
  return out;
}

// budget: of the whole reply.
absl::Status FillPassages(const Collection& collection, const Query& query,
                          const std::vector<Hit>& hits,
                          const HighlightOptions& options,
                          const StopCondition& stop, ReplyBudget* budget,
                          v1::SearchResult* out) {
  // So many payloads are in memory at a time.
  constexpr size_t kHitsAtOnce = 32;
  if (hits.size() > kHitsAtOnce) {
    for (size_t begin = 0; begin < hits.size(); begin += kHitsAtOnce) {
      const std::vector<Hit> part(
          hits.begin() + static_cast<std::ptrdiff_t>(begin),
          hits.begin() + static_cast<std::ptrdiff_t>(
                             std::min(hits.size(), begin + kHitsAtOnce)));
      VICINAL_RETURN_IF_ERROR(
          FillPassages(collection, query, part, options, stop, budget, out));
    }
    return absl::OkStatus();
  }
  VICINAL_ASSIGN_OR_RETURN(const auto passages,
                           collection.Highlight(query, hits, options, stop));
  for (const std::vector<HitPassage>& of_hit : passages) {
    v1::HitPassages* to = out->add_passages();
    for (const HitPassage& in : of_hit) {
      v1::Passage* passage = to->add_passages();
      passage->set_path(in.path);
      passage->set_value(static_cast<uint32_t>(in.value));
      passage->mutable_span()->set_begin(static_cast<uint32_t>(in.begin));
      passage->mutable_span()->set_end(
          static_cast<uint32_t>(in.begin + in.text.size()));
      passage->set_text(in.text);
      for (const auto& [begin, end] : in.matches) {
        v1::TextSpan* span = passage->add_matches();
        span->set_begin(static_cast<uint32_t>(begin));
        span->set_end(static_cast<uint32_t>(end));
      }
    }
    VICINAL_RETURN_IF_ERROR(budget->Spend(to->ByteSizeLong()));
  }
  return absl::OkStatus();
}

// budget: of the whole reply.
absl::Status FillTokenMatches(const std::vector<Hit>& hits, ReplyBudget* budget,
                              v1::SearchResult* out) {
  for (const Hit& hit : hits) {
    v1::TokenMatches* to = out->add_token_matches();
    if (hit.token_matches.has_value()) {
      const TokenMatches& in = *hit.token_matches;
      to->set_num_query_tokens(static_cast<uint32_t>(in.num_query_tokens));
      to->set_num_document_tokens(
          static_cast<uint32_t>(in.num_document_tokens));
      to->mutable_similarities()->Assign(in.similarities.begin(),
                                         in.similarities.end());
    }
    VICINAL_RETURN_IF_ERROR(budget->Spend(to->ByteSizeLong()));
  }
  return absl::OkStatus();
}

google::protobuf::Duration ToDuration(int64_t nanos) {
  google::protobuf::Duration out;
  out.set_seconds(nanos / 1'000'000'000);
  out.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return out;
}

// What filters of the query's stages had to read payloads for.
void AddWarnings(const Query& query, const CollectionSchema& schema,
                 v1::SearchProfile* out) {
  if (const auto* fuse = std::get_if<FuseStage>(&query.stage)) {
    for (const Query& input : fuse->inputs) AddWarnings(input, schema, out);
    return;
  }
  if (const auto* rerank = std::get_if<RerankStage>(&query.stage)) {
    return AddWarnings(*rerank->input, schema, out);
  }
  if (const auto* rescore = std::get_if<RescoreStage>(&query.stage)) {
    return AddWarnings(*rescore->input, schema, out);
  }
  std::shared_ptr<const FilterNode> filter;
  if (const auto* sparse = std::get_if<SparseStage>(&query.stage)) {
    filter = sparse->filter;
  } else if (const auto* text = std::get_if<TextStage>(&query.stage)) {
    filter = text->filter;
  } else if (const auto* multi = std::get_if<MultiStage>(&query.stage)) {
    filter = multi->filter;
  } else {
    filter = std::get<RetrieveStage>(query.stage).filter;
  }
  if (filter != nullptr) {
    for (const std::string& path : UnindexedPaths(*filter, schema)) {
      out->add_warnings(absl::StrCat("The filter reads payloads: field \"",
                                     path, "\" has no payload index."));
    }
  }
}

void FillExplanation(const SearchResult& result, v1::SearchProfile* out) {
  for (const SegmentExplanation& in : result.explanation) {
    v1::SegmentProfile* to = out->add_segments();
    to->set_vector(in.vector_name);
    to->set_segment(in.number);
    to->set_num_rows(in.num_rows);
    to->set_num_accepted(in.num_accepted);
    to->set_plan(static_cast<v1::SearchPlan>(in.plan));
    to->set_expanded_nodes(in.expanded_nodes);
    to->set_distance_computations(in.distance_computations);
    to->set_num_payloads_read(in.num_payloads_read);
    to->set_num_candidates(in.multi.num_candidates);
    to->set_num_exact(in.multi.num_exact);
    to->set_encoder(in.encoder);
    to->set_device(in.device.name);
    to->set_device_queries(static_cast<uint32_t>(in.device.batch_queries));
    *to->mutable_filter_time() =
        ToDuration(static_cast<int64_t>(1e3 * in.filter_micros));
    *to->mutable_search_time() =
        ToDuration(static_cast<int64_t>(1e3 * in.search_micros));
  }
}

void FillProfile(SteadyClock::time_point start, const SearchStats& stats,
                 v1::SearchProfile* out) {
  *out->mutable_elapsed() =
      ToDuration(std::chrono::duration_cast<std::chrono::nanoseconds>(
                     SteadyClock::now() - start)
                     .count());
  out->set_distance_computations(stats.distance_computations);
  out->set_expanded_nodes(stats.expanded_nodes);
}

}  // namespace

absl::Status SearchServiceImpl::DoSearch(grpc::ServerContextBase* context,
                                         const Collection& collection,
                                         const v1::SearchRequest& request,
                                         v1::SearchResponse* reply) {
  const auto start = SteadyClock::now();
  VICINAL_RETURN_IF_ERROR(StopOf(context).Check());  // no work for nobody
  FieldViolations violations;
  const Selection selection = ParseSelector(
      request.select(), collection.schema(), "select", &violations);
  const HighlightOptions highlight =
      ParseHighlight(request.highlight(), collection.schema(), &violations);
  const StopCondition stop = StopOf(context);
  const auto read = [&](const std::vector<PointId>& ids,
                        const PointSelection& points) {
    return collection.Get(ids, points, stop);
  };
  VICINAL_ASSIGN_OR_RETURN(
      Query query,
      ParseQuery(request, collection.schema(),
                 state_.database->options().limits, read, &violations));
  query.explain = request.explain();
  query.token_matches = request.token_matches();
  if (query.token_matches && !ComparesTokens(query)) {
    return FieldError("token_matches",
                      "is set, but no stage of the query compares tokens; "
                      "leave it out, or ask by retrieve_multi or by rerank "
                      "with multi");
  }
  std::vector<Query> queries;
  queries.push_back(std::move(query));
  auto found = collection.Search(queries, stop);
  if (absl::IsResourceExhausted(found.status())) {  // by token matches
    return WithReason(found.status(), reason::kReplyTooLarge);
  }
  VICINAL_ASSIGN_OR_RETURN(const std::vector<SearchResult> results,
                           std::move(found));
  ReplyBudget budget = state_.NewReplyBudget();
  VICINAL_RETURN_IF_ERROR(FillResult(collection, queries[0], selection,
                                     results[0], stop, &budget,
                                     reply->mutable_result()));
  VICINAL_RETURN_IF_ERROR(
      FillGroups(results[0].groups, &budget, reply->mutable_result()));
  VICINAL_RETURN_IF_ERROR(FillLegs(results[0], collection.schema(), &budget,
                                   reply->mutable_result()));
  if (request.has_highlight()) {
    VICINAL_RETURN_IF_ERROR(FillPassages(collection, queries[0],
                                         results[0].hits, highlight, stop,
                                         &budget, reply->mutable_result()));
  }
  if (request.token_matches()) {
    VICINAL_RETURN_IF_ERROR(
        FillTokenMatches(results[0].hits, &budget, reply->mutable_result()));
  }
  reply->mutable_snapshot()->set_collection_uuid(collection.schema().uuid);
  reply->mutable_snapshot()->set_sequence(results[0].sequence);
  FillProfile(start, results[0].stats, reply->mutable_profile());
  if (request.explain()) {
    FillExplanation(results[0], reply->mutable_profile());
    AddWarnings(queries[0], collection.schema(), reply->mutable_profile());
  }
  return absl::OkStatus();
}

absl::Status SearchServiceImpl::DoSearchBatch(
    grpc::ServerContextBase* context, const Collection& collection,
    const v1::SearchBatchRequest& request, v1::SearchBatchResponse* reply) {
  const auto start = SteadyClock::now();
  VICINAL_RETURN_IF_ERROR(StopOf(context).Check());  // no work for nobody
  FieldViolations violations;
  const Selection selection = ParseSelector(
      request.select(), collection.schema(), "select", &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  VICINAL_ASSIGN_OR_RETURN(const std::vector<Query> queries,
                           ParseSearchBatch(request, collection.schema(),
                                            state_.database->options().limits));
  const StopCondition stop = StopOf(context);
  VICINAL_ASSIGN_OR_RETURN(const std::vector<SearchResult> results,
                           collection.Search(queries, stop));
  ReplyBudget budget = state_.NewReplyBudget();
  SearchStats total;
  for (size_t i = 0; i < results.size(); ++i) {
    VICINAL_RETURN_IF_ERROR(FillResult(collection, queries[i], selection,
                                       results[i], stop, &budget,
                                       reply->add_results()));
    total.distance_computations += results[i].stats.distance_computations;
    total.expanded_nodes += results[i].stats.expanded_nodes;
  }
  reply->mutable_snapshot()->set_collection_uuid(collection.schema().uuid);
  reply->mutable_snapshot()->set_sequence(results[0].sequence);
  FillProfile(start, total, reply->mutable_profile());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* SearchServiceImpl::Run(
    grpc::CallbackServerContext* context, const std::string& collection,
    const std::function<bool(const CollectionSchema& schema)>& is_long,
    std::function<absl::Status(const Collection& collection)> search) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  auto place = state_.searches.Enter();
  auto found = place.ok() ? state_.FindCollection(collection, "collection")
                          : place.status();
  if (!found.ok()) {
    reactor->Finish(ToGrpcStatus(found.status()));
  } else if (is_long((*found)->schema())) {
    // Shared, since std::function wants to be copied.
    auto held = std::make_shared<Admission::Place>(*std::move(place));
    state_.long_searches.Schedule([reactor, held, target = *std::move(found),
                                   search = std::move(search)]() mutable {
      const absl::Status status = search(*target);
      held.reset();
      reactor->Finish(ToGrpcStatus(status));
    });
  } else {
    reactor->Finish(ToGrpcStatus(search(**found)));
  }
  return reactor;
}

grpc::ServerUnaryReactor* SearchServiceImpl::Search(
    grpc::CallbackServerContext* context, const v1::SearchRequest* request,
    v1::SearchResponse* reply) {
  return Run(
      context, request->collection(),
      [request](const CollectionSchema& schema) {
        return request->has_group_by() || request->has_highlight() ||
               Scans(request->query(), schema);
      },
      [=, this](const Collection& collection) {
        return DoSearch(context, collection, *request, reply);
      });
}

grpc::ServerUnaryReactor* SearchServiceImpl::SearchBatch(
    grpc::CallbackServerContext* context, const v1::SearchBatchRequest* request,
    v1::SearchBatchResponse* reply) {
  return Run(
      context, request->collection(),
      [request, this](const CollectionSchema& schema) {
        // A GPU that is asked may be busy with others' calls.
        const bool may_wait = schema.gpu != GpuUse::kNever &&
                              !state_.database->options().devices.empty();
        return may_wait || request->ByteSizeLong() > kMaxShortBatchBytes ||
               request->has_filter() ||
               Scans(request->quality(), request->vector(), schema);
      },
      [=, this](const Collection& collection) {
        return DoSearchBatch(context, collection, *request, reply);
      });
}

}  // namespace vicinal
