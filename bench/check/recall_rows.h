// Whether a recall that was asked for is what comes out.
#pragma once

#include <string>
#include <vector>

#include "bench/check/report.h"
#include "bench/dataset.h"

namespace vicinal::bench {

struct RecallOptions {
  double target = 0.95;
  double lowest = 0.945;
  double highest = 0.985;
  std::vector<size_t> depths = {1, 10, 100};
  size_t build_threads = 2;
  std::string cache_dir;
};

// Two rows, over all sets and depths: the lowest recall measured and the
// highest, with the default codec. A set that cannot be read makes them short.
void MeasureRecall(const std::vector<DatasetSpec>& sets,
                   const RecallOptions& options, CheckReport* report);

}  // namespace vicinal::bench
