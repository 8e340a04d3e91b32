// Vicinal over gRPC: the real server in a process of its own, or one that runs
// already.
#include <algorithm>
#include <utility>
#include <vector>

#include "bench/ann_system.h"
#include "bench/server_process.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr char kCollection[] = "vicinal_ann_bench";

class VicinalGrpc final : public AnnSystem {
 public:
  VicinalGrpc(std::string data_dir, std::string address)
      : data_dir_(std::move(data_dir)), address_(std::move(address)) {}
  ~VicinalGrpc() override {
    // A server of somebody else is left as it was.
    if (client_ && !server_) {
      (void)client_->DeleteCollection(kCollection, /*allow_missing=*/true);
    }
  }

  std::string name() const override { return "vicinal grpc"; }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    if (address_.empty()) {
      VICINAL_ASSIGN_OR_RETURN(server_, ServerProcess::Start(data_dir_));
      address_ = server_->address();
    }
    dim_ = dataset.base.dim;
    VICINAL_ASSIGN_OR_RETURN(client_, ConnectTo(address_));
    VICINAL_RETURN_IF_ERROR(CreateRemoteCollection(
        client_.get(), kCollection, dataset, params.m, params.ef_construction));
    VICINAL_RETURN_IF_ERROR(
        UploadAll(client_.get(), kCollection, dataset.base));
    return OptimizeRemote(client_.get(), kCollection);
  }

  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    client::SearchOptions options;
    options.k = k;
    options.ef = std::max(ef, k);
    VICINAL_ASSIGN_OR_RETURN(
        const v1::SearchResponse response,
        client_->Search(kCollection, {query, dim_}, options));
    size_t n = 0;
    for (const uint64_t id : response.result().ids().numbers()) out[n++] = id;
    return n;
  }

  size_t memory_bytes() const override {
    const auto collection = client_->GetCollection(kCollection);
    if (!collection.ok()) return 0;
    return collection->stats().vector_bytes() +
           collection->stats().index_bytes();
  }

  bool runs_in_caller() const override { return false; }

  std::string remark() const override {
    return "uploaded, made durable and optimised in the build time; one query "
           "per call, by the wall clock";
  }

 private:
  std::string data_dir_;
  std::string address_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<client::Client> client_;
  size_t dim_ = 0;
};

}  // namespace

std::unique_ptr<AnnSystem> MakeVicinalGrpc(std::string data_dir,
                                           std::string address) {
  return std::make_unique<VicinalGrpc>(std::move(data_dir), std::move(address));
}

}  // namespace vicinal::bench
