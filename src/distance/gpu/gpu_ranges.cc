// Searches among ranges of rows on a GPU. A call costs some 70 us beside what
// it reads; so queries that ask for few rows are compared with each of them,
// all together, and those that ask for many rows are searched for like others,
// together where their ranges are the same.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <numeric>
#include <span>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {
namespace {

// Rows that are compared exactly for one query: as many keys are sorted by one
// block.
constexpr size_t kMostRows = 32768;
// Bytes of them for queries that could be searched for together: 45 us at 3
// TB/s.
constexpr size_t kMostBytes = size_t{128} << 20;

std::span<const RowRange> RangesOf(const RangeLists& lists, size_t query) {
  return {lists.ranges + lists.offsets[query],
          lists.ranges + lists.offsets[query + 1]};
}

size_t NumRows(std::span<const RowRange> ranges) {
  size_t num_rows = 0;
  for (const RowRange& range : ranges) num_rows += range.end - range.begin;
  return num_rows;
}

// Queries so that those with the same ranges lie together, each kind in order.
std::vector<uint32_t> ByRanges(const RangeLists& lists, size_t num_queries) {
  std::vector<uint32_t> order(num_queries);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const auto x = RangesOf(lists, a);
    const auto y = RangesOf(lists, b);
    return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end());
  });
  return order;
}

// The set of the rows of the ranges, which are below `end`, that are accepted;
// its bits begin with the row first_word * 64.
std::vector<uint64_t> BitsOf(std::span<const RowRange> ranges,
                             size_t first_word, size_t end,
                             const uint64_t* accepted) {
  std::vector<uint64_t> bits((end + 63) / 64 - first_word);
  for (const RowRange& range : ranges) {
    for (size_t row = range.begin; row < range.end;) {
      const size_t bit = row % 64;
      const size_t count = std::min<size_t>(64 - bit, range.end - row);
      const uint64_t ones = ~uint64_t{0} >> (64 - count) << bit;
      bits[row / 64 - first_word] |=
          accepted == nullptr ? ones : ones & accepted[row / 64];
      row += count;
    }
  }
  return bits;
}

// DeviceRanges as the host fills them, and how many bytes they take there.
struct Work {
  std::vector<uint32_t> firsts;
  std::vector<uint32_t> starts = {0};
  std::vector<uint32_t> owners;
  std::vector<uint32_t> ends = {0};
  // All rows lie between.
  RowId begin = kInvalidRow;
  RowId end = 0;

  void Add(std::span<const RowRange> ranges) {
    const auto owner = static_cast<uint32_t>(ends.size() - 1);
    for (const RowRange& range : ranges) {
      if (range.begin == range.end) continue;
      begin = std::min(begin, range.begin);
      end = std::max(end, range.end);
      firsts.push_back(range.begin);
      owners.push_back(owner);
      starts.push_back(starts.back() + (range.end - range.begin));
    }
    ends.push_back(starts.back());
  }
  size_t num_words() const {
    return firsts.size() + starts.size() + owners.size() + ends.size();
  }
  // So that one copy is enough: some queries, then, at words_at, all arrays.
  std::vector<std::byte> Packed(const std::byte* queries, size_t query_bytes,
                                std::span<const uint32_t> some,
                                size_t words_at) const {
    std::vector<std::byte> packed(words_at + num_words() * sizeof(uint32_t));
    for (size_t i = 0; i < some.size(); ++i) {
      std::memcpy(&packed[i * query_bytes], queries + some[i] * query_bytes,
                  query_bytes);
    }
    std::byte* at = packed.data() + words_at;
    for (const auto* words : {&starts, &ends, &firsts, &owners}) {
      const size_t bytes = words->size() * sizeof(uint32_t);
      if (bytes > 0) std::memcpy(at, words->data(), bytes);
      at += bytes;
    }
    return packed;
  }
  // As Packed has them there.
  DeviceRanges At(const std::byte* there, size_t words_at) const {
    DeviceRanges ranges;
    ranges.queries = there;
    ranges.starts = reinterpret_cast<const uint32_t*>(there + words_at);
    ranges.ends = ranges.starts + starts.size();
    ranges.firsts = ranges.ends + ends.size();
    ranges.owners = ranges.firsts + firsts.size();
    ranges.num_queries = static_cast<uint32_t>(ends.size() - 1);
    ranges.num_ranges = static_cast<uint32_t>(firsts.size());
    ranges.total = starts.back();
    return ranges;
  }
};

}  // namespace

BackendStatus GpuBackend::SearchRanges(const LoadedSegment& segment,
                                       const QueryBatch& queries,
                                       const RangeLists& lists, size_t k,
                                       const uint64_t* accepted, Neighbor* out,
                                       BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  if (k == 0 || k > kMaxBackendK) return BackendStatus::kUnsupported;
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  const size_t row_bytes = rows.dim * ElementSize(rows.type);
  const std::vector<uint32_t> order = ByRanges(lists, queries.num_queries);
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<uint32_t> few;
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    const auto ranges = RangesOf(lists, order[begin]);
    while (end < order.size() &&
           std::ranges::equal(ranges, RangesOf(lists, order[end]))) {
      ++end;
    }
    const size_t num_rows = NumRows(ranges);
    if (num_rows <= kMostRows &&
        (end - begin) * num_rows * row_bytes <= kMostBytes) {
      few.insert(few.end(), order.begin() + begin, order.begin() + end);
      continue;
    }
    GPU_RETURN_IF_ERROR(SearchAlike(rows, queries, lists,
                                    {order.begin() + begin, end - begin}, k,
                                    accepted, out, report));
  }
  return RankEach(rows, queries, lists, few, k, accepted, out, report);
}

BackendStatus GpuBackend::SearchAlike(const DeviceRows& segment,
                                      const QueryBatch& queries,
                                      const RangeLists& lists,
                                      std::span<const uint32_t> alike, size_t k,
                                      const uint64_t* accepted, Neighbor* out,
                                      BackendReport* report) const {
  const auto ranges = RangesOf(lists, alike[0]);
  const size_t begin = ranges.front().begin;
  const size_t end = ranges.back().end;
  DeviceRows part = PartOf(segment, begin, end);
  std::vector<uint64_t> bits;  // none: all
  if (accepted != nullptr || NumRows(ranges) < end - begin) {
    bits = BitsOf(ranges, begin / 64, end, accepted);
    part = PartOf(segment, begin / 64 * 64, end);
  }
  accepted = bits.empty() ? nullptr : bits.data();
  if (alike.size() == queries.num_queries) {
    return SearchAccepted(part, queries, k, accepted, out, report);
  }
  const size_t query_bytes = segment.dim * ElementSize(segment.type);
  std::vector<std::byte> together(alike.size() * query_bytes);
  const auto* const data = static_cast<const std::byte*>(queries.data);
  for (size_t i = 0; i < alike.size(); ++i) {
    std::memcpy(&together[i * query_bytes], data + alike[i] * query_bytes,
                query_bytes);
  }
  std::vector<Neighbor> found(alike.size() * k);
  GPU_RETURN_IF_ERROR(SearchAccepted(part, {together.data(), alike.size()}, k,
                                     accepted, found.data(), report));
  for (size_t i = 0; i < alike.size(); ++i) {
    std::copy_n(&found[i * k], k, out + alike[i] * k);
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::RankEach(const DeviceRows& segment,
                                   const QueryBatch& queries,
                                   const RangeLists& lists,
                                   const std::vector<uint32_t>& few, size_t k,
                                   const uint64_t* accepted, Neighbor* out,
                                   BackendReport* report) const {
  const size_t query_bytes = segment.dim * ElementSize(segment.type);
  const auto* const data = static_cast<const std::byte*>(queries.data);
  for (size_t begin = 0, end = 0; begin < few.size(); begin = end) {
    // As many at once as there is room for; each list of keys has a limit.
    constexpr size_t kMostKeys = size_t{1} << 30;
    const size_t room = workspace_.size() / 2;
    Work work;
    size_t bytes = 0;
    do {
      work.Add(RangesOf(lists, few[end]));
      ++end;
      bytes = size_t{work.starts.back()} * sizeof(uint64_t) +
              work.num_words() * 4 +
              (end - begin) * (query_bytes + k * sizeof(Neighbor));
    } while (end < few.size() && bytes < room &&
             work.starts.back() < kMostKeys);
    const size_t n = end - begin;
    const std::span<const uint32_t> some(&few[begin], n);
    const size_t words_at = (n * query_bytes + 3) / 4 * 4;
    const std::vector<std::byte> packed =
        work.Packed(data, query_bytes, some, words_at);
    workspace_.Rewind(0);
    std::byte* there;
    GPU_RETURN_IF_ERROR(Upload(packed.data(), packed.size(), &there));
    DeviceRanges ranges = work.At(there, words_at);
    if (accepted != nullptr && ranges.total > 0) {
      const size_t first_word = work.begin / 64;
      uint64_t* bits;
      GPU_RETURN_IF_ERROR(Upload(accepted + first_word,
                                 (size_t{work.end} + 63) / 64 - first_word,
                                 &bits));
      ranges.accepted = bits;
      ranges.first_bit = static_cast<uint32_t>(first_word * 64);
    }
    uint64_t* const keys = workspace_.Take<uint64_t>(ranges.total);
    Neighbor* const nearest = workspace_.Take<Neighbor>(n * k);
    if (keys == nullptr || nearest == nullptr) return BackendStatus::kNoMemory;
    GPU_RETURN_IF_ERROR(Check(RankRanges(
        segment, ranges, static_cast<uint32_t>(k), keys, nearest, stream_)));
    std::vector<Neighbor> found(n * k);
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(found.data(), nearest, n * k * sizeof(Neighbor),
                              cudaMemcpyDeviceToHost, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
    for (size_t i = 0; i < n; ++i) {
      std::copy_n(&found[i * k], k, out + some[i] * k);
    }
    if (report != nullptr) {
      report->candidates += ranges.total;
      ++report->rounds;
    }
  }
  return BackendStatus::kOk;
}

}  // namespace vicinal::gpu
