// What a tenant's searches cost in a collection of ten thousand with a
// partition key, beside a collection of its own.
#pragma once

#include <cstddef>

#include "bench/check/report.h"
#include "bench/dataset.h"

namespace vicinal::bench {

struct TenantRowsOptions {
  size_t passes = 5;  // the median of all counts
  size_t build_threads = 2;
  double scale = 1;  // times as many points
  double recall_target = 0.95;
};

// Adds for each size of tenants the time, over that in its own collection, and
// the recall of searches without a further condition, with one of a few on an
// integer field, and with one that was never asked before; then those of all
// points, and of a tenant in a growing segment. `words` of length 1.
void MeasureTenants(const FloatMatrix& words, const TenantRowsOptions& options,
                    CheckReport* report);

}  // namespace vicinal::bench
