#include "bench/check/recall_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/ann_system.h"
#include "bench/ground_truth.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

struct Range {
  double lowest = 1;
  double highest = 0;
};

absl::Status MeasureSet(const DatasetSpec& spec, const RecallOptions& options,
                        Range* range, nlohmann::json* raw) {
  VICINAL_ASSIGN_OR_RETURN(Dataset dataset, LoadDataset(spec));
  dataset.Prepare();
  const size_t deepest =
      *std::max_element(options.depths.begin(), options.depths.end());
  const TruthTable truth =
      CachedTruth(dataset.base, dataset.queries, dataset.search_metric(),
                  deepest, options.build_threads, options.cache_dir);
  const std::unique_ptr<AnnSystem> system = MakeVicinalCodes();
  VICINAL_RETURN_IF_ERROR(
      system->Build(dataset, {.num_threads = options.build_threads}));
  std::vector<uint32_t> found(deepest);
  for (const size_t k : options.depths) {
    const RecallJudge judge(dataset.base, dataset.queries,
                            dataset.search_metric(), truth, k);
    size_t hits = 0;
    for (size_t q = 0; q < dataset.queries.num_rows; ++q) {
      VICINAL_ASSIGN_OR_RETURN(
          const size_t n,
          system->SearchForRecall(dataset.queries.row(q), k, options.target,
                                  found.data()));
      hits += judge.CountHits(q, {found.data(), n});
    }
    const double recall = static_cast<double>(hits) /
                          static_cast<double>(k * dataset.queries.num_rows);
    (*raw)[spec.name][absl::StrCat(k)] = recall;
    range->lowest = std::min(range->lowest, recall);
    range->highest = std::max(range->highest, recall);
  }
  return absl::OkStatus();
}

}  // namespace

void MeasureRecall(const std::vector<DatasetSpec>& sets,
                   const RecallOptions& options, CheckReport* report) {
  CheckRow low{.key = "recall_target_lowest",
               .what = absl::StrFormat("lowest recall@1, 10, 100 of all sets "
                                       "at recall_target %.2f",
                                       options.target),
               .limit = options.lowest};
  CheckRow high{.key = "recall_target_highest",
                .what = "highest of them",
                .bound = Bound::kAtMost,
                .limit = options.highest};
  Range range;
  nlohmann::json raw;
  absl::Status status;
  for (const DatasetSpec& set : sets) {
    status.Update(MeasureSet(set, options, &range, &raw));
  }
  low.raw = high.raw = raw;
  low.why_not = high.why_not = std::string(status.message());
  if (status.ok()) {
    low.measured = range.lowest;
    high.measured = range.highest;
  }
  report->Add(std::move(low));
  report->Add(std::move(high));
}

}  // namespace vicinal::bench
