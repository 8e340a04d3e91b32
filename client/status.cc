#include "client/status.h"

#include <grpcpp/support/status.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace vicinal::client {
namespace {

std::string TypeUrl(const google::protobuf::Message& message) {
  return absl::StrCat("type.googleapis.com/",
                      message.GetDescriptor()->full_name());
}

template <typename Detail>
std::optional<Detail> FindDetail(const absl::Status& status) {
  Detail detail;
  const auto payload = status.GetPayload(TypeUrl(detail));
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) {
    return std::nullopt;
  }
  return detail;
}

}  // namespace

absl::Status FromProto(const google::rpc::Status& status) {
  absl::Status result(static_cast<absl::StatusCode>(status.code()),
                      status.message());
  for (const google::protobuf::Any& detail : status.details()) {
    result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return result;
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  google::rpc::Status details;
  if (!status.error_details().empty() &&
      details.ParseFromString(status.error_details()) &&
      details.code() == static_cast<int>(status.error_code())) {
    details.set_message(status.error_message());
    return FromProto(details);
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

std::vector<FieldViolation> FieldViolations(const absl::Status& status) {
  std::vector<FieldViolation> out;
  const auto bad = FindDetail<google::rpc::BadRequest>(status);
  if (!bad.has_value()) return out;
  for (const auto& violation : bad->field_violations()) {
    out.push_back({violation.field(), violation.description()});
  }
  return out;
}

std::optional<std::chrono::nanoseconds> RetryDelay(const absl::Status& status) {
  const auto info = FindDetail<google::rpc::RetryInfo>(status);
  if (!info.has_value() || !info->has_retry_delay()) return std::nullopt;
  const auto& delay = info->retry_delay();
  // A year at most, so that sums with it cannot overflow.
  constexpr int64_t kMaxSeconds = 365 * 86'400;
  if (delay.seconds() < 0 || delay.nanos() < 0) {
    return std::chrono::nanoseconds(0);
  }
  return std::chrono::seconds(std::min(delay.seconds(), kMaxSeconds)) +
         std::chrono::nanoseconds(delay.nanos());
}

std::string ErrorReason(const absl::Status& status) {
  const auto info = FindDetail<google::rpc::ErrorInfo>(status);
  return info.has_value() ? info->reason() : std::string();
}

std::string Describe(const absl::Status& status) {
  std::string text(status.message());
  if (text.empty()) text = absl::StatusCodeToString(status.code());
  for (const FieldViolation& violation : FieldViolations(status)) {
    if (absl::StrContains(text, violation.description) &&
        absl::StrContains(text, violation.field)) {
      continue;
    }
    absl::StrAppend(&text, "\n  ", violation.field, ": ",
                    violation.description);
  }
  return text;
}

}  // namespace vicinal::client
