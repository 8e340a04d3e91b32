// The gRPC server over one database: what vicinald runs, and what tests and
// benchmarks embed.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "src/engine/database.h"

namespace vicinal {

struct ServerOptions {
  std::string listen = "127.0.0.1:0";  // HOST:PORT; port 0: any free one
  bool reflection = false;             // for grpcurl
};

// Thread-safe. The destructor shuts down as Shutdown does.
class Server {
 public:
  // Serves when it returns. Unavailable: the address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const ServerOptions& options, std::unique_ptr<Database> database);
  ~Server();

  int port() const;
  Database& database();
  // Turns health to NOT_SERVING, refuses new calls, lets running ones go on
  // for `grace`, cancels the rest, then closes the database.
  void Shutdown(std::chrono::milliseconds grace);

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vicinal
