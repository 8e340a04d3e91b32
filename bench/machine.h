// Where and from what a measurement was taken.
#pragma once

#include <cstddef>
#include <string>

#include "nlohmann/json.hpp"

namespace vicinal::bench {

struct MachineInfo {
  std::string cpu;  // the model as the kernel names it
  size_t cores = 0;
  size_t memory_bytes = 0;
  std::string kernel;
  double load = 0;   // load average of the last minute
  std::string simd;  // kernels in use
};

MachineInfo DescribeMachine();

// Processor time of the calling thread, in seconds since some moment.
double ThreadSeconds();

// Machine, date (UTC), commit (from git in the source folder; "unknown"
// without it, with "+changes" when files differ) and the command line.
nlohmann::json DescribeRun(int argc, char** argv);

}  // namespace vicinal::bench
