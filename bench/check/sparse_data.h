// Sparse vectors for benchmarks: real queries of SPLADE-v3, and documents made
// from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "index/sparse.h"

namespace vicinal::bench {

// Rows of a sparse matrix, owned.
struct SparseMatrix {
  std::vector<uint64_t> offsets = {0};
  std::vector<uint32_t> dims;
  std::vector<float> weights;

  size_t num_rows() const { return offsets.size() - 1; }
  SparseMatrixView view() const { return {offsets, dims, weights}; }
  SparseRow row(size_t i) const { return view().row(i); }
  void Append(SparseRow row) {
    dims.insert(dims.end(), row.dims.begin(), row.dims.end());
    weights.insert(weights.end(), row.weights.begin(), row.weights.end());
    offsets.push_back(dims.size());
  }
};

// Reads gzipped lines "id TAB words", where a word stands as often as its
// weight, in hundredths. Words are numbered as they come in *words, which may
// have some already.
absl::StatusOr<SparseMatrix> ReadSpladeQueries(const std::string& path,
                                               std::vector<std::string>* words);

// Documents as ../shared/research/sparse.md, section 8, makes them: each the
// maxima of 3 to 6 rows of `pool` that share one of their three heaviest
// dimensions, scaled, with noise by factors, a tenth of the entries left out.
SparseMatrix MakeDocuments(const SparseMatrix& pool, size_t num_documents,
                           uint64_t seed);

// Short texts as counts of words, and queries of some words: pieces of the
// descriptions in a gzipped file of JSON lines, a quarter of the words replaced
// by others of the file. Dimensions are words.
struct ShortTexts {
  SparseMatrix documents;  // 5 to 16 words each
  SparseMatrix queries;    // 2 to 6 words, weighted by idf
  std::vector<std::string> words;
  double mean_length = 0;
};
absl::StatusOr<ShortTexts> MakeShortTexts(const std::string& path,
                                          size_t num_documents,
                                          size_t num_queries, uint64_t seed);

}  // namespace vicinal::bench
