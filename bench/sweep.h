// Runs systems over a grid of ef, their passes taking turns so that the noise
// of the machine hits all of them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/ann_system.h"
#include "bench/curve.h"
#include "bench/dataset.h"
#include "bench/ground_truth.h"

namespace vicinal::bench {

enum class PassClock {
  kWall,
  kThreadCpu,  // of the calling thread: other processes' turns do not count
};

struct SweepOptions {
  size_t k = 10;
  std::vector<size_t> efs;
  size_t passes = 3;  // the best counts; one more runs before to warm up
  PassClock clock = PassClock::kThreadCpu;
  int pin_cpu = -1;  // >= 0: the searching thread stays on this CPU
};

// One system built and measured.
struct SweepResult {
  std::string system;
  std::string remark;
  double build_seconds = 0;
  size_t memory_bytes = 0;
  std::vector<CurvePoint> points;  // one per ef: the fastest of its passes
};

// Build by the wall clock.
absl::StatusOr<double> TimedBuild(AnnSystem* system, const Dataset& dataset,
                                  const BuildParams& params);

// One pass over the queries. Systems that do not run in the caller are always
// timed by the wall clock; those that answer all queries at once time
// themselves, and their percentiles are the mean.
absl::StatusOr<CurvePoint> RunPass(AnnSystem* system, const Dataset& dataset,
                                   const RecallJudge& judge, size_t ef,
                                   PassClock clock);

// All systems must be built over `dataset`; one vector of points per system.
absl::StatusOr<std::vector<std::vector<CurvePoint>>> Sweep(
    const std::vector<AnnSystem*>& systems, const Dataset& dataset,
    const RecallJudge& judge, const SweepOptions& options);

// Keeps the calling thread on one CPU while it lives; does nothing for < 0 or
// where the kernel refuses.
class ScopedPin {
 public:
  explicit ScopedPin(int cpu);
  ~ScopedPin();
  ScopedPin(const ScopedPin&) = delete;
  ScopedPin& operator=(const ScopedPin&) = delete;

 private:
  struct Saved;
  std::unique_ptr<Saved> saved_;
};

}  // namespace vicinal::bench
