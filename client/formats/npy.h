// NumPy's .npy, versions 1 to 3: reading of arrays and writing.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/formats/vector_reader.h"

namespace vicinal::client {

// What the header of a .npy says, checked against the file's size.
struct NpyHeader {
  std::string descr;      // e.g. "<f4"
  uint64_t num_rows = 0;  // of a 3-d array: the first two sizes' product
  uint64_t dim = 0;       // the last size; 1 for a 1-d array
  bool one_dimensional = false;
  uint64_t num_groups = 0;  // of a 3-d array: the first size; else 0
  size_t element_bytes = 0;
  size_t data_offset = 0;
};
// InvalidArgument: no .npy, damaged, Fortran order, not 1-d to max_dimensions-d
// (at most 3), or fewer bytes than the shape needs.
absl::StatusOr<NpyHeader> ParseNpyHeader(const std::string& path,
                                         absl::string_view bytes,
                                         size_t max_dimensions = 2);

// f4, f2, i1, u1, and f8 (read as f4), little-endian, C order, 2-d.
absl::StatusOr<std::unique_ptr<VectorReader>> OpenNpy(const std::string& path);

// Writes rows x dim of one type; the number of rows is filled in by Finish.
// Not thread-safe. Without Finish the file says 0 rows.
class NpyWriter {
 public:
  // type: not kBfloat16, which .npy has not.
  static absl::StatusOr<std::unique_ptr<NpyWriter>> Create(
      const std::string& path, uint64_t dim, ElementType type);
  // For ids: a 1-d array of u8.
  static absl::StatusOr<std::unique_ptr<NpyWriter>> CreateIds(
      const std::string& path);
  // For numbers of tokens: a 1-d array of i4.
  static absl::StatusOr<std::unique_ptr<NpyWriter>> CreateLengths(
      const std::string& path);
  ~NpyWriter();

  // Whole rows.
  absl::Status Append(absl::string_view data);
  absl::Status Finish();

 private:
  NpyWriter(std::string path, FILE* file, std::string descr, uint64_t dim,
            size_t row_bytes);
  static absl::StatusOr<std::unique_ptr<NpyWriter>> CreateAs(
      const std::string& path, absl::string_view descr, uint64_t dim,
      size_t row_bytes);
  absl::Status WriteHeader(uint64_t num_rows);

  const std::string path_;
  FILE* file_;
  const std::string descr_;
  const uint64_t dim_;  // 0: a 1-d array
  const size_t row_bytes_;
  uint64_t num_bytes_ = 0;
};

}  // namespace vicinal::client
