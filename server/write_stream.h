// One call of PointService.Write: reads frames on the calling thread, hands
// them to the engine without waiting, and acknowledges them from a second
// thread in their order as they are committed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/grpcpp.h"
#include "server/convert.h"
#include "server/server_context.h"
#include "src/base/mutex.h"
#include "src/engine/collection.h"
#include "vicinal/v1/point.grpc.pb.h"

namespace vicinal {

// Life: constructed, Run once. Not thread-safe outside.
class WriteStream {
 public:
  using Stream = grpc::ServerReaderWriter<v1::WriteResponse, v1::WriteRequest>;

  WriteStream(ServerState* state, Stream* stream)
      : state_(*state), stream_(*stream) {}

  // Until the client half-closes and everything was acknowledged, or the
  // first error.
  absl::Status Run();

 private:
  // A frame on its way through the committer.
  struct Pending {
    std::shared_ptr<v1::WriteRequest> message;  // borrowed by `batch`
    std::unique_ptr<ParsedBatch> batch;         // null for deletes
    uint64_t frame = 0;
    size_t size_bytes = 0;
    bool duplicate = false;
    bool done = false;
    WriteOutcome outcome;
  };

  absl::Status Start();
  absl::Status Submit(std::shared_ptr<v1::WriteRequest> message);
  void WaitForCredit(size_t size_bytes);
  void Acknowledge();  // loop of the second thread
  absl::Status FrameError(const Pending& pending) const;

  ServerState& state_;
  Stream& stream_;
  std::shared_ptr<Collection> collection_;
  std::string stream_id_;
  Durability durability_ = Durability::kFsynced;
  uint64_t last_frame_ = 0;     // read so far
  uint64_t durable_frame_ = 0;  // when the stream was opened

  Mutex mu_;
  CondVar changed_;
  std::deque<std::shared_ptr<Pending>> pending_ ABSL_GUARDED_BY(mu_);
  size_t outstanding_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool all_read_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mu_);  // the first; ends the stream
};

}  // namespace vicinal
