// A server of its own for each test, and the `vicinal` command to talk to it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/test_files.h"
#include "tests/e2e/cli_process.h"

namespace vicinal::e2e {

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

// VICINAL_PATH and VICINALD_PATH are the programs, set by CMake.
class CliFixture : public testing::Test {
 protected:
  CliFixture() { StartServer("0"); }

  void StartServer(const std::string& port) {
    const std::string port_file = folder_.File("port");
    std::filesystem::remove(port_file);
    server_ = std::make_unique<Child>(
        std::vector<std::string>{VICINALD_PATH, "--data", folder_.File("data"),
                                 "--listen", "127.0.0.1:" + port, "--port-file",
                                 port_file},
        folder_.File("server.out"), folder_.File("server.err"));
    while (ReadText(port_file).find('\n') == std::string::npos) {
      ASSERT_TRUE(server_->Running()) << ReadText(folder_.File("server.err"));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    port_ = ReadText(port_file);
    port_.resize(port_.find('\n'));
  }
  void StopServer() { server_->Kill(); }
  // SIGKILL, then again on the same port.
  void RestartServer() {
    StopServer();
    StartServer(port_);
  }

  std::vector<std::string> Command(std::vector<std::string> args) const {
    args.insert(args.begin(), {VICINAL_PATH, "--server", "127.0.0.1:" + port_});
    return args;
  }
  Outcome Run(const std::vector<std::string>& args) {
    Child child(Command(args), folder_.File("out"), folder_.File("err"));
    Outcome outcome;
    outcome.code = child.Wait();
    outcome.out = ReadText(folder_.File("out"));
    outcome.err = ReadText(folder_.File("err"));
    return outcome;
  }
  // What a command prints; it must succeed.
  nlohmann::json Json(const std::vector<std::string>& args) {
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }

  client::TemporaryFolder folder_;
  std::unique_ptr<Child> server_;
  std::string port_;
};

}  // namespace vicinal::e2e
