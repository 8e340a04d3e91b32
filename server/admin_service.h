// vicinal.v1.AdminService and OperationService over the engine. Thread-safe.
#pragma once

#include "grpcpp/grpcpp.h"
#include "server/server_context.h"
#include "vicinal/v1/admin.grpc.pb.h"
#include "vicinal/v1/operation.grpc.pb.h"

namespace vicinal {

class AdminServiceImpl final : public v1::AdminService::Service {
 public:
  explicit AdminServiceImpl(ServerState* state) : state_(*state) {}

  grpc::Status GetServerInfo(grpc::ServerContext* context,
                             const v1::GetServerInfoRequest* request,
                             v1::GetServerInfoResponse* reply) override;
  grpc::Status GetServerStats(grpc::ServerContext* context,
                              const v1::GetServerStatsRequest* request,
                              v1::GetServerStatsResponse* reply) override;
  grpc::Status ResumeWrites(grpc::ServerContext* context,
                            const v1::ResumeWritesRequest* request,
                            v1::ResumeWritesResponse* reply) override;

 private:
  ServerState& state_;
};

class OperationServiceImpl final : public v1::OperationService::Service {
 public:
  explicit OperationServiceImpl(ServerState* state) : state_(*state) {}

  grpc::Status GetOperation(grpc::ServerContext* context,
                            const v1::GetOperationRequest* request,
                            v1::GetOperationResponse* reply) override;
  grpc::Status ListOperations(grpc::ServerContext* context,
                              const v1::ListOperationsRequest* request,
                              v1::ListOperationsResponse* reply) override;
  grpc::Status WaitOperation(grpc::ServerContext* context,
                             const v1::WaitOperationRequest* request,
                             v1::WaitOperationResponse* reply) override;
  grpc::Status CancelOperation(grpc::ServerContext* context,
                               const v1::CancelOperationRequest* request,
                               v1::CancelOperationResponse* reply) override;

 private:
  absl::StatusOr<std::shared_ptr<Operation>> Find(const std::string& name);

  ServerState& state_;
};

}  // namespace vicinal
