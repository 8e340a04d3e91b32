// One call of PointService.Write: takes frames as they come, hands them to the
// engine without waiting for their commits, and acknowledges them in order.
//
// Messages arrive as bytes, so that half a message is told from the end of
// the stream. Nothing here blocks a thread: gRPC's reactions only note what
// happened and start what comes next; parsing and encoding run on the
// server's ingest threads, one message of a stream at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/alarm.h"
#include "grpcpp/grpcpp.h"
#include "server/convert.h"
#include "server/server_context.h"
#include "src/base/mutex.h"
#include "src/engine/collection.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal {

// Life: Open, then it owns itself until gRPC is done with the call, which is
// not before the engine is done with its frames. Thread-safe.
class WriteStream final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public std::enable_shared_from_this<WriteStream> {
 public:
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Open(
      ServerState* state);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // What the client gets an answer to, in the order of its messages.
  struct Pending {
    v1::WriteRequest message;            // borrowed by `batch`
    std::unique_ptr<ParsedBatch> batch;  // of an upsert
    std::vector<PointId> deletions;
    uint64_t frame = 0;  // 0: the answer to start
    size_t size_bytes = 0;
    bool duplicate = false;
    bool done = false;
    WriteOutcome outcome;  // a status that is not OK ends the stream
  };

  explicit WriteStream(ServerState* state) : state_(*state) {}
  // Acknowledges what was taken, then ends the stream.
  void OnStopping();

  // Starts whatever can go on: a read, work, an answer or the end.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // No more messages are taken, and those not yet worked on are forgotten;
  // frames before still get their answers.
  void Close() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends the stream without further answers.
  void Abandon(absl::Status error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Answer(const Pending& pending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // On an ingest thread, one at a time (working_). Takes one message.
  void Work();
  void TakeNext();
  absl::Status Parse(grpc::ByteBuffer* bytes, Pending* pending);
  absl::Status ParseStart(const v1::WriteStart& start, Pending* pending);
  absl::Status ParseFrame(const v1::WriteFrame& frame, Pending* pending);
  // False: too much data waits for its index; Work is called again later.
  bool WaitForRoom(const Pending& pending);
  void Submit(std::shared_ptr<Pending> pending);
  void OnCommitted(Pending* pending, WriteOutcome outcome);
  absl::Status FrameError(const Pending& pending,
                          const WriteOutcome& outcome) const;

  ServerState& state_;
  std::shared_ptr<WriteStream> self_;      // until OnDone
  std::optional<Admission::Place> place_;  // until destroyed
  uint64_t stop_listener_ = 0;

  // Used by Work only.
  std::shared_ptr<Collection> collection_;  // set by start, then const
  std::string stream_id_;
  Durability durability_ = Durability::kFsynced;
  uint64_t last_frame_ = 0;        // read so far
  uint64_t durable_frame_ = 0;     // when the stream was opened
  std::shared_ptr<Pending> next_;  // parsed, may wait for room
  std::unique_ptr<grpc::Alarm> alarm_;

  grpc::ByteBuffer incoming_;  // gRPC's while reading_
  grpc::ByteBuffer outgoing_;  // gRPC's while writing_

  Mutex mu_;
  std::deque<grpc::ByteBuffer> received_ ABSL_GUARDED_BY(mu_);
  std::deque<std::shared_ptr<Pending>> pending_ ABSL_GUARDED_BY(mu_);
  size_t outstanding_bytes_ ABSL_GUARDED_BY(mu_) = 0;  // received, not acked
  size_t outgoing_bytes_ ABSL_GUARDED_BY(mu_) = 0;     // of the frame answered
  size_t num_committing_ ABSL_GUARDED_BY(mu_) = 0;     // with the engine
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool working_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool all_read_ ABSL_GUARDED_BY(mu_) = false;  // the client has half-closed
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mu_);  // ends the stream
};

}  // namespace vicinal
