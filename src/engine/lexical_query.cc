#include "src/engine/lexical_query.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/lexical_field.h"
#include "src/engine/row_filter.h"

namespace vicinal {

double Idf(uint64_t num_rows, uint64_t n) {
  const auto all = static_cast<double>(num_rows);
  const auto with = static_cast<double>(n);
  // Rows may be counted while others are written; a word of weight 0 would find
  // nothing.
  return std::log(1 + std::max(0.5, all - with + 0.5) / (with + 0.5));
}

SparsePlan::SparsePlan(std::string name, size_t l, SparseEntries query,
                       const SparseParams& params, bool with_idf,
                       std::span<const Segment* const> segments)
    : name_(std::move(name)), l_(l), query_(std::move(query)), params_(params) {
  if (!with_idf) return;
  uint64_t num_rows = 0;
  for (const Segment* segment : segments) {
    num_rows += segment->lexical(l_).totals().num_rows;
  }
  for (size_t i = 0; i < query_.dims.size(); ++i) {
    uint64_t count = 0;
    for (const Segment* segment : segments) {
      const LexicalField& field = segment->lexical(l_);
      const uint32_t term = field.FindDim(query_.dims[i]);
      if (term != kNoTerm) count += field.NumLive(term);
    }
    query_.weights[i] =
        static_cast<float>(query_.weights[i] * Idf(num_rows, count));
  }
}

absl::Status SparsePlan::Search(const Segment& segment, RowId begin, RowId end,
                                const SegmentQuery& query,
                                const StopCondition& stop, TopK* out,
                                SearchStats* stats) const {
  const LexicalField& field = segment.lexical(l_);
  std::vector<LexicalTerm> terms;
  for (size_t i = 0; i < query_.dims.size(); ++i) {
    const uint32_t term = field.FindDim(query_.dims[i]);
    if (term != kNoTerm && query_.weights[i] != 0) {
      terms.push_back({term, query_.weights[i]});
    }
  }
  if (terms.empty()) return absl::OkStatus();
  SparseParams params = params_;
  params.k = query.k;
  const Filter filter = query.rows != nullptr
                            ? query.rows->AsFilter(&segment.dead())
                            : Filter{.deleted = &segment.dead()};
  if (stats != nullptr) stats->plan = SearchPlan::kPostings;
  return field.Search(terms, params, filter, begin, end, stop, out, stats);
}

}  // namespace vicinal
