#include "bench/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

extern char** environ;

namespace vicinal::bench {
namespace {

constexpr std::chrono::milliseconds kPollInterval{2};
constexpr std::chrono::seconds kStopTimeout{30};

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& command, const std::string& output_path) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_path.c_str(),
                                   O_CREAT | O_WRONLY | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  std::vector<std::string> words = command;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, command[0].c_str(), &actions, nullptr,
                                argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot run ", command[0]));
  }
  return std::unique_ptr<ChildProcess>(
      new ChildProcess(pid, command[0], output_path));
}

ChildProcess::~ChildProcess() { Stop(); }

std::string ChildProcess::Output() const {
  std::ifstream in(output_path_);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

bool ChildProcess::Ended() {
  if (!ended_) {
    ended_ = waitpid(pid_, &exit_status_, WNOHANG) == pid_;
  }
  return ended_;
}

absl::Status ChildProcess::Wait() {
  if (!ended_) {
    waitpid(pid_, &exit_status_, 0);
    ended_ = true;
  }
  if (WIFEXITED(exit_status_) && WEXITSTATUS(exit_status_) == 0) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(name_, " failed:\n", Output()));
}

void ChildProcess::PauseOrEnd() const {
  const int ended = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  pollfd event{ended, POLLIN, 0};
  poll(&event, 1, static_cast<int>(kPollInterval.count()));
  close(ended);
}

absl::Status ChildProcess::WaitUntil(const std::function<bool()>& ready,
                                     std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const bool ended = Ended();
    if (ready()) return absl::OkStatus();
    if (ended) {
      return absl::UnavailableError(
          absl::StrCat(name_, " ended too early:\n", Output()));
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::UnavailableError(absl::StrCat(
          name_, " was not ready in ", timeout.count(), " s:\n", Output()));
    }
    PauseOrEnd();
  }
}

void ChildProcess::Stop() {
  if (Ended()) return;
  kill(pid_, SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + kStopTimeout;
  while (!Ended() && std::chrono::steady_clock::now() < deadline) {
    PauseOrEnd();
  }
  if (Ended()) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, &exit_status_, 0);
  ended_ = true;
}

absl::StatusOr<size_t> ProcessMemory(pid_t pid, const std::string& field) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(in, line);) {
    if (!absl::StartsWith(line, absl::StrCat(field, ":"))) continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    size_t kib = 0;
    if (words.size() == 3 && absl::SimpleAtoi(words[1], &kib)) {
      return kib * 1'024;
    }
  }
  return absl::NotFoundError(
      absl::StrCat("process ", pid, " shows no ", field));
}

}  // namespace vicinal::bench
