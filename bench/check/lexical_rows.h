// Rows of the sparse table about the fields of segments: what growing ones take
// in, and how fast fields are merged into sealed ones.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bench/check/report.h"
#include "bench/check/sparse_data.h"

namespace vicinal::bench {

// Adds rows whose keys begin with `name`, of documents that are `per_document`
// rows of `rows` each, at most 100,000. words: null, or of texts the words that
// dimensions are; then positions are kept. Internal: a growing field and a
// sealed one answer the queries otherwise than each other.
absl::Status MeasureLexicalFields(const std::string& name,
                                  const SparseMatrix& rows, size_t per_document,
                                  const SparseMatrix& queries,
                                  const std::vector<std::string>* words,
                                  CheckReport* report);

}  // namespace vicinal::bench
