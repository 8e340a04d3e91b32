// A Vicinal server in memory, over real gRPC on a port of its own: as much of
// the contract as the client needs, with faults on demand. Searches compare
// with every point.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"
#include "src/base/point_id.h"
#include "vicinal/v1/admin.grpc.pb.h"
#include "vicinal/v1/collection.grpc.pb.h"
#include "vicinal/v1/operation.grpc.pb.h"
#include "vicinal/v1/point.grpc.pb.h"
#include "vicinal/v1/search.grpc.pb.h"

namespace vicinal::client {

// A status with google.rpc details.
struct Fault {
  grpc::StatusCode code = grpc::StatusCode::UNAVAILABLE;
  std::string message = "injected";
  std::optional<std::chrono::milliseconds> retry_after;
  std::string field;  // of a BadRequest violation

  grpc::Status ToStatus() const;
};

struct FakePoint {
  std::vector<float> vector;
  std::string payload;
  std::map<std::string, std::string> tokens;  // by name, as they were sent
};

// What survives a restart of the server.
struct FakeStore {
  struct Collection {
    v1::Collection schema;
    std::map<PointId, FakePoint> points;
    uint64_t sequence = 0;
    std::map<std::string, uint64_t> streams;  // last frame by stream id
    uint64_t num_upserts = 0;                 // points written, repeats counted
  };
  Mutex mu;
  std::map<std::string, Collection> collections ABSL_GUARDED_BY(mu);
};

class FakeServer {
 public:
  struct Options {
    uint64_t credit_bytes = 8 << 20;
    uint64_t max_message_bytes = 64 << 20;
    uint64_t max_batch_points = 65'536;
    int port = 0;  // 0: any free one
    // Write streams are cut without warning after so many frames were
    // applied; 0: never. Every second time before the ack of the last one.
    uint64_t cut_after_frames = 0;
    // A Scroll falls silent after so many pages, until set_silent(false); 0:
    // never.
    uint64_t pages_before_silence = 0;
  };

  FakeServer();
  explicit FakeServer(const Options& options,
                      std::shared_ptr<FakeStore> store = nullptr);
  ~FakeServer();

  const std::string& address() const { return address_; }
  int port() const { return port_; }
  std::shared_ptr<FakeStore> store() const { return store_; }

  // The next calls, of any kind but GetServerInfo, fail so, one after another.
  void FailNext(const Fault& fault, int times = 1);
  // Calls that came, failed ones too, by method; "Write" counts streams.
  int num_calls(const std::string& method) const;
  // Most bytes of frames that were unacknowledged at once.
  uint64_t max_outstanding() const;
  // While false, frames are taken but not acknowledged.
  void set_acking(bool acking);
  // While true, calls of any kind but GetServerInfo wait, as those of a
  // stopped process do.
  void set_silent(bool silent);
  void Shutdown();

 private:
  class Admin;
  class Collections;
  class Points;
  class Searches;
  class Operations;
  struct Shared;

  std::shared_ptr<FakeStore> store_;
  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  int port_ = 0;
};

}  // namespace vicinal::client
