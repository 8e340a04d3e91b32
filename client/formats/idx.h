// The IDX format of MNIST and Fashion-MNIST, plain or gzip-compressed.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/formats/vector_reader.h"

namespace vicinal::client {

// Magic 0, 0, type, number of dimensions; then big-endian u32 sizes; then the
// elements, big-endian. The first dimension counts the rows, the others are
// multiplied. Types uint8 (08), int8 (09), float32 (0D), float64 (0E, read as
// float32).
absl::StatusOr<std::unique_ptr<VectorReader>> OpenIdx(const std::string& path);

}  // namespace vicinal::client
