#include "tests/e2e/server_process.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

namespace vicinal::e2e {

DiskFolder::DiskFolder() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "vicinal_e2e_XXXXXX").string();
  EXPECT_NE(mkdtemp(pattern.data()), nullptr);
  path_ = pattern;
}

DiskFolder::~DiskFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ServerProcess::ServerProcess(const std::string& folder,
                             std::vector<std::string> args)
    : log_(folder + "/server.err") {
  const std::string port_file = folder + "/port";
  std::filesystem::remove(port_file);
  const int watch = inotify_init1(IN_CLOEXEC);
  EXPECT_GE(inotify_add_watch(watch, folder.c_str(), IN_MOVED_TO), 0);
  args.insert(args.end(), {"--port-file", port_file});
  child_ = std::make_unique<Child>(args, "", log_);
  AwaitPort(watch, port_file);
  close(watch);
}

void ServerProcess::AwaitPort(int watch, const std::string& port_file) {
  const int ended = static_cast<int>(syscall(SYS_pidfd_open, child_->pid(), 0));
  EXPECT_GE(ended, 0);
  while (port_ == 0) {
    pollfd events[] = {{watch, POLLIN, 0}, {ended, POLLIN, 0}};
    poll(events, 2, -1);
    if ((events[0].revents & POLLIN) != 0) {
      char buffer[4096];
      EXPECT_GT(read(watch, buffer, sizeof(buffer)), 0);
      port_ = std::atoi(ReadText(port_file).c_str());
    } else if ((events[1].revents & POLLIN) != 0) {
      break;
    }
  }
  close(ended);
}

std::shared_ptr<grpc::Channel> ServerProcess::Connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port_),
                                   grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace vicinal::e2e
