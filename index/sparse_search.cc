// Searches of a sparse index. Contributions of a query's terms are counted in
// units small enough that the sum of the largest ones fits 16 bits; a score in
// units differs from the true one by at most error_, which is half an impact's
// step and a unit of rounding for each term.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/sparse.h"
#include "index/sparse_state.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/sparse_kernels.h"

namespace vicinal {
namespace {

// More do not leave enough bits for each; such queries score every row.
constexpr size_t kMaxTerms = 1'024;
constexpr int32_t kMaxUnits = std::numeric_limits<int16_t>::max();
// Nanoseconds, measured: of a posting that is added, with what is passed over;
// of a row that is scored, and of an entry of it.
constexpr double kPosting = 0.35, kRow = 95, kEntry = 0.3;
// Of the threshold, what lists that are not added may bound in sum. More: fewer
// postings to add, more rows to score. Measured.
constexpr double kSkippedShare = 0.5;
// With fewer the sums are looked up, not looked through.
constexpr size_t kFewPostings = 8'192;
// Rows scored ahead of which memory is asked for.
constexpr size_t kAhead = 8;

class SparseSearch {
 public:
  SparseSearch(const SparseState& state, const SparseParams& params,
               const Filter& filter, const StopCondition& stop,
               SparseScratch* scratch, TopK* out, SearchStats* stats)
      : state_(state),
        params_(params),
        filter_(filter),
        stop_(stop),
        scratch_(*scratch),
        out_(*out),
        stats_(*stats) {}
  ~SparseSearch() {
    for (const Term& term : terms_) scratch_.query[term.number] = 0;
  }

  absl::Status Run(SparseRow query);

 private:
  struct Term {
    uint32_t number = 0;
    float weight = 0;
    float most = 0;  // absolute contribution
    uint64_t postings = 0;
    std::array<int16_t, 256> units;  // of each impact
  };
  struct Window {
    size_t number = 0;
    size_t begin = 0;  // of its lists
    size_t end = 0;
    int32_t bound = 0;
  };

  void FindTerms(SparseRow query);
  bool MakeUnits();
  void MakeUnitsOfCounts(Term* term) const;
  double ScanNs() const;
  absl::Status ScanRows();
  absl::Status SearchExactly();
  absl::Status SearchApproximately();
  // Lists of all windows into scratch, window after window.
  std::vector<Window> FindLists() const;
  int32_t BoundOf(const Term& term, uint32_t pair) const;
  absl::Status SearchWindow(const Window& window);
  // Moves lists that need not be added to the end of the window's, and adds
  // what they may contribute to rest, block by block; returns how many are
  // left.
  size_t SkipLists(const Window& window, int32_t threshold,
                   std::array<int32_t, kSparseBlocks>* rest);
  void AddList(const SparseList& list, size_t count);
  // Candidates of the window among those whose sums may be enough; leaves no
  // sum behind.
  void SelectTouched(const Window& window, size_t num_lists, int32_t threshold,
                     const std::array<int32_t, kSparseBlocks>& rest);
  // The same, by a look at all sums.
  void SelectByThreshold(const Window& window, int32_t threshold,
                         const std::array<int32_t, kSparseBlocks>& rest);
  // All that any list has.
  void SelectAll(const Window& window, size_t num_lists);
  void ScoreSome(const Window& window);
  void AddCandidate(size_t position, int32_t bound);
  absl::Status ScoreCandidates();
  // Asks for what scoring candidates reads, in two steps: where their entries
  // are, and these.
  void PrefetchFirst() const {
    for (size_t i = 0; i < std::min(2 * kAhead, scratch_.candidates.size());
         ++i) {
      state_.PrefetchPlace(scratch_.candidates[i].row);
    }
    for (size_t i = 0; i < std::min(kAhead, scratch_.candidates.size()); ++i) {
      state_.PrefetchEntries(scratch_.candidates[i].row);
    }
  }
  void PrefetchAfter(size_t i) const {
    const std::vector<Neighbor>& candidates = scratch_.candidates;
    if (i + 2 * kAhead < candidates.size()) {
      state_.PrefetchPlace(candidates[i + 2 * kAhead].row);
    }
    if (i + kAhead < candidates.size()) {
      state_.PrefetchEntries(candidates[i + kAhead].row);
    }
  }
  // Of all candidates, whatever is known of them.
  void ScoreAll();
  void Score(size_t position);
  // Of the k-th best, rounded down; nothing is smaller while there are fewer.
  int64_t Threshold() const;

  const SparseState& state_;
  const SparseParams& params_;
  const Filter& filter_;
  const StopCondition& stop_;
  SparseScratch& scratch_;
  TopK& out_;
  SearchStats& stats_;
  std::vector<Term> terms_;
  double unit_ = 1;
  int32_t error_ = 0;
  bool has_negative_ = false;
  const bool accepts_all_ = filter_.AcceptsAll();
};

void SparseSearch::FindTerms(SparseRow query) {
  scratch_.query.resize(state_.header.num_terms);
  auto from = state_.dims.begin();
  for (size_t i = 0; i < query.dims.size(); ++i) {
    from = std::lower_bound(from, state_.dims.end(), query.dims[i]);
    if (from == state_.dims.end()) break;
    if (*from != query.dims[i] || query.weights[i] == 0) continue;
    Term& term = terms_.emplace_back();
    term.number = static_cast<uint32_t>(from - state_.dims.begin());
    term.weight = query.weights[i];
    const SparseScale& scale = state_.scales[term.number];
    const float largest = scale.least + 255 * scale.step;
    // Counts add less than their weight.
    term.most = std::abs(term.weight) *
                (state_.has_counts()
                     ? 1
                     : std::max(std::abs(scale.least), std::abs(largest)));
    term.postings = state_.begins[state_.pair_begin[term.number + 1]] -
                    state_.begins[state_.pair_begin[term.number]];
    scratch_.query[term.number] = term.weight;
  }
}

bool SparseSearch::MakeUnits() {
  double sum = 0;
  for (const Term& term : terms_) sum += term.most;
  const double units = kMaxUnits - 2 * static_cast<double>(terms_.size()) - 2;
  unit_ = sum / units;
  if (!std::isfinite(sum) || !(unit_ > 0)) return false;
  double error = 0;
  for (Term& term : terms_) {
    if (state_.has_counts()) {
      if (term.weight < 0) return false;
      MakeUnitsOfCounts(&term);
      continue;
    }
    const SparseScale& scale = state_.scales[term.number];
    const double least = scale.least, step = scale.step, weight = term.weight;
    error += std::abs(weight) * step / 2 / unit_ + 1.01;
    const bool is_negative = weight < 0 || least < 0;
    has_negative_ |= is_negative;
    for (size_t i = 0; i < term.units.size(); ++i) {
      const double value =
          std::round(weight * (least + static_cast<double>(i) * step) / unit_);
      // Where all is positive, whatever was touched has a sum above 0.
      term.units[i] =
          static_cast<int16_t>(is_negative ? value : std::max(1.0, value));
    }
  }
  error_ = static_cast<int32_t>(std::ceil(error));
  return true;
}

// Of the most that any row of the classes may have, rounded up: so sums in
// units are never too small, and have no error that matters.
void SparseSearch::MakeUnitsOfCounts(Term* term) const {
  for (size_t low = 0; low < kLengthClasses; ++low) {
    const double norm =
        params_.bm25.NormOf(state_.edges[kLengthClasses - 1 - low]);
    for (size_t high = 0; high < kCountEdges.size(); ++high) {
      const double count =
          high + 1 < kCountEdges.size() ? kCountEdges[high + 1] - 1 : kMaxCount;
      const double share = count / (count + norm);
      term->units[16 * high + low] = static_cast<int16_t>(
          std::max(1.0, std::ceil(term->weight * share / unit_)));
    }
  }
}

int64_t SparseSearch::Threshold() const {
  const double score = -static_cast<double>(out_.threshold());
  constexpr int64_t kNone = -(int64_t{1} << 24);  // below any sum
  if (out_.size() < out_.k()) return kNone;
  // Sums of f32 differ from true ones by less than a unit of 2^-15 of all.
  return static_cast<int64_t>(
             std::floor(std::clamp(score / unit_, -1e7, 1e7))) -
         1;
}

double SparseSearch::ScanNs() const {
  const auto rows = static_cast<double>(state_.header.num_rows);
  return static_cast<double>(filter_.NumAccepted(state_.header.num_rows)) *
         (kRow +
          kEntry * static_cast<double>(state_.header.num_entries) / rows);
}

absl::Status SparseSearch::Run(SparseRow query) {
  FindTerms(query);
  if (terms_.empty() || out_.k() == 0) return absl::OkStatus();
  double postings = 0;
  for (const Term& term : terms_) {
    postings += static_cast<double>(term.postings);
  }
  const bool scans = params_.scan || terms_.size() > kMaxTerms ||
                     ScanNs() <= postings * kPosting;
  if (scans || !MakeUnits()) {
    stats_.plan = SearchPlan::kScan;
    return ScanRows();
  }
  stats_.plan = SearchPlan::kLists;
  scratch_.sums.resize(kSparseWindowRows);
  scratch_.selected.resize(kSparseWindowRows + 32);
  return params_.query_mass < 1 ? SearchApproximately() : SearchExactly();
}

absl::Status SparseSearch::ScanRows() {
  constexpr size_t kBatchRows = 4'096;
  const size_t end = std::min<size_t>(filter_.end, state_.header.num_rows);
  VICINAL_RETURN_IF_ERROR(stop_.Check());
  absl::Status status;
  std::vector<Neighbor>& batch = scratch_.candidates;
  batch.clear();
  const auto score_batch = [&] {
    if (status.ok()) status = stop_.Check();
    if (status.ok()) ScoreAll();
    batch.clear();
  };
  const auto visit = [&](RowId row) {
    if (filter_.deleted != nullptr && filter_.deleted->Test(row)) return;
    batch.push_back({0, state_.positions[row]});
    if (batch.size() == kBatchRows) score_batch();
  };
  if (filter_.allowed != nullptr) {
    filter_.allowed->ForEachIn(filter_.begin, end, visit);
  } else {
    for (size_t row = filter_.begin; row < end; ++row) {
      visit(static_cast<RowId>(row));
    }
  }
  score_batch();
  return status;
}

void SparseSearch::ScoreAll() {
  PrefetchFirst();
  for (size_t i = 0; i < scratch_.candidates.size(); ++i) {
    PrefetchAfter(i);
    Score(scratch_.candidates[i].row);
  }
}

void SparseSearch::Score(size_t position) {
  const float score =
      state_.Score(position, params_.bm25, scratch_.query.data());
  ++stats_.distance_computations;
  if (score == 0 && !state_.Overlaps(position, scratch_.query.data())) return;
  out_.Push({-score, state_.rows[position]});
}

int32_t SparseSearch::BoundOf(const Term& term, uint32_t pair) const {
  const int32_t top = term.units[state_.tops[pair]];
  return std::max<int32_t>({top, term.units[0], 0});
}

std::vector<SparseSearch::Window> SparseSearch::FindLists() const {
  std::vector<Window> windows(state_.num_windows());
  for (size_t w = 0; w < windows.size(); ++w) windows[w].number = w;
  for (const Term& term : terms_) {
    for (uint32_t pair = state_.pair_begin[term.number];
         pair < state_.pair_begin[term.number + 1]; ++pair) {
      ++windows[state_.windows[pair]].end;
    }
  }
  size_t begin = 0;
  for (Window& window : windows) {
    window.begin = begin;
    begin += std::exchange(window.end, begin);
  }
  std::vector<SparseList>& lists = scratch_.lists;
  lists.resize(begin);
  for (size_t t = 0; t < terms_.size(); ++t) {
    const Term& term = terms_[t];
    for (uint32_t pair = state_.pair_begin[term.number];
         pair < state_.pair_begin[term.number + 1]; ++pair) {
      Window& window = windows[state_.windows[pair]];
      const int32_t bound = BoundOf(term, pair);
      lists[window.end++] = {pair, static_cast<uint32_t>(t), bound,
                             state_.begins[pair + 1] - state_.begins[pair]};
      window.bound += bound;
    }
  }
  return windows;
}

absl::Status SparseSearch::SearchExactly() {
  std::vector<Window> windows = FindLists();
  // The best first, so that the threshold is high for the others.
  std::stable_sort(
      windows.begin(), windows.end(),
      [](const Window& a, const Window& b) { return a.bound > b.bound; });
  for (const Window& window : windows) {
    VICINAL_RETURN_IF_ERROR(stop_.Check());
    if (window.begin == window.end) continue;
    if (window.bound + error_ < Threshold()) break;
    VICINAL_RETURN_IF_ERROR(SearchWindow(window));
  }
  return absl::OkStatus();
}

absl::Status SparseSearch::SearchWindow(const Window& window) {
  scratch_.candidates.clear();
  ++stats_.expanded_nodes;
  std::array<int32_t, kSparseBlocks> rest = {};
  const int64_t threshold = Threshold();
  size_t num_lists = window.end - window.begin;
  // What nothing was added to has a sum of 0, which must not be enough.
  const bool is_known = threshold > 2 * error_ + 1;
  if (is_known && !has_negative_) {
    num_lists = SkipLists(window, static_cast<int32_t>(threshold), &rest);
  }
  size_t num_postings = 0;
  for (size_t i = 0; i < num_lists; ++i) {
    const SparseList& list = scratch_.lists[window.begin + i];
    AddList(list, list.count);
    num_postings += list.count;
  }
  if (is_known && !has_negative_ && num_postings < kFewPostings) {
    SelectTouched(window, num_lists, static_cast<int32_t>(threshold), rest);
    return ScoreCandidates();
  }
  if (!is_known && has_negative_) {
    SelectAll(window, num_lists);
  } else {
    if (!is_known) ScoreSome(window);
    SelectByThreshold(window, static_cast<int32_t>(Threshold()), rest);
  }
  std::fill(scratch_.sums.begin(), scratch_.sums.end(), int16_t{0});
  return ScoreCandidates();
}

void SparseSearch::SelectTouched(
    const Window& window, size_t num_lists, int32_t threshold,
    const std::array<int32_t, kSparseBlocks>& rest) {
  const size_t first = window.number * kSparseWindowRows;
  for (size_t i = 0; i < num_lists; ++i) {
    const SparseList& list = scratch_.lists[window.begin + i];
    const uint16_t* ids = &state_.ids[state_.begins[list.pair]];
    for (size_t j = 0; j < list.count; ++j) {
      // Each once: the sum is then 0, as the next window wants it.
      const int32_t sum = std::exchange(scratch_.sums[ids[j]], int16_t{0});
      const int32_t bound = sum + rest[ids[j] / kSparseBlockRows];
      if (sum > 0 && bound + error_ >= threshold) {
        AddCandidate(first + ids[j], bound);
      }
    }
  }
}

size_t SparseSearch::SkipLists(const Window& window, int32_t threshold,
                               std::array<int32_t, kSparseBlocks>* rest) {
  const auto begin =
      scratch_.lists.begin() + static_cast<ptrdiff_t>(window.begin);
  const auto end = scratch_.lists.begin() + static_cast<ptrdiff_t>(window.end);
  // Those that bound the least for their length come last.
  std::sort(begin, end, [](const SparseList& a, const SparseList& b) {
    return static_cast<int64_t>(a.bound) * b.count >
           static_cast<int64_t>(b.bound) * a.count;
  });
  auto left = static_cast<int32_t>(kSkippedShare * threshold);
  size_t num_lists = window.end - window.begin;
  while (num_lists > 1) {
    const SparseList& list = *(begin + static_cast<ptrdiff_t>(num_lists) - 1);
    const uint32_t blocks = state_.blocked[list.pair];
    if (blocks == SparseState::kNoBlocks || list.bound > left) break;
    left -= list.bound;
    --num_lists;
    const Term& term = terms_[list.term];
    const uint8_t* tops = &state_.blocks[size_t{blocks} * kSparseBlocks];
    for (size_t i = 0; i < kSparseBlocks; ++i) {
      (*rest)[i] += term.units[tops[i]];
    }
  }
  return num_lists;
}

void SparseSearch::AddList(const SparseList& list, size_t count) {
  const uint32_t begin = state_.begins[list.pair];
  const uint16_t* ids = &state_.ids[begin];
  const uint8_t* impacts = &state_.impacts[begin];
  const int16_t* units = terms_[list.term].units.data();
  int16_t* sums = scratch_.sums.data();
  for (size_t i = 0; i < count; ++i) {
    sums[ids[i]] = static_cast<int16_t>(sums[ids[i]] + units[impacts[i]]);
  }
}

void SparseSearch::AddCandidate(size_t position, int32_t bound) {
  if (!accepts_all_ && !filter_.Accepts(state_.rows[position])) return;
  scratch_.candidates.push_back(
      {-static_cast<float>(bound), static_cast<RowId>(position)});
}

void SparseSearch::SelectByThreshold(
    const Window& window, int32_t threshold,
    const std::array<int32_t, kSparseBlocks>& rest) {
  const SparseKernels& kernels = ActiveSparseKernels();
  const size_t first = window.number * kSparseWindowRows;
  const size_t rows =
      std::min(kSparseWindowRows, state_.header.num_rows - first);
  for (size_t b = 0; b * kSparseBlockRows < rows; ++b) {
    int32_t limit = threshold - error_ - rest[b];
    if (limit > kMaxUnits) continue;
    // (Where there are negative ones the threshold is above the error.)
    limit = std::max(limit, 1);
    const int16_t* sums = &scratch_.sums[b * kSparseBlockRows];
    const size_t n = kernels.select_at_least(
        sums, std::min(kSparseBlockRows, rows - b * kSparseBlockRows),
        static_cast<int16_t>(limit), scratch_.selected.data());
    for (size_t i = 0; i < n; ++i) {
      const size_t at = scratch_.selected[i];
      AddCandidate(first + b * kSparseBlockRows + at, sums[at] + rest[b]);
    }
  }
}

// The k best are not known yet: some of the rows with the largest sums are
// scored, and make a threshold for the others.
void SparseSearch::ScoreSome(const Window& window) {
  const size_t wanted = 2 * out_.k() + 64;
  const size_t first = window.number * kSparseWindowRows;
  const size_t rows =
      std::min(kSparseWindowRows, state_.header.num_rows - first);
  std::vector<Neighbor>& candidates = scratch_.candidates;
  for (int32_t limit = std::max(1, window.bound / 2);; limit = limit / 2) {
    limit = std::clamp(limit, 1, kMaxUnits);
    candidates.clear();
    const size_t n = ActiveSparseKernels().select_at_least(
        scratch_.sums.data(), rows, static_cast<int16_t>(limit),
        scratch_.selected.data());
    for (size_t i = 0; i < n; ++i) {
      const size_t at = scratch_.selected[i];
      AddCandidate(first + at, scratch_.sums[at]);
    }
    if (candidates.size() >= wanted || limit == 1) break;
  }
  if (candidates.size() > wanted) {
    const auto last = candidates.begin() + static_cast<ptrdiff_t>(wanted);
    std::nth_element(candidates.begin(), last, candidates.end());
    candidates.resize(wanted);
  }
  for (const Neighbor& candidate : candidates) {
    Score(candidate.row);
    scratch_.sums[candidate.row - first] = 0;  // not once more
  }
  candidates.clear();
}

void SparseSearch::SelectAll(const Window& window, size_t num_lists) {
  const size_t first = window.number * kSparseWindowRows;
  const size_t rows =
      std::min(kSparseWindowRows, state_.header.num_rows - first);
  std::vector<bool> touched(rows);
  for (size_t i = 0; i < num_lists; ++i) {
    const SparseList& list = scratch_.lists[window.begin + i];
    const uint32_t begin = state_.begins[list.pair];
    for (size_t j = begin; j < begin + list.count; ++j) {
      touched[state_.ids[j]] = true;
    }
  }
  for (size_t at = 0; at < rows; ++at) {
    if (touched[at]) AddCandidate(first + at, scratch_.sums[at]);
  }
}

absl::Status SparseSearch::ScoreCandidates() {
  std::vector<Neighbor>& candidates = scratch_.candidates;
  constexpr size_t kWorthSorting = 16;
  const bool is_sorted = candidates.size() > kWorthSorting;
  if (is_sorted) std::sort(candidates.begin(), candidates.end());
  PrefetchFirst();
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (i % 1'024 == 1'023) VICINAL_RETURN_IF_ERROR(stop_.Check());
    PrefetchAfter(i);
    if (-candidates[i].distance + static_cast<float>(error_) <
        static_cast<float>(Threshold())) {
      if (is_sorted) break;
      continue;
    }
    Score(candidates[i].row);
  }
  return absl::OkStatus();
}

absl::Status SparseSearch::SearchApproximately() {
  std::sort(terms_.begin(), terms_.end(),
            [](const Term& a, const Term& b) { return a.most > b.most; });
  double mass = 0;
  for (const Term& term : terms_) mass += term.most;
  size_t num_used = 0;
  for (double used = 0;
       num_used < terms_.size() && used < params_.query_mass * mass;
       ++num_used) {
    used += terms_[num_used].most;
  }
  const SparseKernels& kernels = ActiveSparseKernels();
  const size_t wanted = std::max(params_.candidates, out_.k());
  const std::vector<Window> windows = FindLists();
  std::vector<Neighbor>& candidates = scratch_.candidates;
  candidates.clear();
  float limit = std::numeric_limits<float>::infinity();
  for (const Window& window : windows) {
    VICINAL_RETURN_IF_ERROR(stop_.Check());
    if (window.begin == window.end) continue;
    ++stats_.expanded_nodes;
    for (size_t i = window.begin; i < window.end; ++i) {
      const SparseList& list = scratch_.lists[i];
      if (list.term < num_used) AddList(list, state_.kept[list.pair]);
    }
    const size_t first = window.number * kSparseWindowRows;
    const auto least = static_cast<int16_t>(
        std::max(1.0f, std::isfinite(limit) ? -limit : 1.0f));
    const size_t n = kernels.select_at_least(
        scratch_.sums.data(),
        std::min(kSparseWindowRows, state_.header.num_rows - first), least,
        scratch_.selected.data());
    for (size_t i = 0; i < n; ++i) {
      const size_t at = scratch_.selected[i];
      AddCandidate(first + at, scratch_.sums[at]);
    }
    std::fill(scratch_.sums.begin(), scratch_.sums.end(), int16_t{0});
    if (candidates.size() <= wanted) continue;
    const auto last = candidates.begin() + static_cast<ptrdiff_t>(wanted) - 1;
    std::nth_element(candidates.begin(), last, candidates.end());
    limit = last->distance;
    candidates.resize(wanted);
  }
  // In the order of memory.
  std::sort(candidates.begin(), candidates.end(),
            [](const Neighbor& a, const Neighbor& b) { return a.row < b.row; });
  VICINAL_RETURN_IF_ERROR(stop_.Check());
  ScoreAll();
  return absl::OkStatus();
}

}  // namespace

absl::Status SparseIndex::Search(SparseRow query, const SparseParams& params,
                                 const Filter& filter,
                                 const StopCondition& stop, TopK* out,
                                 SearchStats* stats) const {
  SearchStats work;
  const ScratchPool<SparseScratch>::Lease lease(&state_->scratches);
  const absl::Status status =
      SparseSearch(*state_, params, filter, stop, lease.get(), out, &work)
          .Run(query);
  if (stats != nullptr) {
    stats->distance_computations += work.distance_computations;
    stats->expanded_nodes += work.expanded_nodes;
    stats->plan = work.plan;
  }
  return status;
}

}  // namespace vicinal
