// The programs as a user runs them: child processes of tests.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace vicinal::e2e {

// A running child. Killed, if it still runs, at the end.
class Child {
 public:
  // stdout and stderr go to the files named; "" means /dev/null.
  Child(const std::vector<std::string>& args, const std::string& out_path,
        const std::string& err_path) {
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // never outlives its test
    Redirect(STDOUT_FILENO, out_path);
    Redirect(STDERR_FILENO, err_path);
    std::vector<char*> argv;
    for (const std::string& arg : args) {
      argv.push_back(const_cast<char*>(arg.c_str()));
    }
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { Kill(); }

  // The exit code; 128 + signal when it was killed.
  int Wait() {
    if (pid_ <= 0) return code_;
    int status = 0;
    waitpid(pid_, &status, 0);
    return Take(status);
  }
  // Until it has ended, or `timeout` has passed (false).
  bool WaitFor(std::chrono::milliseconds timeout) const {
    if (pid_ <= 0) return true;
    const int ended = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    pollfd event{ended, POLLIN, 0};
    const int num_events = poll(&event, 1, static_cast<int>(timeout.count()));
    close(ended);
    return num_events > 0;
  }
  pid_t pid() const { return pid_; }
  void Signal(int number) {
    if (pid_ > 0) kill(pid_, number);
  }
  void Kill() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    Wait();
  }

 private:
  static void Redirect(int fd, const std::string& path) {
    const int file = open(path.empty() ? "/dev/null" : path.c_str(),
                          O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(file, fd);
    close(file);
  }
  int Take(int status) {
    pid_ = 0;
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return code_;
  }

  pid_t pid_ = 0;
  int code_ = 0;
};

inline std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

}  // namespace vicinal::e2e
