// A search by codes from its queries to its results.
#include "src/distance/gpu/code_run.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {
CodePlan CodeRun::PlanFor(size_t num_queries, bool keep_floors) const {
  const size_t depth = question_.depth;
  CodePlan plan;
  plan.capacity = keep_floors
                      ? gpu_.max_capacity_
                      : CapacityFor(num_queries, depth, gpu_.max_capacity_);
  plan.as_bits =
      gpu_.is_hopper_ && codes().is_bits && num_queries > kStreamQueries;
  if (!is_flat_) return plan;
  if (keep_floors) {
    plan.rounds.push_back({codes().num_tiles(), 1, 0});
  } else {
    plan.rounds =
        PlanRounds(codes().num_tiles(), plan.capacity / kScanTileRows,
                   std::clamp<double>(plan.capacity / (6.0 * (depth + 4)), 2,
                                      num_queries <= kStreamQueries ? 64 : 4));
  }
  return plan;
}

size_t CodeRun::BytesPerQuery(const CodePlan& plan) const {
  const size_t per_probe = sizeof(DeviceProbe) + sizeof(ScanItem) +
                           codes().num_terms() * sizeof(float);
  const size_t num_probes = (question_.num_probes + question_.num_queries - 1) /
                            question_.num_queries;
  return plan.capacity * sizeof(Candidate) + 32 + question_.value_bytes +
         codes().query_words(plan.as_bits) * 4 +
         question_.k * sizeof(Neighbor) + 2 * num_probes * per_probe +
         (question_.rows != nullptr ? query_bytes() : 0);
}

BackendStatus CodeRun::Take(const CodePlan& plan, size_t n,
                            QueryState* state) const {
  state->num_queries = static_cast<uint32_t>(n);
  state->capacity = plan.capacity;
  state->error = gpu_.workspace_.Take<float>(n);
  state->floor = gpu_.workspace_.Take<float>(n);
  state->counts = gpu_.workspace_.Take<uint32_t>(n);
  state->kept = gpu_.workspace_.Take<uint32_t>(n);
  state->lost = gpu_.workspace_.Take<uint8_t>(n);
  state->candidates = gpu_.workspace_.Take<Candidate>(n * plan.capacity);
  return state->error == nullptr || state->floor == nullptr ||
                 state->counts == nullptr || state->kept == nullptr ||
                 state->lost == nullptr || state->candidates == nullptr
             ? BackendStatus::kNoMemory
             : BackendStatus::kOk;
}

BackendStatus CodeRun::SetOut(const QueryState& state,
                              const float* floors) const {
  const size_t n = state.num_queries;
  const auto zero = [&](void* what, size_t bytes) {
    return Check(cudaMemsetAsync(what, 0, bytes, gpu_.stream_));
  };
  GPU_RETURN_IF_ERROR(zero(state.error, n * sizeof(float)));
  GPU_RETURN_IF_ERROR(zero(state.counts, n * sizeof(uint32_t)));
  GPU_RETURN_IF_ERROR(zero(state.kept, n * sizeof(uint32_t)));
  GPU_RETURN_IF_ERROR(zero(state.lost, n));
  const std::vector<float> none(floors != nullptr ? 0 : n,
                                -std::numeric_limits<float>::infinity());
  // Memory that is not pinned has been read when this returns.
  return Check(
      cudaMemcpyAsync(state.floor, floors != nullptr ? floors : none.data(),
                      n * sizeof(float), cudaMemcpyHostToDevice, gpu_.stream_));
}

BackendStatus CodeRun::CopyQueries(const void* all, size_t bytes,
                                   const std::vector<uint32_t>& queries,
                                   void* to, cudaStream_t stream) {
  const size_t n = queries.size();
  const auto* from = static_cast<const std::byte*>(all);
  // Those that follow each other are copied from where they are.
  if (queries.back() - queries.front() + 1 == n) {
    from += queries.front() * bytes;
  } else {
    staging_.resize(n * bytes);
    for (size_t i = 0; i < n; ++i) {
      std::memcpy(&staging_[i * bytes], from + queries[i] * bytes, bytes);
    }
    from = staging_.data();
  }
  return Check(gpu_.staging_.Copy(to, from, n * bytes, stream));
}

BackendStatus CodeRun::UploadQueries(const CodePlan& plan,
                                     const std::vector<uint32_t>& queries,
                                     QueryState* state,
                                     const uint32_t** operands) {
  const size_t n = queries.size();
  auto* const packed =
      gpu_.workspace_.Take<uint32_t>(n * codes().query_words(plan.as_bits));
  auto* const values = gpu_.workspace_.Take<int8_t>(n * question_.value_bytes);
  if (packed == nullptr || values == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(CopyQueries(question_.values, question_.value_bytes,
                                  queries, values, gpu_.stream_));
  GPU_RETURN_IF_ERROR(Check(PackCodeQueries(
      segment_.layout(), codes(), values, question_.value_bytes,
      static_cast<uint32_t>(n), plan.as_bits, packed, gpu_.stream_)));
  *operands = packed;
  if (question_.rows == nullptr) return BackendStatus::kOk;
  raw_ = gpu_.workspace_.Take<std::byte>(n * query_bytes());
  state->raw = raw_;
  if (raw_ == nullptr) return BackendStatus::kNoMemory;
  // A call that failed may have left work on its way into this memory.
  GPU_RETURN_IF_ERROR(Check(cudaEventRecord(gpu_.copied_, gpu_.stream_)));
  return Check(cudaStreamWaitEvent(gpu_.copies_, gpu_.copied_));
}

BackendStatus CodeRun::SendRaw(const std::vector<uint32_t>& queries) {
  if (raw_ == nullptr) return BackendStatus::kOk;
  GPU_RETURN_IF_ERROR(CopyQueries(question_.queries, query_bytes(), queries,
                                  raw_, gpu_.copies_));
  raw_ = nullptr;
  GPU_RETURN_IF_ERROR(Check(cudaEventRecord(gpu_.copied_, gpu_.copies_)));
  return Check(cudaStreamWaitEvent(gpu_.stream_, gpu_.copied_));
}

BackendStatus CodeRun::RunSome(const std::vector<uint32_t>& queries) {
  return is_flat_ && queries.size() <= kStreamQueries
             ? RunFew(queries)
             : RunRounds(queries, nullptr);
}

BackendStatus CodeRun::RunRounds(const std::vector<uint32_t>& queries,
                                 const float* floors) {
  const bool keep_floors = floors != nullptr;
  const CodePlan plan = PlanFor(queries.size(), keep_floors);
  QueryState state;
  const uint32_t* operands;
  if (!keep_floors) {
    num_rounds_ =
        is_flat_ ? static_cast<uint32_t>(plan.rounds.size()) : kListRounds;
  }
  GPU_RETURN_IF_ERROR(Take(plan, queries.size(), &state));
  Neighbor* const out =
      gpu_.workspace_.Take<Neighbor>(queries.size() * question_.k);
  if (out == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(SetOut(state, floors));
  GPU_RETURN_IF_ERROR(UploadQueries(plan, queries, &state, &operands));
  GPU_RETURN_IF_ERROR(
      is_flat_ ? ScanAll(plan, queries, operands, state, keep_floors)
               : ScanLists(plan, queries, operands, state, keep_floors));
  GPU_RETURN_IF_ERROR(SendRaw(queries));
  const auto k = static_cast<uint32_t>(question_.k);
  GPU_RETURN_IF_ERROR(Check(
      RankEstimates(state, static_cast<uint32_t>(question_.depth), k,
                    question_.rows == nullptr ? out : nullptr, gpu_.stream_)));
  if (question_.rows != nullptr) {
    GPU_RETURN_IF_ERROR(
        Check(RankCandidates(rows(), state, k, out, gpu_.stream_)));
  }
  return Finish(queries, state, out, keep_floors);
}

BackendStatus CodeRun::Finish(const std::vector<uint32_t>& queries,
                              const QueryState& state, const Neighbor* out,
                              bool is_repeated) {
  const size_t n = queries.size();
  const size_t k = question_.k;
  std::vector<uint8_t> lost(n);
  std::vector<float> floors(n);
  // Queries lie one behind the other but for those that are repeated.
  const bool in_order = queries.back() - queries.front() + 1 == n;
  std::vector<Neighbor> found(in_order ? 0 : n * k);
  Neighbor* const to = in_order ? out_ + queries.front() * k : found.data();
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
      lost.data(), state.lost, n, cudaMemcpyDeviceToHost, gpu_.stream_)));
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(floors.data(), state.floor, n * 4,
                            cudaMemcpyDeviceToHost, gpu_.stream_)));
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(to, out, n * k * sizeof(Neighbor),
                            cudaMemcpyDeviceToHost, gpu_.stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(gpu_.stream_)));
  std::vector<uint32_t> again;
  std::vector<float> known;
  for (size_t i = 0; i < n; ++i) {
    if (lost[i] != 0) {
      again.push_back(queries[i]);
      known.push_back(floors[i]);
    } else if (!in_order) {
      std::copy_n(&found[i * k], k, out_ + queries[i] * k);
    }
  }
  if (again.empty()) return BackendStatus::kOk;
  // As many rows have one estimate: the CPU takes whichever come first.
  if (is_repeated) return BackendStatus::kUnsupported;
  if (report_ != nullptr) {
    report_->repeated += static_cast<uint32_t>(again.size());
  }
  // As many at a time as half of the workspace has room for.
  const CodePlan plan = PlanFor(again.size(), true);
  const size_t at_once = std::max<size_t>(
      1, (gpu_.workspace_.size() - base_) / 2 / BytesPerQuery(plan));
  for (size_t first = 0; first < again.size(); first += at_once) {
    const size_t last = std::min(first + at_once, again.size());
    gpu_.workspace_.Rewind(base_);
    GPU_RETURN_IF_ERROR(RunRounds({again.begin() + first, again.begin() + last},
                                  &known[first]));
  }
  return BackendStatus::kOk;
}

CodeRun::CodeRun(const GpuBackend& gpu, const GpuCodes& segment,
                 const CodeQuestion& question, Neighbor* out,
                 BackendReport* report)
    : gpu_(gpu),
      segment_(segment),
      question_(question),
      out_(out),
      report_(report),
      first_probe_(question.num_queries + 1) {
  for (size_t i = 0; i < question.num_probes; ++i) {
    ++first_probe_[question.probes[i].query + 1];
  }
  is_flat_ = question.num_lists == 1 && question.list_offsets[0] == 0 &&
             question.list_offsets[1] == segment.num_rows();
  for (size_t q = 0; q < question.num_queries; ++q) {
    is_flat_ = is_flat_ && first_probe_[q + 1] == 1;
    first_probe_[q + 1] += first_probe_[q];
  }
}

BackendStatus CodeRun::Run() {
  gpu_.workspace_.Rewind(0);
  if (question_.accepted != nullptr) {
    uint64_t* accepted;
    GPU_RETURN_IF_ERROR(
        Upload(question_.accepted, (segment_.num_rows() + 63) / 64, &accepted));
    accepted_ = accepted;
  }
  base_ = gpu_.workspace_.used();
  const CodePlan plan = PlanFor(question_.num_queries, false);
  const size_t at_once = std::min<size_t>(
      kMaxBatch, gpu_.workspace_.left() / 4 * 3 / BytesPerQuery(plan));
  if (at_once == 0) return BackendStatus::kNoMemory;
  std::vector<uint32_t> queries;
  for (size_t first = 0; first < question_.num_queries; first += at_once) {
    queries.resize(std::min(at_once, question_.num_queries - first));
    std::iota(queries.begin(), queries.end(), static_cast<uint32_t>(first));
    gpu_.workspace_.Rewind(base_);
    GPU_RETURN_IF_ERROR(RunSome(queries));
  }
  if (report_ != nullptr) report_->rounds = num_rounds_;
  return BackendStatus::kOk;
}
}  // namespace vicinal::gpu
