// The rows of the speed table of multi-vectors.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/check/multivector_data.h"
#include "bench/check/multivector_peers.h"
#include "bench/check/multivector_segment.h"
#include "bench/check/multivector_sweep.h"
#include "bench/check/report.h"

namespace vicinal::bench {

struct MultiOptions {
  std::string data_dir;
  size_t documents = 100'000;  // of the generated set
  size_t subset = 20'000;      // of them, where token indexes are compared
  size_t queries = 200;
  size_t passes = 3;
  size_t build_threads = 2;
  double recall_target = 0.95;
};

// What a peer takes at its fastest setting with the recall; empty: none has it.
struct PeerBest {
  double mean_us = 1e30;
  std::string setting;
  SearchOne search;
};

// Sets and what is built of them, made when a row first asks for it.
class MultiRows {
 public:
  MultiRows(MultiOptions options, CheckReport* report)
      : options_(std::move(options)), report_(*report) {}

  // In the order of the table.
  static std::vector<std::string> Names();
  // A row, or several, that could not be measured are in the report, too.
  void Measure(const std::string& name);

 private:
  struct Loaded {
    MultiSet set;
    std::vector<MultiQuery> queries;
    std::optional<CodedTokens> int8;
    Answers truth;
    std::unique_ptr<MultiSegment> segment;  // of the default parameters
  };
  enum class Which { kGlove, kLotte, kGenerated, kSubset };

  absl::Status MeasureRecall();
  absl::Status MeasureSpeed();
  absl::Status MeasureCandidates();
  absl::Status MeasureHeuristic();
  absl::Status MeasurePlaid();
  absl::Status MeasureKernels();
  absl::Status MeasureEncodingCodes();
  absl::Status MeasureTokenCodes();
  absl::Status MeasureInsert();
  absl::Status MeasureMemory();
  absl::Status MeasureRelevance();

  // A row of a peer beside ours, each at its fastest setting.
  absl::Status AddPeer(const std::string& key, const std::string& name,
                       double limit, const Loaded& loaded,
                       const PeerBest& best);
  // With its truth.
  absl::StatusOr<Loaded*> Load(Which which);
  // With its segment, too.
  absl::StatusOr<Loaded*> Built(Which which);
  // Microseconds of a search of all by int8.
  double BruteForceUs(const Loaded& loaded) const;
  void Add(CheckRow row) { report_.Add(std::move(row)); }

  MultiOptions options_;
  CheckReport& report_;
  std::map<Which, std::unique_ptr<Loaded>> loaded_;
};

}  // namespace vicinal::bench
