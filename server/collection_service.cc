#include "server/collection_service.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/convert_schema.h"
#include "server/convert_sparse.h"
#include "server/errors.h"
#include "src/base/status_macros.h"
#include "src/engine/memory_plan.h"

namespace vicinal {
namespace {

constexpr uint32_t kDefaultPageSize = 100;
constexpr uint32_t kMaxPageSize = 1000;
constexpr uint64_t kMaxExpectedPoints = 1'000'000'000'000;

absl::Status WithGpuReason(absl::Status status) {
  return IsGpuMissing(status)
             ? WithReason(std::move(status), reason::kGpuMissing)
             : status;
}

}  // namespace

absl::Status CollectionServiceImpl::Create(
    const v1::CreateCollectionRequest& request,
    v1::CreateCollectionResponse* reply) {
  if (state_.stopping.load()) return ShuttingDownError();
  FieldViolations violations;
  CollectionSchema schema =
      ParseSchema(request.collection(), "collection", &violations);
  for (const FieldViolation& violation :
       ValidateSchema(schema, state_.database->options().limits)) {
    violations.Add("collection." + violation.field, violation.description);
  }
  if (request.expected_points() > kMaxExpectedPoints) {
    violations.Add(
        "expected_points",
        absl::StrCat("is ", request.expected_points(), "; at most ",
                     kMaxExpectedPoints, " points can be estimated"));
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  if (request.expected_points() > 0) {
    size_t threads = state_.database->options().build_threads;
    if (threads == 0) {
      threads = std::max(1u, std::thread::hardware_concurrency());
    }
    ToProto(EstimateResources(schema, request.expected_points(), threads),
            reply->mutable_estimate());
  }
  if (request.validate_only()) {
    if (state_.database->GetCollection(schema.name).ok()) {
      return WithReason(
          absl::AlreadyExistsError(absl::StrCat(
              "Collection \"", schema.name,
              "\" exists already; choose another name or delete it first.")),
          reason::kCollectionExists, {{"collection", schema.name}});
    }
    VICINAL_RETURN_IF_ERROR(WithGpuReason(state_.database->CheckGpu(schema)));
    ToProto(schema, CollectionStats(), reply->mutable_collection());
    return absl::OkStatus();
  }
  const std::string name = schema.name;
  auto created = state_.database->CreateCollection(std::move(schema));
  if (!created.ok()) {
    const absl::Status& status = created.status();
    if (status.code() == absl::StatusCode::kAlreadyExists) {
      return WithReason(status, reason::kCollectionExists,
                        {{"collection", name}});
    }
    if (IsTooManyCollections(status)) {
      return WithReason(status, reason::kTooManyCollections);
    }
    return state_.ExplainStoreError(WithGpuReason(status));
  }
  ToProto((*created)->schema(), (*created)->stats(),
          reply->mutable_collection());
  return absl::OkStatus();
}

grpc::Status CollectionServiceImpl::CreateCollection(
    grpc::ServerContext*, const v1::CreateCollectionRequest* request,
    v1::CreateCollectionResponse* reply) {
  return ToGrpcStatus(Create(*request, reply));
}

grpc::Status CollectionServiceImpl::GetCollection(
    grpc::ServerContext*, const v1::GetCollectionRequest* request,
    v1::GetCollectionResponse* reply) {
  auto collection = state_.FindCollection(request->name(), "name");
  if (!collection.ok()) return ToGrpcStatus(collection.status());
  ToProto((*collection)->schema(), (*collection)->stats(),
          reply->mutable_collection());
  reply->mutable_collection()->mutable_stats()->set_resident_file_bytes(
      (*collection)->resident_file_bytes());
  return grpc::Status::OK;
}

grpc::Status CollectionServiceImpl::ListCollections(
    grpc::ServerContext*, const v1::ListCollectionsRequest* request,
    v1::ListCollectionsResponse* reply) {
  const size_t page_size = std::min(
      request->page_size() == 0 ? kDefaultPageSize : request->page_size(),
      kMaxPageSize);
  // The token is the last name of the page before.
  for (const auto& collection : state_.database->ListCollections()) {
    const std::string& name = collection->schema().name;
    if (name <= request->page_token()) continue;
    if (static_cast<size_t>(reply->collections_size()) == page_size) {
      reply->set_next_page_token(
          reply->collections(reply->collections_size() - 1).name());
      break;
    }
    ToProto(collection->schema(), collection->stats(),
            reply->add_collections());
  }
  return grpc::Status::OK;
}

absl::Status CollectionServiceImpl::Update(
    const v1::UpdateCollectionRequest& request,
    v1::UpdateCollectionResponse* reply) {
  FieldViolations violations;
  bool index_changes = request.update_mask().paths_size() == 0;
  bool codec_changes = false;
  std::optional<MemorySpec> memory;
  std::optional<GpuUse> gpu;
  std::optional<bool> indexed_filters_only;
  for (const std::string& path : request.update_mask().paths()) {
    if (path == "vectors.index") {
      index_changes = true;
    } else if (path == "vectors.codec") {
      codec_changes = true;
    } else if (path == "memory") {
      memory = ParseMemory(request.collection().memory());
    } else if (path == "gpu") {
      gpu = ParseGpu(request.collection().gpu());
    } else if (path == "indexed_filters_only") {
      indexed_filters_only = request.collection().indexed_filters_only();
    } else {
      violations.Add("update_mask",
                     absl::StrCat("has \"", path,
                                  "\"; only vectors.index, vectors.codec, "
                                  "memory, gpu and indexed_filters_only can "
                                  "be changed"));
    }
  }
  const v1::Collection& change = request.collection();
  VICINAL_ASSIGN_OR_RETURN(
      std::shared_ptr<Collection> collection,
      state_.FindCollection(change.name(), "collection.name"));
  // Only the vectors named, in the order of the request, so that the paths of
  // violations are the request's.
  CollectionSchema changed = collection->schema();
  if (memory.has_value()) changed.memory = *memory;
  if (gpu.has_value()) changed.gpu = *gpu;
  if (index_changes || codec_changes) changed.vectors.clear();
  std::vector<IndexParamsChange> changes;
  const int num_changes =
      index_changes || codec_changes ? change.vectors_size() : 0;
  for (int i = 0; i < num_changes; ++i) {
    const v1::VectorConfig& vector = change.vectors(i);
    const std::string path = absl::StrCat("collection.vectors[", i, "]");
    const auto f = collection->schema().FindVector(vector.name());
    if (!f.has_value()) {
      violations.Add(path + ".name",
                     absl::StrCat("is \"", vector.name(),
                                  "\", which the collection does not have"));
      continue;
    }
    VectorField field = collection->schema().vectors[*f];
    IndexParamsChange changed_field{.vector_name = field.name};
    if (index_changes) {
      const bool to_graph =
          vector.index().has_hnsw() && field.index == IndexKind::kHnsw;
      const bool to_lists =
          vector.index().has_ivf() && field.index == IndexKind::kIvf;
      if (!to_graph && !to_lists) {
        violations.Add(path + ".index",
                       "must be hnsw or ivf, and the vector must have such an "
                       "index; the kind of an index is fixed");
        continue;
      }
      if (to_graph) field.hnsw = ParseHnsw(vector.index().hnsw());
      if (to_lists) field.ivf = ParseIvf(vector.index().ivf());
      if (to_graph) changed_field.hnsw = field.hnsw;
      if (to_lists) changed_field.ivf = field.ivf;
    }
    if (codec_changes) {
      field.codec = ParseCodec(vector.codec());
      changed_field.codec = field.codec;
    }
    changes.push_back(std::move(changed_field));
    changed.vectors.push_back(std::move(field));
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  for (const FieldViolation& violation :
       ValidateSchema(changed, state_.database->options().limits)) {
    violations.Add("collection." + violation.field, violation.description);
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  auto updated =
      state_.database->UpdateIndexParams(change.name(), changes, memory, gpu);
  if (!updated.ok()) {
    return state_.ExplainStoreError(WithGpuReason(updated.status()));
  }
  if (indexed_filters_only.has_value()) {
    const absl::Status set = state_.database->SetIndexedFiltersOnly(
        change.name(), *indexed_filters_only);
    if (!set.ok()) return state_.ExplainStoreError(set);
  }
  collection = *std::move(updated);
  ToProto(collection->schema(), collection->stats(),
          reply->mutable_collection());
  return absl::OkStatus();
}

grpc::Status CollectionServiceImpl::UpdateCollection(
    grpc::ServerContext*, const v1::UpdateCollectionRequest* request,
    v1::UpdateCollectionResponse* reply) {
  return ToGrpcStatus(Update(*request, reply));
}

grpc::Status CollectionServiceImpl::DeleteCollection(
    grpc::ServerContext*, const v1::DeleteCollectionRequest* request,
    v1::DeleteCollectionResponse*) {
  auto collection = state_.FindCollection(request->name(), "name");
  absl::Status status = collection.status();
  if (status.ok()) {
    status = state_.ExplainStoreError(
        state_.database->DropCollection(request->name()));
  }
  if (request->allow_missing() && absl::IsNotFound(status)) {
    return grpc::Status::OK;
  }
  return ToGrpcStatus(status);
}

grpc::Status CollectionServiceImpl::OptimizeCollection(
    grpc::ServerContext*, const v1::OptimizeCollectionRequest* request,
    v1::OptimizeCollectionResponse* reply) {
  auto collection = state_.FindCollection(request->name(), "name");
  if (!collection.ok()) return ToGrpcStatus(collection.status());
  auto operation =
      (*collection)->Optimize(std::max<size_t>(1, request->max_segments()));
  if (!operation.ok()) {
    return ToGrpcStatus(state_.ExplainStoreError(operation.status()));
  }
  reply->set_operation((*operation)->info().name);
  return grpc::Status::OK;
}

absl::Status CollectionServiceImpl::CreateIndex(
    const v1::CreatePayloadIndexRequest& request,
    v1::CreatePayloadIndexResponse* reply) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::shared_ptr<Collection> collection,
      state_.FindCollection(request.collection(), "collection"));
  // A schema of this field alone, so that the paths of violations are the
  // request's.
  CollectionSchema declared = collection->schema();
  const size_t num_fields = declared.payload_fields.size();
  declared.payload_fields = {ParsePayloadField(request.index())};
  const Limits& limits = state_.database->options().limits;
  FieldViolations violations;
  for (const FieldViolation& violation : ValidateSchema(declared, limits)) {
    violations.Add(
        absl::StrReplaceAll(violation.field, {{"payload_fields[0]", "index"}}),
        violation.description);
  }
  if (num_fields >= limits.max_payload_fields) {
    violations.Add("index", absl::StrCat("is one too many: the collection has ",
                                         num_fields, " and at most ",
                                         limits.max_payload_fields,
                                         " are allowed; drop one first"));
  }
  VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  auto operation = state_.database->CreatePayloadIndex(
      request.collection(), declared.payload_fields[0]);
  if (absl::IsAlreadyExists(operation.status())) {
    return WithReason(operation.status(), reason::kPayloadIndexExists,
                      {{"path", request.index().path()}});
  }
  if (!operation.ok()) return state_.ExplainStoreError(operation.status());
  reply->set_operation((*operation)->info().name);
  return absl::OkStatus();
}

grpc::Status CollectionServiceImpl::CreatePayloadIndex(
    grpc::ServerContext*, const v1::CreatePayloadIndexRequest* request,
    v1::CreatePayloadIndexResponse* reply) {
  return ToGrpcStatus(CreateIndex(*request, reply));
}

grpc::Status CollectionServiceImpl::SetSparseEncoder(
    grpc::ServerContext*, const v1::SetSparseEncoderRequest* request,
    v1::SetSparseEncoderResponse* reply) {
  const auto collection =
      state_.FindCollection(request->collection(), "collection");
  if (!collection.ok()) return ToGrpcStatus(collection.status());
  FieldViolations violations;
  FindSparse(request->vector(), (*collection)->schema(), "vector", &violations);
  const bool is_json = request->has_idf_json();
  const std::string& file =
      is_json ? request->idf_json() : request->vocabulary();
  if (file.empty()) {
    violations.Add("encoder", "is empty; set idf_json or vocabulary");
  }
  if (!violations.empty()) return ToGrpcStatus(violations.ToStatus());
  const auto num_tokens = state_.database->SetSparseEncoder(
      request->collection(), request->vector(), file);
  if (absl::IsInvalidArgument(num_tokens.status())) {
    return ToGrpcStatus(FieldError(is_json ? "idf_json" : "vocabulary",
                                   num_tokens.status().message()));
  }
  if (!num_tokens.ok()) {
    return ToGrpcStatus(state_.ExplainStoreError(num_tokens.status()));
  }
  reply->set_num_tokens(static_cast<uint32_t>(*num_tokens));
  return grpc::Status::OK;
}

grpc::Status CollectionServiceImpl::DropPayloadIndex(
    grpc::ServerContext*, const v1::DropPayloadIndexRequest* request,
    v1::DropPayloadIndexResponse*) {
  const auto collection =
      state_.FindCollection(request->collection(), "collection");
  if (!collection.ok()) return ToGrpcStatus(collection.status());
  const absl::Status status =
      state_.database->DropPayloadIndex(request->collection(), request->path());
  if (absl::IsNotFound(status)) {
    return ToGrpcStatus(WithReason(status, reason::kPayloadIndexNotFound,
                                   {{"path", request->path()}}));
  }
  return ToGrpcStatus(state_.ExplainStoreError(status));
}

}  // namespace vicinal
