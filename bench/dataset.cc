#include "bench/dataset.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/formats/ground_truth.h"
#include "client/formats/vector_reader.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

bool IsHdf5(absl::string_view path) {
  return absl::EndsWith(path, ".hdf5") || absl::EndsWith(path, ".h5");
}

// max_rows 0: all.
absl::StatusOr<FloatMatrix> ReadMatrix(const std::string& path,
                                       absl::string_view hdf5_dataset,
                                       size_t max_rows) {
  client::OpenOptions options;
  options.dataset = std::string(hdf5_dataset);
  VICINAL_ASSIGN_OR_RETURN(const std::unique_ptr<client::VectorReader> reader,
                           client::OpenVectorFile(path, options));
  if (!reader->num_rows().has_value() || reader->fields().size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": a benchmark needs a file of one vector per row whose number "
        "of rows is known: fvecs, bvecs, npy, HDF5 or idx"));
  }
  FloatMatrix matrix{.num_rows = *reader->num_rows(), .dim = reader->dim()};
  if (max_rows > 0) matrix.num_rows = std::min(matrix.num_rows, max_rows);
  VICINAL_ASSIGN_OR_RETURN(
      matrix.values, client::ReadRowsAsFloat(*reader, 0, matrix.num_rows));
  return matrix;
}

absl::StatusOr<TruthTable> ReadTruth(const std::string& path,
                                     size_t num_base_rows) {
  VICINAL_ASSIGN_OR_RETURN(const client::GroundTruth file,
                           client::ReadGroundTruth(path));
  TruthTable truth{.num_rows = file.num_queries, .k = file.k};
  truth.rows.reserve(file.rows.size());
  for (const uint64_t row : file.rows) {
    if (row >= num_base_rows) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": names row ", row, " of ", num_base_rows));
    }
    truth.rows.push_back(static_cast<uint32_t>(row));
  }
  return truth;
}

absl::Status CheckParts(const Dataset& dataset) {
  if (dataset.base.num_rows == 0 || dataset.queries.num_rows == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(dataset.name, ": no rows or no queries"));
  }
  if (dataset.base.dim != dataset.queries.dim) {
    return absl::InvalidArgumentError(
        absl::StrCat(dataset.name, ": rows have ", dataset.base.dim,
                     " elements, queries ", dataset.queries.dim));
  }
  if (!dataset.truth) return absl::OkStatus();
  if (dataset.truth->num_rows < dataset.queries.num_rows) {
    return absl::InvalidArgumentError(absl::StrCat(
        dataset.name, ": ", dataset.queries.num_rows, " queries but only ",
        dataset.truth->num_rows, " rows of ground truth"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Dataset> LoadDataset(const DatasetSpec& spec) {
  Dataset dataset{.name = spec.name, .metric = spec.metric};
  const bool one_file = IsHdf5(spec.base);
  VICINAL_ASSIGN_OR_RETURN(dataset.base,
                           ReadMatrix(spec.base, "train", spec.max_rows));
  if (spec.queries.empty() && !one_file) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec.name, ": no file of queries was given"));
  }
  VICINAL_ASSIGN_OR_RETURN(
      dataset.queries,
      ReadMatrix(spec.queries.empty() ? spec.base : spec.queries, "test",
                 spec.max_queries));
  const std::string& truth_path =
      spec.truth.empty() && one_file && spec.queries.empty() ? spec.base
                                                             : spec.truth;
  if (spec.max_rows == 0 && !truth_path.empty()) {
    VICINAL_ASSIGN_OR_RETURN(dataset.truth,
                             ReadTruth(truth_path, dataset.base.num_rows));
  }
  VICINAL_RETURN_IF_ERROR(CheckParts(dataset));
  return dataset;
}

absl::StatusOr<Metric> ParseMetric(absl::string_view name) {
  if (name == "l2") return Metric::kL2;
  if (name == "ip") return Metric::kInnerProduct;
  if (name == "cosine") return Metric::kCosine;
  return absl::InvalidArgumentError(
      absl::StrCat("unknown metric '", name, "'; use l2, ip or cosine"));
}

uint64_t HashMatrix(const FloatMatrix& matrix) {
  // FNV-1a over 64-bit words with a shift: fast, and stable over machines.
  uint64_t hash = 14695981039346656037u;
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * 1099511628211u;
    hash ^= hash >> 32;
  };
  mix(matrix.num_rows);
  mix(matrix.dim);
  const size_t pairs = matrix.values.size() / 2;
  for (size_t i = 0; i < pairs; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, &matrix.values[2 * i], sizeof(word));
    mix(word);
  }
  if (matrix.values.size() % 2 != 0) {
    uint32_t last = 0;
    std::memcpy(&last, &matrix.values.back(), sizeof(last));
    mix(last);
  }
  return hash;
}

}  // namespace vicinal::bench
