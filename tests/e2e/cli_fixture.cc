#include "tests/e2e/cli_fixture.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vicinal::e2e {

// VICINAL_PATH and VICINALD_PATH are the programs, set by CMake.

void CliFixture::StartServer(const std::string& port) {
  server_ = std::make_unique<ServerProcess>(
      folder_.File("."),
      std::vector<std::string>{VICINALD_PATH, "--data", folder_.File("data"),
                               "--listen", "127.0.0.1:" + port});
  ASSERT_TRUE(server_->serving()) << server_->log();
  port_ = std::to_string(server_->port());
}

std::vector<std::string> CliFixture::Command(
    std::vector<std::string> args) const {
  args.insert(args.begin(), {VICINAL_PATH, "--server", "127.0.0.1:" + port_});
  return args;
}

Outcome CliFixture::Run(const std::vector<std::string>& args) {
  Child child(Command(args), folder_.File("out"), folder_.File("err"));
  Outcome outcome;
  outcome.code = child.Wait();
  outcome.out = ReadText(folder_.File("out"));
  outcome.err = ReadText(folder_.File("err"));
  return outcome;
}

nlohmann::json CliFixture::Json(const std::vector<std::string>& args) {
  const Outcome outcome = Run(args);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return nlohmann::json::parse(outcome.out, nullptr, false);
}

}  // namespace vicinal::e2e
