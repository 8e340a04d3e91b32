#include "server/point_service.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"
#include "server/convert_facet.h"
#include "server/convert_filter.h"
#include "server/convert_scroll.h"
#include "server/convert_write.h"
#include "server/errors.h"
#include "server/write_stream.h"
#include "src/base/status_macros.h"
#include "src/engine/payload_patch.h"

namespace vicinal {
namespace {

// A page of Scroll has no more than this, but for a single larger point:
// enough for full speed, little to hold for each stream.
constexpr size_t kPageBytes = size_t{8} << 20;

WriteOptions OptionsOf(v1::Durability durability) {
  WriteOptions options;
  if (durability == v1::DURABILITY_BUFFERED) {
    options.durability = Durability::kBuffered;
  }
  return options;
}

// The error of an upsert whose condition does not hold; OK: it is another.
absl::Status ConditionError(const WriteOutcome& outcome,
                            const PointBatch& batch) {
  if (outcome.result.item_errors.empty()) return absl::OkStatus();
  const char* why = nullptr;
  switch (outcome.status.code()) {
    case absl::StatusCode::kAlreadyExists:
      why = reason::kPointExists;
      break;
    case absl::StatusCode::kFailedPrecondition:
      why = reason::kPointMissing;
      break;
    case absl::StatusCode::kAborted:
      why = reason::kSequenceMismatch;
      break;
    default:
      return absl::OkStatus();
  }
  const size_t index = outcome.result.item_errors[0].index;
  return WithReason(
      outcome.status, why,
      {{"point", batch.ids[index].ToString()}, {"index", absl::StrCat(index)}});
}

// The points of a Delete or an UpdatePayload: ids, or what a filter accepts.
struct Targets {
  std::vector<PointId> ids;
  std::shared_ptr<const FilterNode> filter;  // null: ids
};

// would: what a filter of empty text would do.
template <typename Request>
Targets ParseTargets(const Request& request, const Limits& limits,
                     absl::string_view would, FieldViolations* violations) {
  Targets targets;
  targets.ids = ParsePointIds(request.ids(), "ids", limits, violations);
  if (!request.has_filter()) return targets;
  targets.filter = ParseFilter(request.filter(), "filter", violations);
  if (!targets.ids.empty()) {
    violations->Add("filter", "stands beside ids; give one of them");
  }
  if (targets.filter != nullptr && IsBlank(request.filter())) {
    violations->Add("filter.text", absl::StrCat("is empty, which would ", would,
                                                " all; write TRUE for that"));
  }
  return targets;
}

// Of a write to a collection; `sequence` 0: there was nothing to write.
void FillToken(const Collection& collection, Sequence sequence,
               v1::CommitToken* token) {
  token->set_collection_uuid(collection.schema().uuid);
  token->set_sequence(sequence != 0 ? sequence : collection.stats().sequence);
}

// Sends pages of points with their tokens; those in rows, which may be many
// times the stored bytes, in several messages. Not thread-safe.
class ScrollWriter {
 public:
  ScrollWriter(const ServerState& state, const CollectionSchema& schema,
               const ParsedScroll& scroll, size_t page_bytes,
               grpc::ServerWriter<v1::ScrollResponse>* writer)
      : state_(state),
        schema_(schema),
        scroll_(scroll),
        selection_(scroll.selection),
        page_bytes_(page_bytes),
        writer_(writer) {}

  absl::Status Write(std::vector<StoredPoint> page) {
    return selection_.rows ? WriteRows(page) : WriteColumns(std::move(page));
  }

 private:
  absl::Status WriteColumns(std::vector<StoredPoint> page) {
    std::vector<std::optional<StoredPoint>> points;
    points.reserve(page.size());
    for (StoredPoint& point : page) points.emplace_back(std::move(point));
    v1::ScrollResponse reply;
    ToColumns(schema_, selection_, points, true,
              reply.mutable_points()->mutable_columns());
    return Send(&reply, points.front()->id, *points.back());
  }

  absl::Status WriteRows(const std::vector<StoredPoint>& page) {
    v1::ScrollResponse reply;
    const StoredPoint* first = nullptr;
    const StoredPoint* last = nullptr;
    size_t bytes = 0;
    for (const StoredPoint& point : page) {
      v1::PointRow row;
      VICINAL_RETURN_IF_ERROR(ToRow(schema_, selection_, point, &row));
      const size_t row_bytes = row.ByteSizeLong();
      if (first != nullptr && bytes + row_bytes > page_bytes_) {
        VICINAL_RETURN_IF_ERROR(Send(&reply, first->id, *last));
        reply.Clear();
        bytes = 0;
        first = nullptr;
      }
      if (first == nullptr) first = &point;
      last = &point;
      bytes += row_bytes;
      *reply.mutable_points()->add_rows() = std::move(row);
    }
    return Send(&reply, first->id, *last);
  }

  // `first`: of the points; the only one when they pass the limit.
  absl::Status Send(v1::ScrollResponse* reply, const PointId& first,
                    const StoredPoint& last) {
    reply->set_next_page_token(scroll_.TokenBehind(last));
    ReplyBudget budget = state_.NewReplyBudget();
    if (!budget.Spend(reply->ByteSizeLong()).ok()) {
      return budget.TooLarge(absl::StrCat("Point ", first.ToString()));
    }
    if (writer_->Write(*reply)) return absl::OkStatus();
    return absl::CancelledError("The client went away.");
  }

  const ServerState& state_;
  const CollectionSchema& schema_;
  const ParsedScroll& scroll_;
  const Selection& selection_;
  const size_t page_bytes_;
  grpc::ServerWriter<v1::ScrollResponse>* const writer_;
};

}  // namespace

absl::Status PointServiceImpl::DoUpsert(const v1::UpsertRequest& request,
                                        v1::UpsertResponse* reply) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  VICINAL_ASSIGN_OR_RETURN(
      const ParsedBatch batch,
      ParsedBatch::Parse(request.points(), collection->schema(),
                         state_.database->options().limits, "points"));
  FieldViolations violations;
  WriteOptions options = OptionsOf(request.durability());
  options.condition =
      ParseCondition(request, batch.batch().ids.size(), &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  const WriteOutcome outcome =
      collection->Upsert(batch.batch(), std::move(options));
  if (!outcome.status.ok()) {
    VICINAL_RETURN_IF_ERROR(ConditionError(outcome, batch.batch()));
    if (absl::IsInvalidArgument(outcome.status)) {
      for (const ItemError& error : outcome.result.item_errors) {
        violations.Add(batch.RequestPath(error.field), error.status.message());
      }
    }
    if (!violations.empty()) return violations.ToStatus();
    return state_.ExplainWriteError(outcome.status);
  }
  reply->mutable_commit()->set_collection_uuid(collection->schema().uuid);
  reply->mutable_commit()->set_sequence(outcome.result.sequence);
  return absl::OkStatus();
}

absl::Status PointServiceImpl::DoGet(grpc::ServerContext* context,
                                     const v1::GetRequest& request,
                                     v1::GetResponse* reply) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  FieldViolations violations;
  const Selection selection = ParseSelector(
      request.select(), collection->schema(), "select", &violations);
  const std::vector<PointId> ids = ParsePointIds(
      request.ids(), "ids", state_.database->options().limits, &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  ReplyBudget budget = state_.NewReplyBudget();
  PointSelection wanted = selection.points;
  wanted.max_bytes = budget.left();
  auto found = collection->Get(ids, wanted, StopOf(context));
  if (absl::IsResourceExhausted(found.status())) return budget.TooLarge();
  VICINAL_ASSIGN_OR_RETURN(std::vector<std::optional<StoredPoint>> points,
                           std::move(found));
  points.erase(std::remove(points.begin(), points.end(), std::nullopt),
               points.end());
  for (const auto& point : points) reply->add_sequences(point->sequence);
  VICINAL_RETURN_IF_ERROR(budget.Spend(reply->ByteSizeLong()));
  return ToProto(collection->schema(), selection, points, &budget,
                 reply->mutable_points());
}

absl::Status PointServiceImpl::DoDelete(grpc::ServerContext* context,
                                        const v1::DeleteRequest& request,
                                        v1::DeleteResponse* reply) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  FieldViolations violations;
  Targets targets = ParseTargets(request, state_.database->options().limits,
                                 "delete", &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  const WriteOptions options = OptionsOf(request.durability());
  const WriteOutcome outcome =
      targets.filter != nullptr
          ? collection->DeleteMatching(*targets.filter, options,
                                       StopOf(context))
          : collection->Delete(std::move(targets.ids), options);
  if (!outcome.status.ok()) return state_.ExplainWriteError(outcome.status);
  FillToken(*collection, outcome.result.sequence, reply->mutable_commit());
  reply->set_num_deleted(outcome.result.num_written);
  return absl::OkStatus();
}

absl::Status PointServiceImpl::DoUpdatePayload(
    grpc::ServerContext* context, const v1::UpdatePayloadRequest& request,
    v1::UpdatePayloadResponse* reply) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  const Limits& limits = state_.database->options().limits;
  FieldViolations violations;
  Targets targets = ParseTargets(request, limits, "change", &violations);
  const std::optional<PayloadPatch> patch =
      ParsePatch(request, limits, &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  const WriteOptions options = OptionsOf(request.durability());
  const StopCondition stop = StopOf(context);
  const WriteOutcome outcome =
      targets.filter != nullptr
          ? collection->UpdatePayloadMatching(*targets.filter, *patch, options,
                                              stop)
          : collection->UpdatePayload(std::move(targets.ids), *patch, options,
                                      stop);
  // The request was checked above: it is a point that becomes too large.
  if (absl::IsInvalidArgument(outcome.status)) {
    return FieldError(request.has_merge() ? "merge" : "delete_keys",
                      outcome.status.message());
  }
  if (!outcome.status.ok()) return state_.ExplainWriteError(outcome.status);
  FillToken(*collection, outcome.result.sequence, reply->mutable_commit());
  reply->set_num_updated(outcome.result.num_written);
  return absl::OkStatus();
}

absl::Status PointServiceImpl::DoScroll(
    grpc::ServerContext* context, const v1::ScrollRequest& request,
    grpc::ServerWriter<v1::ScrollResponse>* writer) {
  VICINAL_ASSIGN_OR_RETURN(const Admission::Place place,
                           state_.streams.Enter());
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  const Limits& limits = state_.database->options().limits;
  VICINAL_ASSIGN_OR_RETURN(
      const ParsedScroll scroll,
      ParsedScroll::Parse(request, collection->schema(), limits));
  uint64_t left = request.limit() == 0 ? UINT64_MAX : request.limit();
  PointSelection wanted = scroll.selection.points;
  wanted.max_bytes = std::min(kPageBytes, limits.max_message_bytes / 2);
  ScrollWriter pages(state_, collection->schema(), scroll, wanted.max_bytes,
                     writer);
  const auto send = [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
    if (page.size() > left) page.resize(left);
    left -= page.size();
    VICINAL_RETURN_IF_ERROR(pages.Write(std::move(page)));
    return left > 0;
  };
  const StopCondition stop = StopOf(context);
  if (!scroll.order.has_value()) {
    return collection->Scroll(scroll.after, scroll.page_size, wanted, stop,
                              send, scroll.filter.get());
  }
  const absl::Status status = collection->ScrollOrdered(
      *scroll.order, scroll.page_size, wanted, stop, send, scroll.filter.get());
  // Dropped since it was found above.
  if (absl::IsFailedPrecondition(status)) {
    return IndexMissing(status, collection->schema(), scroll.order->field.path);
  }
  return status;
}

grpc::Status PointServiceImpl::Upsert(grpc::ServerContext*,
                                      const v1::UpsertRequest* request,
                                      v1::UpsertResponse* reply) {
  return ToGrpcStatus(DoUpsert(*request, reply));
}

grpc::Status PointServiceImpl::Get(grpc::ServerContext* context,
                                   const v1::GetRequest* request,
                                   v1::GetResponse* reply) {
  return ToGrpcStatus(DoGet(context, *request, reply));
}

grpc::Status PointServiceImpl::Delete(grpc::ServerContext* context,
                                      const v1::DeleteRequest* request,
                                      v1::DeleteResponse* reply) {
  return ToGrpcStatus(DoDelete(context, *request, reply));
}

grpc::Status PointServiceImpl::UpdatePayload(
    grpc::ServerContext* context, const v1::UpdatePayloadRequest* request,
    v1::UpdatePayloadResponse* reply) {
  return ToGrpcStatus(DoUpdatePayload(context, *request, reply));
}

absl::Status PointServiceImpl::DoCount(grpc::ServerContext* context,
                                       const v1::CountRequest& request,
                                       v1::CountResponse* reply) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  if (!request.has_filter()) {
    reply->set_count(collection->Count());
    return absl::OkStatus();
  }
  FieldViolations violations;
  const auto filter = ParseFilter(request.filter(), "filter", &violations);
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  VICINAL_ASSIGN_OR_RETURN(const uint64_t count,
                           collection->CountMatching(*filter, StopOf(context)));
  reply->set_count(count);
  return absl::OkStatus();
}

grpc::Status PointServiceImpl::Count(grpc::ServerContext* context,
                                     const v1::CountRequest* request,
                                     v1::CountResponse* reply) {
  return ToGrpcStatus(DoCount(context, *request, reply));
}

absl::Status PointServiceImpl::DoFacet(grpc::ServerContext* context,
                                       const v1::FacetRequest& request,
                                       v1::FacetResponse* reply) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  const Limits& limits = state_.database->options().limits;
  VICINAL_ASSIGN_OR_RETURN(
      ParsedFacet facet,
      ParsedFacet::Parse(request, collection->schema(), limits));
  facet.query.max_bytes = std::min(kPageBytes, limits.max_message_bytes / 2);
  VICINAL_ASSIGN_OR_RETURN(const FacetResult result,
                           collection->Facet(facet.query, StopOf(context)));
  facet.ToProto(result, reply);
  return state_.NewReplyBudget().Spend(reply->ByteSizeLong());
}

grpc::Status PointServiceImpl::Facet(grpc::ServerContext* context,
                                     const v1::FacetRequest* request,
                                     v1::FacetResponse* reply) {
  return ToGrpcStatus(DoFacet(context, *request, reply));
}

grpc::Status PointServiceImpl::Scroll(
    grpc::ServerContext* context, const v1::ScrollRequest* request,
    grpc::ServerWriter<v1::ScrollResponse>* writer) {
  return ToGrpcStatus(DoScroll(context, *request, writer));
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
PointServiceImpl::Write(grpc::CallbackServerContext*) {
  return WriteStream::Open(&state_);
}

}  // namespace vicinal
