#include "storage/data_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/io_error.h"
#include "src/base/section_file.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

namespace fs = std::filesystem;

// Creates the folder and the missing ones above it, each durably: a database
// whose folder a power loss takes away has kept no promise.
absl::Status CreateFolder(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) return absl::OkStatus();
  if (fs::exists(status)) {
    return absl::InvalidArgumentError(
        absl::StrCat("The data path ", path.string(),
                     " is not a folder; give the path of a folder."));
  }
  if (status.type() != fs::file_type::not_found) {
    return IoError(error.value(), "look at", path.string());
  }
  const fs::path parent = path.has_parent_path() ? path.parent_path() : ".";
  VICINAL_RETURN_IF_ERROR(CreateFolder(parent));
  fs::create_directory(path, error);
  if (error) return IoError(error.value(), "create folder", path.string());
  return SyncDirectory(parent.string());
}

std::string ReadHolder(int fd) {
  char text[32];
  const ssize_t size = pread(fd, text, sizeof(text), 0);
  const absl::string_view holder = absl::StripAsciiWhitespace(
      absl::string_view(text, size > 0 ? static_cast<size_t>(size) : 0));
  return holder.empty() ? "another process" : absl::StrCat("process ", holder);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataFolderLock>> DataFolderLock::Acquire(
    const std::string& path) {
  // A trailing slash would make an empty last name.
  const fs::path folder = fs::path(path + "/").parent_path();
  VICINAL_RETURN_IF_ERROR(CreateFolder(folder));
  if (access(folder.c_str(), R_OK | W_OK | X_OK) != 0) {
    return IoError(errno, "read and write in folder", folder.string());
  }
  const std::string lock_path = (folder / "LOCK").string();
  const int fd = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return IoError(errno, "open", lock_path);
  std::unique_ptr<DataFolderLock> lock(new DataFolderLock(fd));
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return IoError(errno, "lock", lock_path);
    return absl::FailedPreconditionError(
        absl::StrCat("The data folder ", path, " is in use by ", ReadHolder(fd),
                     "; stop it first or choose another folder."));
  }
  // The id only serves the message above: failing to write it (a full disk)
  // must not keep the data from being read.
  const std::string holder = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) == 0) {
    [[maybe_unused]] const ssize_t written =
        pwrite(fd, holder.data(), holder.size(), 0);
  }
  VICINAL_RETURN_IF_ERROR(CreateFolder(RocksDbPath(folder.string())));
  return lock;
}

DataFolderLock::~DataFolderLock() { close(fd_); }

std::string RocksDbPath(absl::string_view data_folder) {
  return absl::StrCat(data_folder, "/db");
}

absl::Status CheckRocksDbFolder(const std::string& rocksdb_path) {
  std::error_code error;
  if (access(rocksdb_path.c_str(), R_OK | W_OK | X_OK) != 0) {
    return IoError(errno, "read and write in folder", rocksdb_path);
  }
  if (fs::exists(fs::path(rocksdb_path) / "CURRENT", error)) {
    return absl::OkStatus();
  }
  for (fs::directory_iterator it(rocksdb_path, error), end; !error && it != end;
       it.increment(error)) {
    const fs::path extension = it->path().extension();
    if (extension == ".sst" || extension == ".log") {
      return absl::DataLossError(absl::StrCat(
          "The folder ", rocksdb_path, " holds data (",
          it->path().filename().string(),
          ") but its file CURRENT is gone; restore the folder from a backup."));
    }
  }
  if (error) return IoError(error.value(), "list folder", rocksdb_path);
  return absl::OkStatus();
}

}  // namespace vicinal
