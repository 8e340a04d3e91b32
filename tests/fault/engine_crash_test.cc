// Kills a writing process at random moments and at every named point, opens
// what it left and checks that each acknowledged write is there and, but for
// the one under way in each writer, no other.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"
#include "tests/fault/crash_workload.h"

namespace vicinal {
namespace {

using Ops = std::array<uint64_t, kCrashWriters>;

class EngineCrashTest : public ::testing::Test {
 protected:
  // Runs a child from first_ops on. Kills it after num_acks acknowledged
  // writes unless it kills itself before. Returns the last op acknowledged to
  // each writer (the one before its first when none was).
  Ops RunChild(const std::string& kill_point, int kill_count, size_t num_acks) {
    std::vector<std::string> args = {ENGINE_CHILD, folder_.path(),
                                     std::to_string(kSeed), kill_point,
                                     std::to_string(kill_count)};
    for (const uint64_t op : applied_) args.push_back(std::to_string(op + 1));
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    int fds[2];
    EXPECT_EQ(::pipe(fds), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(fds[1], STDOUT_FILENO);
      ::close(fds[0]);
      ::close(fds[1]);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(fds[1]);
    Ops acknowledged = applied_;
    std::FILE* acks = ::fdopen(fds[0], "r");
    int writer = 0;
    unsigned long long op = 0;
    size_t count = 0;
    while (std::fscanf(acks, "%d %llu", &writer, &op) == 2) {
      acknowledged[static_cast<size_t>(writer)] = op;
      // Lines that it got out before it died still count.
      if (++count == num_acks) ::kill(child, SIGKILL);
    }
    std::fclose(acks);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        << "the child ended by itself: " << status;
    return acknowledged;
  }

  void CheckWhatIsThere(const Ops& acknowledged) {
    auto database = Database::Open(folder_.path(), CrashOptions());
    ASSERT_TRUE(database.ok()) << database.status();
    auto collection = (*database)->GetCollection("c");
    if (absl::IsNotFound(collection.status())) {
      ASSERT_EQ(acknowledged, applied_) << "the collection is lost";
      return;
    }
    ASSERT_TRUE(collection.ok()) << collection.status();
    for (int w = 0; w < kCrashWriters; ++w) {
      const uint64_t last = acknowledged[static_cast<size_t>(w)];
      const auto marker = (*collection)->Get({CrashMarker(w)}, {true, {}});
      ASSERT_TRUE(marker.ok()) << marker.status();
      const auto shows = [&](uint64_t op) {
        const std::string payload =
            op == 0 ? "" : MakeCrashOp(kSeed, w, op).marker;
        if (payload.empty()) return !(*marker)[0].has_value();
        return (*marker)[0].has_value() && (*marker)[0]->payload == payload;
      };
      ASSERT_TRUE(shows(last) || shows(last + 1))
          << "writer " << w << ", op " << last;
      const uint64_t now = shows(last) ? last : last + 1;
      for (uint64_t op = applied_[static_cast<size_t>(w)] + 1; op <= now;
           ++op) {
        ApplyCrashOp(MakeCrashOp(kSeed, w, op), &oracle_);
      }
      applied_[static_cast<size_t>(w)] = now;
    }
    const absl::Status difference = oracle_.Compare(**collection, random_);
    ASSERT_TRUE(difference.ok()) << difference;
  }

  static constexpr uint64_t kSeed = 20'261;
  TempFolder folder_;
  Oracle oracle_{CrashSchema()};
  Random random_{kSeed};
  Ops applied_ = {};
};

TEST_F(EngineCrashTest, KeepsEveryAcknowledgedWriteKilledAtRandom) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  for (int round = 0; round < 25 && !HasFatalFailure(); ++round) {
    SCOPED_TRACE(round);
    CheckWhatIsThere(RunChild("-", 0, 1 + random_.Uniform(250)));
  }
}

TEST_F(EngineCrashTest, KeepsEveryAcknowledgedWriteKilledAtNamedPoints) {
  const char* const points[] = {"commit:before_store", "commit:before_apply",
                                "commit:before_ack",   "build:start",
                                "build:before_file",   "build:after_vectors",
                                "build:after_file",    "build:before_manifest",
                                "build:before_swap",   "build:after_swap",
                                "build:done"};
  for (const char* point : points) {
    for (const int count : {1, 3}) {
      if (HasFatalFailure()) return;
      SCOPED_TRACE(std::string(point) + " " + std::to_string(count));
      CheckWhatIsThere(RunChild(point, count, 100'000));
    }
  }
}

}  // namespace
}  // namespace vicinal
