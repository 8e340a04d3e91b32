// How errors leave the server: an absl::Status that carries google.rpc details
// as payloads becomes a grpc::Status whose details hold them. Every reason is
// listed in docs/errors.md with what to do about it.
#pragma once

#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/support/status.h"

namespace vicinal {

// ErrorInfo.reason: stable, for programs; the message is for people.
namespace reason {
inline constexpr char kMalformedRequest[] = "MALFORMED_REQUEST";
inline constexpr char kInvalidField[] = "INVALID_FIELD";
inline constexpr char kInvalidRequest[] = "INVALID_REQUEST";
inline constexpr char kCollectionNotFound[] = "COLLECTION_NOT_FOUND";
inline constexpr char kCollectionExists[] = "COLLECTION_EXISTS";
inline constexpr char kTooManyCollections[] = "TOO_MANY_COLLECTIONS";
inline constexpr char kPayloadIndexExists[] = "PAYLOAD_INDEX_EXISTS";
inline constexpr char kPayloadIndexNotFound[] = "PAYLOAD_INDEX_NOT_FOUND";
inline constexpr char kOperationNotFound[] = "OPERATION_NOT_FOUND";
inline constexpr char kPointExists[] = "POINT_EXISTS";
inline constexpr char kPointMissing[] = "POINT_MISSING";
inline constexpr char kSequenceMismatch[] = "SEQUENCE_MISMATCH";
inline constexpr char kPayloadIndexMissing[] = "PAYLOAD_INDEX_MISSING";
inline constexpr char kGpuMissing[] = "GPU_MISSING";
inline constexpr char kFrameOutOfOrder[] = "FRAME_OUT_OF_ORDER";
inline constexpr char kOverloaded[] = "OVERLOADED";
inline constexpr char kIndexBacklog[] = "INDEX_BACKLOG";
inline constexpr char kReplyTooLarge[] = "REPLY_TOO_LARGE";
inline constexpr char kDiskFull[] = "DISK_FULL";
inline constexpr char kReadOnly[] = "READ_ONLY";
inline constexpr char kShuttingDown[] = "SHUTTING_DOWN";
inline constexpr char kDeadlineExceeded[] = "DEADLINE_EXCEEDED";
inline constexpr char kCancelled[] = "CANCELLED";
inline constexpr char kNotFound[] = "NOT_FOUND";
inline constexpr char kPrecondition[] = "PRECONDITION_FAILED";
inline constexpr char kPermissionDenied[] = "PERMISSION_DENIED";
inline constexpr char kDataLoss[] = "DATA_LOSS";
inline constexpr char kInternal[] = "INTERNAL";
}  // namespace reason

// ErrorInfo.domain of every reason above.
inline constexpr char kErrorDomain[] = "vicinal";

// Keys and values that say more, e.g. {"collection", "demo"}.
using ErrorMetadata = std::vector<std::pair<std::string, std::string>>;

// `status` with the reason attached; a reason it has already stays. OK stays
// OK.
absl::Status WithReason(absl::Status status, absl::string_view error_reason,
                        const ErrorMetadata& metadata = {});
// `status` with google.rpc.RetryInfo: the same request may succeed after
// `delay`.
absl::Status WithRetryAfter(absl::Status status,
                            std::chrono::milliseconds delay);

// ResourceExhausted / Unavailable that are worth a retry.
absl::Status OverloadedError(absl::string_view message,
                             std::chrono::milliseconds retry_after);
absl::Status ShuttingDownError();

// How many bytes a reply has, so that it is refused as soon as it is known to
// pass the limit of one message, and not when it is built. Not thread-safe.
class ReplyBudget {
 public:
  explicit ReplyBudget(size_t max_bytes) : max_bytes_(max_bytes) {}
  // Bytes that may still be added.
  size_t left() const { return max_bytes_ - used_; }
  // Counts a message and its frame. ResourceExhausted (REPLY_TOO_LARGE): it
  // does not fit any more.
  absl::Status Spend(size_t bytes);
  // The error itself; `what` passes the limit.
  absl::Status TooLarge(absl::string_view what = "The reply") const;

 private:
  const size_t max_bytes_;
  size_t used_ = 0;
};

// What is wrong with a request, field by field: collected, then reported all
// at once. Not thread-safe.
class FieldViolations {
 public:
  // Paths are in terms of the request, e.g. "query.retrieve.k". Only the
  // first kMaxReported are kept; the others are counted.
  void Add(std::string field, absl::string_view description);
  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }
  // OK when empty; else InvalidArgument with google.rpc.BadRequest, whose
  // message is "<field>: <description>" of the first and the number of others.
  absl::Status ToStatus() const;

  static constexpr size_t kMaxReported = 16;

 private:
  struct Violation {
    std::string field;
    std::string description;
  };
  std::vector<Violation> reported_;
  size_t count_ = 0;
};

// InvalidArgument about one field.
absl::Status FieldError(std::string field, absl::string_view description);

// The wire form: same code, message cut to what fits HTTP/2 headers, details.
// A status without a reason gets the general one of its code.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace vicinal
