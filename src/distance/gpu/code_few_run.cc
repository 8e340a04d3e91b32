// A few queries among all rows by codes: see code_few.h.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "src/distance/gpu/arena.h"
#include "src/distance/gpu/code_few.h"
#include "src/distance/gpu/code_run.h"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {
namespace {

// Of one query: they wait in shared memory.
constexpr size_t kMostValueBytes = 32 << 10;

constexpr size_t RoundUp(size_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

bool CodeRun::SendFew(const std::vector<uint32_t>& queries, Arena* pinned,
                      FewQueries* few, QueryState* state) const {
  const size_t n = queries.size();
  const size_t num_terms = codes().num_terms();
  const size_t raw_bytes = question_.rows != nullptr ? n * query_bytes() : 0;
  few->value_pitch = RoundUp(question_.value_bytes);
  few->raw_bytes = RoundUp(raw_bytes);
  auto* const values = pinned->Take<std::byte>(n * few->value_pitch);
  auto* const terms = pinned->Take<float>(n * num_terms);
  auto* const raw = pinned->Take<std::byte>(few->raw_bytes);
  few->operands =
      gpu_.workspace_.Take<uint32_t>(n * codes().query_words(few->as_bits));
  few->terms_there = gpu_.workspace_.Take<float>(n * num_terms);
  few->raw_there = gpu_.workspace_.Take<std::byte>(few->raw_bytes);
  few->probes = gpu_.workspace_.Take<DeviceProbe>(n);
  few->maxima = gpu_.workspace_.Take<uint32_t>(n * few->num_groups);
  if (few->value_pitch > kMostValueBytes || values == nullptr ||
      terms == nullptr || raw == nullptr || few->operands == nullptr ||
      few->terms_there == nullptr || few->raw_there == nullptr ||
      few->probes == nullptr || few->maxima == nullptr) {
    return false;
  }
  for (size_t i = 0; i < n; ++i) {
    std::memcpy(values + i * few->value_pitch,
                question_.values + queries[i] * question_.value_bytes,
                question_.value_bytes);
    PutTerms(*question_.probes[first_probe_[queries[i]]].terms,
             terms + i * num_terms);
    if (raw_bytes == 0) continue;
    std::memcpy(raw + i * query_bytes(),
                static_cast<const std::byte*>(question_.queries) +
                    queries[i] * query_bytes(),
                query_bytes());
  }
  few->values = values;
  few->terms = terms;
  few->raw = raw;
  state->raw = few->raw_there;
  return true;
}

BackendStatus CodeRun::ScanMaxima(const FewQueries& few,
                                  const QueryState& state,
                                  CodeScan scan) const {
  const auto depth = static_cast<uint32_t>(question_.depth);
  const uint32_t num_tiles = codes().num_tiles();
  scan.num_items = scan.num_probes * kGroupsPerRow * depth;
  ScanItem* const items = gpu_.workspace_.Take<ScanItem>(scan.num_items);
  if (items == nullptr) return BackendStatus::kNoMemory;
  scan.overlaps = gpu_.is_hopper_;
  scan.num_groups = few.num_groups;
  scan.tiles_per_group = (num_tiles + few.num_groups - 1) / few.num_groups;
  const auto scan_rows = [&] {
    return Check(few.as_bits ? ScanFewBits(codes(), scan, state,
                                           gpu_.num_processors_, gpu_.stream_)
                             : ScanCodes(codes(), scan, state, false,
                                         gpu_.num_processors_, gpu_.stream_));
  };
  scan.maxima = few.maxima;
  scan.round = {num_tiles, 1, 0};
  scan.tiles_per_item = TilesPerItem(scan, 96);
  GPU_RETURN_IF_ERROR(scan_rows());
  GPU_RETURN_IF_ERROR(
      Check(ChooseGroups(scan, state, num_tiles, depth, items, gpu_.stream_)));
  scan.maxima = nullptr;
  scan.items = items;
  return scan_rows();
}

BackendStatus CodeRun::RunFew(const std::vector<uint32_t>& queries) {
  const size_t n = queries.size();
  const auto depth = static_cast<uint32_t>(question_.depth);
  const auto k = static_cast<uint32_t>(question_.k);
  const uint32_t num_tiles = codes().num_tiles();
  const CodePlan plan = PlanFor(n, false);
  // With fewer tiles, most of them would be chosen.
  const bool by_maxima = plan.rounds.size() > 1 && num_tiles >= 2 * depth;
  Arena pinned(gpu_.few_.data, kFewBytes);
  FewQueries few;
  few.as_bits = by_maxima && codes().is_bits;
  if (by_maxima) {
    const uint32_t tiles_per_group = (num_tiles + kMaxGroups - 1) / kMaxGroups;
    few.num_groups = (num_tiles + tiles_per_group - 1) / tiles_per_group;
  }
  QueryState state;
  Neighbor* const out = pinned.Take<Neighbor>(n * k);
  state.done = pinned.Take<uint32_t>(n);
  state.overlaps = by_maxima && gpu_.is_hopper_;
  if (out == nullptr || state.done == nullptr ||
      !SendFew(queries, &pinned, &few, &state)) {
    gpu_.workspace_.Rewind(base_);
    return RunRounds(queries, nullptr);
  }
  GPU_RETURN_IF_ERROR(Take(plan, n, &state));
  std::fill_n(state.done, n, 0u);
  GPU_RETURN_IF_ERROR(
      Check(PrepareFew(segment_.layout(), codes(), few, state, gpu_.stream_)));
  CodeScan scan;
  scan.probes = few.probes;
  scan.terms = few.terms_there;
  scan.values = few.operands;
  scan.num_probes = static_cast<uint32_t>(n);
  scan.probes_per_item = ProbesPerItem(codes(), n);
  scan.accepted = accepted_;
  GPU_RETURN_IF_ERROR(by_maxima ? ScanMaxima(few, state, scan)
                                : ScanRounds(plan, state, scan, false));
  GPU_RETURN_IF_ERROR(
      Check(RankFew(state, depth, k, question_.rows == nullptr ? out : nullptr,
                    gpu_.stream_)));
  if (question_.rows != nullptr) {
    GPU_RETURN_IF_ERROR(
        Check(RankCandidates(rows(), state, k, out, gpu_.stream_)));
  }
  GPU_RETURN_IF_ERROR(gpu_.Await(n, [&](size_t i) { return &state.done[i]; }));
  num_rounds_ =
      by_maxima ? kFewRounds : static_cast<uint32_t>(plan.rounds.size());
  std::vector<uint32_t> again;
  for (size_t i = 0; i < n; ++i) {
    if (LostOf(state.done[i]) != 0) {
      again.push_back(queries[i]);
    } else {
      std::copy_n(out + i * k, k, out_ + queries[i] * k);
    }
  }
  if (again.empty()) return BackendStatus::kOk;
  if (report_ != nullptr) {
    report_->repeated += static_cast<uint32_t>(again.size());
  }
  gpu_.workspace_.Rewind(base_);
  return RunRounds(again, nullptr);
}

}  // namespace vicinal::gpu
