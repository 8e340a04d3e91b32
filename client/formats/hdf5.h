// HDF5 files as the ann-benchmarks project publishes them: data sets "train"
// and "test" (rows x dim), "neighbors" (queries x k, row numbers in train) and
// "distances"; the attribute "distance" names the metric.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/formats/vector_reader.h"

namespace vicinal::client {

// Reads one data set in blocks of rows. Floating point is read as float32,
// int8 and uint8 as they are. The file's structure is parsed by libhdf5, which
// is not hardened against malicious files: import only what you trust.
absl::StatusOr<std::unique_ptr<VectorReader>> OpenHdf5(
    const std::string& path, const std::string& dataset);

// A whole data set of integers (rows x columns), e.g. "neighbors".
struct IntMatrix {
  uint64_t num_rows = 0;
  uint64_t num_columns = 0;
  std::vector<int64_t> values;
};
absl::StatusOr<IntMatrix> ReadHdf5Integers(const std::string& path,
                                           const std::string& dataset);

// Writes data sets; for tests and for making small files by hand.
class Hdf5Writer {
 public:
  static absl::StatusOr<std::unique_ptr<Hdf5Writer>> Create(
      const std::string& path);
  ~Hdf5Writer();

  absl::Status WriteFloats(const std::string& name, uint64_t num_rows,
                           uint64_t dim, const std::vector<float>& values);
  absl::Status WriteBytes(const std::string& name, uint64_t num_rows,
                          uint64_t dim, const std::vector<uint8_t>& values);
  absl::Status WriteInts(const std::string& name, uint64_t num_rows,
                         uint64_t dim, const std::vector<int32_t>& values);
  absl::Status WriteAttribute(const std::string& name,
                              const std::string& value);

 private:
  explicit Hdf5Writer(int64_t file) : file_(file) {}
  int64_t file_;
};

}  // namespace vicinal::client
