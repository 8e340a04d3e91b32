// vicinal.v1.CollectionService over the engine. Thread-safe.
#pragma once

#include "grpcpp/grpcpp.h"
#include "server/server_context.h"
#include "vicinal/v1/collection.grpc.pb.h"

namespace vicinal {

class CollectionServiceImpl final : public v1::CollectionService::Service {
 public:
  explicit CollectionServiceImpl(ServerState* state) : state_(*state) {}

  grpc::Status CreateCollection(grpc::ServerContext* context,
                                const v1::CreateCollectionRequest* request,
                                v1::CreateCollectionResponse* reply) override;
  grpc::Status GetCollection(grpc::ServerContext* context,
                             const v1::GetCollectionRequest* request,
                             v1::GetCollectionResponse* reply) override;
  grpc::Status ListCollections(grpc::ServerContext* context,
                               const v1::ListCollectionsRequest* request,
                               v1::ListCollectionsResponse* reply) override;
  grpc::Status UpdateCollection(grpc::ServerContext* context,
                                const v1::UpdateCollectionRequest* request,
                                v1::UpdateCollectionResponse* reply) override;
  grpc::Status DeleteCollection(grpc::ServerContext* context,
                                const v1::DeleteCollectionRequest* request,
                                v1::DeleteCollectionResponse* reply) override;
  grpc::Status OptimizeCollection(
      grpc::ServerContext* context,
      const v1::OptimizeCollectionRequest* request,
      v1::OptimizeCollectionResponse* reply) override;
  grpc::Status CreatePayloadIndex(
      grpc::ServerContext* context,
      const v1::CreatePayloadIndexRequest* request,
      v1::CreatePayloadIndexResponse* reply) override;
  grpc::Status DropPayloadIndex(grpc::ServerContext* context,
                                const v1::DropPayloadIndexRequest* request,
                                v1::DropPayloadIndexResponse* reply) override;
  grpc::Status SetSparseEncoder(grpc::ServerContext* context,
                                const v1::SetSparseEncoderRequest* request,
                                v1::SetSparseEncoderResponse* reply) override;

 private:
  absl::Status Create(const v1::CreateCollectionRequest& request,
                      v1::CreateCollectionResponse* reply);
  absl::Status Update(const v1::UpdateCollectionRequest& request,
                      v1::UpdateCollectionResponse* reply);
  absl::Status CreateIndex(const v1::CreatePayloadIndexRequest& request,
                           v1::CreatePayloadIndexResponse* reply);

  ServerState& state_;
};

}  // namespace vicinal
