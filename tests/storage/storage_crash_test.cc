#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "src/base/check.h"
#include "src/base/random.h"
#include "storage/record_store.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {

StorageChild::StorageChild(const std::string& mode, const std::string& data) {
  int pipe_fds[2];
  VICINAL_CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  pid_ = fork();
  if (pid_ == 0) {
    dup2(pipe_fds[1], STDOUT_FILENO);
    execl(VICINAL_STORAGE_CHILD, VICINAL_STORAGE_CHILD, mode.c_str(),
          data.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  VICINAL_CHECK_GE(pid_, 0);
  close(pipe_fds[1]);
  fd_ = pipe_fds[0];
  EXPECT_TRUE(Read().has_value()) << "the child did not start";
}

std::optional<uint64_t> StorageChild::Read() {
  uint64_t number = 0;
  if (read(fd_, &number, sizeof(number)) != sizeof(number)) return std::nullopt;
  return number;
}

void StorageChild::Kill() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
  close(fd_);
}

namespace {

TEST(StorageCrashTest, EveryAcknowledgedBatchOutlivesSigkill) {
  constexpr uint64_t kSeed = 20;
  std::printf("seed %d\n", static_cast<int>(kSeed));
  Random random(kSeed);
  TempFolder folder;
  uint64_t length = 0;
  for (int round = 0; round < 10; ++round) {
    uint64_t acknowledged = length;
    {
      StorageChild child("commit", folder.data());
      const uint64_t num_reports = 1 + random.Uniform(200);
      for (uint64_t i = 0; i < num_reports; ++i) {
        const auto report = child.Read();
        ASSERT_TRUE(report.has_value()) << "the child ended by itself";
        ASSERT_EQ(*report, acknowledged + 1);
        acknowledged = *report;
      }
      kill(child.pid(), SIGKILL);
      // What it reported before it died counts as well.
      while (const auto report = child.Read()) acknowledged = *report;
    }
    const auto store = OpenOrDie(folder.data(), SmallOptions());
    length = CheckHistory(*store);
    EXPECT_GE(length, acknowledged);
    EXPECT_LE(length, acknowledged + 1) << "nothing that was never written";
  }
  EXPECT_GT(length, 100);
}

}  // namespace
}  // namespace vicinal
