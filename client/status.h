// Errors of the server as absl::Status, with their google.rpc details.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace grpc {
class Status;
}
namespace google::rpc {
class Status;
}

namespace vicinal::client {

// Code and message are kept; each detail becomes a payload of the status under
// its type URL. The codes of gRPC and Abseil have the same numbers.
absl::Status FromGrpc(const grpc::Status& status);
absl::Status FromProto(const google::rpc::Status& status);

// One field of a request that the server refused.
struct FieldViolation {
  std::string field;        // path, e.g. "query.retrieve.k"
  std::string description;  // what was wrong
};
// Empty when the status has none.
std::vector<FieldViolation> FieldViolations(const absl::Status& status);

// How long the server asks to wait before trying again; nullopt: it does not.
std::optional<std::chrono::nanoseconds> RetryDelay(const absl::Status& status);

// ErrorInfo's reason, e.g. "COLLECTION_NOT_FOUND"; empty when there is none.
std::string ErrorReason(const absl::Status& status);

// For people: the message and, when it does not tell them, the violations.
std::string Describe(const absl::Status& status);

}  // namespace vicinal::client
