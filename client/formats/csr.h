// Sparse vectors in the form of big-ann-benchmarks' sparse track: number of
// rows, columns and entries (i64 each), where rows begin (i64, one more than
// rows), then the columns (i32) and the values (f32) of all entries.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/formats/vector_reader.h"

namespace vicinal::client {

// Rows have one unnamed sparse vector and nothing else. InvalidArgument: the
// counts do not fit the file's size, or rows do not follow one another.
absl::StatusOr<std::unique_ptr<VectorReader>> OpenCsr(const std::string& path);

}  // namespace vicinal::client
