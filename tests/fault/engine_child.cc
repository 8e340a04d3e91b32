// Writes to a collection until it is killed: the other half of
// engine_crash_test.cc. Prints "<writer> <op>" for each acknowledged write.
//
//   engine_child FOLDER SEED KILL_POINT KILL_COUNT FIRST_OP...
//
// Kills itself when it passes KILL_POINT (see DatabaseOptions::test_hook) the
// KILL_COUNT-th time; "-" never. One FIRST_OP for each writer.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "src/base/check.h"
#include "src/engine/database.h"
#include "tests/fault/crash_workload.h"

namespace vicinal {
namespace {

int Main(int argc, char** argv) {
  VICINAL_CHECK_GE(argc, 5);
  const uint64_t seed = std::strtoull(argv[2], nullptr, 10);
  const std::string kill_point = argv[3];
  const int kill_count = std::atoi(argv[4]);
  std::atomic<int> passed = 0;
  DatabaseOptions options = CrashOptions();
  options.test_hook = [&](absl::string_view point) {
    if (point == kill_point && ++passed == kill_count) {
      ::kill(::getpid(), SIGKILL);
    }
  };
  auto database = Database::Open(argv[1], options);
  VICINAL_CHECK(database.ok());
  auto collection = (*database)->GetCollection("c");
  if (!collection.ok()) {
    collection = (*database)->CreateCollection(CrashSchema());
  }
  VICINAL_CHECK(collection.ok());
  std::vector<std::thread> writers;
  for (int w = 0; w + 5 < argc; ++w) {
    const uint64_t first_op = std::strtoull(argv[w + 5], nullptr, 10);
    writers.emplace_back([&, w, first_op] {
      for (uint64_t op = first_op;; ++op) {
        const CrashOp effects = MakeCrashOp(seed, w, op);
        VICINAL_CHECK(ApplyCrashOp(effects, collection->get()).ok());
        const std::string line =
            std::to_string(w) + " " + std::to_string(op) + "\n";
        // One write call: lines of different writers do not mix.
        VICINAL_CHECK_EQ(::write(STDOUT_FILENO, line.data(), line.size()),
                         static_cast<ssize_t>(line.size()));
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  return 0;
}

}  // namespace
}  // namespace vicinal

int main(int argc, char** argv) { return vicinal::Main(argc, argv); }
