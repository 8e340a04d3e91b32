// The TEXMEX formats: each row is a little-endian int32 dimension followed by
// its elements: float32 (.fvecs), uint8 (.bvecs) or int32 (.ivecs).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/formats/mapped_file.h"
#include "client/formats/vector_reader.h"

namespace vicinal::client {

// InvalidArgument: empty, a dimension out of range, or a size that is no
// multiple of the row's. Rows of another dimension are found when read.
absl::StatusOr<std::unique_ptr<VectorReader>> OpenVecs(const std::string& path,
                                                       ElementType type);

// The geometry of such a file, checked against its size.
struct VecsLayout {
  size_t dim = 0;
  size_t row_bytes = 0;
  uint64_t num_rows = 0;
};
absl::StatusOr<VecsLayout> CheckVecsLayout(const std::string& path,
                                           absl::string_view bytes,
                                           size_t element_bytes);
// InvalidArgument: row `row` says another dimension than the first.
absl::Status CheckVecsRow(const std::string& path, absl::string_view bytes,
                          const VecsLayout& layout, uint64_t row);

}  // namespace vicinal::client
