// What a round of a search by codes compares: samples of all rows, or lists.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/distance/gpu/code_run.h"
#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {
namespace {

// Rows of a round of lists, in those of the rounds before it.
constexpr double kListGrowth = 8;
// Tiles of one item of a list.
constexpr uint32_t kListTiles = 48;
// Most tiles of one item of all rows; of queries as bits, too, and how many
// take as long as its beginning and its end.
constexpr uint32_t kMostTiles = 96;
constexpr uint32_t kMostBitTiles = 192;
constexpr uint32_t kBitItemTiles = 3;

// Rows of a round of lists up to which a query's probes belong to it.
size_t RowsUpTo(size_t round, uint32_t capacity) {
  return round + 1 >= kListRounds
             ? SIZE_MAX
             : static_cast<size_t>(capacity * std::pow(kListGrowth, round));
}

}  // namespace

void CodeRun::PutTerms(const CodeQuery& query, float* out) const {
  *out++ = query.additive;
  *out++ = query.additive_scale;
  for (uint32_t s = 0; s < codes().num_segments; ++s) {
    *out++ = query.scale[s];
    *out++ = query.offset[s];
    *out++ = query.low_scale[s];
  }
}

uint32_t CodeRun::TilesPerItem(const CodeScan& scan, uint32_t most) const {
  const uint32_t num_groups =
      (scan.num_probes + scan.probes_per_item - 1) / scan.probes_per_item;
  return std::clamp<uint32_t>(
      scan.round.num_tiles * num_groups / (gpu_.num_processors_ * 4 * 12) * 12,
      12, most);
}

uint32_t CodeRun::BitTilesPerItem(const CodeScan& scan) const {
  const auto divide = [](uint32_t n, uint32_t by) { return (n + by - 1) / by; };
  const uint32_t num_groups = divide(scan.num_probes, kBitProbes);
  uint32_t best = 1;
  uint32_t least = UINT32_MAX;
  for (uint32_t tiles = 1; tiles <= kMostBitTiles; ++tiles) {
    const uint32_t items = num_groups * divide(scan.round.num_tiles, tiles);
    const uint32_t taken =
        divide(items, gpu_.num_processors_) * (tiles + kBitItemTiles);
    if (taken < least) {
      least = taken;
      best = tiles;
    }
  }
  return best;
}

void CodeRun::LayOut(const std::vector<ListProbe>& chosen,
                     uint32_t probes_per_item, CodeRound* out) const {
  const size_t num_terms = codes().num_terms();
  // By list, in the order of the queries.
  std::vector<uint32_t> starts(question_.num_lists + 1);
  for (const ListProbe& probe : chosen) ++starts[probe.list + 1];
  for (size_t i = 0; i < question_.num_lists; ++i) starts[i + 1] += starts[i];
  out->probes.resize(chosen.size());
  out->terms.resize(chosen.size() * num_terms);
  std::vector<uint32_t> next = starts;
  for (const ListProbe& probe : chosen) {
    const uint32_t at = next[probe.list]++;
    out->probes[at] = probe.on_device;
    PutTerms(*probe.terms, &out->terms[at * num_terms]);
  }
  out->items.clear();
  for (size_t list = 0; list < question_.num_lists; ++list) {
    if (starts[list] == starts[list + 1]) continue;
    uint32_t begin = UINT32_MAX;
    uint32_t end = 0;
    for (uint32_t i = starts[list]; i < starts[list + 1]; ++i) {
      begin = std::min(begin, out->probes[i].begin);
      end = std::max(end, out->probes[i].end);
    }
    if (begin >= end) continue;
    const uint32_t last = (end + kScanTileRows - 1) / kScanTileRows;
    for (uint32_t tile = begin / kScanTileRows; tile < last;
         tile += kListTiles) {
      for (uint32_t i = starts[list]; i < starts[list + 1];
           i += probes_per_item) {
        out->items.push_back({tile, std::min(kListTiles, last - tile), i,
                              std::min(probes_per_item, starts[list + 1] - i)});
      }
    }
  }
}

BackendStatus CodeRun::ScanRound(const CodePlan& plan, const QueryState& state,
                                 CodeScan scan, bool store_all) const {
  scan.accepted = accepted_;
  return Check(plan.as_bits ? ScanBits(codes(), scan, state, store_all,
                                       gpu_.num_processors_, gpu_.stream_)
                            : ScanCodes(codes(), scan, state, store_all,
                                        gpu_.num_processors_, gpu_.stream_));
}

BackendStatus CodeRun::ScanAll(const CodePlan& plan,
                               const std::vector<uint32_t>& queries,
                               const uint32_t* values, const QueryState& state,
                               bool keep_floors) const {
  const size_t num_terms = codes().num_terms();
  std::vector<DeviceProbe> probes(queries.size());
  std::vector<float> terms(queries.size() * num_terms);
  for (size_t i = 0; i < queries.size(); ++i) {
    probes[i] = {static_cast<uint32_t>(i), 0, codes().num_rows, 0};
    PutTerms(*question_.probes[first_probe_[queries[i]]].terms,
             &terms[i * num_terms]);
  }
  CodeScan scan;
  DeviceProbe* probes_there;
  float* terms_there;
  GPU_RETURN_IF_ERROR(Upload(probes.data(), probes.size(), &probes_there));
  GPU_RETURN_IF_ERROR(Upload(terms.data(), terms.size(), &terms_there));
  scan.probes = probes_there;
  scan.terms = terms_there;
  scan.values = values;
  scan.num_probes = static_cast<uint32_t>(probes.size());
  scan.probes_per_item =
      plan.as_bits ? kBitProbes : ProbesPerItem(codes(), probes.size());
  return ScanRounds(plan, state, scan, keep_floors);
}

BackendStatus CodeRun::ScanRounds(const CodePlan& plan, const QueryState& state,
                                  CodeScan scan, bool keep_floors) const {
  for (size_t i = 0; i < plan.rounds.size(); ++i) {
    scan.round = plan.rounds[i];
    scan.tiles_per_item =
        plan.as_bits ? BitTilesPerItem(scan) : TilesPerItem(scan, kMostTiles);
    const bool store_all = i == 0 && !keep_floors;
    GPU_RETURN_IF_ERROR(ScanRound(plan, state, scan, store_all));
    GPU_RETURN_IF_ERROR(Check(RaiseFloors(
        state, static_cast<uint32_t>(question_.depth),
        store_all ? scan.round.num_tiles * kScanTileRows : 0, gpu_.stream_)));
  }
  return BackendStatus::kOk;
}

std::vector<std::vector<ListProbe>> CodeRun::DealOut(
    const CodePlan& plan, const std::vector<uint32_t>& queries,
    bool keep_floors, std::vector<uint32_t>* stored) const {
  std::vector<std::vector<ListProbe>> rounds(keep_floors ? 1 : kListRounds);
  stored->assign(queries.size(), 0);
  for (size_t i = 0; i < queries.size(); ++i) {
    size_t num_rows = 0;
    size_t round = 0;
    const auto add = [&](const CodeProbe& probe, uint32_t begin, uint32_t end) {
      ListProbe added;
      added.list = probe.list;
      added.terms = probe.terms;
      added.on_device = {static_cast<uint32_t>(i), begin, end,
                         static_cast<uint32_t>(num_rows)};
      rounds[round].push_back(added);
      num_rows += end - begin;
      if (round == 0) (*stored)[i] = static_cast<uint32_t>(num_rows);
    };
    for (size_t p = first_probe_[queries[i]]; p < first_probe_[queries[i] + 1];
         ++p) {
      const CodeProbe& probe = question_.probes[p];
      uint32_t begin = question_.list_offsets[probe.list];
      const uint32_t end = question_.list_offsets[probe.list + 1];
      if (!keep_floors && num_rows == 0 && end - begin > plan.capacity) {
        // The first list alone is more than can be stored.
        add(probe, begin, begin + plan.capacity);
        begin += plan.capacity;
      }
      while (!keep_floors &&
             num_rows + (end - begin) > RowsUpTo(round, plan.capacity)) {
        ++round;
      }
      if (begin < end) add(probe, begin, end);
    }
  }
  return rounds;
}

BackendStatus CodeRun::ScanLists(const CodePlan& plan,
                                 const std::vector<uint32_t>& queries,
                                 const uint32_t* values,
                                 const QueryState& state, bool keep_floors) {
  const uint32_t probes_per_item =
      plan.as_bits ? kBitProbes : ProbesPerItem(codes(), queries.size());
  std::vector<uint32_t> stored;
  const std::vector<std::vector<ListProbe>> rounds =
      DealOut(plan, queries, keep_floors, &stored);
  const size_t used = gpu_.workspace_.used();
  CodeRound laid_out;
  for (size_t r = 0; r < rounds.size(); ++r) {
    if (rounds[r].empty()) continue;
    const bool store_all = r == 0 && !keep_floors;
    gpu_.workspace_.Rewind(used);
    LayOut(rounds[r], probes_per_item, &laid_out);
    CodeScan scan;
    DeviceProbe* probes;
    float* terms;
    ScanItem* items;
    GPU_RETURN_IF_ERROR(
        Upload(laid_out.probes.data(), laid_out.probes.size(), &probes));
    GPU_RETURN_IF_ERROR(
        Upload(laid_out.terms.data(), laid_out.terms.size(), &terms));
    GPU_RETURN_IF_ERROR(
        Upload(laid_out.items.data(), laid_out.items.size(), &items));
    scan.probes = probes;
    scan.terms = terms;
    scan.values = values;
    scan.num_probes = static_cast<uint32_t>(laid_out.probes.size());
    scan.probes_per_item = probes_per_item;
    scan.items = items;
    scan.num_items = static_cast<uint32_t>(laid_out.items.size());
    if (store_all) {
      GPU_RETURN_IF_ERROR(
          Check(cudaMemcpyAsync(state.counts, stored.data(), stored.size() * 4,
                                cudaMemcpyHostToDevice, gpu_.stream_)));
    }
    GPU_RETURN_IF_ERROR(ScanRound(plan, state, scan, store_all));
    GPU_RETURN_IF_ERROR(Check(RaiseFloors(
        state, static_cast<uint32_t>(question_.depth), 0, gpu_.stream_)));
    GPU_RETURN_IF_ERROR(SendRaw(queries));
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(gpu_.stream_)));
  }
  return BackendStatus::kOk;
}
}  // namespace vicinal::gpu
