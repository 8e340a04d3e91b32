// A search by terms, prepared for the segments of one view: what its words
// weigh does not depend on how rows are spread over segments.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/index.h"
#include "index/sparse.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/engine/point_batch.h"
#include "src/engine/segment.h"

namespace vicinal {

// Of Lucene: how much a term says that n of num_rows rows have.
double Idf(uint64_t num_rows, uint64_t n);

// Const and thread-safe.
class LexicalQuery {
 public:
  virtual ~LexicalQuery() = default;

  // Of the vector, or the path of the text, for explanations.
  virtual absl::string_view name() const = 0;
  virtual bool is_exact() const = 0;
  // Pushes the query.k best live rows of begin .. end, of query.rows where they
  // are given, that share a term; distances are minus scores. Errors as of
  // Index::Search.
  virtual absl::Status Search(const Segment& segment, RowId begin, RowId end,
                              const SegmentQuery& query,
                              const StopCondition& stop, TopK* out,
                              SearchStats* stats) const = 0;
};

// By one sparse vector.
class SparsePlan final : public LexicalQuery {
 public:
  // l: of Layout::lexical. params: but for k. with_idf: weights are multiplied
  // by the idf over `segments`.
  SparsePlan(std::string name, size_t l, SparseEntries query,
             const SparseParams& params, bool with_idf,
             std::span<const Segment* const> segments);

  absl::string_view name() const override { return name_; }
  bool is_exact() const override { return params_.query_mass >= 1; }
  absl::Status Search(const Segment& segment, RowId begin, RowId end,
                      const SegmentQuery& query, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override;

 private:
  const std::string name_;
  const size_t l_;
  SparseEntries query_;
  const SparseParams params_;
};

}  // namespace vicinal
