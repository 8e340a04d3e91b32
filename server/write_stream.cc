#include "server/write_stream.h"

#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "server/errors.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

// Enough to keep a disk busy with a few frames of 1-4 MiB while others are
// read and encoded; bounds the memory of one stream.
constexpr size_t kCreditBytes = size_t{16} << 20;

// How often a stream looks whether there is room again.
constexpr std::chrono::milliseconds kRoomPoll(50);

bool ValidStreamId(const std::string& id) {
  for (char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' &&
        c != '.' && c != '-') {
      return false;
    }
  }
  return true;
}

absl::Status StartMissingError() {
  return FieldError("start",
                    "is missing; the first message of Write must be start");
}

bool FromBytes(grpc::ByteBuffer* bytes, v1::WriteRequest* message) {
  grpc::ProtoBufferReader reader(bytes);
  return reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
}

grpc::ByteBuffer ToBytes(const v1::WriteResponse& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* WriteStream::Open(
    ServerState* state) {
  std::shared_ptr<WriteStream> stream(new WriteStream(state));
  stream->self_ = stream;
  stream->stop_listener_ =
      state->stop_listeners.Add([weak = stream->weak_from_this()] {
        if (const auto open = weak.lock()) open->OnStopping();
      });
  auto place = state->streams.Enter();
  MutexLock lock(stream->mu_);
  if (place.ok()) {
    stream->place_.emplace(*std::move(place));
  } else {
    stream->Abandon(place.status());
  }
  stream->Advance();
  return stream.get();
}

// --- gRPC's reactions

void WriteStream::OnReadDone(bool ok) {
  MutexLock lock(mu_);
  reading_ = false;
  if (!ok) {
    all_read_ = true;
  } else if (!closed_) {
    outstanding_bytes_ += incoming_.Length();
    received_.emplace_back().Swap(&incoming_);
  }
  Advance();
}

void WriteStream::OnWriteDone(bool ok) {
  MutexLock lock(mu_);
  writing_ = false;
  outstanding_bytes_ -= outgoing_bytes_;
  if (!ok) Abandon(absl::CancelledError("The client went away."));
  Advance();
}

void WriteStream::OnCancel() {
  MutexLock lock(mu_);
  Abandon(absl::CancelledError("The client went away."));
  Advance();
}

void WriteStream::OnDone() {
  state_.stop_listeners.Remove(stop_listener_);
  // Whoever called Finish may still be leaving.
  const std::shared_ptr<WriteStream> last = std::move(self_);
}

void WriteStream::OnStopping() {
  auto last = std::make_shared<Pending>();
  last->done = true;
  last->outcome.status = ShuttingDownError();
  MutexLock lock(mu_);
  if (closed_) return;
  Close();
  pending_.push_back(std::move(last));
  Advance();
}

// --- what comes next

void WriteStream::Advance() {
  if (finished_) return;
  if (!reading_ && !all_read_ && !closed_ &&
      outstanding_bytes_ <= kCreditBytes) {
    reading_ = true;
    StartRead(&incoming_);
  }
  if (!working_ && !received_.empty()) {
    working_ = true;
    state_.ingest.Schedule([self = shared_from_this()] { self->Work(); });
  }
  if (!writing_ && !pending_.empty() && pending_.front()->done) {
    const std::shared_ptr<Pending> next = std::move(pending_.front());
    pending_.pop_front();
    if (next->outcome.status.ok()) {
      Answer(*next);
    } else {
      Abandon(next->outcome.status);
    }
  }
  if (writing_ || working_ || num_committing_ > 0) return;
  if (error_.ok()) {
    if (!all_read_ || !pending_.empty()) return;
    if (collection_ == nullptr) error_ = StartMissingError();
  }
  finished_ = true;
  Finish(ToGrpcStatus(error_));
}

void WriteStream::Close() {
  closed_ = true;
  received_.clear();
}

void WriteStream::Abandon(absl::Status error) {
  Close();
  pending_.clear();
  if (error_.ok()) error_ = std::move(error);
}

void WriteStream::Answer(const Pending& pending) {
  v1::WriteResponse reply;
  if (pending.frame == 0) {
    reply.mutable_started()->set_last_frame(durable_frame_);
    reply.mutable_started()->set_credit_bytes(kCreditBytes);
  } else {
    const WriteResult& result = pending.outcome.result;
    v1::WriteAck* ack = reply.mutable_ack();
    ack->set_frame(pending.frame);
    ack->mutable_commit()->set_collection_uuid(collection_->schema().uuid);
    ack->mutable_commit()->set_sequence(result.sequence);
    ack->set_num_written(result.num_written);
    ack->set_duplicate(pending.duplicate);
    for (const ItemError& error : result.item_errors) {
      v1::ItemError* out = ack->add_errors();
      out->set_index(static_cast<uint32_t>(error.index));
      out->set_field(pending.batch->RequestPath(error.field));
      out->set_code(static_cast<int32_t>(error.status.code()));
      out->set_message(std::string(error.status.message()));
    }
  }
  writing_ = true;
  outgoing_bytes_ = pending.size_bytes;
  outgoing_ = ToBytes(reply);
  StartWrite(&outgoing_);
}

// --- ingest threads

void WriteStream::Work() {
  if (next_ == nullptr) TakeNext();
  if (next_ != nullptr && !next_->done) {
    if (!WaitForRoom(*next_)) return;  // still at work
    Submit(std::move(next_));
  }
  MutexLock lock(mu_);
  if (next_ != nullptr) {  // answered without the engine
    if (!next_->outcome.status.ok()) Close();
    if (error_.ok()) pending_.push_back(std::move(next_));
    next_.reset();
  }
  working_ = false;
  Advance();
}

void WriteStream::TakeNext() {
  grpc::ByteBuffer bytes;
  {
    MutexLock lock(mu_);
    if (received_.empty()) return;  // abandoned meanwhile
    bytes.Swap(&received_.front());
    received_.pop_front();
  }
  next_ = std::make_shared<Pending>();
  next_->outcome.status = Parse(&bytes, next_.get());
  next_->done = next_->frame == 0 || !next_->outcome.status.ok();
}

absl::Status WriteStream::Parse(grpc::ByteBuffer* bytes, Pending* pending) {
  if (state_.stopping.load()) return ShuttingDownError();
  pending->size_bytes = bytes->Length();
  if (!FromBytes(bytes, &pending->message)) {
    return WithReason(
        absl::InvalidArgumentError(absl::StrCat(
            "A message of ", bytes->Length(),
            " bytes is not a whole vicinal.v1.WriteRequest: it was cut short, "
            "has text that is not UTF-8, or is of another schema.")),
        reason::kMalformedRequest);
  }
  if (collection_ == nullptr) {
    if (pending->message.has_start()) {
      return ParseStart(pending->message.start(), pending);
    }
    return StartMissingError();
  }
  if (pending->message.has_frame()) {
    return ParseFrame(pending->message.frame(), pending);
  }
  return FieldError("frame",
                    "is missing; every message after start must be a frame");
}

absl::Status WriteStream::ParseStart(const v1::WriteStart& start,
                                     Pending* pending) {
  VICINAL_ASSIGN_OR_RETURN(
      std::shared_ptr<Collection> collection,
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
  if (!stream_id_.empty()) {
    VICINAL_ASSIGN_OR_RETURN(durable_frame_, collection->LastFrame(stream_id_));
  }
  last_frame_ = durable_frame_;
  collection_ = std::move(collection);
  pending->frame = 0;
  return absl::OkStatus();
}

absl::Status WriteStream::ParseFrame(const v1::WriteFrame& frame,
                                     Pending* pending) {
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
  pending->frame = frame.frame();
  if (!pending->duplicate) last_frame_ = frame.frame();
  const Limits& limits = state_.database->options().limits;
  if (frame.has_upsert()) {
    VICINAL_ASSIGN_OR_RETURN(
        ParsedBatch batch,
        ParsedBatch::Parse(frame.upsert(), collection_->schema(), limits,
                           "frame.upsert"));
    pending->batch = std::make_unique<ParsedBatch>(std::move(batch));
    return absl::OkStatus();
  }
  if (frame.has_delete_()) {
    FieldViolations violations;
    pending->deletions =
        ParsePointIds(frame.delete_(), "frame.delete", limits, &violations);
    return violations.ToStatus();
  }
  return FieldError("frame.operation", "is empty; set upsert or delete");
}

bool WriteStream::WaitForRoom(const Pending& pending) {
  if (pending.batch == nullptr || collection_->HasRoom() ||
      state_.stopping.load() || !state_.database->stats().write_health.ok()) {
    return true;
  }
  {
    MutexLock lock(mu_);
    if (closed_) return true;
  }
  // A new one each time: it is not over when it calls. No cycle: while at
  // work the stream is not finished, so self_ keeps it.
  alarm_ = std::make_unique<grpc::Alarm>();
  alarm_->Set(std::chrono::system_clock::now() + kRoomPoll, [this](bool) {
    state_.ingest.Schedule([self = shared_from_this()] { self->Work(); });
  });
  return false;
}

void WriteStream::Submit(std::shared_ptr<Pending> pending) {
  {
    MutexLock lock(mu_);
    if (closed_) return;
    pending_.push_back(pending);
    ++num_committing_;
  }
  WriteOptions options;
  options.durability = durability_;
  options.atomic = false;
  options.waited_for_room = true;
  if (!stream_id_.empty()) {
    options.stream_frame = StreamFrame{stream_id_, pending->frame};
  }
  const auto done = [self = shared_from_this(), pending](WriteOutcome outcome) {
    self->OnCommitted(pending.get(), std::move(outcome));
  };
  if (pending->batch != nullptr) {
    collection_->UpsertAsync(pending->batch->batch(), std::move(options), done);
  } else {
    collection_->DeleteAsync(std::move(pending->deletions), std::move(options),
                             done);
  }
}

void WriteStream::OnCommitted(Pending* pending, WriteOutcome outcome) {
  if (!outcome.status.ok()) outcome.status = FrameError(*pending, outcome);
  MutexLock lock(mu_);
  --num_committing_;
  if (!outcome.status.ok()) Close();
  pending->outcome = std::move(outcome);
  pending->done = true;
  Advance();
}

absl::Status WriteStream::FrameError(const Pending& pending,
                                     const WriteOutcome& outcome) const {
  FieldViolations violations;
  if (absl::IsInvalidArgument(outcome.status)) {
    for (const ItemError& error : outcome.result.item_errors) {
      violations.Add(pending.batch != nullptr
                         ? pending.batch->RequestPath(error.field)
                         : "frame." + error.field,
                     error.status.message());
    }
  }
  if (!violations.empty()) return violations.ToStatus();
  return state_.ExplainWriteError(outcome.status);
}

}  // namespace vicinal
