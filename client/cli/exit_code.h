// What the command's exit status says; documented in docs/cli.md.
#pragma once

#include "absl/status/status.h"

namespace vicinal::cli {

enum ExitCode : int {
  kOk = 0,
  kFailed = 1,       // the server or the system refused; stderr says why
  kUsage = 2,        // the command line was wrong
  kSomeRefused = 3,  // done, but some points were refused
  kNoServer = 4,     // the server could not be reached, or was lost
};

// Prints "vicinal: MESSAGE" to stderr and returns the code for the status.
int Report(const absl::Status& status);
// As Report, for what the command line got wrong.
int ReportUsage(const absl::Status& status);

}  // namespace vicinal::cli
