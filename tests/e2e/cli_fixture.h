// A server of its own for each test, and the `vicinal` command to talk to it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/client/test_files.h"
#include "tests/e2e/cli_process.h"
#include "tests/e2e/server_process.h"

namespace vicinal::e2e {

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

class CliFixture : public testing::Test {
 protected:
  CliFixture() { StartServer("0"); }

  // Until it serves. `port` 0: any free one.
  void StartServer(const std::string& port);
  void StopServer() { server_->Kill(); }
  // SIGKILL, then again on the same port.
  void RestartServer() {
    StopServer();
    StartServer(port_);
  }

  // Arguments of `vicinal`, behind the program and the server's address.
  std::vector<std::string> Command(std::vector<std::string> args) const;
  Outcome Run(const std::vector<std::string>& args);
  // What a command prints; it must succeed.
  nlohmann::json Json(const std::vector<std::string>& args);

  client::TemporaryFolder folder_;
  std::unique_ptr<ServerProcess> server_;
  std::string port_;
};

}  // namespace vicinal::e2e
