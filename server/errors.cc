#include "server/errors.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace vicinal {
namespace {

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kBadRequestUrl[] = "type.googleapis.com/google.rpc.BadRequest";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

// Trailers over 8 KiB are refused by gRPC's default; the message travels
// twice (as text, percent-encoded, and in the details).
constexpr size_t kMaxMessageBytes = 1024;
constexpr size_t kMaxFieldBytes = 256;
constexpr size_t kMaxDescriptionBytes = 300;

// Cuts at a character, so that the text stays UTF-8.
std::string Cut(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;
  }
  return absl::StrCat(text.substr(0, end), "...");
}

absl::string_view GeneralReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kCancelled:
      return reason::kCancelled;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return reason::kInvalidRequest;
    case absl::StatusCode::kDeadlineExceeded:
      return reason::kDeadlineExceeded;
    case absl::StatusCode::kNotFound:
      return reason::kNotFound;
    case absl::StatusCode::kPermissionDenied:
      return reason::kPermissionDenied;
    case absl::StatusCode::kResourceExhausted:
      return reason::kOverloaded;
    case absl::StatusCode::kFailedPrecondition:
      return reason::kPrecondition;
    case absl::StatusCode::kUnavailable:
      return reason::kShuttingDown;
    case absl::StatusCode::kDataLoss:
      return reason::kDataLoss;
    default:
      return reason::kInternal;
  }
}

}  // namespace

absl::Status WithReason(absl::Status status, absl::string_view error_reason,
                        const ErrorMetadata& metadata) {
  if (status.ok() || status.GetPayload(kErrorInfoUrl).has_value()) {
    return status;
  }
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(error_reason));
  info.set_domain(kErrorDomain);
  for (const auto& [key, value] : metadata) {
    (*info.mutable_metadata())[key] = Cut(value, kMaxFieldBytes);
  }
  status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

absl::Status WithRetryAfter(absl::Status status,
                            std::chrono::milliseconds delay) {
  if (status.ok()) return status;
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(delay.count() / 1000);
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(delay.count() % 1000) * 1'000'000);
  status.SetPayload(kRetryInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

absl::Status OverloadedError(absl::string_view message,
                             std::chrono::milliseconds retry_after) {
  return WithRetryAfter(
      WithReason(absl::ResourceExhaustedError(message), reason::kOverloaded),
      retry_after);
}

absl::Status ShuttingDownError() {
  return WithRetryAfter(
      WithReason(absl::UnavailableError(
                     "The server is shutting down; retry when it is back."),
                 reason::kShuttingDown),
      std::chrono::seconds(1));
}

absl::Status ReplyBudget::Spend(size_t bytes) {
  constexpr size_t kFramingBytes = 8;  // a tag and a length
  if (bytes + kFramingBytes > left()) return TooLarge();
  used_ += bytes + kFramingBytes;
  return absl::OkStatus();
}

absl::Status ReplyBudget::TooLarge(absl::string_view what) const {
  return WithReason(absl::ResourceExhaustedError(absl::StrCat(
                        what, " has more bytes than the ", max_bytes_,
                        " that fit one message: ask for fewer points or "
                        "queries, a smaller k, or select less of each point.")),
                    reason::kReplyTooLarge);
}

void FieldViolations::Add(std::string field, absl::string_view description) {
  ++count_;
  if (reported_.size() >= kMaxReported) return;
  reported_.push_back(
      {Cut(field, kMaxFieldBytes), Cut(description, kMaxDescriptionBytes)});
}

absl::Status FieldViolations::ToStatus() const {
  if (empty()) return absl::OkStatus();
  google::rpc::BadRequest bad_request;
  for (const Violation& violation : reported_) {
    auto* out = bad_request.add_field_violations();
    out->set_field(violation.field);
    out->set_description(violation.description);
  }
  std::string message =
      absl::StrCat(reported_[0].field, ": ", reported_[0].description);
  if (count_ > 1) {
    absl::StrAppend(&message, " (and ", count_ - 1, " more)");
  }
  absl::Status status =
      WithReason(absl::InvalidArgumentError(message), reason::kInvalidField);
  status.SetPayload(kBadRequestUrl,
                    absl::Cord(bad_request.SerializeAsString()));
  return status;
}

absl::Status FieldError(std::string field, absl::string_view description) {
  FieldViolations violations;
  violations.Add(std::move(field), description);
  return violations.ToStatus();
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message =
      Cut(absl::string_view(status.message().data(), status.message().size()),
          kMaxMessageBytes);
  google::rpc::Status details;
  details.set_code(static_cast<int32_t>(status.code()));
  details.set_message(message);
  const absl::Status full = WithReason(status, GeneralReason(status.code()));
  // In a fixed order: the reason first.
  for (const char* url : {kErrorInfoUrl, kBadRequestUrl, kRetryInfoUrl}) {
    const auto payload = full.GetPayload(url);
    if (!payload.has_value()) continue;
    auto* any = details.add_details();
    any->set_type_url(url);
    any->set_value(std::string(*payload));
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      details.SerializeAsString());
}

}  // namespace vicinal
