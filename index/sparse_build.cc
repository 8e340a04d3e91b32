#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "index/sparse.h"
#include "index/sparse_state.h"
#include "src/base/cancel.h"
#include "src/base/coding.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal {
namespace {

constexpr size_t kAlignment = 64;
// Of a row's weight, what approximate searches look at: the heaviest entries
// that have so much of it. Measured: half of the postings, see
// docs/BENCHMARKS.md.
constexpr float kKeptMass = 0.7f;
constexpr float kMaxImpact = 255;

template <typename T>
void Append(const std::vector<T>& values, std::string* out) {
  out->append(reinterpret_cast<const char*>(values.data()),
              values.size() * sizeof(T));
  out->resize((out->size() + kAlignment - 1) / kAlignment * kAlignment);
}

class SparseBuild {
 public:
  SparseBuild(SparseMatrixView rows, SparseWeight type,
              const CancelToken* cancel)
      : rows_(rows), type_(type), cancel_(cancel) {}

  absl::StatusOr<std::string> Run();

 private:
  struct Posting {
    uint32_t term = 0;
    uint16_t id = 0;
    uint8_t impact = 0;
    bool is_kept = false;
  };

  absl::Status CheckCancelled() const {
    return cancel_ != nullptr && cancel_->cancelled()
               ? absl::CancelledError("the index build was cancelled")
               : absl::OkStatus();
  }
  bool has_counts() const { return type_ == SparseWeight::kCount; }
  float Stored(float weight) const {
    return type_ == SparseWeight::kFloat16 ? HalfToFloat(FloatToHalf(weight))
           : has_counts() ? std::min(weight, static_cast<float>(kMaxCount))
                          : weight;
  }
  // What an entry counts for beside others of its row.
  float ShareOf(uint64_t entry) const {
    return has_counts() ? idfs_[terms_[entry]] * (rows_.weights[entry] /
                                                  (rows_.weights[entry] + 1))
                        : std::abs(rows_.weights[entry]);
  }
  void FindTerms();
  void FindScales();
  void FindLengths();
  void OrderRows();
  // Appends the pairs of one window, and its rows.
  void AddWindow(size_t window);
  void MarkHeavy(uint64_t first, size_t count, std::vector<bool>* heavy);
  uint8_t ImpactOf(uint32_t term, float weight, uint32_t length) const;
  void PutEntry(uint32_t term, float weight);
  void SortPairs();
  std::string Serialize() const;

  const SparseMatrixView rows_;
  const SparseWeight type_;
  const CancelToken* const cancel_;
  std::vector<uint32_t> dims_;   // of terms
  std::vector<uint32_t> terms_;  // of rows_'s entries
  std::vector<SparseScale> scales_;
  std::vector<uint32_t> order_;  // rows by position
  // Of counts.
  std::vector<float> idfs_;          // of terms
  std::vector<uint32_t> length_of_;  // of rows
  std::vector<uint32_t> lengths_;    // of positions
  std::vector<uint32_t> edges_;

  // Of pairs as they come, window by window.
  std::vector<uint32_t> pair_terms_;
  std::vector<uint16_t> windows_;
  std::vector<uint32_t> counts_;
  std::vector<uint32_t> kept_;
  std::vector<uint16_t> ids_;
  std::vector<uint8_t> impacts_;
  std::vector<uint32_t> entry_begin_ = {0};
  std::vector<uint16_t> narrow_terms_;
  std::vector<uint32_t> wide_terms_;
  std::vector<float> floats_;
  std::vector<uint16_t> halves_;
  std::vector<Posting> postings_;  // of a window
  std::vector<size_t> by_weight_;

  // Of pairs by term.
  std::vector<uint32_t> pair_begin_;
  std::vector<uint32_t> begins_ = {0};
  std::vector<uint8_t> tops_;
  std::vector<uint8_t> blocks_;
  uint64_t num_blocked_ = 0;
};

void SparseBuild::FindTerms() {
  dims_.assign(rows_.dims.begin(), rows_.dims.end());
  std::sort(dims_.begin(), dims_.end());
  dims_.erase(std::unique(dims_.begin(), dims_.end()), dims_.end());
  // Dimensions are mostly small numbers: a table, where it is not too large.
  const size_t last = dims_.empty() ? 0 : dims_.back();
  terms_.resize(rows_.dims.size());
  if (last < std::max<size_t>(size_t{1} << 20, 4 * rows_.dims.size())) {
    std::vector<uint32_t> table(last + 1);
    for (size_t i = 0; i < dims_.size(); ++i) {
      table[dims_[i]] = static_cast<uint32_t>(i);
    }
    for (size_t i = 0; i < terms_.size(); ++i) terms_[i] = table[rows_.dims[i]];
    return;
  }
  for (size_t i = 0; i < terms_.size(); ++i) {
    terms_[i] = static_cast<uint32_t>(
        std::lower_bound(dims_.begin(), dims_.end(), rows_.dims[i]) -
        dims_.begin());
  }
}

void SparseBuild::FindScales() {
  // Impacts of positive weights count from zero, so that they are as exact as
  // the large ones need.
  std::vector<float> most(dims_.size(), 0);
  scales_.resize(dims_.size());
  for (size_t i = 0; i < terms_.size(); ++i) {
    const float weight = Stored(rows_.weights[i]);
    scales_[terms_[i]].least = std::min(scales_[terms_[i]].least, weight);
    most[terms_[i]] = std::max(most[terms_[i]], weight);
  }
  for (size_t t = 0; t < scales_.size(); ++t) {
    scales_[t].step = most[t] / kMaxImpact - scales_[t].least / kMaxImpact;
  }
}

void SparseBuild::FindLengths() {
  if (!has_counts()) return;
  std::vector<uint32_t> df(dims_.size());
  for (const uint32_t term : terms_) ++df[term];
  const auto n = static_cast<float>(rows_.num_rows());
  for (const uint32_t count : df) {
    const auto with = static_cast<float>(count);
    idfs_.push_back(std::log1p((n - with + 0.5f) / (with + 0.5f)));
  }
  for (size_t row = 0; row < rows_.num_rows(); ++row) {
    double length = 0;
    for (const float count : rows_.row(row).weights) length += count;
    length_of_.push_back(static_cast<uint32_t>(std::min(length, 4e9)));
  }
  // As many rows in each class as in the others.
  std::vector<uint32_t> sorted = length_of_;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < kLengthClasses; ++i) {
    edges_.push_back(
        sorted.empty() ? 0 : sorted[i * sorted.size() / kLengthClasses]);
  }
}

uint8_t SparseBuild::ImpactOf(uint32_t term, float weight,
                              uint32_t length) const {
  if (has_counts()) {
    const auto count = static_cast<uint32_t>(weight);
    const auto high =
        std::upper_bound(kCountEdges.begin(), kCountEdges.end(), count) -
        kCountEdges.begin() - 1;
    const auto low = std::upper_bound(edges_.begin(), edges_.end(), length) -
                     edges_.begin() - 1;
    return static_cast<uint8_t>(16 * high + (kLengthClasses - 1) - low);
  }
  const SparseScale& scale = scales_[term];
  if (!(scale.step > 0)) return 0;
  return static_cast<uint8_t>(std::clamp(
      std::round((weight - scale.least) / scale.step), 0.0f, kMaxImpact));
}

// Rows whose heaviest entries are of the same dimensions lie together: so the
// bounds of blocks are near what is in them.
void SparseBuild::OrderRows() {
  constexpr size_t kKeys = 3;
  const size_t n = rows_.num_rows();
  std::vector<std::array<uint32_t, kKeys>> keys(n);
  for (size_t row = 0; row < n; ++row) {
    std::array<float, kKeys> best;
    best.fill(-std::numeric_limits<float>::infinity());
    keys[row].fill(std::numeric_limits<uint32_t>::max());
    for (uint64_t i = rows_.offsets[row]; i < rows_.offsets[row + 1]; ++i) {
      float weight = has_counts() ? ShareOf(i) : rows_.weights[i];
      uint32_t term = terms_[i];
      for (size_t j = 0; j < kKeys; ++j) {
        if (weight <= best[j]) continue;
        std::swap(weight, best[j]);
        std::swap(term, keys[row][j]);
      }
    }
  }
  order_.resize(n);
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(),
                   [&](uint32_t a, uint32_t b) { return keys[a] < keys[b]; });
}

void SparseBuild::MarkHeavy(uint64_t first, size_t count,
                            std::vector<bool>* heavy) {
  float sum = 0;
  by_weight_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    sum += ShareOf(first + i);
    by_weight_[i] = i;
  }
  std::sort(by_weight_.begin(), by_weight_.end(), [&](size_t a, size_t b) {
    return ShareOf(first + a) > ShareOf(first + b);
  });
  heavy->assign(count, false);
  float kept = 0;
  for (const size_t i : by_weight_) {
    if (kept >= kKeptMass * sum) break;
    kept += ShareOf(first + i);
    (*heavy)[i] = true;
  }
}

void SparseBuild::PutEntry(uint32_t term, float weight) {
  if (has_counts()) {
    wide_terms_.push_back(term << 8 | static_cast<uint32_t>(Stored(weight)));
    return;
  }
  if (dims_.size() > 65'536) {
    wide_terms_.push_back(term);
  } else {
    narrow_terms_.push_back(static_cast<uint16_t>(term));
  }
  if (type_ == SparseWeight::kFloat16) {
    halves_.push_back(FloatToHalf(weight));
  } else {
    floats_.push_back(weight);
  }
}

void SparseBuild::AddWindow(size_t window) {
  const size_t begin = window * kSparseWindowRows;
  const size_t end = std::min(order_.size(), begin + kSparseWindowRows);
  postings_.clear();
  std::vector<bool> heavy;
  for (size_t position = begin; position < end; ++position) {
    const size_t row = order_[position];
    const uint64_t first = rows_.offsets[row];
    const size_t count = rows_.offsets[row + 1] - first;
    const uint32_t length = has_counts() ? length_of_[row] : 0;
    if (has_counts()) lengths_.push_back(length);
    MarkHeavy(first, count, &heavy);
    for (size_t i = 0; i < count; ++i) {
      const uint32_t term = terms_[first + i];
      const float weight = rows_.weights[first + i];
      postings_.push_back({term, static_cast<uint16_t>(position - begin),
                           ImpactOf(term, Stored(weight), length), heavy[i]});
      PutEntry(term, weight);
    }
    entry_begin_.push_back(entry_begin_.back() + static_cast<uint32_t>(count));
  }
  // By term, the kept ones first; positions already ascend.
  std::stable_sort(postings_.begin(), postings_.end(),
                   [](const Posting& a, const Posting& b) {
                     return a.term != b.term ? a.term < b.term
                                             : a.is_kept > b.is_kept;
                   });
  for (size_t i = 0; i < postings_.size(); ++i) {
    const Posting& posting = postings_[i];
    if (i == 0 || posting.term != postings_[i - 1].term) {
      pair_terms_.push_back(posting.term);
      windows_.push_back(static_cast<uint16_t>(window));
      counts_.push_back(0);
      kept_.push_back(0);
    }
    ++counts_.back();
    kept_.back() += posting.is_kept ? 1 : 0;
    ids_.push_back(posting.id);
    impacts_.push_back(posting.impact);
  }
}

void SparseBuild::SortPairs() {
  std::vector<uint32_t> old_begin(counts_.size() + 1, 0);
  for (size_t i = 0; i < counts_.size(); ++i) {
    old_begin[i + 1] = old_begin[i] + counts_[i];
  }
  std::vector<uint32_t> pairs(counts_.size());
  std::iota(pairs.begin(), pairs.end(), 0);
  std::stable_sort(pairs.begin(), pairs.end(), [&](uint32_t a, uint32_t b) {
    return pair_terms_[a] < pair_terms_[b];
  });
  std::vector<uint16_t> ids(ids_.size());
  std::vector<uint8_t> impacts(impacts_.size());
  std::vector<uint16_t> windows;
  std::vector<uint32_t> kept;
  pair_begin_.assign(dims_.size() + 1, 0);
  for (const uint32_t pair : pairs) {
    const size_t count = counts_[pair];
    const size_t to = begins_.back();
    std::copy_n(&ids_[old_begin[pair]], count, &ids[to]);
    std::copy_n(&impacts_[old_begin[pair]], count, &impacts[to]);
    begins_.push_back(static_cast<uint32_t>(to + count));
    windows.push_back(windows_[pair]);
    kept.push_back(kept_[pair]);
    uint8_t top = 0;
    for (size_t i = to; i < to + count; ++i) {
      top = LargerImpact(top, impacts[i], has_counts());
    }
    tops_.push_back(top);
    ++pair_begin_[pair_terms_[pair] + 1];
    if (count < kMinBlockedPostings) continue;
    ++num_blocked_;
    blocks_.resize(blocks_.size() + kSparseBlocks);
    uint8_t* blocks = &blocks_[blocks_.size() - kSparseBlocks];
    for (size_t i = to; i < to + count; ++i) {
      uint8_t& block = blocks[ids[i] / kSparseBlockRows];
      block = LargerImpact(block, impacts[i], has_counts());
    }
  }
  std::partial_sum(pair_begin_.begin(), pair_begin_.end(), pair_begin_.begin());
  ids_ = std::move(ids);
  impacts_ = std::move(impacts);
  windows_ = std::move(windows);
  kept_ = std::move(kept);
}

std::string SparseBuild::Serialize() const {
  SparseHeader header;
  header.weight_type = static_cast<uint32_t>(type_);
  header.num_rows = order_.size();
  header.num_terms = dims_.size();
  header.num_pairs = windows_.size();
  header.num_entries = terms_.size();
  header.num_blocked = num_blocked_;
  std::string out;
  PutFixed(&out, header);
  Append(dims_, &out);
  Append(scales_, &out);
  Append(pair_begin_, &out);
  Append(begins_, &out);
  Append(kept_, &out);
  Append(windows_, &out);
  Append(tops_, &out);
  Append(ids_, &out);
  Append(impacts_, &out);
  Append(blocks_, &out);
  Append(order_, &out);
  Append(entry_begin_, &out);
  Append(lengths_, &out);
  Append(edges_, &out);
  Append(narrow_terms_, &out);
  Append(wide_terms_, &out);
  Append(floats_, &out);
  Append(halves_, &out);
  return out;
}

absl::StatusOr<std::string> SparseBuild::Run() {
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  const size_t num_rows = rows_.num_rows();
  if (num_rows >= kSparseWindowRows * kSparseWindowRows ||
      rows_.dims.size() > kMost) {
    return absl::InvalidArgumentError(absl::StrCat(
        num_rows, " rows of ", rows_.dims.size(),
        " entries do not fit one sparse index; at most 2^32 of each do"));
  }
  FindTerms();
  constexpr size_t kMaxTextTerms = size_t{1} << 24;
  if (has_counts() && dims_.size() > kMaxTextTerms) {
    return absl::InvalidArgumentError(
        absl::StrCat(dims_.size(),
                     " terms do not fit one index of text; at "
                     "most 2^24 do"));
  }
  FindScales();
  FindLengths();
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  OrderRows();
  for (size_t window = 0; window * kSparseWindowRows < num_rows; ++window) {
    VICINAL_RETURN_IF_ERROR(CheckCancelled());
    AddWindow(window);
  }
  SortPairs();
  return Serialize();
}

}  // namespace

absl::StatusOr<std::string> BuildSparseIndex(SparseMatrixView rows,
                                             SparseWeight type,
                                             const CancelToken* cancel) {
  return SparseBuild(rows, type, cancel).Run();
}

}  // namespace vicinal
