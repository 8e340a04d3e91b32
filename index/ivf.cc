#include "index/ivf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "index/flat.h"
#include "index/hnsw_search.h"
#include "index/ivf_search.h"
#include "index/scratch_pool.h"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"
#include "src/distance/load_row.h"

namespace vicinal {
namespace {

constexpr size_t kDefaultRerankFactor = 16;
// Of a list, in nanoseconds, without its rows.
constexpr double kList = 250;
// Where less than this share of a filter's share passes near the query, those
// that pass are far from it,
constexpr double kFarShare = 0.5;
// and all of them are looked at rather than lists that would take so much less
// where the filter is independent of the query. (Measured on 60,000 x 784: at
// 10 % lists read four fifths of them and found 0.90 of the nearest, at 50 % a
// quarter and 0.94.)
constexpr double kMostOfLists = 13;
// The same where their codes are read in blocks.
constexpr double kMostOfBlocks = 10;

}  // namespace

absl::StatusOr<std::unique_ptr<IvfIndex>> IvfIndex::Open(
    VectorSetView vectors, Metric metric, absl::string_view lists) {
  const auto damaged = [](absl::string_view what) {
    return absl::DataLossError(absl::StrCat("the lists of an index ", what));
  };
  if (lists.size() < ivf_bytes::kHeaderBytes) return damaged("are cut short");
  const auto num_lists = GetFixed<uint32_t>(lists.data());
  const auto dim = GetFixed<uint32_t>(lists.data() + 4);
  if (num_lists > kMaxIvfLists || dim != vectors.dim ||
      (num_lists == 0) != (vectors.num_rows == 0)) {
    return damaged("are of other rows");
  }
  const size_t centroids_offset = ivf_bytes::CentroidsOffset(num_lists);
  if (lists.size() != centroids_offset + size_t{num_lists} * dim * 4 ||
      reinterpret_cast<uintptr_t>(lists.data()) % alignof(float) != 0) {
    return damaged("have another size than their number says");
  }
  auto state = std::make_unique<IvfState>();
  state->vectors = vectors;
  state->metric = metric;
  state->offsets.resize(num_lists + 1);
  std::memcpy(state->offsets.data(), lists.data() + ivf_bytes::kHeaderBytes,
              state->offsets.size() * sizeof(uint32_t));
  if (state->offsets.front() != 0 ||
      state->offsets.back() != vectors.num_rows ||
      !std::is_sorted(state->offsets.begin(), state->offsets.end())) {
    return damaged("do not cover the rows");
  }
  state->centroids = {
      reinterpret_cast<const float*>(lists.data() + centroids_offset),
      num_lists, dim, dim};
  if (!AllFinite(state->centroids.data, size_t{num_lists} * dim)) {
    return damaged("have a centroid that is not finite");
  }
  state->ops = &OpsFor(metric, vectors.type);
  // Centroids of unit rows are shorter, and compared as they are.
  state->centroid_ops =
      &OpsFor(metric == Metric::kL2 ? Metric::kL2 : Metric::kInnerProduct,
              ElementType::kFloat32);
  state->coded_centroids = CodedCentroids(state->centroids, metric);
  state->bytes = lists.size() + state->coded_centroids.memory_bytes();
  return std::unique_ptr<IvfIndex>(new IvfIndex(std::move(state)));
}

IvfIndex::IvfIndex(std::unique_ptr<IvfState> state)
    : state_(std::move(state)) {}

IvfIndex::~IvfIndex() = default;

size_t IvfIndex::num_lists() const { return state_->num_lists(); }

size_t IvfIndex::NumListsOf(const Filter& filter) const {
  return state_->ListsOf(filter).count;
}

size_t IvfIndex::num_rows() const { return state_->vectors.num_rows; }

size_t IvfIndex::memory_bytes() const { return state_->bytes; }

RowCentres IvfIndex::centres() const {
  return {state_->centroids, state_->offsets};
}

void IvfIndex::UseCodes(const Codec* codec, const uint8_t* blocks) {
  state_->codec = codec;
  state_->blocks = blocks;
  state_->norms2.clear();
  if (codec == nullptr) return;
  for (size_t i = 0; i < num_lists(); ++i) {
    state_->norms2.push_back(
        codec->CentreNorm2(state_->centroids.row(i).data()));
  }
}

void IvfIndex::UseRecords(const Codec* codec, const uint8_t* records) {
  state_->codec = codec;
  state_->records = records;
}

size_t CodeBlocksBytes(const CodeLayout& layout, size_t num_rows) {
  return (num_rows + kCodeBlockRows - 1) / kCodeBlockRows *
         CodeBlockBytes(layout);
}

void PackCodeBlocks(const CodeLayout& layout, const uint8_t* records,
                    size_t num_rows, uint8_t* out, size_t num_threads) {
  constexpr size_t kBlocksAtOnce = 256;
  const size_t num_blocks = (num_rows + kCodeBlockRows - 1) / kCodeBlockRows;
  Workers workers(num_threads);
  workers.For(num_blocks, kBlocksAtOnce, [&](size_t begin, size_t end, size_t) {
    for (size_t block = begin; block < end; ++block) {
      const size_t row = block * kCodeBlockRows;
      PackCodeBlock(layout, records + row * layout.record_bytes,
                    std::min(kCodeBlockRows, num_rows - row),
                    out + block * CodeBlockBytes(layout));
    }
  });
}

// What a filtered search pays, in nanoseconds.
struct IvfIndex::FilterCost {
  double scan = 0;  // of the accepted rows' vectors
  double fixed = 0;
  double per_list = 0;
};

IvfIndex::FilterCost IvfIndex::CostOfFilter(const Filter& filter,
                                            size_t depth) const {
  const VectorSetView& vectors = state_->vectors;
  // Of a vector, of a line of it: measured like those of cost().
  constexpr double kVector = 15, kLine = 1.7;
  const double vector_cost =
      kVector + kLine * static_cast<double>(vectors.stride_bytes) /
                    SearchCost::kLineBytes;
  const auto accepted =
      static_cast<double>(filter.NumAccepted(vectors.num_rows));
  const auto rows = static_cast<double>(filter.RangeRows(vectors.num_rows));
  const size_t num_lists = state_->ListsOf(filter).count;
  const double rows_per_list = rows / static_cast<double>(num_lists);
  const double share = accepted / rows;
  const SearchCost cost = CostOf(rows, num_lists);
  FilterCost out;
  out.scan = accepted * vector_cost;
  out.fixed = cost.fixed;
  if (state_->codec == nullptr) {
    out.per_list = kList + rows_per_list * share * vector_cost;
    return out;
  }
  out.fixed += cost.per_rerank * static_cast<double>(depth);
  // Blocks of sixteen without an accepted row are passed over, and where one
  // stands alone its first line is waited for.
  constexpr double kLoneBlock = 80;
  const double read = 1 - std::pow(1 - share, kCodeBlockRows);
  out.per_list = kList + read * (cost.per_ef - kList) +
                 read * (1 - read) * kLoneBlock * rows_per_list /
                     static_cast<double>(kCodeBlockRows);
  return out;
}

absl::Status IvfIndex::Search(const void* query, const SearchParams& params,
                              const Filter& filter, const StopCondition& stop,
                              TopK* out, SearchStats* stats) const {
  VICINAL_DCHECK(params.k == out->k());
  const size_t n = filter.RangeRows(state_->vectors.num_rows);
  const size_t accepted = filter.NumAccepted(state_->vectors.num_rows);
  if (accepted == 0) return absl::OkStatus();
  const size_t num_lists = state_->ListsOf(filter).count;
  const size_t probes = std::clamp<size_t>(params.ef, 1, num_lists);
  const size_t depth =
      std::max(params.k, params.rerank > 0 ? params.rerank
                                           : kDefaultRerankFactor * params.k);
  const FilterCost cost = CostOfFilter(filter, depth);
  const auto lists = static_cast<double>(std::max(probes, params.filtered_ef));
  const bool scan =
      params.force == ForcedPlan::kNone
          ? accepted <= depth || cost.scan <= cost.fixed + cost.per_list * lists
          : params.force == ForcedPlan::kScan;
  const auto scan_exactly = [&] {
    return FlatIndex(state_->vectors, state_->metric)
        .Search(query, params, filter, stop, out, stats);
  };
  if (scan) return scan_exactly();
  const ScratchPool<IvfScratch>::Lease lease(&state_->scratches);
  IvfScratch& scratch = *lease.get();
  IvfCollector collector(*state_, query, filter, stop, depth, &scratch, out);
  absl::Status status = collector.Start();
  const size_t enough = std::min(params.k, accepted);
  const auto lists_of = [&](size_t ef, float reach) {
    return reach > 0 ? collector.ListsWithin(reach, ef) : ef;
  };
  if (status.ok() && filter.allowed != nullptr && params.filtered_ef > 0) {
    const double share = static_cast<double>(accepted) / static_cast<double>(n);
    if (params.force == ForcedPlan::kNone &&
        collector.ShareIn(probes).share() < kFarShare * share &&
        cost.scan <= kMostOfBlocks * (cost.fixed + cost.per_list * lists)) {
      return scan_exactly();
    }
    status = collector.ReadFiltered(
        lists_of(probes, params.reach),
        lists_of(params.filtered_ef, params.filtered_reach), share, enough,
        params.force == ForcedPlan::kIndex
            ? num_lists
            : static_cast<size_t>(cost.scan / cost.per_list));
    if (status.ok() && !collector.is_done()) {
      // So much reading costs what the scan does, which finds all of them.
      out->TakeSorted();
      status = scan_exactly();
      if (stats != nullptr) {
        stats->distance_computations += collector.work().distance_computations;
        stats->expanded_nodes += collector.work().expanded_nodes;
      }
      return status;
    }
  } else if (status.ok()) {
    size_t goal = lists_of(probes, params.reach);
    while (status.ok()) {
      status = collector.ReadUpTo(goal);
      if (collector.num_found() >= enough ||
          collector.num_read() == num_lists) {
        break;
      }
      goal = 2 * collector.num_read();
    }
  }
  Finish(query, &collector, &scratch, out, stats);
  if (stats != nullptr) {
    stats->plan = num_lists == 1 ? SearchPlan::kCodes : SearchPlan::kLists;
  }
  return status;
}

void IvfIndex::Finish(const void* query, IvfCollector* collector,
                      IvfScratch* scratch, TopK* out,
                      SearchStats* stats) const {
  SearchStats work = collector->work();
  if (state_->codec != nullptr) {
    collector->Trim();
    std::vector<RowId>& rows = scratch->rows;
    rows.clear();
    for (const Neighbor& candidate : scratch->pool) {
      rows.push_back(candidate.row);
    }
    // In the order of memory.
    std::sort(rows.begin(), rows.end());
    scratch->exact.resize(rows.size());
    GatherAhead(*state_->ops, query, state_->vectors, rows.data(), rows.size(),
                scratch->exact.data());
    for (size_t i = 0; i < rows.size(); ++i) {
      out->Push({scratch->exact[i], rows[i]});
    }
    work.distance_computations += rows.size();
  }
  if (stats == nullptr) return;
  stats->distance_computations += work.distance_computations;
  stats->expanded_nodes += work.expanded_nodes;
}

namespace {

// Of a record, or a vector, that is read where many beside it are; measured 28
// to 33 ns for records of four lines.
double NsOfRow(const IvfState& state) {
  constexpr double kRow = 10, kLine = 5;
  const double bytes = state.codec != nullptr
                           ? state.codec->layout().record_bytes
                           : static_cast<double>(state.vectors.stride_bytes);
  return kRow + kLine * bytes / SearchCost::kLineBytes;
}

// Without its rows, where no codes are around its centroid.
constexpr double kBareList = 60;

}  // namespace

double IvfIndex::ScanNs(const Filter& filter) const {
  return static_cast<double>(filter.NumAccepted(num_rows())) * NsOfRow(*state_);
}

double IvfIndex::FilteredNs(const SearchParams& params,
                            const Filter& filter) const {
  const double lists = static_cast<double>(
      std::min(num_lists(), std::max(params.cells, params.filtered_ef)));
  return cost().fixed + lists * kBareList +
         ScanNs(filter) * lists / static_cast<double>(num_lists());
}

absl::StatusOr<IvfIndex::Filtered> IvfIndex::SearchFiltered(
    const void* query, const SearchParams& params, const Filter& filter,
    absl::FunctionRef<double(double)> walk_ns, const StopCondition& stop,
    TopK* out, SearchStats* stats) const {
  const size_t accepted = filter.NumAccepted(num_rows());
  const double share =
      static_cast<double>(accepted) / static_cast<double>(num_rows());
  const size_t lists = std::clamp<size_t>(params.cells, 1, num_lists());
  const size_t filtered =
      std::clamp<size_t>(params.filtered_ef, lists, num_lists());
  const size_t depth =
      std::max(params.k, params.rerank > 0 ? params.rerank
                                           : kDefaultRerankFactor * params.k);
  const ScratchPool<IvfScratch>::Lease lease(&state_->scratches);
  IvfScratch& scratch = *lease.get();
  IvfCollector collector(*state_, query, filter, stop, depth, &scratch, out);
  collector.CompareCentroids();
  const IvfCollector::Share near = collector.ShareIn(lists);
  const double near_share = near.share();
  const double rows = static_cast<double>(near.num_accepted) +
                      static_cast<double>(accepted) *
                          static_cast<double>(filtered - lists) /
                          static_cast<double>(num_lists());
  const double lists_ns =
      static_cast<double>(filtered) * kBareList + rows * NsOfRow(*state_);
  if (near_share < kFarShare * share) {
    // The order of the lists says little of rows far from the query.
    if (ScanNs(filter) <= kMostOfLists * FilteredNs(params, filter)) {
      return Filtered{Way::kScan, near_share};
    }
  } else if (walk_ns(near_share) < lists_ns) {
    return Filtered{Way::kWalk, near_share};
  }
  VICINAL_RETURN_IF_ERROR(collector.Prepare());
  VICINAL_RETURN_IF_ERROR(collector.ReadFiltered(
      lists, filtered, share, std::min(params.k, accepted), num_lists()));
  Finish(query, &collector, &scratch, out, stats);
  return Filtered{Way::kLists, near_share};
}

// Lists are read as streams.
SearchCost IvfIndex::cost() const {
  return CostOf(static_cast<double>(state_->vectors.num_rows), num_lists());
}

SearchCost IvfIndex::CostOf(double num_rows, size_t num_lists) const {
  constexpr double kRow = 0.5, kCodeLine = 2.2, kVectorLine = 3;
  constexpr double kCentroidLine = 0.4;
  const double rows =
      num_rows / static_cast<double>(std::max<size_t>(1, num_lists));
  const double centroid_lines =
      state_->vectors.dim * sizeof(float) / SearchCost::kLineBytes;
  const double vector_lines = state_->vectors.dim *
                              ElementSize(state_->vectors.type) /
                              SearchCost::kLineBytes;
  SearchCost cost{.fixed = 2'000 + kCentroidLine *
                                       static_cast<double>(num_lists) *
                                       centroid_lines};
  if (state_->codec != nullptr) {
    const double lines =
        static_cast<double>(CodeBlockBytes(state_->codec->layout())) /
        kCodeBlockRows / SearchCost::kLineBytes;
    cost.per_ef = kList + rows * (kRow + kCodeLine * lines);
    cost.per_rerank = SearchCost::OfReranking(state_->vectors);
  } else {
    cost.per_ef = kList + rows * kVectorLine * vector_lines;
  }
  return cost;
}

}  // namespace vicinal
