// Runs the conformance suite on a GPU against the CPU: a program of its own,
// as machines with a GPU have no test library (scripts/gpu_test.sh).
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/cases.h"
#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/conformance.h"

namespace vicinal::backend_tests {
namespace {

constexpr const char* kUsage =
    "Usage: gpu_tests [--filter TEXT] [--seed N] [--device N] [--cpu]\n"
    "\n"
    "  --filter TEXT  only the cases whose name contains TEXT\n"
    "  --seed N       what data is made from (default: a new one)\n"
    "  --device N     which GPU (default: 0)\n"
    "  --cpu          test the backend of the CPU with three threads against\n"
    "                 itself with all: no GPU is needed\n";

struct Options {
  std::string filter;
  uint64_t seed = 0;
  int device = 0;
  bool cpu = false;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--cpu") {
      options->cpu = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    if (option == "--filter") {
      options->filter = value;
    } else if (option == "--seed") {
      options->seed = std::strtoull(value, nullptr, 10);
    } else if (option == "--device") {
      options->device = std::atoi(value);
    } else {
      return false;
    }
  }
  return true;
}

// Prints a line for each case that runs; counts what became of them.
class Runner {
 public:
  explicit Runner(const Options& options) : options_(options) {}

  template <typename Run>
  void RunCase(const char* name, const Run& run) {
    if (std::string(name).find(options_.filter) == std::string::npos) return;
    const auto start = std::chrono::steady_clock::now();
    const std::string outcome = run();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    const bool passed = outcome.empty();
    const bool skipped = IsSkipped(outcome);
    std::printf("%-7s %-28s %7.2f s  %s\n",
                passed    ? "ok"
                : skipped ? "skipped"
                          : "FAILED",
                name, seconds, outcome.c_str());
    std::fflush(stdout);
    ++(passed ? num_passed_ : skipped ? num_skipped_ : num_failed_);
  }

  // The program's exit status.
  int Finish() const {
    std::printf("%d passed, %d failed, %d skipped, seed %llu\n", num_passed_,
                num_failed_, num_skipped_,
                static_cast<unsigned long long>(options_.seed));
    return num_failed_ == 0 && num_passed_ > 0 ? 0 : 1;
  }

 private:
  const Options& options_;
  int num_passed_ = 0;
  int num_failed_ = 0;
  int num_skipped_ = 0;
};

int Main(int argc, char** argv) {
  Options options;
  options.seed = std::random_device()();
  if (!Parse(argc, argv, &options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  std::unique_ptr<DistanceBackend> tested;
  if (options.cpu) {
    tested = MakeCpuBackend(3);
  } else {
    const BackendStatus status =
        MakeGpuBackend({.device = options.device}, &tested);
    if (status != BackendStatus::kOk) {
      std::fprintf(stderr, "gpu_tests: GPU %d of %d: %s\n", options.device,
                   CountGpus(), BackendStatusName(status));
      return 1;
    }
  }
  const std::unique_ptr<DistanceBackend> cpu =
      MakeCpuBackend(std::thread::hardware_concurrency());
  std::printf("%s against %s, seed %llu\n", tested->name(), cpu->name(),
              static_cast<unsigned long long>(options.seed));
  Runner runner(options);
  for (const ConformanceCase& test : ConformanceCases()) {
    runner.RunCase(test.name,
                   [&] { return test.run(*tested, *cpu, options.seed); });
  }
  tested.reset();  // the cases below take the device's memory themselves
  if (!options.cpu) {
    for (const auto& cases : {GpuCases(), EncodeCases()}) {
      for (const GpuCase& test : cases) {
        runner.RunCase(test.name,
                       [&] { return test.run(options.device, options.seed); });
      }
    }
  }
  return runner.Finish();
}

}  // namespace
}  // namespace vicinal::backend_tests

int main(int argc, char** argv) {
  return vicinal::backend_tests::Main(argc, argv);
}
