// The backend that every other one must equal: each query is compared with
// every accepted row by the kernels of src/distance.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/gpu/backend.h"
#include "src/distance/gpu/cpu_codes.h"
#include "src/distance/gpu/cpu_maxsim.h"
#include "src/distance/gpu/cpu_parallel.h"
#include "src/distance/gpu/cpu_tier.h"
#include "src/distance/gpu/cpu_train.h"
#include "src/distance/kernels.h"

namespace vicinal {
namespace {

// Queries that share a block of rows while it is in the cache.
constexpr size_t kQueryGroup = 16;
// Most rows of a block; fewer when they are long.
constexpr size_t kBlockRows = 256;
constexpr size_t kBlockBytes = size_t{128} << 10;
// Elements compared by one thread in about 50 us, what it takes to start one.
constexpr size_t kElementsWorthAThread = size_t{1} << 18;
// Most rows of one step of a parallel loop, and distances of a list.
constexpr size_t kAssignRows = 64;
constexpr size_t kScoreChunk = 1024;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The widest that runs here. Which one it is cannot change a result.
const kernels::KernelTable& ChooseTable() {
#ifdef VICINAL_X86_KERNELS
  const CpuTier tier = TierOfCpu();
  if (tier >= CpuTier::kAvx512) return kernels::kAvx512Table;
  if (tier >= CpuTier::kAvx2) return kernels::kAvx2Table;
#endif
  return kernels::kScalarTable;
}

const kernels::OpsEntry& OpsOf(Metric metric, ElementType type) {
  static const kernels::KernelTable& table = ChooseTable();
  return table
      .ops[static_cast<size_t>(metric) - 1][static_cast<size_t>(type) - 1];
}

class CpuSegment final : public LoadedSegment {
 public:
  explicit CpuSegment(const SegmentRows& segment)
      : rows_(segment.rows),
        metric_(segment.metric),
        ops_(OpsOf(segment.metric, segment.rows.type)) {}

  // Makes room for rows that are nowhere yet.
  std::byte* MakeRoom() {
    rows_.stride_bytes = rows_.dim * ElementSize(rows_.type);
    own_.resize(rows_.num_rows * rows_.stride_bytes);
    rows_.data = own_.data();
    return own_.data();
  }

  size_t num_rows() const override { return rows_.num_rows; }
  size_t device_bytes() const override { return 0; }

  const VectorSetView& rows() const { return rows_; }
  Metric metric() const { return metric_; }
  const kernels::OpsEntry& ops() const { return ops_; }

  size_t BlockRows() const {
    return std::clamp<size_t>(kBlockBytes / (rows_.stride_bytes + 1), 8,
                              kBlockRows);
  }

 private:
  VectorSetView rows_;
  Metric metric_;
  const kernels::OpsEntry& ops_;
  std::vector<std::byte> own_;  // rows that were nowhere before
};

const CpuSegment& AsCpu(const LoadedSegment& segment) {
  return static_cast<const CpuSegment&>(segment);
}

// What is asked about one segment: vectors, and whether vector i is row i of
// the segment, which is then not its own neighbour.
struct Questions {
  const std::byte* data = nullptr;
  size_t stride_bytes = 0;
  size_t num = 0;
  bool are_rows = false;

  const std::byte* operator[](size_t i) const {
    return data + i * stride_bytes;
  }
};

struct Range {
  size_t begin;
  size_t end;

  size_t size() const { return end - begin; }
};

// Rows of `range` that are accepted, into rows.
void ListAccepted(const uint64_t* accepted, Range range,
                  std::vector<RowId>& rows) {
  rows.clear();
  for (size_t row = range.begin; row < range.end;) {
    const size_t bit = row % 64;
    uint64_t word = accepted[row / 64] >> bit;
    const size_t num_bits = std::min(64 - bit, range.end - row);
    if (num_bits < 64) word &= (uint64_t{1} << num_bits) - 1;
    for (; word != 0; word &= word - 1) {
      rows.push_back(static_cast<RowId>(row + std::countr_zero(word)));
    }
    row += num_bits;
  }
}

// Offers the accepted rows of `range` to the best of each question of `group`;
// returns how many distances that took.
uint64_t SearchRange(const CpuSegment& segment, const Questions& questions,
                     Range group, Range range, const uint64_t* accepted,
                     std::vector<TopK>& best) {
  const VectorSetView& rows = segment.rows();
  const size_t step = segment.BlockRows();
  std::vector<RowId> listed;
  std::vector<float> distances(step);
  uint64_t num_compared = 0;
  for (size_t begin = range.begin; begin < range.end; begin += step) {
    const Range block = {begin, std::min(begin + step, range.end)};
    size_t num = block.size();
    bool all = true;
    if (accepted != nullptr) {
      ListAccepted(accepted, block, listed);
      all = listed.size() == num;
      num = listed.size();
    }
    if (num == 0) continue;
    for (size_t i = group.begin; i < group.end; ++i) {
      if (all) {
        segment.ops().scan(questions[i], rows.row(begin), rows.stride_bytes,
                           num, rows.dim, distances.data());
      } else {
        segment.ops().gather(questions[i], rows.data, rows.stride_bytes,
                             listed.data(), num, rows.dim, distances.data());
      }
      num_compared += num;
      TopK& nearest = best[i - group.begin];
      for (size_t j = 0; j < num; ++j) {
        if (!(distances[j] <= nearest.threshold())) continue;
        const RowId row = all ? static_cast<RowId>(begin + j) : listed[j];
        if (questions.are_rows && row == i) continue;
        nearest.Push({distances[j], row});
      }
    }
  }
  return num_compared;
}

void WriteNearest(TopK& best, size_t k, Neighbor* out) {
  const std::vector<Neighbor> sorted = best.TakeSorted();
  std::copy(sorted.begin(), sorted.end(), out);
  std::fill(out + sorted.size(), out + k, Neighbor{kInfinity, kInvalidRow});
}

class CpuBackend final : public DistanceBackend {
 public:
  explicit CpuBackend(size_t num_threads)
      : num_threads_(std::max<size_t>(num_threads, 1)) {}

  const char* name() const override { return "cpu"; }
  size_t device_bytes() const override { return 0; }
  bool builds_graphs() const override { return false; }

  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override {
    if (segment.rows.type > ElementType::kUint8) {
      return BackendStatus::kUnsupported;  // no kernels compare these
    }
    auto loaded = std::make_shared<CpuSegment>(segment);
    const VectorSetView& rows = loaded->rows();
    if (segment.whole != nullptr) {
      const auto* whole = dynamic_cast<const CpuSegment*>(segment.whole);
      if (whole == nullptr || whole->rows().dim != rows.dim ||
          whole->rows().type != rows.type) {
        return BackendStatus::kUnsupported;
      }
      std::byte* const room = loaded->MakeRoom();
      for (size_t i = 0; i < rows.num_rows; ++i) {
        std::memcpy(room + i * rows.stride_bytes,
                    whole->rows().row(segment.part[i]), rows.stride_bytes);
      }
    } else if (segment.write != nullptr) {
      std::byte* const room = loaded->MakeRoom();
      if (rows.num_rows > 0) (*segment.write)(0, rows.num_rows, room);
    }
    *out = std::move(loaded);
    return BackendStatus::kOk;
  }

  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport* report) const override {
    const VectorSetView& rows = AsCpu(segment).rows();
    const Questions questions = {static_cast<const std::byte*>(queries.data),
                                 rows.dim * ElementSize(rows.type),
                                 queries.num_queries, false};
    FindNearest(AsCpu(segment), questions, k, accepted, out, report);
    return BackendStatus::kOk;
  }

  BackendStatus SearchRanges(const LoadedSegment& segment,
                             const QueryBatch& queries, const RangeLists& lists,
                             size_t k, const uint64_t* accepted, Neighbor* out,
                             BackendReport* report) const override;

  BackendStatus Score(const LoadedSegment& segment, const QueryBatch& queries,
                      const uint32_t* offsets, const RowId* rows,
                      float* out) const override;

  BackendStatus KnnGraph(const LoadedSegment& segment, size_t k, Neighbor* out,
                         BackendReport* report) const override {
    const VectorSetView& rows = AsCpu(segment).rows();
    const Questions questions = {rows.data, rows.stride_bytes, rows.num_rows,
                                 true};
    FindNearest(AsCpu(segment), questions, k, nullptr, out, report);
    return BackendStatus::kOk;
  }

  BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin, RowId end,
                          size_t k, const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport* report) const override;

  BackendStatus SelectLinks(const LoadedSegment& segment, size_t num_lists,
                            const uint32_t* offsets, const Neighbor* lists,
                            const LinkRule& rule, Neighbor* out) const override;

  BackendStatus Assign(const LoadedSegment& segment, const float* centroids,
                       size_t num_centroids, uint32_t* nearest,
                       float* distances) const override;

  BackendStatus KMeans(const LoadedSegment& segment, size_t num_centroids,
                       size_t rounds, float* centroids, uint32_t* nearest,
                       double* inertia) const override {
    const VectorSetView& rows = AsCpu(segment).rows();
    if (rows.type != ElementType::kFloat32) return BackendStatus::kUnsupported;
    return KMeansOnCpu(*this, segment, rows, num_centroids, rounds,
                       ThreadsFor(rows.num_rows * rows.dim), centroids, nearest,
                       inertia);
  }

  BackendStatus Covariance(const LoadedSegment& segment, float* mean,
                           float* out) const override {
    const VectorSetView& rows = AsCpu(segment).rows();
    if (rows.type != ElementType::kFloat32) return BackendStatus::kUnsupported;
    // Threads come and go with every block of rows.
    const size_t num_rows = std::min<size_t>(rows.num_rows, 512);
    CovarianceOnCpu(rows, ThreadsFor(num_rows * rows.dim * rows.dim / 2), mean,
                    out);
    return BackendStatus::kOk;
  }

  BackendStatus Rotate(const LoadedSegment& segment, const float* matrix,
                       size_t num_out, float* out) const override {
    const VectorSetView& rows = AsCpu(segment).rows();
    if (rows.type != ElementType::kFloat32) return BackendStatus::kUnsupported;
    RotateOnCpu(rows, OpsOf(Metric::kInnerProduct, ElementType::kFloat32),
                matrix, num_out, ThreadsFor(rows.num_rows * num_out * rows.dim),
                out);
    return BackendStatus::kOk;
  }

  BackendStatus LoadCodes(const SegmentCodes& segment,
                          std::shared_ptr<const LoadedSegment>* out) override {
    return LoadCodesOnCpu(segment, out);
  }

  BackendStatus SearchCodes(const LoadedSegment& segment,
                            const CodeQuestion& question, Neighbor* out,
                            BackendReport* report) const override {
    return SearchCodesOnCpu(segment, question, *this, num_threads_, out,
                            report);
  }

  BackendStatus LoadTokens(const TokenDocuments& documents,
                           std::shared_ptr<const LoadedSegment>* out) override {
    return LoadTokensOnCpu(documents, out);
  }

  BackendStatus MaxSim(const LoadedSegment& documents,
                       const TokenQueries& queries, const DocumentLists& lists,
                       size_t k, Neighbor* out,
                       BackendReport* report) const override {
    return MaxSimOnCpu(documents, queries, lists, k, num_threads_, out, report);
  }

  BackendStatus LoadTokenCodes(
      const CodedTokenDocuments& documents,
      std::shared_ptr<const LoadedSegment>* out) override {
    return LoadTokenCodesOnCpu(documents, out);
  }

  BackendStatus MaxSimCodes(const LoadedSegment& documents,
                            const CodedTokenQuery* queries, size_t num_queries,
                            const DocumentLists& lists, size_t k, Neighbor* out,
                            BackendReport* report) const override {
    return MaxSimCodesOnCpu(documents, queries, num_queries, lists, k,
                            num_threads_, out, report);
  }

 private:
  void FindNearest(const CpuSegment& segment, const Questions& questions,
                   size_t k, const uint64_t* accepted, Neighbor* out,
                   BackendReport* report) const;

  // As many threads as that many compared elements are worth.
  size_t ThreadsFor(size_t num_elements) const {
    return std::clamp<size_t>(num_elements / kElementsWorthAThread, 1,
                              num_threads_);
  }

  const size_t num_threads_;
};

void CpuBackend::FindNearest(const CpuSegment& segment,
                             const Questions& questions, size_t k,
                             const uint64_t* accepted, Neighbor* out,
                             BackendReport* report) const {
  const size_t num_rows = segment.num_rows();
  const size_t num_threads =
      ThreadsFor(questions.num * num_rows * segment.rows().dim);
  const size_t group_size =
      std::clamp<size_t>(questions.num / num_threads, 1, kQueryGroup);
  const size_t num_groups = (questions.num + group_size - 1) / group_size;
  // Where groups are too few to keep all threads busy, each is asked about
  // parts of the rows, whose answers are merged.
  const size_t num_parts =
      num_groups == 0 ? 1 : (num_threads + num_groups - 1) / num_groups;
  std::vector<std::vector<TopK>> best(num_groups * num_parts);
  std::atomic<uint64_t> num_compared = 0;
  const auto group_at = [&](size_t group) {
    return Range{group * group_size,
                 std::min((group + 1) * group_size, questions.num)};
  };
  const auto write = [&](size_t group) {
    const Range range = group_at(group);
    for (size_t i = range.begin; i < range.end; ++i) {
      WriteNearest(best[group * num_parts][i - range.begin], k, out + i * k);
    }
    best[group * num_parts].clear();
  };
  ParallelFor(num_threads, best.size(), [&](size_t task) {
    const size_t part = task % num_parts;
    const Range group = group_at(task / num_parts);
    best[task].assign(group.size(), TopK(k));
    num_compared += SearchRange(
        segment, questions, group,
        {part * num_rows / num_parts, (part + 1) * num_rows / num_parts},
        accepted, best[task]);
    if (num_parts == 1) write(task);
  });
  if (num_parts > 1) {
    for (size_t group = 0; group < num_groups; ++group) {
      std::vector<TopK>& merged = best[group * num_parts];
      for (size_t part = 1; part < num_parts; ++part) {
        for (size_t i = 0; i < merged.size(); ++i) {
          for (const Neighbor& neighbor :
               best[group * num_parts + part][i].TakeSorted()) {
            merged[i].Push(neighbor);
          }
        }
      }
      write(group);
    }
  }
  if (report != nullptr) {
    *report = {.candidates = num_compared, .rounds = 1};
  }
}

BackendStatus CpuBackend::SearchRanges(const LoadedSegment& segment,
                                       const QueryBatch& queries,
                                       const RangeLists& lists, size_t k,
                                       const uint64_t* accepted, Neighbor* out,
                                       BackendReport* report) const {
  const CpuSegment& cpu = AsCpu(segment);
  const VectorSetView& rows = cpu.rows();
  const size_t n = queries.num_queries;
  const Questions questions = {static_cast<const std::byte*>(queries.data),
                               rows.dim * ElementSize(rows.type), n, false};
  // The rows of queries are numbered through; each thread takes some of them.
  std::vector<uint64_t> ends = {0};
  for (size_t q = 0; q < n; ++q) {
    ends.push_back(ends.back());
    for (uint32_t i = lists.offsets[q]; i < lists.offsets[q + 1]; ++i) {
      ends.back() += lists.ranges[i].end - lists.ranges[i].begin;
    }
  }
  const size_t num_threads = ThreadsFor(ends.back() * rows.dim);
  const size_t num_parts = n == 0 ? 1 : (num_threads + n - 1) / n;
  std::vector<std::vector<TopK>> best(n * num_parts);
  std::atomic<uint64_t> num_compared = 0;
  ParallelFor(num_threads, best.size(), [&](size_t task) {
    const size_t q = task / num_parts;
    const size_t part = task % num_parts;
    const uint64_t total = ends[q + 1] - ends[q];
    uint64_t skipped = part * total / num_parts;
    uint64_t left = (part + 1) * total / num_parts - skipped;
    best[task].assign(1, TopK(k));
    for (uint32_t i = lists.offsets[q]; left > 0; ++i) {
      const size_t end = lists.ranges[i].end;
      const size_t begin =
          std::min<size_t>(end, lists.ranges[i].begin + skipped);
      skipped -= begin - lists.ranges[i].begin;
      const size_t taken = std::min<size_t>(end - begin, left);
      left -= taken;
      num_compared += SearchRange(cpu, questions, {q, q + 1},
                                  {begin, begin + taken}, accepted, best[task]);
    }
  });
  for (size_t q = 0; q < n; ++q) {
    TopK& merged = best[q * num_parts][0];
    for (size_t part = 1; part < num_parts; ++part) {
      for (const Neighbor& neighbor :
           best[q * num_parts + part][0].TakeSorted()) {
        merged.Push(neighbor);
      }
    }
    WriteNearest(merged, k, out + q * k);
  }
  if (report != nullptr) *report = {.candidates = num_compared, .rounds = 1};
  return BackendStatus::kOk;
}

BackendStatus CpuBackend::Score(const LoadedSegment& segment,
                                const QueryBatch& queries,
                                const uint32_t* offsets, const RowId* rows,
                                float* out) const {
  const CpuSegment& cpu = AsCpu(segment);
  const VectorSetView& view = cpu.rows();
  const size_t total = offsets[queries.num_queries];
  const size_t num_chunks = (total + kScoreChunk - 1) / kScoreChunk;
  ParallelFor(ThreadsFor(total * view.dim), num_chunks, [&](size_t chunk) {
    const size_t end = std::min((chunk + 1) * kScoreChunk, total);
    size_t begin = chunk * kScoreChunk;
    // The query whose list holds `begin`; lists before it may be empty.
    size_t query =
        std::upper_bound(offsets, offsets + queries.num_queries + 1, begin) -
        offsets - 1;
    for (; begin < end; ++query) {
      const size_t list_end = std::min<size_t>(offsets[query + 1], end);
      if (list_end == begin) continue;
      const auto* vector = static_cast<const std::byte*>(queries.data) +
                           query * view.dim * ElementSize(view.type);
      cpu.ops().gather(vector, view.data, view.stride_bytes, rows + begin,
                       list_end - begin, view.dim, out + begin);
      begin = list_end;
    }
  });
  return BackendStatus::kOk;
}

BackendStatus CpuBackend::Assign(const LoadedSegment& segment,
                                 const float* centroids, size_t num_centroids,
                                 uint32_t* nearest, float* distances) const {
  const VectorSetView& rows = AsCpu(segment).rows();
  if (rows.type != ElementType::kFloat32) return BackendStatus::kUnsupported;
  // A squared difference has no sign, so that centroids may be the rows of
  // the kernel.
  const kernels::OpsEntry& l2 = OpsOf(Metric::kL2, ElementType::kFloat32);
  const size_t stride_bytes = rows.dim * sizeof(float);
  const size_t step =
      std::clamp<size_t>(kBlockBytes / (stride_bytes + 1), 8, kBlockRows);
  const size_t num_tasks = (rows.num_rows + kAssignRows - 1) / kAssignRows;
  const size_t num_threads =
      ThreadsFor(rows.num_rows * num_centroids * rows.dim);
  ParallelFor(num_threads, num_tasks, [&](size_t task) {
    const size_t first = task * kAssignRows;
    const size_t last = std::min(first + kAssignRows, rows.num_rows);
    float block[kBlockRows];
    float best[kAssignRows];
    std::fill(best, best + kAssignRows, kInfinity);
    std::fill(nearest + first, nearest + last, 0);
    for (size_t begin = 0; begin < num_centroids; begin += step) {
      const size_t num = std::min(step, num_centroids - begin);
      for (size_t row = first; row < last; ++row) {
        l2.scan(rows.row(row), centroids + begin * rows.dim, stride_bytes, num,
                rows.dim, block);
        const size_t i = std::min_element(block, block + num) - block;
        if (block[i] < best[row - first]) {
          best[row - first] = block[i];
          nearest[row] = static_cast<uint32_t>(begin + i);
        }
      }
    }
    if (distances != nullptr) {
      std::copy(best, best + (last - first), distances + first);
    }
  });
  return BackendStatus::kOk;
}

bool CanLink(const CpuSegment& segment, const LinkRule& rule) {
  return segment.rows().type == ElementType::kFloat32 &&
         segment.metric() == Metric::kL2 && rule.max_links > 0 &&
         rule.max_links <= kMaxBackendLinks;
}

// Of candidates that ascend, what the rule chooses; fills out up.
void SelectOf(const CpuSegment& segment, const Neighbor* candidates, size_t n,
              const LinkRule& rule, Neighbor* out) {
  const VectorSetView& rows = segment.rows();
  size_t count = 0;
  size_t num_duplicates = 0;
  for (size_t i = 0; i < n && count < rule.max_links; ++i) {
    const Neighbor& candidate = candidates[i];
    if (candidate.row == kInvalidRow) break;
    const bool is_copy = candidate.distance <= 0;
    if (is_copy && num_duplicates == rule.max_duplicates) continue;
    const float limit = candidate.distance * rule.share;
    const bool is_covered = std::any_of(out, out + count, [&](Neighbor chosen) {
      return segment.ops().one(rows.row(candidate.row), rows.row(chosen.row),
                               rows.dim) < limit;
    });
    if (is_covered) continue;
    if (is_copy) ++num_duplicates;
    out[count++] = candidate;
  }
  std::fill(out + count, out + rule.max_links,
            Neighbor{kInfinity, kInvalidRow});
}

BackendStatus CpuBackend::LinkGraph(const LoadedSegment& segment, RowId begin,
                                    RowId end, size_t k, const LinkRule& rule,
                                    Neighbor* out, uint32_t* num_duplicates,
                                    BackendReport* report) const {
  const CpuSegment& loaded = AsCpu(segment);
  if (!CanLink(loaded, rule)) return BackendStatus::kUnsupported;
  // A row is among its own neighbours, unless so many copies of it are before
  // it that it is not wanted anyway.
  const VectorSetView& rows = loaded.rows();
  const size_t n = end - begin;
  std::vector<Neighbor> nearest(n * (k + 1));
  FindNearest(loaded, {rows.row(begin), rows.stride_bytes, n, false}, k + 1,
              nullptr, nearest.data(), report);
  ParallelFor(ThreadsFor(n * k * rows.dim), n, [&](size_t i) {
    Neighbor* own = &nearest[i * (k + 1)];
    std::remove_if(own, own + k + 1, [&](const Neighbor& neighbor) {
      return neighbor.row == begin + i;
    });
    SelectOf(loaded, own, k, rule, out + i * rule.max_links);
    if (num_duplicates != nullptr) {
      num_duplicates[i] = static_cast<uint32_t>(
          std::count_if(own, own + k, [](const Neighbor& neighbor) {
            return neighbor.row != kInvalidRow && neighbor.distance <= 0;
          }));
    }
  });
  return BackendStatus::kOk;
}

BackendStatus CpuBackend::SelectLinks(const LoadedSegment& segment,
                                      size_t num_lists, const uint32_t* offsets,
                                      const Neighbor* lists,
                                      const LinkRule& rule,
                                      Neighbor* out) const {
  const CpuSegment& loaded = AsCpu(segment);
  if (!CanLink(loaded, rule)) return BackendStatus::kUnsupported;
  ParallelFor(ThreadsFor(offsets[num_lists] * loaded.rows().dim), num_lists,
              [&](size_t i) {
                SelectOf(loaded, lists + offsets[i],
                         offsets[i + 1] - offsets[i], rule,
                         out + i * rule.max_links);
              });
  return BackendStatus::kOk;
}

}  // namespace

std::unique_ptr<DistanceBackend> MakeCpuBackend(size_t num_threads) {
  return std::make_unique<CpuBackend>(num_threads);
}

}  // namespace vicinal
