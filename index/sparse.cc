#include "index/sparse.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "index/sparse_state.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "src/distance/sparse_kernels.h"

namespace vicinal {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLineBytes = 64;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("a sparse index ", what));
}

// Takes arrays off the front of the bytes.
class Parts {
 public:
  explicit Parts(absl::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  bool Take(uint64_t count, std::span<const T>* out) {
    if (count > bytes_.size() / sizeof(T)) return false;
    *out = {reinterpret_cast<const T*>(bytes_.data()), count};
    const size_t padded =
        (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (padded > bytes_.size()) return false;
    bytes_.remove_prefix(padded);
    return true;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  absl::string_view bytes_;
};

template <typename T>
bool Ascends(std::span<const T> values, T last) {
  return values.front() == 0 && values.back() == last &&
         std::is_sorted(values.begin(), values.end());
}

absl::Status CheckPairs(const SparseState& state) {
  const SparseHeader& header = state.header;
  if (!Ascends<uint32_t>(state.pair_begin,
                         static_cast<uint32_t>(header.num_pairs)) ||
      !Ascends<uint32_t>(state.begins,
                         static_cast<uint32_t>(header.num_entries))) {
    return Damaged("has pairs that do not follow one another");
  }
  for (size_t pair = 0; pair < header.num_pairs; ++pair) {
    if (state.windows[pair] >= state.num_windows() ||
        state.kept[pair] > state.begins[pair + 1] - state.begins[pair]) {
      return Damaged("has a pair of no window");
    }
    const size_t rows = std::min<size_t>(
        kSparseWindowRows,
        header.num_rows - state.windows[pair] * kSparseWindowRows);
    for (size_t i = state.begins[pair]; i < state.begins[pair + 1]; ++i) {
      if (state.ids[i] >= rows) return Damaged("has a posting of no row");
    }
  }
  return absl::OkStatus();
}

template <typename Term>
absl::Status CheckTerms(std::span<const Term> terms,
                        const SparseHeader& header) {
  for (const Term term : terms) {
    if (term >= header.num_terms) return Damaged("has an entry of no term");
  }
  return absl::OkStatus();
}

absl::Status CheckCounts(const SparseState& state,
                         std::span<const uint32_t> entries) {
  for (const uint32_t entry : entries) {
    if (entry >> 8 >= state.header.num_terms || (entry & 0xFF) == 0) {
      return Damaged("has an entry of no term");
    }
  }
  if (!std::is_sorted(state.edges.begin(), state.edges.end())) {
    return Damaged("has classes of lengths that do not ascend");
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const SparseState& state) {
  for (const SparseScale& scale : state.scales) {
    if (!std::isfinite(scale.least) || !std::isfinite(scale.step)) {
      return Damaged("has a scale that is not finite");
    }
  }
  for (size_t i = 1; i < state.dims.size(); ++i) {
    if (state.dims[i] <= state.dims[i - 1]) {
      return Damaged("has dimensions that do not ascend");
    }
  }
  return absl::OkStatus();
}

}  // namespace

float SparseDot(SparseRow row, SparseRow query, bool* overlap) {
  std::array<float, 16> sums = {};
  *overlap = false;
  size_t j = 0;
  for (size_t i = 0; i < row.dims.size(); ++i) {
    while (j < query.dims.size() && query.dims[j] < row.dims[i]) ++j;
    if (j == query.dims.size()) break;
    if (query.dims[j] != row.dims[i] || query.weights[j] == 0) continue;
    *overlap = true;
    sums[i % 16] = std::fma(query.weights[j], row.weights[i], sums[i % 16]);
  }
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

float Bm25::NormOf(uint64_t length) const {
  // Above 0, so that what has no count adds nothing.
  constexpr float kLeast = 1e-9f;
  const double norm =
      k1 * (1.0 - b + b * static_cast<double>(length) / mean_length);
  return std::max(kLeast, static_cast<float>(norm));
}

float Bm25Score(SparseRow row, SparseRow query, const Bm25& bm25,
                bool* overlap) {
  uint64_t length = 0;
  for (const float count : row.weights) length += static_cast<uint64_t>(count);
  const float norm = bm25.NormOf(length);
  std::vector<float> shares;
  for (const float count : row.weights) {
    const float tf = std::min(count, static_cast<float>(kMaxCount));
    shares.push_back(tf / (tf + norm));
  }
  return SparseDot({row.dims, shares}, query, overlap);
}

float SparseState::Score(size_t position, const Bm25& bm25,
                         const float* query) const {
  const SparseKernels& kernels = ActiveSparseKernels();
  const uint64_t begin = entry_begin[position];
  const size_t n = entry_begin[position + 1] - begin;
  if (has_counts()) {
    return kernels.bm25(reinterpret_cast<const uint32_t*>(terms) + begin, n,
                        bm25.NormOf(lengths[position]), query);
  }
  const auto* narrow = reinterpret_cast<const uint16_t*>(terms) + begin;
  const auto* wide = reinterpret_cast<const uint32_t*>(terms) + begin;
  if (header.weight_type == static_cast<uint32_t>(SparseWeight::kFloat16)) {
    const auto* halves = reinterpret_cast<const uint16_t*>(weights) + begin;
    return is_wide() ? kernels.wide_dot_f16(wide, halves, n, query)
                     : kernels.dot_f16(narrow, halves, n, query);
  }
  const auto* floats = reinterpret_cast<const float*>(weights) + begin;
  return is_wide() ? kernels.wide_dot_f32(wide, floats, n, query)
                   : kernels.dot_f32(narrow, floats, n, query);
}

uint32_t SparseState::TermOf(uint64_t entry) const {
  return has_counts() ? reinterpret_cast<const uint32_t*>(terms)[entry] >> 8
         : is_wide()  ? reinterpret_cast<const uint32_t*>(terms)[entry]
                      : reinterpret_cast<const uint16_t*>(terms)[entry];
}

float SparseState::WeightOf(uint64_t entry) const {
  if (has_counts()) {
    return static_cast<float>(reinterpret_cast<const uint32_t*>(terms)[entry] &
                              0xFF);
  }
  if (header.weight_type == static_cast<uint32_t>(SparseWeight::kFloat16)) {
    return HalfToFloat(reinterpret_cast<const uint16_t*>(weights)[entry]);
  }
  return reinterpret_cast<const float*>(weights)[entry];
}

void SparseState::PrefetchEntries(size_t position) const {
  const uint64_t begin = entry_begin[position];
  const size_t n = entry_begin[position + 1] - begin;
  const size_t term_bytes = is_wide() || has_counts() ? 4 : 2;
  const size_t weight_bytes =
      has_counts()                                                          ? 0
      : header.weight_type == static_cast<uint32_t>(SparseWeight::kFloat16) ? 2
                                                                            : 4;
  for (size_t at = 0; at < n * term_bytes; at += kLineBytes) {
    __builtin_prefetch(terms + begin * term_bytes + at);
  }
  for (size_t at = 0; at < n * weight_bytes; at += kLineBytes) {
    __builtin_prefetch(weights + begin * weight_bytes + at);
  }
}

bool SparseState::Overlaps(size_t position, const float* query) const {
  for (uint64_t i = entry_begin[position]; i < entry_begin[position + 1]; ++i) {
    if (query[TermOf(i)] != 0) return true;
  }
  return false;
}

SparseIndex::SparseIndex(std::unique_ptr<SparseState> state)
    : state_(std::move(state)) {}

SparseIndex::~SparseIndex() = default;

size_t SparseIndex::num_rows() const { return state_->header.num_rows; }

size_t SparseIndex::num_entries() const { return state_->header.num_entries; }

size_t SparseIndex::memory_bytes() const {
  return sizeof(*this) + sizeof(SparseState) +
         (state_->blocked.size() + state_->positions.size()) * sizeof(uint32_t);
}

absl::StatusOr<std::unique_ptr<SparseIndex>> SparseIndex::Open(
    absl::string_view bytes) {
  auto state = std::make_unique<SparseState>();
  SparseHeader& header = state->header;
  if (bytes.size() < sizeof(header) ||
      reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint64_t) != 0) {
    return Damaged("is cut short");
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  const bool is_half =
      header.weight_type == static_cast<uint32_t>(SparseWeight::kFloat16);
  const bool has_counts = state->has_counts();
  if (header.magic != kSparseMagic || header.num_rows >= kInvalidRow ||
      (!is_half && !has_counts &&
       header.weight_type != static_cast<uint32_t>(SparseWeight::kFloat32)) ||
      header.num_terms > header.num_entries ||
      header.num_pairs > header.num_entries ||
      header.num_entries > UINT32_MAX ||
      header.num_blocked > header.num_pairs) {
    return Damaged("has a header that says nothing sensible");
  }
  bytes.remove_prefix(sizeof(header));
  Parts parts(bytes);
  std::span<const uint16_t> narrow, halves;
  std::span<const uint32_t> wide, entries;
  std::span<const float> floats;
  const uint64_t n = header.num_entries;
  if (!parts.Take(header.num_terms, &state->dims) ||
      !parts.Take(header.num_terms, &state->scales) ||
      !parts.Take(header.num_terms + 1, &state->pair_begin) ||
      !parts.Take(header.num_pairs + 1, &state->begins) ||
      !parts.Take(header.num_pairs, &state->kept) ||
      !parts.Take(header.num_pairs, &state->windows) ||
      !parts.Take(header.num_pairs, &state->tops) ||
      !parts.Take(n, &state->ids) || !parts.Take(n, &state->impacts) ||
      !parts.Take(header.num_blocked * kSparseBlocks, &state->blocks) ||
      !parts.Take(header.num_rows, &state->rows) ||
      !parts.Take(header.num_rows + 1, &state->entry_begin) ||
      !parts.Take(has_counts ? header.num_rows : 0, &state->lengths) ||
      !parts.Take(has_counts ? kLengthClasses : 0, &state->edges) ||
      !parts.Take(has_counts ? n : 0, &entries) ||
      !parts.Take(state->is_wide() || has_counts ? 0 : n, &narrow) ||
      !parts.Take(state->is_wide() && !has_counts ? n : 0, &wide) ||
      !parts.Take(is_half || has_counts ? 0 : n, &floats) ||
      !parts.Take(is_half ? n : 0, &halves) || !parts.empty()) {
    return Damaged("has another size than its header says");
  }
  const auto at = [](const auto& values) {
    return reinterpret_cast<const std::byte*>(values.data());
  };
  state->terms = has_counts         ? at(entries)
                 : state->is_wide() ? at(wide)
                                    : at(narrow);
  state->weights = has_counts ? nullptr : is_half ? at(halves) : at(floats);
  if (has_counts) {
    VICINAL_RETURN_IF_ERROR(CheckCounts(*state, entries));
  } else {
    VICINAL_RETURN_IF_ERROR(state->is_wide()
                                ? CheckTerms<uint32_t>(wide, header)
                                : CheckTerms<uint16_t>(narrow, header));
  }
  VICINAL_RETURN_IF_ERROR(CheckNumbers(*state));
  if (!Ascends<uint32_t>(state->entry_begin, static_cast<uint32_t>(n))) {
    return Damaged("has rows that do not follow one another");
  }
  VICINAL_RETURN_IF_ERROR(CheckPairs(*state));
  state->positions.assign(header.num_rows, kInvalidRow);
  for (size_t i = 0; i < header.num_rows; ++i) {
    const uint32_t row = state->rows[i];
    if (row >= header.num_rows || state->positions[row] != kInvalidRow) {
      return Damaged("has a row twice");
    }
    state->positions[row] = static_cast<uint32_t>(i);
  }
  uint32_t blocked = 0;
  state->blocked.assign(header.num_pairs, SparseState::kNoBlocks);
  for (size_t pair = 0; pair < header.num_pairs; ++pair) {
    if (state->begins[pair + 1] - state->begins[pair] >= kMinBlockedPostings) {
      state->blocked[pair] = blocked++;
    }
  }
  if (blocked != header.num_blocked) return Damaged("has too few blocks");
  return std::unique_ptr<SparseIndex>(new SparseIndex(std::move(state)));
}

}  // namespace vicinal
