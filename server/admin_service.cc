#include "server/admin_service.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "server/convert_schema.h"
#include "server/errors.h"
#include "src/base/version.h"
#include "src/engine/database.h"

namespace vicinal {
namespace {

// What clients may test for; a feature is never taken away within v1.
constexpr const char* kFeatures[] = {
    "index.automatic",     "index.hnsw",          "index.ivf",
    "index.flat",          "vector.float32",      "vector.float16",
    "vector.int8",         "vector.uint8",        "vector.named",
    "query.recall_target", "query.fuse.rrf",      "query.rerank",
    "write.stream",        "write.stream.resume", "collection.optimize",
    "collection.memory",   "collection.estimate", "upsert.condition",
    "payload.update",      "query.threshold",     "query.offset",
    "query.group_by",      "query.recommend",     "query.rerank.mmr",
    "payload.index",       "query.explain",       "payload.facet",
    "scroll.order_by",     "vector.sparse",       "text.bm25",
    "query.fuse",          "query.rescore",       "query.feedback",
    "query.highlight",     "filter.match",        "sparse.encoder",
    "vector.multi",        "query.token_matches", "collection.gpu"};

// How often a waiting call looks whether its client is still there.
constexpr std::chrono::milliseconds kWaitSlice(100);

void ToProto(const DeviceStats& stats, v1::GpuStats* out) {
  out->set_name(stats.name);
  out->set_lost(stats.is_lost);
  out->set_device_bytes(stats.device_bytes);
  out->set_resident_segments(stats.residency.num_segments);
  out->set_resident_bytes(stats.residency.resident_bytes);
  out->set_loads(stats.residency.num_loads);
  out->set_evictions(stats.residency.num_evictions);
  out->set_batches(stats.batches.num_batches);
  out->set_batch_queries(stats.batches.num_queries);
  out->set_waiting(stats.batches.num_waiting);
  out->set_fallbacks_unsupported(stats.refusals.num_unsupported);
  out->set_fallbacks_no_memory(stats.refusals.num_no_memory);
  out->set_fallbacks_lost(stats.refusals.num_lost);
}

}  // namespace

grpc::Status AdminServiceImpl::GetServerInfo(grpc::ServerContext*,
                                             const v1::GetServerInfoRequest*,
                                             v1::GetServerInfoResponse* reply) {
  const Limits& limits = state_.database->options().limits;
  reply->set_version(std::string(Version()));
  reply->set_revision(std::string(Revision()));
  const EngineInfo engine = GetEngineInfo();
  reply->set_data_format_version(engine.data_format_version);
  reply->set_simd(engine.simd);
  for (const char* feature : kFeatures) reply->add_features(feature);
  v1::Limits* out = reply->mutable_limits();
  out->set_max_collections(limits.max_collections);
  out->set_max_name_bytes(limits.max_name_bytes);
  out->set_max_vectors_per_point(limits.max_vectors_per_point);
  out->set_max_dim(limits.max_dim);
  out->set_max_id_bytes(limits.max_id_bytes);
  out->set_max_payload_bytes(limits.max_payload_bytes);
  out->set_max_payload_depth(limits.max_payload_depth);
  out->set_max_batch_points(limits.max_batch_points);
  out->set_max_message_bytes(limits.max_message_bytes);
  out->set_max_k(limits.max_k);
  out->set_max_ef(limits.max_ef);
  out->set_max_queries_per_batch(limits.max_queries_per_batch);
  out->set_max_results_per_batch(limits.max_results_per_batch);
  out->set_max_query_depth(limits.max_query_depth);
  out->set_max_query_stages(limits.max_query_stages);
  out->set_max_page_size(limits.max_page_size);
  out->set_max_stream_id_bytes(limits.max_stream_id_bytes);
  out->set_max_examples(limits.max_examples);
  out->set_max_diversity_candidates(limits.max_diversity_candidates);
  out->set_max_facet_values(limits.max_facet_values);
  out->set_max_sparse_entries(limits.max_sparse_entries);
  out->set_max_text_fields(limits.max_text_fields);
  out->set_max_feedback_documents(limits.max_feedback_documents);
  out->set_max_feedback_terms(limits.max_feedback_terms);
  out->set_max_tokens(limits.max_tokens);
  out->set_max_query_tokens(limits.max_query_tokens);
  out->set_max_unindexed_bytes(state_.database->options().max_unindexed_bytes);
  return grpc::Status::OK;
}

grpc::Status AdminServiceImpl::GetServerStats(
    grpc::ServerContext*, const v1::GetServerStatsRequest*,
    v1::GetServerStatsResponse* reply) {
  const DatabaseStats stats = state_.database->stats();
  reply->mutable_start_time()->set_seconds(state_.start_unix_micros /
                                           1'000'000);
  reply->set_resident_bytes(stats.resident_bytes);
  reply->set_major_page_faults(stats.page_faults.major);
  reply->set_minor_page_faults(stats.page_faults.minor);
  reply->set_store_disk_bytes(stats.store.disk_bytes);
  reply->set_store_memory_bytes(stats.store.memory_bytes);
  reply->set_num_collections(stats.num_collections);
  reply->set_num_commits(stats.store.commits);
  reply->set_read_only(!stats.write_health.ok());
  reply->set_read_only_reason(std::string(stats.write_health.message()));
  for (const DeviceStats& device : stats.devices) {
    ToProto(device, reply->add_gpus());
  }
  return grpc::Status::OK;
}

grpc::Status AdminServiceImpl::ResumeWrites(grpc::ServerContext*,
                                            const v1::ResumeWritesRequest*,
                                            v1::ResumeWritesResponse*) {
  absl::Status status = state_.database->Resume();
  if (!status.ok()) {
    status = WithReason(absl::FailedPreconditionError(status.message()),
                        reason::kReadOnly);
  }
  return ToGrpcStatus(status);
}

absl::StatusOr<std::shared_ptr<Operation>> OperationServiceImpl::Find(
    const std::string& name) {
  auto operation = state_.database->operations().Find(name);
  if (!operation.ok()) {
    return WithReason(operation.status(), reason::kOperationNotFound,
                      {{"operation", name}});
  }
  return operation;
}

grpc::Status OperationServiceImpl::GetOperation(
    grpc::ServerContext*, const v1::GetOperationRequest* request,
    v1::GetOperationResponse* reply) {
  auto operation = Find(request->name());
  if (!operation.ok()) return ToGrpcStatus(operation.status());
  ToProto((*operation)->info(), reply->mutable_operation());
  return grpc::Status::OK;
}

grpc::Status OperationServiceImpl::ListOperations(
    grpc::ServerContext*, const v1::ListOperationsRequest* request,
    v1::ListOperationsResponse* reply) {
  for (const OperationInfo& info :
       state_.database->operations().List(request->collection())) {
    ToProto(info, reply->add_operations());
  }
  return grpc::Status::OK;
}

grpc::Status OperationServiceImpl::WaitOperation(
    grpc::ServerContext* context, const v1::WaitOperationRequest* request,
    v1::WaitOperationResponse* reply) {
  auto place = state_.streams.Enter();  // it holds a thread like a stream
  if (!place.ok()) return ToGrpcStatus(place.status());
  auto operation = Find(request->name());
  if (!operation.ok()) return ToGrpcStatus(operation.status());
  const auto now = std::chrono::steady_clock::now();
  auto until = StopOf(context).deadline;
  if (request->has_timeout()) {
    const int64_t seconds =
        std::clamp<int64_t>(request->timeout().seconds(), 0, 86'400);
    until = std::min(until, now + std::chrono::seconds(seconds) +
                                std::chrono::nanoseconds(
                                    std::max(0, request->timeout().nanos())));
  } else if (until != std::chrono::steady_clock::time_point::max()) {
    until -= kWaitSlice;  // so that the reply arrives in time
  }
  while (!context->IsCancelled() && !state_.stopping.load() &&
         std::chrono::steady_clock::now() < until) {
    if ((*operation)
            ->Wait(std::min(until,
                            std::chrono::steady_clock::now() + kWaitSlice))) {
      break;
    }
  }
  ToProto((*operation)->info(), reply->mutable_operation());
  return grpc::Status::OK;
}

grpc::Status OperationServiceImpl::CancelOperation(
    grpc::ServerContext*, const v1::CancelOperationRequest* request,
    v1::CancelOperationResponse*) {
  auto operation = Find(request->name());
  if (!operation.ok()) return ToGrpcStatus(operation.status());
  (*operation)->cancel().Cancel();
  return grpc::Status::OK;
}

}  // namespace vicinal
