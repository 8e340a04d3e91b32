#include "client/client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/progress_watch.h"
#include "client/retry.h"
#include "client/status.h"
#include "src/base/status_macros.h"
#include "src/base/vector_set.h"
#include "vicinal/v1/admin.grpc.pb.h"
#include "vicinal/v1/admin.pb.h"
#include "vicinal/v1/collection.grpc.pb.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/operation.grpc.pb.h"
#include "vicinal/v1/operation.pb.h"
#include "vicinal/v1/point.grpc.pb.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.grpc.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::client {
namespace {

using SystemClock = std::chrono::system_clock;

std::shared_ptr<grpc::Channel> OpenChannel(const ClientOptions& options,
                                           size_t number) {
  grpc::ChannelArguments args;
  // The replies are as large as the caller asked for.
  args.SetMaxReceiveMessageSize(-1);
  args.SetMaxSendMessageSize(-1);
  // A server that restarts on the same machine is back in well under gRPC's
  // default of 1 s to 120 s.
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 500);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // ours honour RetryInfo
  // Without the filters that this client has no use for, and without gRPC's
  // own statistics: 3 % of the time of a small search.
  args.SetInt(GRPC_ARG_MINIMAL_STACK, 1);
  args.SetInt(GRPC_ARG_ENABLE_DEADLINE_CHECKS, 1);
  args.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  if (options.keepalive.count() > 0) {
    args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                static_cast<int>(options.keepalive.count()));
    args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  }
  // Channels with equal arguments would share one connection.
  args.SetInt("vicinal.connection", static_cast<int>(number));
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(options.server,
                                   grpc::InsecureChannelCredentials(), args);
}

uint64_t Seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

absl::Status SilenceError(std::chrono::milliseconds timeout) {
  return absl::DeadlineExceededError(absl::StrCat(
      "The server sent nothing for ", timeout.count() / 1000.0,
      " s; is it stopped or overloaded? Look at its log and try again."));
}

SystemClock::time_point Deadline(std::chrono::milliseconds timeout) {
  return timeout.count() > 0 ? SystemClock::now() + timeout
                             : SystemClock::time_point::max();
}

}  // namespace

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : admin(v1::AdminService::NewStub(channel)),
        collections(v1::CollectionService::NewStub(channel)),
        points(v1::PointService::NewStub(channel)),
        searches(v1::SearchService::NewStub(channel)),
        operations(v1::OperationService::NewStub(channel)) {}

  std::unique_ptr<v1::AdminService::Stub> admin;
  std::unique_ptr<v1::CollectionService::Stub> collections;
  std::unique_ptr<v1::PointService::Stub> points;
  std::unique_ptr<v1::SearchService::Stub> searches;
  std::unique_ptr<v1::OperationService::Stub> operations;
};

Client::Client(const ClientOptions& options) : options_(options) {
  for (size_t i = 0; i < std::max<size_t>(1, options.num_connections); ++i) {
    channels_.push_back(OpenChannel(options, i));
  }
  stubs_ = std::make_unique<Stubs>(channels_[0]);
}

Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    const ClientOptions& options) {
  std::unique_ptr<Client> client(new Client(options));
  const auto deadline = Deadline(options.connect_timeout);
  Backoff backoff(options.retry, Seed());
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    const absl::Status status = FromGrpc(client->stubs_->admin->GetServerInfo(
        &context, v1::GetServerInfoRequest(), &client->info_));
    if (status.ok()) return client;
    const auto wake =
        SystemClock::now() +
        std::chrono::duration_cast<SystemClock::duration>(backoff.Next(status));
    if (!IsRetryable(status) || wake >= deadline) {
      if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) {
        return status;
      }
      return absl::UnavailableError(
          absl::StrCat("No Vicinal server answers at ", options.server, " (",
                       status.message(),
                       "); start vicinald there, or name another with "
                       "--server HOST:PORT."));
    }
    std::this_thread::sleep_until(wake);
  }
}

std::shared_ptr<grpc::Channel> Client::channel(size_t i) const {
  return channels_[i % channels_.size()];
}

absl::Status Client::CheckSize(size_t request_bytes) const {
  const uint64_t limit = info_.limits().max_message_bytes();
  if (limit == 0 || request_bytes <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "The request has ", request_bytes, " bytes; the server's limit is ",
      limit, "; send fewer points or queries at once."));
}

template <typename Call, typename Request, typename Response>
absl::Status Client::Run(const Call& call, const Request& request,
                         Response* response, bool repeatable) {
  VICINAL_RETURN_IF_ERROR(CheckSize(request.ByteSizeLong()));
  const auto deadline = Deadline(options_.timeout);
  std::optional<Backoff> backoff;
  while (true) {
    grpc::ClientContext context;
    if (options_.timeout.count() > 0) context.set_deadline(deadline);
    const absl::Status status = FromGrpc(call(&context, request, response));
    if (status.ok() || !repeatable || !IsRetryable(status)) return status;
    if (!backoff.has_value()) backoff.emplace(options_.retry, Seed());
    const auto wait = std::chrono::duration_cast<SystemClock::duration>(
        backoff->Next(status));
    if (backoff->failures() >= options_.retry.max_attempts ||
        wait >= deadline - SystemClock::now()) {
      return status;
    }
    std::this_thread::sleep_for(wait);
  }
}

// A call of `Run`: one method of one stub.
#define VICINAL_CALL(stub, method)                                           \
  [this](grpc::ClientContext* context, const auto& request_message,          \
         auto* response_message) {                                           \
    return stubs_->stub->method(context, request_message, response_message); \
  }

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo() {
  v1::GetServerInfoResponse response;
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(admin, GetServerInfo),
                              v1::GetServerInfoRequest(), &response, true));
  return response;
}

absl::StatusOr<v1::GetServerStatsResponse> Client::GetServerStats() {
  v1::GetServerStatsResponse response;
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(admin, GetServerStats),
                              v1::GetServerStatsRequest(), &response, true));
  return response;
}

absl::Status Client::ResumeWrites() {
  v1::ResumeWritesResponse response;
  return Run(VICINAL_CALL(admin, ResumeWrites), v1::ResumeWritesRequest(),
             &response, true);
}

absl::StatusOr<v1::Collection> Client::CreateCollection(
    const v1::Collection& collection, bool validate_only) {
  v1::CreateCollectionRequest request;
  *request.mutable_collection() = collection;
  request.set_validate_only(validate_only);
  v1::CreateCollectionResponse response;
  // Repeated after a lost reply it would say ALREADY_EXISTS.
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(collections, CreateCollection),
                              request, &response, validate_only));
  return std::move(*response.mutable_collection());
}

absl::StatusOr<v1::ResourceEstimate> Client::EstimateCollection(
    const v1::Collection& collection, uint64_t expected_points) {
  v1::CreateCollectionRequest request;
  *request.mutable_collection() = collection;
  request.set_validate_only(true);
  request.set_expected_points(expected_points);
  v1::CreateCollectionResponse response;
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(collections, CreateCollection),
                              request, &response, true));
  return std::move(*response.mutable_estimate());
}

absl::StatusOr<v1::Collection> Client::GetCollection(absl::string_view name) {
  v1::GetCollectionRequest request;
  request.set_name(name.data(), name.size());
  v1::GetCollectionResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(collections, GetCollection), request, &response, true));
  return std::move(*response.mutable_collection());
}

absl::StatusOr<std::vector<v1::Collection>> Client::ListCollections() {
  std::vector<v1::Collection> out;
  v1::ListCollectionsRequest request;
  request.set_page_size(1'000);
  do {
    v1::ListCollectionsResponse response;
    VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(collections, ListCollections),
                                request, &response, true));
    for (v1::Collection& collection : *response.mutable_collections()) {
      out.push_back(std::move(collection));
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return out;
}

absl::StatusOr<v1::Collection> Client::UpdateCollection(
    const v1::Collection& collection, const std::vector<std::string>& paths) {
  v1::UpdateCollectionRequest request;
  *request.mutable_collection() = collection;
  for (const std::string& path : paths) {
    request.mutable_update_mask()->add_paths(path);
  }
  v1::UpdateCollectionResponse response;
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(collections, UpdateCollection),
                              request, &response, true));
  return std::move(*response.mutable_collection());
}

absl::Status Client::DeleteCollection(absl::string_view name,
                                      bool allow_missing) {
  v1::DeleteCollectionRequest request;
  request.set_name(name.data(), name.size());
  request.set_allow_missing(allow_missing);
  v1::DeleteCollectionResponse response;
  // Repeated after a lost reply it would say NOT_FOUND, or delete a new one.
  return Run(VICINAL_CALL(collections, DeleteCollection), request, &response,
             false);
}

absl::StatusOr<std::string> Client::OptimizeCollection(absl::string_view name,
                                                       uint32_t max_segments) {
  v1::OptimizeCollectionRequest request;
  request.set_name(name.data(), name.size());
  request.set_max_segments(max_segments);
  v1::OptimizeCollectionResponse response;
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(collections, OptimizeCollection),
                              request, &response, false));
  return response.operation();
}

absl::StatusOr<std::string> Client::CreatePayloadIndex(
    absl::string_view collection, absl::string_view path,
    v1::PayloadType type) {
  v1::CreatePayloadIndexRequest request;
  request.set_collection(collection.data(), collection.size());
  request.mutable_index()->set_path(path.data(), path.size());
  request.mutable_index()->set_type(type);
  v1::CreatePayloadIndexResponse response;
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(collections, CreatePayloadIndex),
                              request, &response, false));
  return response.operation();
}

absl::StatusOr<v1::SetSparseEncoderResponse> Client::SetSparseEncoder(
    const v1::SetSparseEncoderRequest& request) {
  v1::SetSparseEncoderResponse response;
  VICINAL_RETURN_IF_ERROR(Run(VICINAL_CALL(collections, SetSparseEncoder),
                              request, &response, true));
  return response;
}

absl::Status Client::DropPayloadIndex(absl::string_view collection,
                                      absl::string_view path) {
  v1::DropPayloadIndexRequest request;
  request.set_collection(collection.data(), collection.size());
  request.set_path(path.data(), path.size());
  v1::DropPayloadIndexResponse response;
  return Run(VICINAL_CALL(collections, DropPayloadIndex), request, &response,
             false);
}

absl::Status Client::SetIndexedFiltersOnly(absl::string_view collection,
                                           bool only) {
  v1::UpdateCollectionRequest request;
  request.mutable_collection()->set_name(collection.data(), collection.size());
  request.mutable_collection()->set_indexed_filters_only(only);
  request.mutable_update_mask()->add_paths("indexed_filters_only");
  v1::UpdateCollectionResponse response;
  return Run(VICINAL_CALL(collections, UpdateCollection), request, &response,
             true);
}

absl::StatusOr<v1::CommitToken> Client::Upsert(absl::string_view collection,
                                               v1::PointBatch points,
                                               v1::Durability durability) {
  v1::UpsertRequest request;
  request.set_collection(collection.data(), collection.size());
  *request.mutable_points() = std::move(points);
  request.set_durability(durability);
  return Upsert(request);
}

absl::StatusOr<v1::CommitToken> Client::Upsert(
    const v1::UpsertRequest& request) {
  const bool repeatable =
      request.condition() != v1::UPSERT_CONDITION_MUST_NOT_EXIST &&
      request.expected_sequences().empty();
  v1::UpsertResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(points, Upsert), request, &response, repeatable));
  return std::move(*response.mutable_commit());
}

absl::StatusOr<v1::GetResponse> Client::GetPoints(
    absl::string_view collection, v1::PointIds ids,
    const v1::PointSelector& select) {
  v1::GetRequest request;
  request.set_collection(collection.data(), collection.size());
  *request.mutable_ids() = std::move(ids);
  *request.mutable_select() = select;
  v1::GetResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(points, Get), request, &response, true));
  return response;
}

absl::StatusOr<v1::DeleteResponse> Client::Delete(
    const v1::DeleteRequest& request) {
  v1::DeleteResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(points, Delete), request, &response, true));
  return response;
}

absl::StatusOr<v1::DeleteResponse> Client::DeletePoints(
    absl::string_view collection, v1::PointIds ids, v1::Durability durability) {
  v1::DeleteRequest request;
  request.set_collection(collection.data(), collection.size());
  *request.mutable_ids() = std::move(ids);
  request.set_durability(durability);
  return Delete(request);
}

absl::StatusOr<v1::DeleteResponse> Client::DeletePoints(
    absl::string_view collection, v1::Filter filter,
    v1::Durability durability) {
  v1::DeleteRequest request;
  request.set_collection(collection.data(), collection.size());
  *request.mutable_filter() = std::move(filter);
  request.set_durability(durability);
  return Delete(request);
}

absl::StatusOr<v1::UpdatePayloadResponse> Client::UpdatePayload(
    const v1::UpdatePayloadRequest& request) {
  v1::UpdatePayloadResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(points, UpdatePayload), request, &response, true));
  return response;
}

absl::StatusOr<uint64_t> Client::Count(absl::string_view collection,
                                       const v1::Filter& filter) {
  v1::CountRequest request;
  request.set_collection(collection.data(), collection.size());
  if (!IsBlank(filter)) *request.mutable_filter() = filter;
  v1::CountResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(points, Count), request, &response, true));
  return response.count();
}

absl::StatusOr<v1::FacetResponse> Client::Facet(
    const v1::FacetRequest& request) {
  v1::FacetResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(points, Facet), request, &response, true));
  return response;
}

absl::Status Client::Scroll(
    const v1::ScrollRequest& request,
    const std::function<absl::Status(v1::ScrollResponse&&)>& page) {
  Backoff backoff(options_.retry, Seed());
  while (true) {
    grpc::ClientContext context;
    ProgressWatch watch(&context, options_.stream_timeout);
    watch.Arm();
    auto stream = stubs_->points->Scroll(&context, request);
    bool delivered = false;
    v1::ScrollResponse response;
    while (stream->Read(&response)) {
      watch.Disarm();
      delivered = true;
      const absl::Status status = page(std::move(response));
      if (!status.ok()) {
        context.TryCancel();
        stream->Finish();
        return status;
      }
      watch.Arm();
    }
    const absl::Status status = FromGrpc(stream->Finish());
    if (watch.fired()) return SilenceError(options_.stream_timeout);
    if (status.ok() || delivered || !IsRetryable(status)) return status;
    const auto wait = backoff.Next(status);
    if (backoff.failures() >= options_.retry.max_attempts) return status;
    std::this_thread::sleep_for(wait);
  }
}

absl::StatusOr<v1::SearchResponse> Client::Search(
    const v1::SearchRequest& request) {
  v1::SearchResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(searches, Search), request, &response, true));
  return response;
}

absl::StatusOr<v1::SearchResponse> Client::Search(
    absl::string_view collection, std::span<const float> query,
    const SearchOptions& options) {
  return Search(MakeSearchRequest(collection, query, options));
}

absl::StatusOr<v1::SearchResponse> Client::SearchMulti(
    absl::string_view collection, const VectorSetView& tokens,
    std::span<const float> weights, const SearchOptions& options,
    const MultiSearchOptions& multi) {
  if (options.mmr.has_value()) {
    return absl::InvalidArgumentError(
        "mmr compares hits with one vector; leave it out, or search by a "
        "dense vector.");
  }
  return Search(MakeMultiSearchRequest(
      collection, MakeMultiQuery(tokens, weights), options, multi));
}

absl::StatusOr<v1::SearchResponse> Client::Recommend(
    absl::string_view collection, std::span<const PointId> positive,
    std::span<const PointId> negative, const SearchOptions& options) {
  if (options.mmr.has_value()) {
    return absl::InvalidArgumentError(
        "mmr compares hits with a vector; leave it out, or search by a vector "
        "in place of examples.");
  }
  return Search(MakeRecommendRequest(collection, positive, negative, options));
}

absl::StatusOr<v1::SearchBatchResponse> Client::SearchBatch(
    const v1::SearchBatchRequest& request) {
  v1::SearchBatchResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(searches, SearchBatch), request, &response, true));
  return response;
}

absl::StatusOr<v1::SearchBatchResponse> Client::SearchBatch(
    absl::string_view collection, const VectorSetView& queries,
    const SearchOptions& options) {
  return SearchBatch(MakeSearchBatchRequest(collection, queries, options));
}

absl::StatusOr<v1::Operation> Client::GetOperation(absl::string_view name) {
  v1::GetOperationRequest request;
  request.set_name(name.data(), name.size());
  v1::GetOperationResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(operations, GetOperation), request, &response, true));
  return std::move(*response.mutable_operation());
}

absl::StatusOr<std::vector<v1::Operation>> Client::ListOperations(
    absl::string_view collection) {
  v1::ListOperationsRequest request;
  request.set_collection(collection.data(), collection.size());
  v1::ListOperationsResponse response;
  VICINAL_RETURN_IF_ERROR(
      Run(VICINAL_CALL(operations, ListOperations), request, &response, true));
  return std::vector<v1::Operation>(response.operations().begin(),
                                    response.operations().end());
}

absl::Status Client::CancelOperation(absl::string_view name) {
  v1::CancelOperationRequest request;
  request.set_name(name.data(), name.size());
  v1::CancelOperationResponse response;
  return Run(VICINAL_CALL(operations, CancelOperation), request, &response,
             true);
}

absl::StatusOr<v1::Operation> Client::WaitOperation(
    absl::string_view name, std::chrono::milliseconds timeout,
    const std::function<void(const v1::Operation&)>& progress) {
  const auto deadline = Deadline(timeout);
  v1::WaitOperationRequest request;
  request.set_name(name.data(), name.size());
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - SystemClock::now());
    const auto slice = std::clamp<std::chrono::milliseconds>(
        left, std::chrono::milliseconds(0), std::chrono::milliseconds(500));
    request.mutable_timeout()->set_nanos(
        static_cast<int32_t>(slice.count() * 1'000'000));
    v1::WaitOperationResponse response;
    VICINAL_RETURN_IF_ERROR(
        Run(VICINAL_CALL(operations, WaitOperation), request, &response, true));
    if (progress) progress(response.operation());
    if (response.operation().done()) {
      return std::move(*response.mutable_operation());
    }
    if (SystemClock::now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("Operation ", name, " was not done within ",
                       timeout.count(), " ms; it goes on in the server."));
    }
  }
}

#undef VICINAL_CALL

}  // namespace vicinal::client
