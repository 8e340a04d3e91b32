#include "bench/server_process.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/uploader.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr std::chrono::seconds kStartTimeout{60};
constexpr std::chrono::minutes kOptimizeTimeout{30};
constexpr size_t kUploadBatch = 512;

}  // namespace

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(
    const std::string& data_dir) {
  const std::string port_file = data_dir + ".port";
  std::error_code ignored;  // of a server before this one
  std::filesystem::remove(port_file, ignored);
  auto server = std::make_unique<ServerProcess>();
  VICINAL_ASSIGN_OR_RETURN(
      server->process_,
      ChildProcess::Start({VICINALD_PATH, "--data", data_dir, "--listen",
                           "127.0.0.1:0", "--port-file", port_file},
                          data_dir + ".log"));
  // The port file appears when it serves.
  VICINAL_RETURN_IF_ERROR(server->process_->WaitUntil(
      [&] {
        int port = 0;
        std::ifstream in(port_file);
        if (!(in >> port)) return false;
        server->address_ = absl::StrCat("127.0.0.1:", port);
        return true;
      },
      kStartTimeout));
  return server;
}

std::vector<std::string> ImportCommand(const std::string& address,
                                       const std::string& collection,
                                       const std::string& path) {
  return {VICINAL_COMMAND_PATH,
          "--server",
          address,
          "import",
          collection,
          path,
          "--as",
          "f32",
          "--quiet"};
}

absl::StatusOr<std::unique_ptr<client::Client>> ConnectTo(
    const std::string& address, size_t num_connections) {
  client::ClientOptions options;
  options.num_connections = num_connections;
  options.server = address;
  options.timeout = kOptimizeTimeout;
  return client::Client::Connect(options);
}

absl::Status CreateRemoteCollection(client::Client* client,
                                    absl::string_view name,
                                    const Dataset& dataset, size_t m,
                                    size_t ef_construction,
                                    v1::CodecKind codec) {
  v1::Collection collection;
  collection.set_name(std::string(name));
  v1::VectorConfig* vector = collection.add_vectors();
  vector->set_dim(dataset.base.dim);
  vector->set_metric(static_cast<v1::Metric>(dataset.metric));
  vector->mutable_index()->mutable_hnsw()->set_m(m);
  vector->mutable_index()->mutable_hnsw()->set_ef_construction(ef_construction);
  vector->mutable_codec()->set_kind(codec);
  return client->CreateCollection(collection).status();
}

absl::Status UploadAll(client::Client* client, absl::string_view collection,
                       const FloatMatrix& rows) {
  client::UploadOptions options;
  options.collection = std::string(collection);
  VICINAL_ASSIGN_OR_RETURN(const std::unique_ptr<client::Uploader> uploader,
                           client::Uploader::Open(*client, std::move(options)));
  for (size_t begin = 0; begin < rows.num_rows; begin += kUploadBatch) {
    const size_t end = std::min(begin + kUploadBatch, rows.num_rows);
    v1::PointBatch batch;
    v1::PointColumns* columns = batch.mutable_columns();
    for (size_t row = begin; row < end; ++row) {
      columns->mutable_ids()->add_numbers(row);
    }
    v1::VectorColumn* column = columns->add_vectors();
    column->set_dim(rows.dim);
    column->set_data(rows.row(begin), (end - begin) * rows.dim * sizeof(float));
    VICINAL_RETURN_IF_ERROR(uploader->Write(std::move(batch)));
  }
  return uploader->Finish();
}

absl::Status OptimizeRemote(client::Client* client,
                            absl::string_view collection) {
  VICINAL_ASSIGN_OR_RETURN(const std::string name,
                           client->OptimizeCollection(collection));
  VICINAL_ASSIGN_OR_RETURN(const v1::Operation operation,
                           client->WaitOperation(name, kOptimizeTimeout));
  if (operation.error().code() == 0) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("optimising failed: ", operation.error().message()));
}

}  // namespace vicinal::bench
