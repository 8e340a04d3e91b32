// Errors of the operating system's file calls as Status.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// "Cannot OPERATION PATH: STRERROR". ENOSPC, EDQUOT: ResourceExhausted.
// EACCES, EPERM, EROFS: PermissionDenied. ENOENT: NotFound. Else Internal.
absl::Status IoError(int error, absl::string_view operation,
                     absl::string_view path);

}  // namespace vicinal
