// vicinal.v1.SearchService over the engine. Thread-safe.
//
// Calls arrive on gRPC's threads, which also move the bytes of all streams.
// Short searches run there, which saves two hand-overs; those that compare with
// every point, and large batches, run on the server's own threads.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/grpcpp.h"
#include "server/server_context.h"
#include "src/engine/collection.h"
#include "src/engine/schema.h"
#include "vicinal/v1/search.grpc.pb.h"

namespace vicinal {

class SearchServiceImpl final : public v1::SearchService::CallbackService {
 public:
  explicit SearchServiceImpl(ServerState* state) : state_(*state) {}

  grpc::ServerUnaryReactor* Search(grpc::CallbackServerContext* context,
                                   const v1::SearchRequest* request,
                                   v1::SearchResponse* reply) override;
  grpc::ServerUnaryReactor* SearchBatch(
      grpc::CallbackServerContext* context,
      const v1::SearchBatchRequest* request,
      v1::SearchBatchResponse* reply) override;

 private:
  // Runs `search` with the collection here or, when `is_long` says so of its
  // schema, on a thread of long_searches, and ends the call.
  grpc::ServerUnaryReactor* Run(
      grpc::CallbackServerContext* context, const std::string& collection,
      const std::function<bool(const CollectionSchema& schema)>& is_long,
      std::function<absl::Status(const Collection& collection)> search);
  absl::Status DoSearch(grpc::ServerContextBase* context,
                        const Collection& collection,
                        const v1::SearchRequest& request,
                        v1::SearchResponse* reply);
  absl::Status DoSearchBatch(grpc::ServerContextBase* context,
                             const Collection& collection,
                             const v1::SearchBatchRequest& request,
                             v1::SearchBatchResponse* reply);

  ServerState& state_;
};

}  // namespace vicinal
