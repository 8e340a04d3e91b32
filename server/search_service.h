// vicinal.v1.SearchService over the engine. Thread-safe.
#pragma once

#include "grpcpp/grpcpp.h"
#include "server/server_context.h"
#include "vicinal/v1/search.grpc.pb.h"

namespace vicinal {

class SearchServiceImpl final : public v1::SearchService::Service {
 public:
  explicit SearchServiceImpl(ServerState* state) : state_(*state) {}

  grpc::Status Search(grpc::ServerContext* context,
                      const v1::SearchRequest* request,
                      v1::SearchResponse* reply) override;
  grpc::Status SearchBatch(grpc::ServerContext* context,
                           const v1::SearchBatchRequest* request,
                           v1::SearchBatchResponse* reply) override;

 private:
  absl::Status DoSearch(grpc::ServerContext* context,
                        const v1::SearchRequest& request,
                        v1::SearchResponse* reply);
  absl::Status DoSearchBatch(grpc::ServerContext* context,
                             const v1::SearchBatchRequest& request,
                             v1::SearchBatchResponse* reply);

  ServerState& state_;
};

}  // namespace vicinal
