// vicinald as a user runs it: a child process, awaited by events.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "tests/e2e/cli_process.h"

namespace vicinal::e2e {

// A folder of its own on a real disk, removed at the end.
class DiskFolder {
 public:
  DiskFolder();
  ~DiskFolder();
  DiskFolder(const DiskFolder&) = delete;
  DiskFolder& operator=(const DiskFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Killed, if it still runs, at the end. Not thread-safe.
class ServerProcess {
 public:
  // Runs `args` (the program first) with --port-file, and waits until it
  // serves or has ended. `folder` takes the port file and the log.
  ServerProcess(const std::string& folder, std::vector<std::string> args);

  bool serving() const { return port_ != 0; }
  int port() const { return port_; }
  // A new connection each time.
  std::shared_ptr<grpc::Channel> Connect() const;
  // What it wrote to standard error so far.
  std::string log() const { return ReadText(log_); }

  void Signal(int number) { child_->Signal(number); }
  void Kill() { child_->Kill(); }
  // Until it has ended by itself; its exit code, 128 + signal when killed.
  int Wait() { return child_->Wait(); }

 private:
  void AwaitPort(int watch, const std::string& port_file);

  std::string log_;
  std::unique_ptr<Child> child_;
  int port_ = 0;
};

}  // namespace vicinal::e2e
