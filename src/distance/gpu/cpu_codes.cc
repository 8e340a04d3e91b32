#include "src/distance/gpu/cpu_codes.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "src/distance/gpu/cpu_parallel.h"
#include "src/distance/gpu/cpu_tier.h"
#include "src/distance/kernels_codes.h"

namespace vicinal {
namespace {

// Records estimated by one call: their estimates stay in the cache.
constexpr size_t kScanRows = 256;

const CodeKernels& ChooseCodeTable() {
#ifdef VICINAL_X86_KERNELS
  const CpuTier tier = TierOfCpu();
  if (tier >= CpuTier::kAvx512Vnni) return kernels::kAvx512CodeTable;
  if (tier >= CpuTier::kAvx2) return kernels::kAvx2CodeTable;
#endif
  return kernels::kScalarCodeTable;
}

class CpuCodes final : public LoadedSegment {
 public:
  explicit CpuCodes(const SegmentCodes& segment)
      : segment_(segment), layout_(*segment.layout) {}

  size_t num_rows() const override { return segment_.num_rows; }
  size_t device_bytes() const override { return 0; }
  const CodeLayout& layout() const { return layout_; }
  const SegmentCodes& segment() const { return segment_; }

 private:
  const SegmentCodes segment_;
  const CodeLayout layout_;
};

bool IsAccepted(const uint64_t* accepted, size_t row) {
  return accepted == nullptr || (accepted[row / 64] >> (row % 64) & 1) != 0;
}

// Offers the rows of one list.
void ScanList(const CpuCodes& codes, const CodeQuery& query, size_t begin,
              size_t end, const uint64_t* accepted, TopK* best) {
  static const CodeKernels& kernels = ChooseCodeTable();
  float estimates[kScanRows];
  const SegmentCodes& segment = codes.segment();
  for (size_t first = begin; first < end; first += kScanRows) {
    const size_t n = std::min(kScanRows, end - first);
    kernels.scan(codes.layout(), query,
                 segment.records + first * segment.stride_bytes,
                 segment.stride_bytes, n, estimates);
    for (size_t i = 0; i < n; ++i) {
      if (!(estimates[i] <= best->threshold()) ||
          !IsAccepted(accepted, first + i)) {
        continue;
      }
      best->Push({estimates[i], static_cast<RowId>(first + i)});
    }
  }
}

// The k nearest of `found`, by their distances to the vectors.
BackendStatus CompareExactly(const CodeQuestion& question, size_t query,
                             const DistanceBackend& backend,
                             std::vector<Neighbor>* found) {
  std::vector<RowId> rows(found->size());
  std::vector<float> distances(found->size());
  std::transform(found->begin(), found->end(), rows.begin(),
                 [](const Neighbor& neighbor) { return neighbor.row; });
  const QueryBatch one = {static_cast<const std::byte*>(question.queries) +
                              query * question.query_bytes,
                          1};
  const uint32_t offsets[2] = {0, static_cast<uint32_t>(rows.size())};
  const BackendStatus status = backend.Score(*question.rows, one, offsets,
                                             rows.data(), distances.data());
  if (status != BackendStatus::kOk) return status;
  TopK best(question.k);
  for (size_t i = 0; i < rows.size(); ++i) best.Push({distances[i], rows[i]});
  *found = best.TakeSorted();
  return BackendStatus::kOk;
}

}  // namespace

BackendStatus LoadCodesOnCpu(const SegmentCodes& segment,
                             std::shared_ptr<const LoadedSegment>* out) {
  *out = std::make_shared<CpuCodes>(segment);
  return BackendStatus::kOk;
}

BackendStatus SearchCodesOnCpu(const LoadedSegment& segment,
                               const CodeQuestion& question,
                               const DistanceBackend& backend,
                               size_t num_threads, Neighbor* out,
                               BackendReport* report) {
  const auto& codes = static_cast<const CpuCodes&>(segment);
  std::vector<size_t> first_probe(question.num_queries + 1);
  for (size_t i = 0; i < question.num_probes; ++i) {
    ++first_probe[question.probes[i].query + 1];
  }
  for (size_t q = 0; q < question.num_queries; ++q) {
    first_probe[q + 1] += first_probe[q];
  }
  std::atomic<BackendStatus> status = BackendStatus::kOk;
  std::atomic<uint64_t> num_compared = 0;
  ParallelFor(num_threads, question.num_queries, [&](size_t query) {
    TopK best(question.depth);
    for (size_t p = first_probe[query]; p < first_probe[query + 1]; ++p) {
      const CodeProbe& probe = question.probes[p];
      CodeQuery terms = *probe.terms;
      terms.values = question.values + query * question.value_bytes;
      terms.fours = nullptr;
      ScanList(codes, terms, question.list_offsets[probe.list],
               question.list_offsets[probe.list + 1], question.accepted, &best);
    }
    std::vector<Neighbor> found = best.TakeSorted();
    if (question.rows != nullptr && !found.empty()) {
      num_compared += found.size();
      const BackendStatus compared =
          CompareExactly(question, query, backend, &found);
      if (compared != BackendStatus::kOk) status = compared;
    }
    const size_t n = std::min(found.size(), question.k);
    Neighbor* const own = out + query * question.k;
    std::copy_n(found.begin(), n, own);
    std::fill(own + n, own + question.k,
              Neighbor{std::numeric_limits<float>::infinity(), kInvalidRow});
  });
  if (report != nullptr) {
    *report = {.candidates = num_compared, .rounds = 1};
  }
  return status;
}

}  // namespace vicinal
