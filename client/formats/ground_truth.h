// True nearest neighbours of queries, for measuring recall.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace vicinal::client {

// num_queries x k row numbers of the base set, nearest first.
struct GroundTruth {
  size_t num_queries = 0;
  size_t k = 0;
  std::vector<uint64_t> rows;

  std::span<const uint64_t> row(size_t query) const {
    return {rows.data() + query * k, k};
  }
};

// .ivecs, .npy of integers (queries x k), or the data set "neighbors" of an
// HDF5 file. InvalidArgument: anything else, or a negative row number.
absl::StatusOr<GroundTruth> ReadGroundTruth(const std::string& path);

}  // namespace vicinal::client
