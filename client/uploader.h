// Bulk upload over the Write stream.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/progress_watch.h"
#include "client/retry.h"
#include "src/base/mutex.h"
#include "vicinal/v1/point.grpc.pb.h"

namespace vicinal::client {

struct UploadOptions {
  std::string collection;
  // Names the stream so that another process can go on with it; empty: a
  // random one.
  std::string stream_id;
  v1::Durability durability = v1::DURABILITY_FSYNCED;
  // Bytes of frames kept here, waiting or not yet acknowledged. Twice the
  // server's usual credit: one part on the wire, one ready.
  size_t max_buffered_bytes = size_t{32} << 20;
  // Points sent per second, on average; 0: no limit.
  double max_points_per_s = 0;
  // Waits between attempts to open a broken stream again; max_attempts does
  // not apply.
  RetryPolicy retry;
  // Gives up when no stream could be opened for so long.
  std::chrono::milliseconds max_outage{60'000};
  // Called for every ack, in the order of the frames, from the uploader's own
  // thread; must not call the uploader but stats(). May be empty.
  std::function<void(const v1::WriteAck&)> on_ack;
  // Called when a stream broke and is going to be opened again. As on_ack.
  std::function<void(const absl::Status&)> on_reconnect;
};

struct UploadStats {
  uint64_t frames_acked = 0;    // durable, as far as this uploader knows
  uint64_t points_written = 0;  // as acks told
  uint64_t points_refused = 0;
  uint64_t bytes_acked = 0;
  uint64_t reconnects = 0;
  // Frames that were durable although their ack was lost with a broken
  // stream: their points count as written, refused ones are not known.
  uint64_t acks_lost = 0;
};

// Sends frames in the background and sends them again over a new stream when
// one breaks; the server applies each once. Driven by one thread; stats() may
// be called from any. The client must outlive it.
class Uploader {
 public:
  // Opens the stream. Errors as the server's, or Unavailable after max_outage.
  static absl::StatusOr<std::unique_ptr<Uploader>> Open(Client& client,
                                                        UploadOptions options);
  // Gives up what was not finished: those frames may or may not be applied.
  ~Uploader();

  // The last frame that the stream had when it was opened: 0 for a new one.
  // The caller goes on with frame resumed_frame() + 1.
  uint64_t resumed_frame() const { return resumed_frame_; }
  // Number that the next frame gets.
  uint64_t next_frame() const { return next_frame_; }

  // Adds a frame; waits while the buffer is full. An error is final, but for
  // RESOURCE_EXHAUSTED when the frame is above the server's message limit: it
  // then was not taken.
  absl::Status Write(v1::PointBatch points);
  absl::Status Delete(v1::PointIds ids);
  // Waits until all frames are durable and closes the stream.
  absl::Status Finish();

  UploadStats stats() const;

 private:
  using Stream = grpc::ClientReaderWriter<v1::WriteRequest, v1::WriteResponse>;
  struct Frame {
    v1::WriteRequest request;
    uint64_t number = 0;
    size_t bytes = 0;
    size_t num_points = 0;
  };

  Uploader(Client& client, UploadOptions options);
  absl::Status Add(v1::WriteRequest request, size_t num_points);
  void Run();
  absl::Status RunStream();
  absl::Status RunStream(grpc::ClientContext& context);
  absl::Status HandleStarted(const v1::WriteStarted& started);
  absl::Status HandleAck(const v1::WriteAck& ack);
  absl::Status Receive(Stream& stream);
  bool Send(Stream& stream);
  const Frame* NextToSend();
  bool WaitBeforeRetry(const absl::Status& status);
  void Fail(const absl::Status& status);

  Client& client_;
  const UploadOptions options_;
  const std::unique_ptr<v1::PointService::Stub> stub_;
  uint64_t resumed_frame_ = 0;  // written once, before Open returns
  uint64_t next_frame_ = 1;     // of the driving thread

  mutable Mutex mu_;
  CondVar changed_;
  // Not acknowledged, in order; the first num_sent_ are on the wire. A deque,
  // so that the frame being sent stays where it is.
  std::deque<Frame> frames_ ABSL_GUARDED_BY(mu_);
  size_t num_sent_ ABSL_GUARDED_BY(mu_) = 0;
  size_t buffered_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  size_t outstanding_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  size_t credit_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  // Frames are not freed while the sender uses one.
  bool sending_ ABSL_GUARDED_BY(mu_) = false;
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  bool stream_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
  bool aborting_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);  // the final error
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;
  // Of the stream; armed while the server owes an answer.
  ProgressWatch* watch_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool writes_done_ ABSL_GUARDED_BY(mu_) = false;
  UploadStats stats_ ABSL_GUARDED_BY(mu_);
  uint64_t acked_frame_ ABSL_GUARDED_BY(mu_) = 0;
  std::chrono::steady_clock::time_point next_send_ ABSL_GUARDED_BY(mu_);

  // Of the background thread.
  Backoff backoff_;
  std::chrono::steady_clock::time_point last_progress_;
  std::thread thread_;  // last: the others must live when it starts
};

}  // namespace vicinal::client
