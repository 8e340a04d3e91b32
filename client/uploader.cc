#include "client/uploader.h"

#include <absl/base/thread_annotations.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/client.h"
#include "client/progress_watch.h"
#include "client/retry.h"
#include "client/status.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/point.grpc.pb.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal::client {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t RandomBits() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

UploadOptions WithStreamId(UploadOptions options) {
  if (options.stream_id.empty()) {
    options.stream_id =
        absl::StrFormat("upload-%016x%016x", RandomBits(), RandomBits());
  }
  return options;
}

// Whether the stream ended for a reason that a new one may not meet: the
// server went away or is overloaded. A server that stops may cancel its calls
// or reset their streams.
bool IsBroken(const absl::Status& status) {
  return IsRetryable(status) || absl::IsAborted(status) ||
         absl::IsCancelled(status) ||
         (absl::IsInternal(status) &&
          absl::StrContains(status.message(), "RST_STREAM"));
}

}  // namespace

Uploader::Uploader(Client& client, UploadOptions options)
    : client_(client),
      options_(WithStreamId(std::move(options))),
      stub_(v1::PointService::NewStub(client.channel())),
      backoff_(options_.retry, RandomBits()),
      last_progress_(Clock::now()) {}

absl::StatusOr<std::unique_ptr<Uploader>> Uploader::Open(
    Client& client, UploadOptions options) {
  std::unique_ptr<Uploader> uploader(new Uploader(client, std::move(options)));
  uploader->thread_ = std::thread([u = uploader.get()] { u->Run(); });
  {
    MutexLock lock(uploader->mu_);
    while (!uploader->started_ && uploader->status_.ok()) {
      uploader->changed_.Wait(uploader->mu_);
    }
    if (!uploader->status_.ok()) return uploader->status_;
    uploader->resumed_frame_ = uploader->acked_frame_;
  }
  uploader->next_frame_ = uploader->resumed_frame_ + 1;
  return uploader;
}

Uploader::~Uploader() {
  {
    MutexLock lock(mu_);
    aborting_ = true;
    if (context_ != nullptr && !done_) context_->TryCancel();
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

UploadStats Uploader::stats() const {
  MutexLock lock(mu_);
  return stats_;
}

absl::Status Uploader::Write(v1::PointBatch points) {
  const size_t num_points = points.has_columns()
                                ? NumIds(points.columns().ids())
                                : static_cast<size_t>(points.rows_size());
  v1::WriteRequest request;
  *request.mutable_frame()->mutable_upsert() = std::move(points);
  return Add(std::move(request), num_points);
}

absl::Status Uploader::Delete(v1::PointIds ids) {
  const size_t num_points = NumIds(ids);
  v1::WriteRequest request;
  *request.mutable_frame()->mutable_delete_() = std::move(ids);
  return Add(std::move(request), num_points);
}

absl::Status Uploader::Add(v1::WriteRequest request, size_t num_points) {
  request.mutable_frame()->set_frame(next_frame_);
  const size_t bytes = request.ByteSizeLong();
  const uint64_t limit = client_.server_info().limits().max_message_bytes();
  if (limit > 0 && bytes > limit) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "A frame of ", num_points, " points has ", bytes,
        " bytes; the server's limit is ", limit, "; send fewer at once."));
  }
  MutexLock lock(mu_);
  while (status_.ok() && !frames_.empty() &&
         buffered_bytes_ + bytes > options_.max_buffered_bytes) {
    changed_.Wait(mu_);
  }
  if (!status_.ok()) return status_;
  frames_.push_back({.request = std::move(request),
                     .number = next_frame_++,
                     .bytes = bytes,
                     .num_points = num_points});
  buffered_bytes_ += bytes;
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::Status Uploader::Finish() {
  MutexLock lock(mu_);
  finishing_ = true;
  changed_.NotifyAll();
  while (!done_) changed_.Wait(mu_);
  return status_;
}

void Uploader::Fail(const absl::Status& status) {
  MutexLock lock(mu_);
  if (status_.ok()) status_ = status;
}

void Uploader::Run() {
  while (true) {
    const absl::Status status = RunStream();
    if (status.ok()) break;
    if (!IsBroken(status)) {
      Fail(status);
      break;
    }
    if (!WaitBeforeRetry(status)) break;
  }
  MutexLock lock(mu_);
  done_ = true;
  changed_.NotifyAll();
}

// Returns whether to try again.
bool Uploader::WaitBeforeRetry(const absl::Status& status) {
  const auto wait = backoff_.Next(status);
  const auto now = Clock::now();
  {
    MutexLock lock(mu_);
    if (aborting_) {
      if (status_.ok()) status_ = absl::CancelledError("The upload was left.");
      return false;
    }
    if (now + wait > last_progress_ + options_.max_outage) {
      status_ = absl::Status(
          status.code(),
          absl::StrCat(
              "The upload was interrupted and could not be resumed within ",
              options_.max_outage.count() / 1000.0, " s: ", status.message()));
      return false;
    }
    ++stats_.reconnects;
  }
  if (options_.on_reconnect) options_.on_reconnect(status);
  MutexLock lock(mu_);
  const auto wake = now + wait;
  while (!aborting_ && Clock::now() < wake) {
    changed_.WaitFor(mu_, wake - Clock::now());
  }
  return true;
}

// Runs one stream to its end. OK: everything is acknowledged.
absl::Status Uploader::RunStream() {
  grpc::ClientContext context;
  {
    MutexLock lock(mu_);
    if (aborting_) return absl::CancelledError("The upload was left.");
    context_ = &context;
    stream_ended_ = false;
  }
  const absl::Cleanup forget_context = [this] {
    MutexLock lock(mu_);
    context_ = nullptr;
  };
  ProgressWatch watch(&context, client_.options().stream_timeout);
  {
    MutexLock lock(mu_);
    watch_ = &watch;
    writes_done_ = false;
    watch.Arm();
  }
  const absl::Status status = RunStream(context);
  {
    MutexLock lock(mu_);
    watch_ = nullptr;
  }
  if (status.ok() || !watch.fired()) return status;
  return absl::UnavailableError(
      absl::StrCat("The server sent nothing for ",
                   client_.options().stream_timeout.count() / 1000.0, " s."));
}

absl::Status Uploader::RunStream(grpc::ClientContext& context) {
  const std::unique_ptr<Stream> stream = stub_->Write(&context);
  v1::WriteRequest request;
  v1::WriteStart* start = request.mutable_start();
  start->set_collection(options_.collection);
  start->set_stream_id(options_.stream_id);
  start->set_durability(options_.durability);
  v1::WriteResponse response;
  if (!stream->Write(request) || !stream->Read(&response)) {
    const absl::Status status = FromGrpc(stream->Finish());
    return status.ok() ? absl::UnavailableError(
                             "The server closed the stream before it began.")
                       : status;
  }
  absl::Status status =
      response.has_started()
          ? HandleStarted(response.started())
          : absl::InternalError("The server did not answer with `started`.");
  if (!status.ok()) {
    context.TryCancel();
    stream->Finish();
    return status;
  }
  absl::Status receive_status;
  std::thread receiver([&] {
    receive_status = Receive(*stream);
    MutexLock lock(mu_);
    stream_ended_ = true;
    if (!receive_status.ok()) context.TryCancel();
    changed_.NotifyAll();
  });
  if (Send(*stream)) {
    {
      MutexLock lock(mu_);
      writes_done_ = true;
      watch_->Arm();
    }
    stream->WritesDone();
  }
  receiver.join();
  status = FromGrpc(stream->Finish());
  if (!receive_status.ok()) return receive_status;
  if (!status.ok()) return status;
  MutexLock lock(mu_);
  if (finishing_ && frames_.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      "The server closed the stream before it had acknowledged all frames.");
}

absl::Status Uploader::HandleStarted(const v1::WriteStarted& started) {
  MutexLock lock(mu_);
  const uint64_t last = started.last_frame();
  if (!started_) {
    acked_frame_ = last;
    stats_.frames_acked = 0;
  } else if (last < acked_frame_) {
    return absl::DataLossError(absl::StrCat(
        "The server remembers frame ", last, " of stream ", options_.stream_id,
        ", but had acknowledged frame ", acked_frame_,
        "; was its data folder restored, or durability BUFFERED at a power "
        "loss? Send everything again in a new stream."));
  } else if (last > acked_frame_ + frames_.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "The server has frame ", last, " of stream ", options_.stream_id,
        ", which was not sent from here; does another process upload with the "
        "same stream id?"));
  }
  while (!frames_.empty() && frames_.front().number <= last) {
    const Frame& frame = frames_.front();
    buffered_bytes_ -= frame.bytes;
    stats_.points_written += frame.num_points;
    stats_.bytes_acked += frame.bytes;
    ++stats_.frames_acked;
    ++stats_.acks_lost;
    frames_.pop_front();
  }
  acked_frame_ = last;
  num_sent_ = 0;
  outstanding_bytes_ = 0;
  credit_bytes_ = started.credit_bytes();
  started_ = true;
  backoff_.Reset();
  last_progress_ = Clock::now();
  watch_->Disarm();
  changed_.NotifyAll();
  return absl::OkStatus();
}

// The frame to send now, or null when there is none because of the rate, the
// credit, or because all were sent.
const Uploader::Frame* Uploader::NextToSend() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (num_sent_ == frames_.size()) return nullptr;
  const Frame& frame = frames_[num_sent_];
  if (outstanding_bytes_ > 0 &&
      outstanding_bytes_ + frame.bytes > credit_bytes_) {
    return nullptr;
  }
  return Clock::now() >= next_send_ ? &frame : nullptr;
}

// Sends frames until all are (true) or the stream is broken (false).
bool Uploader::Send(Stream& stream) {
  while (true) {
    const Frame* frame = nullptr;
    {
      MutexLock lock(mu_);
      while (!aborting_ && !stream_ended_ &&
             (frame = NextToSend()) == nullptr) {
        const bool all_sent = num_sent_ == frames_.size();
        if (finishing_ && all_sent) return true;
        const auto pause = next_send_ - Clock::now();
        if (!all_sent && pause.count() > 0) {
          changed_.WaitFor(mu_, pause);
        } else {
          changed_.Wait(mu_);
        }
      }
      if (frame == nullptr) return false;
      if (num_sent_++ == 0) watch_->Arm();
      outstanding_bytes_ += frame->bytes;
      sending_ = true;
      if (options_.max_points_per_s > 0) {
        const std::chrono::duration<double> share(
            static_cast<double>(frame->num_points) / options_.max_points_per_s);
        next_send_ = std::max(next_send_, Clock::now()) +
                     std::chrono::duration_cast<Clock::duration>(share);
      }
    }
    const bool sent = stream.Write(frame->request);
    MutexLock lock(mu_);
    sending_ = false;
    changed_.NotifyAll();
    if (!sent) return false;
  }
}

// Takes acks until the stream ends. An error when the server breaks the
// contract.
absl::Status Uploader::Receive(Stream& stream) {
  v1::WriteResponse response;
  while (stream.Read(&response)) {
    if (!response.has_ack()) {
      return absl::InternalError(
          "The server sent a message that is no ack in the middle of a "
          "stream.");
    }
    VICINAL_RETURN_IF_ERROR(HandleAck(response.ack()));
    if (options_.on_ack) options_.on_ack(response.ack());
  }
  return absl::OkStatus();
}

absl::Status Uploader::HandleAck(const v1::WriteAck& ack) {
  MutexLock lock(mu_);
  // An ack may overtake the return of the call that sent its frame.
  while (sending_ && num_sent_ == 1) changed_.Wait(mu_);
  if (num_sent_ == 0 || ack.frame() != frames_.front().number) {
    return absl::InternalError(
        absl::StrCat("The server acknowledged frame ", ack.frame(), "; frame ",
                     acked_frame_ + 1,
                     num_sent_ == 0 ? " was not sent yet." : " was expected."));
  }
  const Frame& frame = frames_.front();
  buffered_bytes_ -= frame.bytes;
  outstanding_bytes_ -= frame.bytes;
  --num_sent_;
  acked_frame_ = frame.number;
  ++stats_.frames_acked;
  stats_.bytes_acked += frame.bytes;
  stats_.points_written += ack.num_written();
  stats_.points_refused += static_cast<uint64_t>(ack.errors_size());
  frames_.pop_front();
  if (num_sent_ > 0 || writes_done_) {
    watch_->Arm();
  } else {
    watch_->Disarm();
  }
  last_progress_ = Clock::now();
  changed_.NotifyAll();
  return absl::OkStatus();
}

}  // namespace vicinal::client
