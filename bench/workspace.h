// The surroundings of a benchmark program: temporary folders, files, settings
// of the process.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace vicinal::bench {

// A temporary folder that goes with the object. Movable.
class Workspace {
 public:
  // Below `parent`; empty: $TMPDIR, or /tmp.
  static absl::StatusOr<Workspace> Create(const std::string& parent = "");
  Workspace(Workspace&& other) noexcept;
  Workspace& operator=(Workspace&&) = delete;
  ~Workspace();

  const std::string& path() const { return path_; }
  // A path in it that was not given out before; nothing is created.
  std::string NewPath(absl::string_view name) const;

 private:
  explicit Workspace(std::string path) : path_(std::move(path)) {}
  std::string path_;
  mutable int next_ = 0;
};

// Where computed ground truth is kept: $XDG_CACHE_HOME/vicinal-bench, or a
// folder of this user under /tmp.
std::string DefaultCacheDir();

// Creates the folder of `path` when there is none.
absl::Status WriteJsonFile(const std::string& path, const nlohmann::json& json);

// First thing in main: what the server does for its own process too (the
// packaged Abseil checks lock order at every lock).
void PrepareProcess();

}  // namespace vicinal::bench
