#include "bench/machine.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "src/distance/distance.h"

namespace vicinal::bench {
namespace {

std::string CpuModel() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (absl::StartsWith(line, "model name")) {
      return std::string(
          absl::StripAsciiWhitespace(line.substr(line.find(':') + 1)));
    }
  }
  return "unknown";
}

std::string GitOutput(absl::string_view arguments) {
  const std::string command = absl::StrCat("git -C '", VICINAL_SOURCE_DIR, "' ",
                                           arguments, " 2>/dev/null");
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string out;
  std::array<char, 256> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    out.append(buffer.data(), n);
  }
  pclose(pipe);
  return std::string(absl::StripAsciiWhitespace(out));
}

std::string Commit() {
  const std::string commit = GitOutput("rev-parse --short=12 HEAD");
  if (commit.empty()) return "unknown";
  const bool clean =
      GitOutput("status --porcelain --untracked-files=no").empty();
  return clean ? commit : absl::StrCat(commit, "+changes");
}

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 32> text;
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

}  // namespace

double ThreadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * time.tv_nsec;
}

MachineInfo DescribeMachine() {
  MachineInfo info{.cpu = CpuModel(),
                   .cores = std::thread::hardware_concurrency(),
                   .simd = ActiveKernels().name};
  struct sysinfo system{};
  if (sysinfo(&system) == 0) {
    info.memory_bytes = system.totalram * system.mem_unit;
    info.load = system.loads[0] / static_cast<double>(1 << SI_LOAD_SHIFT);
  }
  utsname names{};
  if (uname(&names) == 0) {
    info.kernel = absl::StrCat(names.sysname, " ", names.release);
  }
  return info;
}

nlohmann::json DescribeRun(int argc, char** argv) {
  const MachineInfo machine = DescribeMachine();
  return {{"machine",
           {{"cpu", machine.cpu},
            {"cores", machine.cores},
            {"memory_bytes", machine.memory_bytes},
            {"kernel", machine.kernel},
            {"load_1min", machine.load},
            {"simd", machine.simd}}},
          {"commit", Commit()},
          {"date", UtcNow()},
          {"command", absl::StrJoin(argv, argv + argc, " ")}};
}

}  // namespace vicinal::bench
