// What filters cost by the indexes of payload fields, over a million points.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bench/check/report.h"

namespace vicinal::bench {

struct PayloadRowsOptions {
  size_t num_points = 1'000'000;
  size_t num_tags = 100;  // values of the keyword field
  double count_ms = 1;    // a count by a keyword, median
  double bitmap_ms = 2;   // evaluating a filter of two clauses, median
  size_t build_threads = 2;
  uint64_t seed = 7;
};

// Adds three rows: a count by a keyword, and the bitmaps of a keyword and a
// half of an integer field, and of a tenth of each. Every filter is asked
// once, so that nothing is remembered.
void MeasurePayloads(const PayloadRowsOptions& options, CheckReport* report);

}  // namespace vicinal::bench
