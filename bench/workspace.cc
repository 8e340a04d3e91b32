#include "bench/workspace.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace vicinal::bench {
namespace {

std::string TemporaryParent() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/tmp";
}

}  // namespace

absl::StatusOr<Workspace> Workspace::Create(const std::string& parent) {
  std::string path = absl::StrCat(parent.empty() ? TemporaryParent() : parent,
                                  "/vicinal-bench-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("cannot create a folder like ", path));
  }
  return Workspace(std::move(path));
}

Workspace::Workspace(Workspace&& other) noexcept
    : path_(std::exchange(other.path_, "")), next_(other.next_) {}

Workspace::~Workspace() {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Workspace::NewPath(absl::string_view name) const {
  return absl::StrCat(path_, "/", name, "-", next_++);
}

std::string DefaultCacheDir() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') {
    return absl::StrCat(cache, "/vicinal-bench");
  }
  return absl::StrCat("/tmp/vicinal-bench-cache-", getuid());
}

absl::Status WriteJsonFile(const std::string& path,
                           const nlohmann::json& json) {
  std::error_code ignored;
  const std::filesystem::path folder =
      std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, ignored);
  std::ofstream out(path);
  out << json.dump(2) << "\n";
  out.close();
  if (out.good()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot write ", path));
}

void PrepareProcess() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace vicinal::bench
