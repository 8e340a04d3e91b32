#include "server/write_stream.h"

#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

// Enough to keep a disk busy with a few frames of 1-4 MiB while others are
// read and encoded; bounds the memory of one stream.
constexpr size_t kCreditBytes = size_t{16} << 20;

bool ValidStreamId(const std::string& id) {
  for (char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' &&
        c != '.' && c != '-') {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::Status WriteStream::Run() {
  VICINAL_RETURN_IF_ERROR(Start());
  std::thread acknowledger([this] { Acknowledge(); });
  absl::Status status;
  while (status.ok()) {
    auto message = std::make_shared<v1::WriteRequest>();
    if (!stream_.Read(message.get())) break;
    {
      MutexLock lock(mu_);
      if (!error_.ok()) break;
    }
    status = state_.stopping.load() ? ShuttingDownError()
                                    : Submit(std::move(message));
  }
  {
    MutexLock lock(mu_);
    if (error_.ok()) error_ = status;
    all_read_ = true;
    changed_.NotifyAll();
  }
  acknowledger.join();
  MutexLock lock(mu_);
  return error_;
}

absl::Status WriteStream::Start() {
  v1::WriteRequest first;
  if (!stream_.Read(&first) || !first.has_start()) {
    return FieldError("start",
                      "is missing; the first message of Write must be start");
  }
  const v1::WriteStart& start = first.start();
  VICINAL_ASSIGN_OR_RETURN(
      collection_,
      state_.FindCollection(start.collection(), "start.collection"));
  const Limits& limits = state_.database->options().limits;
  stream_id_ = start.stream_id();
  if (stream_id_.size() > limits.max_stream_id_bytes ||
      !ValidStreamId(stream_id_)) {
    return FieldError(
        "start.stream_id",
        absl::StrCat("has ", stream_id_.size(), " bytes; give at most ",
                     limits.max_stream_id_bytes, " of A-Z a-z 0-9 _ . -"));
  }
  if (start.durability() == v1::DURABILITY_BUFFERED) {
    durability_ = Durability::kBuffered;
  }
  v1::WriteResponse reply;
  if (!stream_id_.empty()) {
    VICINAL_ASSIGN_OR_RETURN(durable_frame_,
                             collection_->LastFrame(stream_id_));
  }
  last_frame_ = durable_frame_;
  reply.mutable_started()->set_last_frame(durable_frame_);
  reply.mutable_started()->set_credit_bytes(kCreditBytes);
  stream_.Write(reply);
  return absl::OkStatus();
}

absl::Status WriteStream::Submit(std::shared_ptr<v1::WriteRequest> message) {
  if (!message->has_frame()) {
    return FieldError("frame",
                      "is missing; every message after start must be a frame");
  }
  const v1::WriteFrame& frame = message->frame();
  auto pending = std::make_shared<Pending>();
  pending->frame = frame.frame();
  pending->duplicate = frame.frame() <= durable_frame_ && frame.frame() > 0;
  if (frame.frame() == 0 ||
      (!pending->duplicate && frame.frame() != last_frame_ + 1)) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            "frame.frame is ", frame.frame(), " but ", last_frame_ + 1,
            " comes next in this stream; number frames 1, 2, 3, ... and "
            "resume behind started.last_frame.")),
        reason::kFrameOutOfOrder);
  }
  if (!pending->duplicate) last_frame_ = frame.frame();
  pending->size_bytes = message->ByteSizeLong();
  pending->message = message;

  const Limits& limits = state_.database->options().limits;
  std::vector<PointId> ids;
  if (frame.has_upsert()) {
    VICINAL_ASSIGN_OR_RETURN(
        ParsedBatch batch,
        ParsedBatch::Parse(frame.upsert(), collection_->schema(), limits,
                           "frame.upsert"));
    pending->batch = std::make_unique<ParsedBatch>(std::move(batch));
  } else if (frame.has_delete_()) {
    FieldViolations violations;
    ids = ParsePointIds(frame.delete_(), "frame.delete", limits, &violations);
    VICINAL_RETURN_IF_ERROR(violations.ToStatus());
  } else {
    return FieldError("frame.operation", "is empty; set upsert or delete");
  }
  WaitForCredit(pending->size_bytes);
  {
    MutexLock lock(mu_);
    if (!error_.ok()) return absl::OkStatus();  // the stream ends anyway
    pending_.push_back(pending);
    outstanding_bytes_ += pending->size_bytes;
  }
  WriteOptions options;
  options.durability = durability_;
  options.atomic = false;
  if (!stream_id_.empty()) {
    options.stream_frame = StreamFrame{stream_id_, frame.frame()};
  }
  const auto done = [this, pending](WriteOutcome outcome) {
    MutexLock lock(mu_);
    pending->outcome = std::move(outcome);
    pending->done = true;
    changed_.NotifyAll();
  };
  if (pending->batch != nullptr) {
    collection_->UpsertAsync(pending->batch->batch(), std::move(options), done);
  } else {
    collection_->DeleteAsync(std::move(ids), std::move(options), done);
  }
  return absl::OkStatus();
}

void WriteStream::WaitForCredit(size_t size_bytes) {
  MutexLock lock(mu_);
  while (error_.ok() && outstanding_bytes_ > 0 &&
         outstanding_bytes_ + size_bytes > kCreditBytes) {
    changed_.Wait(mu_);
  }
}

absl::Status WriteStream::FrameError(const Pending& pending) const {
  FieldViolations violations;
  if (absl::IsInvalidArgument(pending.outcome.status)) {
    for (const ItemError& error : pending.outcome.result.item_errors) {
      violations.Add(pending.batch != nullptr
                         ? pending.batch->RequestPath(error.field)
                         : "frame." + error.field,
                     error.status.message());
    }
  }
  if (!violations.empty()) return violations.ToStatus();
  return state_.ExplainWriteError(pending.outcome.status);
}

void WriteStream::Acknowledge() {
  while (true) {
    std::shared_ptr<Pending> next;
    bool failed = false;
    {
      MutexLock lock(mu_);
      while (pending_.empty() ? !all_read_ : !pending_.front()->done) {
        changed_.Wait(mu_);
      }
      if (pending_.empty()) return;
      next = pending_.front();
      failed = !error_.ok();
    }
    absl::Status status;
    if (!next->outcome.status.ok()) {
      status = FrameError(*next);
    } else if (!failed) {
      v1::WriteResponse reply;
      v1::WriteAck* ack = reply.mutable_ack();
      ack->set_frame(next->frame);
      ack->mutable_commit()->set_collection_uuid(collection_->schema().uuid);
      ack->mutable_commit()->set_sequence(next->outcome.result.sequence);
      ack->set_num_written(next->outcome.result.num_written);
      ack->set_duplicate(next->duplicate);
      for (const ItemError& error : next->outcome.result.item_errors) {
        v1::ItemError* out = ack->add_errors();
        out->set_index(static_cast<uint32_t>(error.index));
        out->set_field(next->batch->RequestPath(error.field));
        out->set_code(static_cast<int32_t>(error.status.code()));
        out->set_message(std::string(error.status.message()));
      }
      if (!stream_.Write(reply)) {
        status = absl::CancelledError("The client went away.");
      }
    }
    MutexLock lock(mu_);
    if (error_.ok() && !status.ok()) error_ = status;
    outstanding_bytes_ -= next->size_bytes;
    pending_.pop_front();
    changed_.NotifyAll();
  }
}

}  // namespace vicinal
