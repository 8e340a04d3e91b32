// An inverted index over the sparse vectors of a segment: postings with their
// impacts, by dimension and window of rows, and the rows themselves.
//
// A search adds up impacts window by window, in integers (the layout of SINDI,
// arXiv 2509.08395; fixed point as measured in docs/BENCHMARKS.md), and scores
// the rows that may be among the best from their own weights. Windows, and
// within windows the lists of little weight, are passed over where bounds
// allow: of blocks of rows (BMP; Mallia et al., SIGIR 2024), with the lists
// divided as by MaxScore (Turtle and Flood, 1995). What is skipped is proven
// not to be among the best, so results are those of scoring every row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/index.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"

namespace vicinal {

// How weights are stored.
enum class SparseWeight : uint8_t {
  kFloat32 = 1,
  kFloat16 = 2,
  // Of text: how often a term stands in the row, scored by BM25. More than 255
  // times count as so many; the length of a row is the sum of all.
  kCount = 3,
};

// Entries by ascending dimension, none twice; weights are finite.
struct SparseRow {
  std::span<const uint32_t> dims;
  std::span<const float> weights;
};

// Row i has the entries offsets[i] to offsets[i + 1].
struct SparseMatrixView {
  std::span<const uint64_t> offsets;
  std::span<const uint32_t> dims;
  std::span<const float> weights;

  size_t num_rows() const { return offsets.empty() ? 0 : offsets.size() - 1; }
  SparseRow row(size_t i) const {
    const size_t count = offsets[i + 1] - offsets[i];
    return {dims.subspan(offsets[i], count),
            weights.subspan(offsets[i], count)};
  }
};

// The inner product as every search gives it: entry i of the row belongs to
// sum i mod 16, see kernels_sparse.h. *overlap: whether they share a dimension.
float SparseDot(SparseRow row, SparseRow query, bool* overlap);

// Okapi BM25 as Lucene has it: the sum over the query's dimensions of their
// weight, which is an idf, times tf / (tf + k1 (1 - b + b length / mean)).
struct Bm25 {
  float k1 = 1.2f;         // >= 0; how soon more of a term adds little
  float b = 0.75f;         // [0, 1]; how much long rows are held back
  double mean_length = 1;  // > 0, of all rows that are searched

  // What tf is added to, in a row of that length.
  float NormOf(uint64_t length) const;
};
// The same of one row; *overlap as above.
float Bm25Score(SparseRow row, SparseRow query, const Bm25& bm25,
                bool* overlap);

// The index as one block of bytes, laid out as documented in sparse.cc. Weights
// are rounded to the type. InvalidArgument: too many rows or entries, or
// dimensions of text, of which there may be 2^24.
// Cancelled: the token was set; it may be null.
absl::StatusOr<std::string> BuildSparseIndex(SparseMatrixView rows,
                                             SparseWeight type,
                                             const CancelToken* cancel);

struct SparseParams {
  size_t k = 10;
  // Below 1: an approximate search, by the query's heaviest dimensions, which
  // have this share of its weight, and by the rows' heaviest entries.
  double query_mass = 1;
  // Of an approximate search: rows to score, at least k.
  size_t candidates = 10'000;
  // Rows are all scored, whatever it costs.
  bool scan = false;
  Bm25 bm25;  // of kCount
};

struct SparseState;

// Const and thread-safe.
class SparseIndex {
 public:
  ~SparseIndex();

  // Borrows the bytes. DataLoss: they are no such index; every count, offset
  // and row number is checked.
  static absl::StatusOr<std::unique_ptr<SparseIndex>> Open(
      absl::string_view bytes);

  // Pushes the k best of the accepted rows that share a dimension with the
  // query, their distance being minus the inner product. Cancelled /
  // DeadlineExceeded: `stop` said so. stats may be null.
  absl::Status Search(SparseRow query, const SparseParams& params,
                      const Filter& filter, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const;

  size_t num_rows() const;
  size_t num_entries() const;
  // Besides the bytes that it borrows.
  size_t memory_bytes() const;
  // For the .cc files of this folder.
  const SparseState& state() const { return *state_; }

 private:
  explicit SparseIndex(std::unique_ptr<SparseState> state);

  const std::unique_ptr<SparseState> state_;
};

}  // namespace vicinal
