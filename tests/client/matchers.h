// What tests say about a Status.
#pragma once

#include <gmock/gmock.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vicinal::client {

inline const absl::Status& AsStatus(const absl::Status& s) { return s; }
template <typename T>
const absl::Status& AsStatus(const absl::StatusOr<T>& s) {
  return s.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << AsStatus(arg).ToString();
  return AsStatus(arg).ok();
}
MATCHER_P2(Fails, code, part,
           std::string("fails with ") + absl::StatusCodeToString(code) +
               " saying \"" + part + "\"") {
  *result_listener << AsStatus(arg).ToString();
  return AsStatus(arg).code() == code &&
         std::string(AsStatus(arg).message()).find(part) != std::string::npos;
}

}  // namespace vicinal::client
