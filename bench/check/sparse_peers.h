// What sparse searches are compared with, written as others do it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/check/sparse_data.h"
#include "index/sparse.h"
#include "src/base/top_k.h"

namespace vicinal::bench {

// Postings of f32 weights with u32 rows, by dimension.
struct PlainPostings {
  std::vector<uint64_t> begin;  // one more than dimensions
  std::vector<uint32_t> rows;
  std::vector<float> weights;
  size_t num_rows = 0;
};
// bm25: null, or what counts are scored by.
PlainPostings MakePostings(const SparseMatrix& matrix, size_t num_dims,
                           const Bm25* bm25);

// The plain exhaustive inverted index: every list is added to an array of f32,
// 10,000 rows at a time (as Qdrant does).
void SearchExhaustively(const PlainPostings& postings, SparseRow query,
                        TopK* out);

// Block-max MaxScore (Chakrabarti et al., 2011), document at a time: lists
// whose bounds in sum do not reach the threshold only complete what others
// find, and not where the bounds of their blocks of 128 say that it is in vain.
class BlockMaxIndex {
 public:
  explicit BlockMaxIndex(const PlainPostings& postings);
  void Search(SparseRow query, TopK* out) const;

 private:
  const PlainPostings& postings_;
  std::vector<float> most_;            // of each list
  std::vector<uint64_t> block_begin_;  // of each list
  std::vector<float> block_most_;
};

}  // namespace vicinal::bench
