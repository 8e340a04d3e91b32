// vicinal.v1.PointService over the engine. Thread-safe.
#pragma once

#include "grpcpp/grpcpp.h"
#include "server/server_context.h"
#include "vicinal/v1/point.grpc.pb.h"

namespace vicinal {

class PointServiceImpl final
    : public v1::PointService::WithRawCallbackMethod_Write<
          v1::PointService::Service> {
 public:
  explicit PointServiceImpl(ServerState* state) : state_(*state) {}

  grpc::Status Upsert(grpc::ServerContext* context,
                      const v1::UpsertRequest* request,
                      v1::UpsertResponse* reply) override;
  grpc::Status Get(grpc::ServerContext* context, const v1::GetRequest* request,
                   v1::GetResponse* reply) override;
  grpc::Status Delete(grpc::ServerContext* context,
                      const v1::DeleteRequest* request,
                      v1::DeleteResponse* reply) override;
  grpc::Status UpdatePayload(grpc::ServerContext* context,
                             const v1::UpdatePayloadRequest* request,
                             v1::UpdatePayloadResponse* reply) override;
  grpc::Status Count(grpc::ServerContext* context,
                     const v1::CountRequest* request,
                     v1::CountResponse* reply) override;
  grpc::Status Facet(grpc::ServerContext* context,
                     const v1::FacetRequest* request,
                     v1::FacetResponse* reply) override;
  grpc::Status Scroll(grpc::ServerContext* context,
                      const v1::ScrollRequest* request,
                      grpc::ServerWriter<v1::ScrollResponse>* writer) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Write(
      grpc::CallbackServerContext* context) override;

 private:
  absl::Status DoUpsert(const v1::UpsertRequest& request,
                        v1::UpsertResponse* reply);
  absl::Status DoGet(grpc::ServerContext* context,
                     const v1::GetRequest& request, v1::GetResponse* reply);
  absl::Status DoDelete(grpc::ServerContext* context,
                        const v1::DeleteRequest& request,
                        v1::DeleteResponse* reply);
  absl::Status DoUpdatePayload(grpc::ServerContext* context,
                               const v1::UpdatePayloadRequest& request,
                               v1::UpdatePayloadResponse* reply);
  absl::Status DoCount(grpc::ServerContext* context,
                       const v1::CountRequest& request,
                       v1::CountResponse* reply);
  absl::Status DoFacet(grpc::ServerContext* context,
                       const v1::FacetRequest& request,
                       v1::FacetResponse* reply);
  absl::Status DoScroll(grpc::ServerContext* context,
                        const v1::ScrollRequest& request,
                        grpc::ServerWriter<v1::ScrollResponse>* writer);

  ServerState& state_;
};

}  // namespace vicinal
