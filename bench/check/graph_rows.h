// Rows that compare the graph with hnswlib: search speed at a recall, and the
// time of the build.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "bench/ann_system.h"
#include "bench/check/report.h"
#include "bench/dataset.h"
#include "bench/ground_truth.h"
#include "nlohmann/json.hpp"

namespace vicinal::bench {

// One data set and the speed asked for on it.
struct GraphTarget {
  std::string key;    // of the row
  std::string label;  // "Fashion-MNIST 784 L2"
  DatasetSpec dataset;
  double recall = 0.99;
  double ratio = 1.4;
};

struct GraphOptions {
  std::unique_ptr<AnnSystem> (*ours)() = &MakeVicinalIndex;
  size_t k = 10;
  size_t m = 16;
  size_t ef_construction = 200;
  size_t build_threads = 2;
  size_t builds = 2;  // of each system, in turns; the fastest counts
  size_t passes = 5;  // of each system and ef, in turns; the fastest counts
  // Recalls of both systems are compared here to call builds equal.
  size_t equal_recall_ef = 40;
  double build_ratio = 0.8;
  int pin_cpu = 0;
  std::string cache_dir;
};

// Adds the row of the search, and gives the ratio of the build times (ours /
// hnswlib's) in *build with its raw values in *build_raw; nullopt when it was
// not measured. A set that is not there is a row not measured.
void MeasureGraph(const GraphTarget& target, const GraphOptions& options,
                  CheckReport* report, std::optional<double>* build,
                  nlohmann::json* build_raw);

// Two built systems; peer_key names the second in the raw values.
struct SystemPair {
  AnnSystem* ours;
  AnnSystem* peer;
  const char* peer_key;
};

// The ratio of their QPS at a recall, ours over the peer's, measured in turns.
// NotFound: one does not reach it; the message says which.
absl::StatusOr<double> SearchRatio(const SystemPair& pair,
                                   const Dataset& dataset,
                                   const RecallJudge& judge, double recall,
                                   const GraphOptions& options,
                                   nlohmann::json* raw);

}  // namespace vicinal::bench
