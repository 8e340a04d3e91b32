#include "index/leaf_neighbors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "src/distance/distance.h"

namespace vicinal {
namespace {

// Rows of the distance matrix made at a time.
constexpr size_t kStrip = 64;

// All pairs of one leaf; reused from leaf to leaf. One thread.
class LeafWork {
 public:
  void Run(const RowSource& rows, std::span<const uint32_t> members,
           float scale, NeighborLists* lists) {
    Measure(rows, members);
    for (size_t i = 0; i < members.size(); ++i) {
      SelectNearest(i, members, scale, lists->capacity(),
                    lists->Limit(members[i]) / scale);
      lists->Offer(members[i], keys_);
    }
  }

 private:
  // distances_[i * width_ + j] for all pairs: the upper triangle in strips,
  // mirrored.
  void Measure(const RowSource& rows, std::span<const uint32_t> members) {
    const size_t n = members.size();
    const size_t num_panels = (n + kPairPanel - 1) / kPairPanel;
    width_ = num_panels * kPairPanel;
    const auto grow = [](std::vector<float>* room, size_t size) {
      if (room->size() < size) room->resize(size);
    };
    grow(&values_, n * rows.dim);
    grow(&panels_, width_ * rows.dim);
    grow(&distances_, width_ * width_);
    for (size_t i = 0; i < n; ++i) {
      rows.load(members[i], &values_[i * rows.dim]);
    }
    PackPanels(values_.data(), rows.dim, n, rows.dim, panels_.data());
    const DistanceKernels& kernels = ActiveKernels();
    for (size_t first = 0; first < n; first += kStrip) {
      const size_t count = std::min(kStrip, n - first);
      float* strip = &distances_[first * width_];
      kernels.pair_l2(&values_[first * rows.dim], rows.dim, count,
                      &panels_[first * rows.dim],
                      num_panels - first / kPairPanel, rows.dim, strip + first,
                      width_);
      for (size_t j = first + count; j < n; ++j) {
        float* mirrored = &distances_[j * width_ + first];
        for (size_t i = 0; i < count; ++i) mirrored[i] = strip[i * width_ + j];
      }
    }
  }

  // The nearest to member i that are no farther than `limit`, ascending, into
  // keys_.
  void SelectNearest(size_t i, std::span<const uint32_t> members, float scale,
                     size_t k, float limit) {
    const size_t n = members.size();
    float* distances = &distances_[i * width_];
    distances[i] = std::numeric_limits<float>::quiet_NaN();  // never selected
    found_.resize(n + kPairPanel);
    const float guess = GuessLimit(distances, n, k);
    size_t found = SelectWithin(distances, n, std::min(guess, limit), i);
    if (found < k && guess < limit)
      found = SelectWithin(distances, n, limit, i);
    keys_.resize(found);
    for (size_t f = 0; f < found; ++f) {
      keys_[f] =
          NeighborLists::Key(distances[found_[f]] * scale, members[found_[f]]);
    }
    if (found > k) {
      std::nth_element(keys_.begin(), keys_.begin() + k, keys_.end());
      keys_.resize(k);
    }
    std::sort(keys_.begin(), keys_.end());
  }

  // Of the rows equal to member i the next few, so that equal rows form a ring
  // and not a star.
  size_t SelectWithin(const float* distances, size_t n, float limit, size_t i) {
    const size_t found =
        ActiveKernels().select_within(distances, n, limit, found_.data());
    const auto begin = found_.begin();
    const auto end = begin + found;
    const auto is_copy = [&](uint32_t j) { return distances[j] == 0; };
    const auto num_copies =
        static_cast<size_t>(std::count_if(begin, end, is_copy));
    if (num_copies <= kMaxLeafDuplicates) return found;
    const auto before = static_cast<size_t>(std::count_if(
        begin, end, [&](uint32_t j) { return j < i && is_copy(j); }));
    size_t rank = 0;
    return std::remove_if(begin, end,
                          [&](uint32_t j) {
                            if (!is_copy(j)) return false;
                            const size_t step =
                                (rank++ + num_copies - before) % num_copies;
                            return step >= kMaxLeafDuplicates;
                          }) -
           begin;
  }

  // A distance that more than k of the n probably do not exceed: an order
  // statistic of a sample.
  float GuessLimit(const float* distances, size_t n, size_t k) {
    constexpr size_t kSample = 64;
    if (n < 4 * k) return std::numeric_limits<float>::infinity();
    std::array<float, kSample> sample;
    for (size_t s = 0; s < kSample; ++s) {
      const float value = distances[s * n / kSample];
      sample[s] = value >= 0 ? value : 0;  // itself is NaN
    }
    const size_t rank = std::min(kSample - 1, kSample * k * 3 / (2 * n) + 3);
    std::nth_element(sample.begin(), sample.begin() + rank, sample.end());
    return sample[rank];
  }

  size_t width_ = 0;
  std::vector<float> values_;
  std::vector<float> panels_;
  std::vector<float> distances_;
  std::vector<uint32_t> found_;
  std::vector<uint64_t> keys_;
};

}  // namespace

NeighborLists::NeighborLists(size_t num_rows, size_t capacity)
    : capacity_(capacity),
      keys_(num_rows * capacity),
      counts_(num_rows),
      locks_(std::make_unique<std::array<Mutex, kNumLocks>>()) {}

uint64_t NeighborLists::Key(float distance, uint32_t row) {
  return uint64_t{std::bit_cast<uint32_t>(distance)} << 32 | row;
}

Neighbor NeighborLists::FromKey(uint64_t key) {
  return {std::bit_cast<float>(static_cast<uint32_t>(key >> 32)),
          static_cast<uint32_t>(key)};
}

float NeighborLists::Limit(uint32_t row) {
  MutexLock lock((*locks_)[row % kNumLocks]);
  if (counts_[row] < capacity_) return std::numeric_limits<float>::infinity();
  return FromKey(keys_[row * capacity_ + capacity_ - 1]).distance;
}

void NeighborLists::Offer(uint32_t row, std::span<const uint64_t> keys) {
  MutexLock lock((*locks_)[row % kNumLocks]);
  uint64_t* own = &keys_[row * capacity_];
  const size_t count = counts_[row];
  static thread_local std::vector<uint64_t> merged;
  merged.resize(count + keys.size());
  const auto end = std::set_union(own, own + count, keys.begin(), keys.end(),
                                  merged.begin());
  counts_[row] = std::min<size_t>(capacity_, end - merged.begin());
  std::copy_n(merged.begin(), counts_[row], own);
}

absl::Status CompareInsideLeaves(const RowSource& rows, const Leaves& leaves,
                                 float scale, Workers* workers,
                                 const CancelToken* cancel,
                                 const std::function<void(size_t)>& on_leaf,
                                 NeighborLists* lists) {
  std::vector<LeafWork> work(workers->size());
  const auto cancelled = [&] {
    return cancel != nullptr && cancel->cancelled();
  };
  workers->For(leaves.size(), 1, [&](size_t begin, size_t end, size_t worker) {
    for (size_t i = begin; i < end && !cancelled(); ++i) {
      work[worker].Run(rows, leaves.leaf(i), scale, lists);
      on_leaf(leaves.leaf(i).size());
    }
  });
  return cancelled() ? absl::CancelledError("index build cancelled")
                     : absl::OkStatus();
}

}  // namespace vicinal
