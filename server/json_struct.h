// google.protobuf.Struct (payloads in the row form) to and from JSON text
// (payloads everywhere else).
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/struct.pb.h"

namespace vicinal {

// Compact JSON with the keys in byte order, so equal payloads are equal
// texts. Numbers that are whole and below 2^53 have no fraction.
// InvalidArgument: a NaN or infinite number, a value of no kind, or nesting
// deeper than max_depth.
absl::StatusOr<std::string> StructToJson(const google::protobuf::Struct& value,
                                         size_t max_depth);

// DataLoss: not a JSON object (what we stored is one). Numbers become
// doubles: whole numbers over 2^53 lose their last digits in this form.
absl::Status JsonToStruct(absl::string_view json,
                          google::protobuf::Struct* out);

}  // namespace vicinal
