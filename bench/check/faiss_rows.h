// Rows that compare with the newest faiss, which runs in a process of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/check/graph_rows.h"
#include "bench/check/report.h"
#include "bench/peers/faiss_python.h"

namespace vicinal::bench {

struct FaissTarget {
  std::string key;    // of the row, before "_95"
  std::string label;  // "Fashion-MNIST 784 L2"
  DatasetSpec dataset;
  std::vector<double> recalls = {0.95, 0.99};  // one row each
  double ratio = 1.5;
};

// Adds rows of QPS, ours (options.ours: a graph on codes) vs faiss's HNSW on
// eight-bit codes, where ours takes no more memory: codes and links on both
// sides. The vectors that ours compares its last candidates with are not
// counted, as they may stay in a file; where faiss does not reach a recall by
// codes alone, it refines with vectors, too, not counted either.
// python: empty where there is none with faiss; the rows then say so.
void MeasureFaissGraph(const FaissTarget& target, const std::string& python,
                       const GraphOptions& options, CheckReport* report);

// What faiss's lists reach on a set: which family of factories, and how fast.
struct FaissLists {
  std::unique_ptr<FaissPython> system;  // set to its best k_factor
  double qps = 0;                       // nprobe interpolated
  nlohmann::json raw;                   // all that was tried
};

// IVF with one bit per dimension (RaBitQ), and IVF with product quantization
// of four bits and an index that refines.
const std::vector<std::string>& RabitqFactories();
const std::vector<std::string>& PqFactories();

// The fastest of the factories and their k_factors at recall@judge.k(); for
// SearchRatio beside lists of ours. NotFound: none reaches the recall.
absl::StatusOr<FaissLists> BestFaissLists(
    const std::vector<std::string>& factories, const std::string& python,
    const Dataset& dataset, const RecallJudge& judge, double recall,
    const GraphOptions& options);

}  // namespace vicinal::bench
