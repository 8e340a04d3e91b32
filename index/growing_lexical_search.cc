// Searches of a growing field. Term after term is added to sums of its rows, in
// f32; what may be among the best by them is scored as every search does.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "index/growing_lexical.h"
#include "index/growing_lexical_state.h"
#include "index/lexical_field.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/sparse_kernels.h"

namespace vicinal {
namespace {

// Rows between two looks at whether to stop.
constexpr size_t kCheckRows = 4'096;
// Lengths of texts that most have less than.
constexpr size_t kNorms = 1'024;

// One search of rows begin .. end.
class GrowingSearch {
 public:
  using State = GrowingLexicalField::State;

  GrowingSearch(const State& state, std::span<const LexicalTerm> query,
                const SparseParams& params, const Filter& filter, RowId begin,
                RowId end, const StopCondition& stop, GrowingScratch* scratch,
                TopK* out);
  ~GrowingSearch();

  absl::Status Run(SearchStats* stats);

 private:
  bool IsScanCheaper() const;
  absl::Status ScanRows();
  absl::Status SearchPostings();
  void AddPostings(const LexicalTerm& term);
  // Norms of short texts, where there are enough of them.
  void FindNorms();
  float NormOf(GrowingPosting posting) const;
  // By how much a sum may differ from the score.
  double Margin() const;
  // What sums say may be among the best.
  void FindCandidates();
  absl::Status ScoreCandidates();
  void Score(RowId row);

  const State& state_;
  const std::span<const LexicalTerm> query_;
  const SparseParams& params_;
  const Filter& filter_;
  const RowId begin_;
  RowId end_;
  const StopCondition& stop_;
  GrowingScratch& scratch_;
  TopK& out_;
  const SparseKernels& kernels_ = ActiveSparseKernels();
  double largest_sum_ = 0;  // absolute, of any row
  double num_postings_ = 0;
  double limit_ = 0;  // of the distances that candidates have
  uint64_t num_scored_ = 0;
};

GrowingSearch::GrowingSearch(const State& state,
                             std::span<const LexicalTerm> query,
                             const SparseParams& params, const Filter& filter,
                             RowId begin, RowId end, const StopCondition& stop,
                             GrowingScratch* scratch, TopK* out)
    : state_(state),
      query_(query),
      params_(params),
      filter_(filter),
      begin_(std::max(begin, filter.begin)),
      end_(std::min(end, filter.end)),
      stop_(stop),
      scratch_(*scratch),
      out_(*out) {
  if (filter.allowed != nullptr) {
    end_ =
        static_cast<RowId>(std::min<size_t>(end_, filter.allowed->num_bits()));
  }
  const size_t num_terms = state_.num_terms.load(std::memory_order_acquire);
  scratch_.query.resize(std::max(scratch_.query.size(), num_terms));
  for (const LexicalTerm& term : query_) {
    scratch_.query[term.term] = term.weight;
    const GrowingList& list = state_.content->list(term.term);
    const double most =
        state_.is_text ? 1 : list.most.load(std::memory_order_relaxed);
    largest_sum_ += std::abs(static_cast<double>(term.weight)) * most;
    num_postings_ += list.count.load(std::memory_order_relaxed);
  }
}

GrowingSearch::~GrowingSearch() {
  for (const LexicalTerm& term : query_) scratch_.query[term.term] = 0;
}

absl::Status GrowingSearch::Run(SearchStats* stats) {
  VICINAL_RETURN_IF_ERROR(stop_.Check());
  if (begin_ >= end_ || query_.empty() || out_.k() == 0) {
    return absl::OkStatus();
  }
  // Sums that leave f32, or are no numbers, order nothing: rows are scored.
  const bool fits = largest_sum_ < std::numeric_limits<float>::max() / 2;
  const bool scans = params_.scan || !fits || IsScanCheaper();
  const absl::Status status = scans ? ScanRows() : SearchPostings();
  if (stats != nullptr) {
    stats->distance_computations += num_scored_;
    stats->plan = scans ? SearchPlan::kScan : SearchPlan::kPostings;
  }
  return status;
}

bool GrowingSearch::IsScanCheaper() const {
  // Nanoseconds, measured: of a posting that is added, of a row that is scored,
  // and of an entry of it.
  constexpr double kPosting = 3, kRow = 50, kEntry = 1.8;
  size_t accepted = end_ - begin_;
  if (filter_.allowed != nullptr) {
    accepted = std::min(accepted, filter_.num_allowed);
  }
  const double entries =
      static_cast<double>(state_.num_entries.load(std::memory_order_relaxed)) /
      std::max(end_, state_.num_rows.load(std::memory_order_relaxed));
  return static_cast<double>(accepted) * (kRow + kEntry * entries) <
         num_postings_ * kPosting;
}

absl::Status GrowingSearch::ScanRows() {
  absl::Status status;
  size_t num_visited = 0;
  const auto visit = [&](RowId row) {
    if (!status.ok() ||
        (filter_.deleted != nullptr && filter_.deleted->Test(row))) {
      return;
    }
    if (++num_visited % kCheckRows == 0) status = stop_.Check();
    Score(row);
  };
  if (filter_.allowed != nullptr) {
    filter_.allowed->ForEachIn(begin_, end_, visit);
  } else {
    for (RowId row = begin_; row < end_; ++row) visit(row);
  }
  return status;
}

void GrowingSearch::AddPostings(const LexicalTerm& term) {
  // A sum of 0 is touched if it is not -0.
  const auto add = [&](RowId row, float value) {
    scratch_.sums[row - begin_] += term.weight * value + 0.0f;
  };
  if (!state_.is_text) {
    state_.ForEach(term.term, begin_, end_, [&](GrowingPosting posting) {
      add(posting.row, posting.weight());
    });
    return;
  }
  state_.ForEach(term.term, begin_, end_, [&](GrowingPosting posting) {
    const float count = posting.count();
    add(posting.row, count / (count + NormOf(posting)));
  });
}

void GrowingSearch::FindNorms() {
  scratch_.norms.clear();
  if (!state_.is_text || num_postings_ < 2 * kNorms) return;
  for (uint64_t length = 0; length < kNorms; ++length) {
    scratch_.norms.push_back(params_.bm25.NormOf(length));
  }
}

float GrowingSearch::NormOf(GrowingPosting posting) const {
  const uint32_t length = posting.length();
  if (length < scratch_.norms.size()) return scratch_.norms[length];
  return params_.bm25.NormOf(length < GrowingPosting::kLongLength
                                 ? length
                                 : state_.content->rows[posting.row].length);
}

absl::Status GrowingSearch::SearchPostings() {
  const size_t num_rows = end_ - begin_;
  if (scratch_.sums.size() < num_rows) {
    scratch_.sums.resize(num_rows, GrowingScratch::kUntouched);
  }
  FindNorms();
  absl::Status status;
  for (const LexicalTerm& term : query_) {
    status = stop_.Check();
    if (!status.ok()) break;
    // A weight of 0 is none: its rows need not share any other term.
    if (term.weight != 0) AddPostings(term);
  }
  FindCandidates();
  return status.ok() ? ScoreCandidates() : status;
}

// With u = 2^-24 and m terms that a row shares, a sum has m products and m
// additions, and a score m fused ones and four more additions: each rounds what
// is at most largest_sum_, a little more with what was rounded before, by u of
// it, and by 2^-150 where it is tiny. So the two are no more than (2 m + 4) u
// from each other.
double GrowingSearch::Margin() const {
  const double roundings = 1.01 * (2 * static_cast<double>(query_.size()) + 4);
  return roundings * (std::ldexp(largest_sum_, -24) + 0x1p-149);
}

void GrowingSearch::FindCandidates() {
  scratch_.candidates.clear();
  TopK best(std::min<size_t>(out_.k(), end_ - begin_));
  const double known = out_.threshold() + Margin();
  limit_ = known;
  // Leaves no sum behind.
  const auto visit = [&](RowId row) {
    float& sum = scratch_.sums[row - begin_];
    if (!GrowingScratch::IsTouched(sum)) return;
    const Neighbor found{-sum, row};
    sum = GrowingScratch::kUntouched;
    if (found.distance > limit_ || !filter_.Accepts(row)) return;
    scratch_.candidates.push_back(found);
    best.Push(found);
    // Both the row at the threshold and this one may be off.
    limit_ = std::min(known, best.threshold() + 2 * Margin());
  };
  if (num_postings_ > end_ - begin_) {
    for (RowId row = begin_; row < end_; ++row) visit(row);
    return;
  }
  for (const LexicalTerm& term : query_) {
    state_.ForEach(term.term, begin_, end_,
                   [&](GrowingPosting posting) { visit(posting.row); });
  }
}

absl::Status GrowingSearch::ScoreCandidates() {
  size_t num_visited = 0;
  for (const Neighbor& candidate : scratch_.candidates) {
    if (++num_visited % kCheckRows == 0) VICINAL_RETURN_IF_ERROR(stop_.Check());
    if (candidate.distance <= limit_) Score(candidate.row);
  }
  return absl::OkStatus();
}

void GrowingSearch::Score(RowId row) {
  const GrowingRow& at = state_.content->rows[row];
  const std::span<const uint32_t> terms = at.terms();
  const float* values = nullptr;
  if (state_.is_text) {
    const float norm = params_.bm25.NormOf(at.length);
    scratch_.shares.resize(std::max(scratch_.shares.size(), terms.size()));
    for (size_t i = 0; i < terms.size(); ++i) {
      const auto count = static_cast<float>(at.counts()[i]);
      scratch_.shares[i] = count / (count + norm);
    }
    values = scratch_.shares.data();
  } else {
    values = at.weights();
  }
  const float* query = scratch_.query.data();
  const float score =
      kernels_.wide_dot_f32(terms.data(), values, terms.size(), query);
  ++num_scored_;
  const auto is_asked = [&](uint32_t term) { return query[term] != 0; };
  if (score == 0 && std::none_of(terms.begin(), terms.end(), is_asked)) return;
  out_.Push({-score, row});
}

}  // namespace

absl::Status GrowingLexicalField::Search(std::span<const LexicalTerm> query,
                                         const SparseParams& params,
                                         const Filter& filter, RowId begin,
                                         RowId end, const StopCondition& stop,
                                         TopK* out, SearchStats* stats) const {
  const ScratchPool<GrowingScratch>::Lease scratch(&state_->scratches);
  return GrowingSearch(*state_, query, params, filter, begin, end, stop,
                       scratch.get(), out)
      .Run(stats);
}

}  // namespace vicinal
