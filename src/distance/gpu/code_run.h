// Searches by codes on a GPU: probes are laid out by the rows that they ask
// for, and compared in rounds as searches of rows are. Of gpu_codes.cc,
// code_run.cc, code_few_run.cc and code_rounds.cc.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/distance/gpu/arena.h"
#include "src/distance/gpu/code_few.h"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {

// Rounds of lists, at most; each looks at so many times the rows of those
// before it (see code_rounds.cc).
inline constexpr uint32_t kListRounds = 5;
// Scans of a few queries: of all rows, and of some again.
inline constexpr uint32_t kFewRounds = 2;

class GpuCodes final : public LoadedSegment {
 public:
  size_t num_rows() const override { return codes_.num_rows; }
  size_t device_bytes() const override { return block_.bytes(); }
  const DeviceCodes& codes() const { return codes_; }
  const CodeLayout& layout() const { return layout_; }

 private:
  friend class GpuBackend;
  DeviceBlock block_;
  DeviceCodes codes_;
  CodeLayout layout_;
};

// One probe of a list, before probes are put in order.
struct ListProbe {
  DeviceProbe on_device;
  uint32_t list = 0;
  const CodeQuery* terms = nullptr;
};

// The probes of one round of some queries.
struct CodeRound {
  std::vector<DeviceProbe> probes;  // those of one list lie together
  std::vector<float> terms;
  std::vector<ScanItem> items;
};

// What a batch of queries takes.
struct CodePlan {
  uint32_t capacity = 0;
  bool as_bits = false;
  std::vector<Round> rounds;  // of all rows; empty: of lists
};

// One call of SearchCodes, which holds the backend's mutex.
class CodeRun {
 public:
  CodeRun(const GpuBackend& gpu, const GpuCodes& segment,
          const CodeQuestion& question, Neighbor* out, BackendReport* report);
  BackendStatus Run();

 private:
  template <class T>
  BackendStatus Upload(const T* from, size_t count, T** there) const {
    return gpu_.Upload(from, count, there);
  }
  BackendStatus Check(cudaError_t error) const { return gpu_.Check(error); }
  const DeviceCodes& codes() const { return segment_.codes(); }
  const DeviceRows& rows() const {
    return static_cast<const GpuSegment*>(question_.rows)->rows();
  }
  size_t query_bytes() const { return question_.query_bytes; }

  // keep_floors: floors are known, so that one round looks at all.
  CodePlan PlanFor(size_t num_queries, bool keep_floors) const;
  // Bytes of the workspace that a query takes.
  size_t BytesPerQuery(const CodePlan& plan) const;
  // Some queries that follow each other: a few of all rows in another way.
  BackendStatus RunSome(const std::vector<uint32_t>& queries);
  // A few of all rows; by rounds, where they do not fit or find too much.
  BackendStatus RunFew(const std::vector<uint32_t>& queries);
  // Puts queries where the device reads them; false: there is no room.
  bool SendFew(const std::vector<uint32_t>& queries, Arena* pinned,
               FewQueries* few, QueryState* state) const;
  BackendStatus ScanMaxima(const FewQueries& few, const QueryState& state,
                           CodeScan scan) const;
  // Some queries, ascending; floors: what they are known to be, or null.
  BackendStatus RunRounds(const std::vector<uint32_t>& queries,
                          const float* floors);
  BackendStatus Take(const CodePlan& plan, size_t n, QueryState* state) const;
  BackendStatus SetOut(const QueryState& state, const float* floors) const;
  // num_queries times `bytes` of each of `all`, those of some.
  BackendStatus CopyQueries(const void* all, size_t bytes,
                            const std::vector<uint32_t>& queries, void* to,
                            cudaStream_t stream);
  // The operands of queries, and room for them themselves, where they are
  // compared exactly.
  BackendStatus UploadQueries(const CodePlan& plan,
                              const std::vector<uint32_t>& queries,
                              QueryState* state, const uint32_t** operands);
  // Queries themselves, if it has not been done: beside a scan that has begun.
  BackendStatus SendRaw(const std::vector<uint32_t>& queries);
  BackendStatus ScanRound(const CodePlan& plan, const QueryState& state,
                          CodeScan scan, bool store_all) const;
  void PutTerms(const CodeQuery& query, float* out) const;
  // Four items for each block, of whole turns of its warps, of `most` tiles.
  uint32_t TilesPerItem(const CodeScan& scan, uint32_t most) const;
  // So that all blocks, which are as many as processors, end about together.
  uint32_t BitTilesPerItem(const CodeScan& scan) const;
  // What scan.probes say, with samples of all rows.
  BackendStatus ScanRounds(const CodePlan& plan, const QueryState& state,
                           CodeScan scan, bool keep_floors) const;
  // All queries with samples of all rows.
  BackendStatus ScanAll(const CodePlan& plan,
                        const std::vector<uint32_t>& queries,
                        const uint32_t* values, const QueryState& state,
                        bool keep_floors) const;
  // Each query with its lists, the first of them first.
  BackendStatus ScanLists(const CodePlan& plan,
                          const std::vector<uint32_t>& queries,
                          const uint32_t* values, const QueryState& state,
                          bool keep_floors);
  // Which probe of which query belongs to which round; stored: the rows of the
  // first round of each query.
  std::vector<std::vector<ListProbe>> DealOut(
      const CodePlan& plan, const std::vector<uint32_t>& queries,
      bool keep_floors, std::vector<uint32_t>* stored) const;
  void LayOut(const std::vector<ListProbe>& chosen, uint32_t probes_per_item,
              CodeRound* out) const;
  // Hands results over. Queries that found more than there was room for are
  // asked again, with the floors that they have by now.
  BackendStatus Finish(const std::vector<uint32_t>& queries,
                       const QueryState& state, const Neighbor* out,
                       bool is_repeated);

  const GpuBackend& gpu_;
  const GpuCodes& segment_;
  const CodeQuestion& question_;
  Neighbor* const out_;
  BackendReport* const report_;
  std::vector<size_t> first_probe_;     // of each query, and the end
  const uint64_t* accepted_ = nullptr;  // on the device
  bool is_flat_ = true;                 // all queries ask for all rows

  uint32_t num_rounds_ = 0;
  std::byte* raw_ = nullptr;        // where queries are still to be copied to
  size_t base_ = 0;                 // of the workspace, what all batches share
  std::vector<std::byte> staging_;  // on their way to the device
};

}  // namespace vicinal::gpu
