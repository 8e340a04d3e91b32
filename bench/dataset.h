// The vectors of a benchmark: rows, queries and the exact answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal::bench {

// Rows of f32, owned. Every system gets the same floats.
struct FloatMatrix {
  size_t num_rows = 0;
  size_t dim = 0;
  std::vector<float> values;  // num_rows x dim

  const float* row(size_t i) const { return values.data() + i * dim; }
  VectorSetView view() const {
    return {.data = reinterpret_cast<const std::byte*>(values.data()),
            .num_rows = num_rows,
            .dim = dim,
            .stride_bytes = dim * sizeof(float)};
  }
};

// Row numbers of the true nearest neighbours: num_rows x k, nearest first.
struct TruthTable {
  size_t num_rows = 0;
  size_t k = 0;
  std::vector<uint32_t> rows;

  const uint32_t* row(size_t i) const { return rows.data() + i * k; }
};

struct Dataset {
  std::string name;
  Metric metric = Metric::kL2;
  FloatMatrix base;
  FloatMatrix queries;
  std::optional<TruthTable> truth;  // as read from a file

  // Brings rows and queries to the form in which they are searched: under
  // cosine each is divided by its length, and the inner product then orders
  // them as the cosine does.
  void Prepare();
  // The metric between prepared rows.
  Metric search_metric() const {
    return metric == Metric::kCosine ? Metric::kInnerProduct : metric;
  }
};

// Where a data set lies and how to read it. Paths of fvecs, npy, HDF5 and idx
// files, plain or (idx) gzipped.
struct DatasetSpec {
  std::string name;
  std::string base;     // an ann-benchmarks HDF5 file holds all three
  std::string queries;  // empty: in `base`
  std::string truth;    // ivecs or npy; empty: in `base`, or computed
  Metric metric = Metric::kL2;
  size_t max_rows = 0;     // 0: all
  size_t max_queries = 0;  // 0: all
};

// Reads and checks a set. NotFound: no such file. InvalidArgument: the parts
// do not fit together. max_rows drops the file's truth, which no longer holds.
absl::StatusOr<Dataset> LoadDataset(const DatasetSpec& spec);

// "l2", "ip" or "cosine".
absl::StatusOr<Metric> ParseMetric(absl::string_view name);

// A 64-bit hash of the floats and the shape; names cached answers.
uint64_t HashMatrix(const FloatMatrix& matrix);

}  // namespace vicinal::bench
