#include "bench/sweep.h"

#include <sched.h>
#include <time.h>

#include <chrono>

#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

double Seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

absl::StatusOr<CurvePoint> RunPassAtOnce(AnnSystem* system,
                                         const Dataset& dataset,
                                         const RecallJudge& judge, size_t ef) {
  const size_t k = judge.k();
  const size_t num_queries = dataset.queries.num_rows;
  std::vector<uint32_t> rows;
  VICINAL_ASSIGN_OR_RETURN(const double seconds,
                           system->SearchAll(k, ef, &rows));
  if (rows.size() != num_queries * k) {
    return absl::InternalError("a peer's answer has another number of rows");
  }
  size_t hits = 0;
  for (size_t q = 0; q < num_queries; ++q) {
    hits += judge.CountHits(q, {&rows[q * k], k});
  }
  CurvePoint point{.ef = ef, .qps = num_queries / seconds};
  point.recall = static_cast<double>(hits) / (num_queries * k);
  point.p50_us = point.p99_us = 1e6 / point.qps;
  return point;
}

}  // namespace

struct ScopedPin::Saved {
  cpu_set_t cpus;
};

ScopedPin::ScopedPin(int cpu) {
  if (cpu < 0) return;
  auto saved = std::make_unique<Saved>();
  if (sched_getaffinity(0, sizeof(cpu_set_t), &saved->cpus) != 0) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  if (sched_setaffinity(0, sizeof(one), &one) == 0) saved_ = std::move(saved);
}

ScopedPin::~ScopedPin() {
  if (saved_) sched_setaffinity(0, sizeof(cpu_set_t), &saved_->cpus);
}

absl::StatusOr<double> TimedBuild(AnnSystem* system, const Dataset& dataset,
                                  const BuildParams& params) {
  const double start = Seconds(CLOCK_MONOTONIC);
  VICINAL_RETURN_IF_ERROR(system->Build(dataset, params));
  return Seconds(CLOCK_MONOTONIC) - start;
}

absl::StatusOr<CurvePoint> RunPass(AnnSystem* system, const Dataset& dataset,
                                   const RecallJudge& judge, size_t ef,
                                   PassClock clock) {
  if (system->answers_all_at_once()) {
    return RunPassAtOnce(system, dataset, judge, ef);
  }
  const clockid_t clock_id =
      clock == PassClock::kThreadCpu && system->runs_in_caller()
          ? CLOCK_THREAD_CPUTIME_ID
          : CLOCK_MONOTONIC;
  const size_t k = judge.k();
  const size_t num_queries = dataset.queries.num_rows;
  std::vector<uint32_t> rows(num_queries * k);
  std::vector<size_t> counts(num_queries);
  std::vector<double> latencies(num_queries);
  const double start = Seconds(clock_id);
  double last = Seconds(CLOCK_MONOTONIC);
  for (size_t q = 0; q < num_queries; ++q) {
    VICINAL_ASSIGN_OR_RETURN(
        counts[q], system->Search(dataset.queries.row(q), k, ef, &rows[q * k]));
    const double now = Seconds(CLOCK_MONOTONIC);
    latencies[q] = (now - last) * 1e6;
    last = now;
  }
  const double elapsed = Seconds(clock_id) - start;
  size_t hits = 0;
  for (size_t q = 0; q < num_queries; ++q) {
    hits += judge.CountHits(q, {&rows[q * k], counts[q]});
  }
  CurvePoint point{.ef = ef, .qps = num_queries / elapsed};
  point.recall = static_cast<double>(hits) / (num_queries * k);
  point.p50_us = Percentile(&latencies, 0.50);
  point.p99_us = Percentile(&latencies, 0.99);
  return point;
}

absl::StatusOr<std::vector<std::vector<CurvePoint>>> Sweep(
    const std::vector<AnnSystem*>& systems, const Dataset& dataset,
    const RecallJudge& judge, const SweepOptions& options) {
  ScopedPin pin(options.pin_cpu);
  std::vector<std::vector<CurvePoint>> best(systems.size());
  for (AnnSystem* system : systems) {
    VICINAL_RETURN_IF_ERROR(
        RunPass(system, dataset, judge, options.efs.front(), options.clock)
            .status());
  }
  for (size_t e = 0; e < options.efs.size(); ++e) {
    for (size_t pass = 0; pass < options.passes; ++pass) {
      for (size_t s = 0; s < systems.size(); ++s) {
        VICINAL_ASSIGN_OR_RETURN(
            const CurvePoint point,
            RunPass(systems[s], dataset, judge, options.efs[e], options.clock));
        if (pass == 0) {
          best[s].push_back(point);
        } else if (point.qps > best[s].back().qps) {
          best[s].back() = point;
        }
      }
    }
  }
  return best;
}

}  // namespace vicinal::bench
