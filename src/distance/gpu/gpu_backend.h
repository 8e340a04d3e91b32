// One GPU as a DistanceBackend; what benchmarks need beyond backend.h.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "src/distance/gpu/arena.h"
#include "src/distance/gpu/backend.h"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/staging.h"

namespace vicinal::gpu {

class CodeRun;
class MaxSimRun;
class GpuTokens;
struct DeviceTokens;
struct MaxSimQuestion;
class Trainer;
class DeviceBlock;

// Memory of the host that the device reads and writes itself.
struct PinnedBlock {
  PinnedBlock() = default;
  PinnedBlock(const PinnedBlock&) = delete;
  PinnedBlock& operator=(const PinnedBlock&) = delete;
  ~PinnedBlock();
  void* data = nullptr;
};

class GpuBackend final : public DistanceBackend {
 public:
  static BackendStatus Make(const GpuOptions& options,
                            std::unique_ptr<GpuBackend>* out);
  ~GpuBackend() override;

  const char* name() const override { return name_; }
  size_t device_bytes() const override { return bytes_in_use_.load(); }
  bool builds_graphs() const override { return is_hopper_; }
  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport* report) const override;
  BackendStatus SearchRanges(const LoadedSegment& segment,
                             const QueryBatch& queries, const RangeLists& lists,
                             size_t k, const uint64_t* accepted, Neighbor* out,
                             BackendReport* report) const override;
  BackendStatus Score(const LoadedSegment& segment, const QueryBatch& queries,
                      const uint32_t* offsets, const RowId* rows,
                      float* out) const override;
  BackendStatus KnnGraph(const LoadedSegment& segment, size_t k, Neighbor* out,
                         BackendReport* report) const override;
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
                       double* inertia) const override;
  BackendStatus Covariance(const LoadedSegment& segment, float* mean,
                           float* out) const override;
  BackendStatus Rotate(const LoadedSegment& segment, const float* matrix,
                       size_t num_out, float* out) const override;

  BackendStatus LoadCodes(const SegmentCodes& segment,
                          std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus SearchCodes(const LoadedSegment& segment,
                            const CodeQuestion& question, Neighbor* out,
                            BackendReport* report) const override;

  BackendStatus Encode(const LoadedSegment& segment, const RowCoding& coding,
                       uint8_t* records) const override;

  BackendStatus LoadTokens(const TokenDocuments& documents,
                           std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus MaxSim(const LoadedSegment& documents,
                       const TokenQueries& queries, const DocumentLists& lists,
                       size_t k, Neighbor* out,
                       BackendReport* report) const override;
  BackendStatus LoadTokenCodes(
      const CodedTokenDocuments& documents,
      std::shared_ptr<const LoadedSegment>* out) override;
  BackendStatus MaxSimCodes(const LoadedSegment& documents,
                            const CodedTokenQuery* queries, size_t num_queries,
                            const DocumentLists& lists, size_t k, Neighbor* out,
                            BackendReport* report) const override;

  // Search with queries and results on the device.
  BackendStatus SearchOnDevice(const LoadedSegment& segment,
                               const void* queries, size_t num_queries,
                               size_t k, Neighbor* out,
                               BackendReport* report) const;
  // The same of one query, with `out` on the host, by comparing every row.
  BackendStatus SearchAll(const LoadedSegment& segment, const void* query,
                          size_t k, Neighbor* out) const;
  cudaStream_t stream() const { return stream_; }

 private:
  friend class DeviceBlock;
  friend class CodeRun;
  friend class MaxSimRun;
  friend class Trainer;
  struct Plan;
  struct Question;
  struct Batch;

  GpuBackend() = default;
  // Remembers a lost device.
  BackendStatus Check(cudaError_t error) const;
  // What any call fails with at once.
  BackendStatus Ready() const;
  // Device memory that is kept, if the budget has room; `out` is empty.
  BackendStatus Allocate(size_t bytes, DeviceBlock* out) const;
  // Waits for what kernels say by Signal and returns before they have ended:
  // words that were 0, *flag(0) .. *flag(num - 1), on the host and pinned.
  template <class Flag>
  BackendStatus Await(size_t num, const Flag& flag) const;
  // A copy in the workspace, there when the stream has come to it.
  template <class T>
  BackendStatus Upload(const T* from, size_t count, T** there) const;
  // Makes room for documents and copies their offsets.
  BackendStatus Place(const uint64_t* offsets, GpuTokens* loaded);
  // Measures tokens that are there.
  BackendStatus MeasureDocuments(std::byte* base, DeviceTokens* tokens) const;
  // Copies records and takes them apart.
  BackendStatus PlaceRecords(const CodedTokenDocuments& documents,
                             std::byte* base, const DeviceTokens& tokens) const;
  // All batches of a question.
  BackendStatus RunMaxSim(const LoadedSegment& documents,
                          const MaxSimQuestion& question, Neighbor* out,
                          BackendReport* report) const;
  Plan MakePlan(size_t num_queries, size_t k, const DeviceRows& rows) const;
  BackendStatus Take(const Plan& plan, size_t num_queries,
                     const DeviceRows& rows, QueryState* state) const;
  // Bytes of the workspace that a query of the plan takes.
  size_t BytesPerQuery(const Plan& plan, const DeviceRows& rows) const;
  // Of queries on the device; a workspace is taken. `whole` has the rows that
  // `rows` were gathered from, or is the same.
  BackendStatus RunBatch(const DeviceRows& rows, const DeviceRows& whole,
                         const Batch& batch, BackendReport* report) const;
  BackendStatus Repeat(const DeviceRows& rows, const DeviceRows& whole,
                       const Batch& batch, const QueryState& first,
                       const uint8_t* lost, BackendReport* report) const;
  // Copies the rows that queries leave out.
  BackendStatus Exclude(const std::vector<uint32_t>& rows,
                        QueryState* state) const;
  // All batches of a search.
  BackendStatus Run(const DeviceRows& rows, const DeviceRows& whole,
                    const Question& question, BackendReport* report) const;
  // The same of at most kStreamQueries of kFewBytes / 2 in all, as one batch:
  // they go there and their results come back through pinned memory.
  BackendStatus RunFew(const DeviceRows& rows, const DeviceRows& whole,
                       const Question& question, BackendReport* report) const;
  // Search with the lock held.
  BackendStatus SearchAccepted(const DeviceRows& segment,
                               const QueryBatch& queries, size_t k,
                               const uint64_t* accepted, Neighbor* out,
                               BackendReport* report) const;
  // Makes `whole` the part of it in which accepted rows are; `rows`: what is to
  // be compared, those of `whole` that bits (null: all) say or, gathered, just
  // those that are accepted.
  BackendStatus Filter(const uint64_t* accepted, DeviceRows* whole,
                       DeviceRows* rows, const uint64_t** bits) const;
  // Compares `few`, some of the queries, with each row of their ranges.
  BackendStatus RankEach(const DeviceRows& segment, const QueryBatch& queries,
                         const RangeLists& lists,
                         const std::vector<uint32_t>& few, size_t k,
                         const uint64_t* accepted, Neighbor* out,
                         BackendReport* report) const;
  // Searches for `alike`, queries with the same ranges, together.
  BackendStatus SearchAlike(const DeviceRows& segment,
                            const QueryBatch& queries, const RangeLists& lists,
                            std::span<const uint32_t> alike, size_t k,
                            const uint64_t* accepted, Neighbor* out,
                            BackendReport* report) const;

  char name_[16] = "cuda";
  int device_ = 0;
  bool is_hopper_ = false;
  int num_processors_ = 0;
  uint32_t max_capacity_ = 0;  // candidates that are sorted at once
  size_t budget_ = 0;
  cudaStream_t stream_ = nullptr;
  mutable std::atomic<size_t> bytes_in_use_ = 0;
  mutable std::atomic<bool> lost_ = false;
  // Of the stream, the workspace, and what is pinned but for row_copier_.
  mutable std::mutex mutex_;
  mutable Arena workspace_;
  PinnedBlock pinned_;  // of MaxSim, from the first LoadTokens on
  PinnedBlock few_;     // of searches of a few queries
  mutable Staging staging_;
  RowCopier row_copier_;
  // Copies of what the stream needs later, beside it.
  cudaStream_t copies_ = nullptr;
  cudaEvent_t copied_ = nullptr;
  uint8_t* lost_queries_ = nullptr;  // of one batch; owned, pinned
};

}  // namespace vicinal::gpu
