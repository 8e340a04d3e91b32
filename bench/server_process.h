// The real server as a child process, and data put into it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/child_process.h"
#include "bench/dataset.h"
#include "client/client.h"

namespace vicinal::bench {

// vicinald on a free port, answering. Stopped with the object.
class ServerProcess {
 public:
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(
      const std::string& data_dir);

  const std::string& address() const { return address_; }
  pid_t pid() const { return process_->pid(); }
  void Stop() { process_->Stop(); }

  ServerProcess() = default;  // for Start

 private:
  std::unique_ptr<ChildProcess> process_;
  std::string address_;
};

// The `vicinal import` of a file as f32 into a collection that exists.
std::vector<std::string> ImportCommand(const std::string& address,
                                       const std::string& collection,
                                       const std::string& path);

// A client whose calls may take as long as a large build.
absl::StatusOr<std::unique_ptr<client::Client>> ConnectTo(
    const std::string& address, size_t num_connections = 1);

// One unnamed f32 vector with an HNSW index.
absl::Status CreateRemoteCollection(
    client::Client* client, absl::string_view name, const Dataset& dataset,
    size_t m, size_t ef_construction,
    v1::CodecKind codec = v1::CODEC_KIND_UNSPECIFIED);
// Point ids are row numbers.
absl::Status UploadAll(client::Client* client, absl::string_view collection,
                       const FloatMatrix& rows);
// Returns when one sealed segment holds everything.
absl::Status OptimizeRemote(client::Client* client,
                            absl::string_view collection);

}  // namespace vicinal::bench
