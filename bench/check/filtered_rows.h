// Filtered searches through the engine: their recall, and their speed beside
// searches without a filter and beside hnswlib's filtered ones.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "bench/check/filtered_set.h"
#include "bench/check/report.h"
#include "src/engine/schema.h"

namespace vicinal::bench {

struct FilteredOptions {
  IndexKind index = IndexKind::kAuto;
  std::string index_name = "auto";
  double recall_target = 0.95;
  double least_recall = 0.93;
  double least_speed = 0.6;   // of searches without a filter
  double least_hnswlib = 20;  // times its speed, at 1 %
  // Speeds are compared at the recall that the filtered searches had, but at
  // this where they found more (most are exact then): what it takes to find
  // more without a filter, or with hnswlib, would only favour us.
  double most_recall = 0.99;
  size_t build_threads = 2;
  size_t passes = 5;  // in turns; the fastest counts
  bool with_hnswlib = true;
};

// Adds, for one set and index, the lowest recall and the lowest speed of each
// correlation and the row beside hnswlib, and appends to *details one line per
// percentage: QPS, recall and speed / speed without a filter.
void MeasureFiltered(const FilteredSet& set, const FilteredOptions& options,
                     CheckReport* report, std::string* details);

}  // namespace vicinal::bench
