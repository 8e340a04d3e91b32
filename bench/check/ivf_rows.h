// Lists on codes: how fast they are at a recall.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "bench/dataset.h"
#include "bench/ground_truth.h"

namespace vicinal::bench {

// Queries per second of processor time of our IVF with codes of so many bits
// (0: the default) at recall@judge.k(), on one thread, by recall targets; built
// with two. The dataset is prepared. NotFound: no target reaches it.
absl::StatusOr<double> IvfQpsAt(const Dataset& dataset,
                                const RecallJudge& judge, float avg_bits,
                                double recall, size_t passes);

}  // namespace vicinal::bench
