// The `vicinal` command against a server in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/mutex.h"
#include "src/base/point_id.h"
#include "tests/client/fake_server.h"
#include "tests/client/test_files.h"

namespace vicinal::cli {

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

class CliTest : public testing::Test {
 protected:
  Outcome Run(std::vector<std::string> args) {
    args.insert(args.begin(), {"vicinal", "--server", server_->address()});
    return RunAsIs(args);
  }
  static Outcome RunAsIs(const std::vector<std::string>& args) {
    std::vector<const char*> argv;
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Outcome outcome;
    outcome.code = RunCommandLine(static_cast<int>(argv.size()), argv.data());
    outcome.out = testing::internal::GetCapturedStdout();
    outcome.err = testing::internal::GetCapturedStderr();
    return outcome;
  }
  void Restart(const client::FakeServer::Options& options) {
    server_ = std::make_unique<client::FakeServer>(options);
  }
  std::string WriteFvecs(const std::string& name, size_t rows, int32_t dim) {
    return folder_.Write(
        name,
        client::Vecs(client::RandomFloats(rows * static_cast<size_t>(dim), 5),
                     dim));
  }
  // Points of collection `name` must be these rows with ids from id_start.
  void ExpectRows(const std::string& name, const std::vector<float>& values,
                  size_t dim, uint64_t id_start = 0, bool once = true) {
    client::FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    const auto& collection = store.collections[name];
    const size_t rows = values.size() / dim;
    ASSERT_EQ(collection.points.size(), rows);
    if (once) {
      EXPECT_EQ(collection.num_upserts, rows);
    }
    for (size_t i = 0; i < rows; ++i) {
      const auto point = collection.points.find(PointId(id_start + i));
      ASSERT_NE(point, collection.points.end()) << i;
      ASSERT_EQ(client::RawBytes(point->second.vector),
                client::RawBytes(values).substr(i * dim * 4, dim * 4));
    }
  }

  std::unique_ptr<client::FakeServer> server_ =
      std::make_unique<client::FakeServer>();
  client::TemporaryFolder folder_;
};

}  // namespace vicinal::cli
