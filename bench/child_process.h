// A program started by a benchmark: the real server, the real command.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vicinal::bench {

// Life: started, then waited for or stopped; the destructor stops it. Its
// output goes to a file. Not thread-safe.
class ChildProcess {
 public:
  // NotFound: there is no such program.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::vector<std::string>& command, const std::string& output_path);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // What it wrote so far, both streams.
  std::string Output() const;
  // Returns when it ended. Internal: not with 0; the message has its output.
  absl::Status Wait();
  // Returns when `ready` says so. Unavailable: it ended before or the time was
  // up; the message has its output.
  absl::Status WaitUntil(const std::function<bool()>& ready,
                         std::chrono::seconds timeout);
  // SIGTERM, then waits; SIGKILL when that takes more than 30 s.
  void Stop();

 private:
  ChildProcess(pid_t pid, std::string name, std::string output_path)
      : pid_(pid),
        name_(std::move(name)),
        output_path_(std::move(output_path)) {}
  bool Ended();
  // A moment, or less when it ends.
  void PauseOrEnd() const;

  pid_t pid_;
  std::string name_;
  std::string output_path_;
  bool ended_ = false;
  int exit_status_ = 0;
};

// A field of /proc/PID/status in bytes, e.g. "VmRSS". NotFound: no such
// process or field.
absl::StatusOr<size_t> ProcessMemory(pid_t pid, const std::string& field);

}  // namespace vicinal::bench
