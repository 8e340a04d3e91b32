// Which Status each errno becomes, and what it says.
#include "src/base/io_error.h"

#include <cerrno>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "tests/client/matchers.h"

namespace vicinal {
namespace {

using client::Fails;

TEST(IoErrorTest, SaysWhatCouldNotBeDoneToWhichFileAndWhy) {
  const absl::Status status = IoError(ENOENT, "open", "/no/such/file");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(),
            "Cannot open /no/such/file: No such file or directory");
}

TEST(IoErrorTest, HasACodeForWhatTheCallerCanMend) {
  const std::pair<int, absl::StatusCode> codes[] = {
      {ENOSPC, absl::StatusCode::kResourceExhausted},
      {EDQUOT, absl::StatusCode::kResourceExhausted},
      {EACCES, absl::StatusCode::kPermissionDenied},
      {EPERM, absl::StatusCode::kPermissionDenied},
      {EROFS, absl::StatusCode::kPermissionDenied},
      {ENOENT, absl::StatusCode::kNotFound},
      {EIO, absl::StatusCode::kInternal},
      {EMFILE, absl::StatusCode::kInternal},
      {123'456, absl::StatusCode::kInternal}};
  for (const auto& [error, code] : codes) {
    EXPECT_THAT(IoError(error, "write", "/x"), Fails(code, "Cannot write /x: "))
        << error;
  }
}

TEST(IoErrorTest, SaysWhatToDo) {
  for (const int error : {ENOSPC, EDQUOT}) {
    EXPECT_THAT(IoError(error, "write", "/x"),
                Fails(absl::StatusCode::kResourceExhausted,
                      "; free some space and try again."));
  }
  EXPECT_THAT(IoError(EACCES, "open", "/x"),
              Fails(absl::StatusCode::kPermissionDenied,
                    "; let this user read and write there or choose another "
                    "path."));
}

}  // namespace
}  // namespace vicinal
