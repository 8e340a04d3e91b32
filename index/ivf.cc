// Lists, little-endian:
//
//   num_lists (u32), dim (u32)
//   offsets (u32, one more than lists): list i has rows offsets[i] to
//     offsets[i + 1]
//   zero bytes up to a multiple of 64
//   centroids (f32, num_lists x dim); unit rows were averaged under the cosine
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
#include "index/cell_order.h"
#include "index/flat.h"
#include "index/hnsw_search.h"
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

constexpr size_t kHeaderBytes = 8;
constexpr size_t kAlignment = 64;
// Centroids decide which rows are found, so they are learned with more care
// than the cells of a graph's order.
constexpr size_t kSamplePerList = 64;
constexpr size_t kMinSample = 4'096;  // where few lists were asked for
constexpr size_t kIterations = 12;
// Rows scored at a time: their estimates stay in the first-level cache.
constexpr size_t kScanRows = 256;
constexpr size_t kDefaultRerankFactor = 16;
// Fewer candidates are not worth a selection.
constexpr size_t kMinTrim = 32;

size_t CentroidsOffset(size_t num_lists) {
  const size_t bytes = kHeaderBytes + (num_lists + 1) * sizeof(uint32_t);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

absl::StatusOr<IvfLists> BuildIvfLists(VectorSetView vectors, Metric metric,
                                       const IvfParams& params,
                                       size_t num_threads,
                                       const CancelToken* cancel) {
  if (params.num_lists > kMaxIvfLists) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_lists is ", params.num_lists, "; at most ",
                     kMaxIvfLists, " are possible"));
  }
  const size_t sample_per_list =
      params.num_lists == 0
          ? kSamplePerList
          : std::max(kSamplePerList, kMinSample / params.num_lists);
  VICINAL_ASSIGN_OR_RETURN(Cells cells,
                           FindCells(vectors, metric,
                                     {.num_cells = params.num_lists,
                                      .sample_per_cell = sample_per_list,
                                      .iterations = kIterations,
                                      .seed = params.seed},
                                     num_threads, cancel));
  const size_t num_lists = cells.offsets.size() - 1;
  IvfLists lists;
  lists.order = std::move(cells.order);
  PutFixed<uint32_t>(&lists.bytes, num_lists);
  PutFixed<uint32_t>(&lists.bytes, vectors.dim);
  for (const uint32_t offset : cells.offsets) PutFixed(&lists.bytes, offset);
  lists.bytes.resize(CentroidsOffset(num_lists));
  lists.bytes.append(reinterpret_cast<const char*>(cells.centroids.data()),
                     cells.centroids.size() * sizeof(float));
  return lists;
}

namespace {

// Centroids in eight bits, centred and each with its own scale: which lists are
// near is found at a quarter of the bytes. (Measured: a tenth
// more queries per second on 60,000 x 784.)
class CodedCentroids {
 public:
  struct Scratch {
    std::vector<float> centred;
    std::vector<int8_t> query;
  };

  CodedCentroids() = default;
  CodedCentroids(MatrixView centroids, Metric metric);

  // Estimates, up to a term that all share and a factor, of the distances of
  // all centroids to a query of dim floats.
  void Estimate(const float* query, Scratch* scratch, float* out) const;
  size_t memory_bytes() const {
    return codes_.size() + (scales_.size() + norms2_.size()) * sizeof(float);
  }

 private:
  // Rounds to -127..127; returns the value of one.
  static float Round(std::span<const float> values, int8_t* out);

  const DistanceOps* ops_ = nullptr;
  bool is_l2_ = false;
  std::vector<float> mean_;
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<float> norms2_;  // centred; zeros but for L2
};

float CodedCentroids::Round(std::span<const float> values, int8_t* out) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  const float inverse = largest > 0 ? 127 / largest : 0;
  for (size_t i = 0; i < values.size(); ++i) {
    // To the nearest integer, without a call: 1.5 * 2^23 leaves no fraction.
    constexpr float kShift = 12'582'912;
    out[i] = static_cast<int8_t>(
        std::bit_cast<int32_t>(values[i] * inverse + kShift) -
        std::bit_cast<int32_t>(kShift));
  }
  return largest / 127;
}

CodedCentroids::CodedCentroids(MatrixView centroids, Metric metric)
    : ops_(&OpsFor(Metric::kInnerProduct, ElementType::kInt8)),
      is_l2_(metric == Metric::kL2),
      mean_(centroids.dim),
      codes_(centroids.num_rows * centroids.dim),
      norms2_(centroids.num_rows) {
  const size_t dim = centroids.dim;
  for (size_t i = 0; i < centroids.num_rows; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      mean_[j] += centroids.row(i)[j] / static_cast<float>(centroids.num_rows);
    }
  }
  std::vector<float> centred(dim);
  for (size_t i = 0; i < centroids.num_rows; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      centred[j] = centroids.row(i)[j] - mean_[j];
      if (is_l2_) norms2_[i] += centred[j] * centred[j];
    }
    scales_.push_back(Round(centred, &codes_[i * dim]));
  }
}

void CodedCentroids::Estimate(const float* query, Scratch* scratch,
                              float* out) const {
  const size_t dim = mean_.size();
  scratch->centred.assign(query, query + dim);
  if (is_l2_) {
    for (size_t j = 0; j < dim; ++j) scratch->centred[j] -= mean_[j];
  }
  scratch->query.resize(dim);
  const float scale =
      (is_l2_ ? 2 : 1) * Round(scratch->centred, scratch->query.data());
  ops_->scan(scratch->query.data(), codes_.data(), dim, scales_.size(), dim,
             out);
  // |q - c|^2 is |c|^2 - 2 <q, c> and |q|^2, which all share; the kernel gives
  // minus the product.
  for (size_t i = 0; i < scales_.size(); ++i) {
    out[i] = norms2_[i] + scale * scales_[i] * out[i];
  }
}

}  // namespace

struct IvfIndex::State {
  const DistanceOps* ops = nullptr;           // of the rows
  const DistanceOps* centroid_ops = nullptr;  // of f32
  MatrixView centroids;
  CodedCentroids coded_centroids;
  std::vector<uint32_t> offsets;
  std::vector<float> norms2;  // of the centroids, for a codec
  size_t bytes = 0;
  const Codec* codec = nullptr;  // null: rows are compared
  const uint8_t* blocks = nullptr;
  mutable ScratchPool<Scratch> scratches;

  size_t num_lists() const { return centroids.num_rows; }
};

struct IvfIndex::Scratch {
  PreparedQuery query;
  std::vector<float> floats;  // the query
  CodedCentroids::Scratch centroids;
  std::vector<float> distances;  // of the centroids, estimated
  std::vector<Neighbor> lists;   // nearest first as far as they were sorted
  std::vector<Neighbor> pool;    // candidates by their estimates
  std::vector<RowId> rows;
  std::vector<float> exact;
};

absl::StatusOr<std::unique_ptr<IvfIndex>> IvfIndex::Open(
    VectorSetView vectors, Metric metric, absl::string_view lists) {
  const auto damaged = [](absl::string_view what) {
    return absl::DataLossError(absl::StrCat("the lists of an index ", what));
  };
  if (lists.size() < kHeaderBytes) return damaged("are cut short");
  const auto num_lists = GetFixed<uint32_t>(lists.data());
  const auto dim = GetFixed<uint32_t>(lists.data() + 4);
  if (num_lists > kMaxIvfLists || dim != vectors.dim ||
      (num_lists == 0) != (vectors.num_rows == 0)) {
    return damaged("are of other rows");
  }
  const size_t centroids_offset = CentroidsOffset(num_lists);
  if (lists.size() != centroids_offset + size_t{num_lists} * dim * 4 ||
      reinterpret_cast<uintptr_t>(lists.data()) % alignof(float) != 0) {
    return damaged("have another size than their number says");
  }
  auto state = std::make_unique<State>();
  state->offsets.resize(num_lists + 1);
  std::memcpy(state->offsets.data(), lists.data() + kHeaderBytes,
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
  return std::unique_ptr<IvfIndex>(
      new IvfIndex(vectors, metric, std::move(state)));
}

IvfIndex::IvfIndex(VectorSetView vectors, Metric metric,
                   std::unique_ptr<State> state)
    : vectors_(vectors), metric_(metric), state_(std::move(state)) {}

IvfIndex::~IvfIndex() = default;

size_t IvfIndex::num_lists() const { return state_->num_lists(); }

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

size_t CodeBlocksBytes(const CodeLayout& layout, size_t num_rows) {
  return (num_rows + kCodeBlockRows - 1) / kCodeBlockRows *
         CodeBlockBytes(layout);
}

void PackCodeBlocks(const CodeLayout& layout, const uint8_t* records,
                    size_t num_rows, uint8_t* out) {
  for (size_t row = 0; row < num_rows; row += kCodeBlockRows) {
    PackCodeBlock(layout, records + row * layout.record_bytes,
                  std::min(kCodeBlockRows, num_rows - row), out);
    out += CodeBlockBytes(layout);
  }
}

// Reads lists for one query, nearest first. Candidates go to scratch->pool, or
// without codes, compared exactly, to `out`.
class IvfIndex::Collector {
 public:
  // depth: candidates kept in the pool.
  Collector(const IvfIndex& index, const void* query, const Filter& filter,
            const StopCondition& stop, size_t depth, Scratch* scratch,
            TopK* out)
      : index_(index),
        state_(*index.state_),
        query_(query),
        filter_(filter),
        accepts_all_(filter.AcceptsAll()),
        stop_(stop),
        depth_(depth),
        scratch_(*scratch),
        out_(out) {}

  // Compares the centroids. Before anything else.
  absl::Status Start();
  // Reads lists until `probes` were read in all.
  absl::Status ReadUpTo(size_t probes);
  // Never a candidate: the row that is the query.
  void Exclude(RowId row) { excluded_ = row; }
  size_t num_read() const { return num_read_; }
  size_t num_found() const { return num_found_; }
  // The best `depth` candidates, in no order.
  void Trim();
  const SearchStats& work() const { return work_; }

 private:
  absl::Status ReadList(const Neighbor& list);
  void ScanCodes(const CodeQuery& query, size_t begin, size_t end);

  const IvfIndex& index_;
  const State& state_;
  const void* const query_;
  const Filter& filter_;
  const bool accepts_all_;
  const StopCondition& stop_;
  const size_t depth_;
  Scratch& scratch_;
  TopK* const out_;
  RowId excluded_ = kInvalidRow;
  float limit_ = std::numeric_limits<float>::infinity();
  size_t num_read_ = 0;
  size_t num_sorted_ = 0;
  size_t num_found_ = 0;
  SearchStats work_;
};

absl::Status IvfIndex::Collector::Start() {
  const size_t num_lists = state_.num_lists();
  const size_t dim = index_.vectors_.dim;
  scratch_.pool.clear();
  scratch_.floats.resize(dim);
  LoadFloats(query_, index_.vectors_.type, dim, scratch_.floats.data());
  if (index_.metric_ == Metric::kCosine) {
    NormalizeInto(scratch_.floats.data(), dim, scratch_.floats.data());
  }
  scratch_.distances.resize(num_lists);
  state_.coded_centroids.Estimate(scratch_.floats.data(), &scratch_.centroids,
                                  scratch_.distances.data());
  scratch_.lists.resize(num_lists);
  for (size_t i = 0; i < num_lists; ++i) {
    scratch_.lists[i] = {scratch_.distances[i], static_cast<RowId>(i)};
  }
  work_.distance_computations += num_lists;
  if (state_.codec == nullptr) return absl::OkStatus();
  return state_.codec->Prepare(query_, index_.vectors_.type, &scratch_.query);
}

absl::Status IvfIndex::Collector::ReadUpTo(size_t probes) {
  probes = std::min(probes, state_.num_lists());
  const auto begin = scratch_.lists.begin();
  if (probes > num_sorted_) {
    std::partial_sort(begin + static_cast<ptrdiff_t>(num_sorted_),
                      begin + static_cast<ptrdiff_t>(probes),
                      scratch_.lists.end());
    num_sorted_ = probes;
  }
  while (num_read_ < probes) {
    VICINAL_RETURN_IF_ERROR(stop_.Check());
    VICINAL_RETURN_IF_ERROR(ReadList(scratch_.lists[num_read_++]));
    ++work_.expanded_nodes;
  }
  return absl::OkStatus();
}

absl::Status IvfIndex::Collector::ReadList(const Neighbor& list) {
  const size_t begin = state_.offsets[list.row];
  const size_t end = state_.offsets[list.row + 1];
  if (state_.codec == nullptr) {
    VectorSetView rows = index_.vectors_;
    rows.data = rows.row(begin);
    rows.num_rows = end - begin;
    const absl::Status status =
        ScanBlock(rows, static_cast<RowId>(begin), index_.metric_, query_,
                  filter_, StopCondition(), out_, &work_);
    num_found_ = out_->size();
    return status;
  }
  float distance = state_.centroid_ops->one(
      scratch_.floats.data(), state_.centroids.row(list.row).data(),
      index_.vectors_.dim);
  if (index_.metric_ == Metric::kCosine) distance += 1;
  ScanCodes(state_.codec->QueryAround(scratch_.query, distance,
                                      state_.norms2[list.row]),
            begin, end);
  work_.distance_computations += end - begin;
  return absl::OkStatus();
}

void IvfIndex::Collector::ScanCodes(const CodeQuery& query, size_t begin,
                                    size_t end) {
  const CodeLayout& layout = state_.codec->layout();
  const CodeKernels& kernels = ActiveCodeKernels();
  const size_t block_bytes = CodeBlockBytes(layout);
  const uint8_t* blocks = state_.blocks;
  std::array<float, kScanRows> estimates;
  std::array<uint32_t, kScanRows + 16> within;
  // In lists near a query too few blocks are far to look for them. (Measured:
  // one list of 60,000 x 784 1.2 to 1.7 times as fast, 245 lists no faster.)
  // Whole blocks: rows of the lists beside this one are left out afterwards.
  for (size_t first = begin / kCodeBlockRows * kCodeBlockRows; first < end;
       first += kScanRows) {
    const size_t count = std::min(kScanRows, end - first);
    const float leave_above = state_.num_lists() == 1
                                  ? limit_
                                  : std::numeric_limits<float>::infinity();
    kernels.scan_blocks(layout, query,
                        blocks + first / kCodeBlockRows * block_bytes,
                        (count + kCodeBlockRows - 1) / kCodeBlockRows,
                        leave_above, estimates.data());
    const size_t skipped = first < begin ? begin - first : 0;
    const size_t n = ActiveKernels().select_within(
        estimates.data() + skipped, count - skipped, limit_, within.data());
    for (size_t i = 0; i < n; ++i) {
      const size_t at = skipped + within[i];
      const auto row = static_cast<RowId>(first + at);
      if ((!accepts_all_ && !filter_.Accepts(row)) || row == excluded_) {
        continue;
      }
      scratch_.pool.push_back({estimates[at], row});
      ++num_found_;
    }
    // Half of what was gathered is dropped at a time, and soon, so that the
    // limit keeps out the most of what follows.
    if (scratch_.pool.size() >= 2 * depth_ + kMinTrim) Trim();
  }
}

void IvfIndex::Collector::Trim() {
  KeepNearest(depth_, &scratch_.pool, &limit_);
}

// Where few rows pass, reading just those is cheaper, and exact.
bool IvfIndex::ScanIsCheaper(size_t accepted, size_t probes,
                             size_t depth) const {
  const double rows =
      static_cast<double>(probes) * vectors_.num_rows / num_lists();
  if (state_->codec == nullptr) return accepted <= rows;
  // Nanoseconds of a vector, of a line of it: measured like those of cost().
  constexpr double kVector = 15, kLine = 1.7;
  const double lines =
      static_cast<double>(vectors_.stride_bytes) / SearchCost::kLineBytes;
  return accepted <= depth ||
         static_cast<double>(accepted) * (kVector + kLine * lines) <=
             cost().Of(static_cast<double>(probes), static_cast<double>(depth));
}

absl::Status IvfIndex::Search(const void* query, const SearchParams& params,
                              const Filter& filter, const StopCondition& stop,
                              TopK* out, SearchStats* stats) const {
  VICINAL_DCHECK(params.k == out->k());
  const size_t n = vectors_.num_rows;
  const size_t accepted = filter.NumAccepted(n);
  const size_t probes = std::clamp<size_t>(params.ef, 1, num_lists());
  const size_t depth =
      std::max(params.k, params.rerank > 0 ? params.rerank
                                           : kDefaultRerankFactor * params.k);
  if (n == 0 || ScanIsCheaper(accepted, probes, depth)) {
    return FlatIndex(vectors_, metric_)
        .Search(query, params, filter, stop, out, stats);
  }
  const ScratchPool<Scratch>::Lease lease(&state_->scratches);
  Scratch& scratch = *lease.get();
  Collector collector(*this, query, filter, stop, depth, &scratch, out);
  absl::Status status = collector.Start();
  const size_t enough = std::min(params.k, accepted);
  for (size_t goal = probes; status.ok();) {
    status = collector.ReadUpTo(goal);
    if (collector.num_found() >= enough ||
        collector.num_read() == num_lists()) {
      break;
    }
    goal = 2 * collector.num_read();
  }
  SearchStats work = collector.work();
  if (state_->codec != nullptr) {
    collector.Trim();
    scratch.rows.clear();
    for (const Neighbor& candidate : scratch.pool) {
      scratch.rows.push_back(candidate.row);
    }
    // In the order of memory.
    std::sort(scratch.rows.begin(), scratch.rows.end());
    scratch.exact.resize(scratch.rows.size());
    GatherAhead(*state_->ops, query, vectors_, scratch.rows.data(),
                scratch.rows.size(), scratch.exact.data());
    for (size_t i = 0; i < scratch.rows.size(); ++i) {
      out->Push({scratch.exact[i], scratch.rows[i]});
    }
    work.distance_computations += scratch.rows.size();
  }
  if (stats != nullptr) {
    stats->distance_computations += work.distance_computations;
    stats->expanded_nodes += work.expanded_nodes;
  }
  return status;
}

// Lists are read as streams.
SearchCost IvfIndex::cost() const {
  constexpr double kList = 250, kRow = 0.5, kCodeLine = 2.2, kVectorLine = 3;
  constexpr double kCentroidLine = 0.4;
  const double rows =
      static_cast<double>(vectors_.num_rows) / std::max<size_t>(1, num_lists());
  const double centroid_lines =
      vectors_.dim * sizeof(float) / SearchCost::kLineBytes;
  const double vector_lines =
      vectors_.dim * ElementSize(vectors_.type) / SearchCost::kLineBytes;
  SearchCost cost{.fixed =
                      2'000 + kCentroidLine * num_lists() * centroid_lines};
  if (state_->codec != nullptr) {
    const double lines =
        static_cast<double>(CodeBlockBytes(state_->codec->layout())) /
        kCodeBlockRows / SearchCost::kLineBytes;
    cost.per_ef = kList + rows * (kRow + kCodeLine * lines);
    cost.per_rerank = SearchCost::OfReranking(vectors_);
  } else {
    cost.per_ef = kList + rows * kVectorLine * vector_lines;
  }
  return cost;
}

absl::StatusOr<std::vector<RecallPoint>> IvfIndex::Calibrate(
    size_t num_threads, const CancelToken* cancel, VectorSetView given) const {
  constexpr auto kProbes = std::to_array<uint32_t>(
      {1,  2,   3,   4,   6,   8,   12,  16,   24,   32,   48,   64,
       96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096});
  // Deepest reranking that is measured: enough for the largest k.
  constexpr size_t kPool = 2'400;
  if (vectors_.num_rows < 2) return std::vector<RecallPoint>();
  Workers workers(num_threads);
  const CalibrationQueries queries =
      given.num_rows > 0 ? CalibrationQueries::Given(given)
                         : CalibrationQueries::OwnRows(
                               vectors_, std::vector<bool>(vectors_.num_rows));
  const std::vector<std::vector<Neighbor>> truth =
      ExactNeighbors(vectors_, *state_->ops, queries, &workers);
  const bool reranks = state_->codec != nullptr;
  std::vector<Scratch> scratches(workers.size());
  RecallPoints points;
  for (size_t step = 0; step < kProbes.size(); ++step) {
    const uint32_t probes = std::min<uint32_t>(kProbes[step], num_lists());
    RecallCounter counter(truth, probes, kPool, reranks, workers.size());
    std::vector<absl::Status> statuses(workers.size());
    workers.For(
        queries.size(), 4, [&](size_t begin, size_t end, size_t worker) {
          if (cancel != nullptr && cancel->cancelled()) return;
          Scratch& scratch = scratches[worker];
          for (size_t q = begin; q < end; ++q) {
            // One more where the query finds itself.
            TopK found(reranks ? 0 : kCalibratedDepths.back() + 1);
            const StopCondition never;
            const Filter all;
            Collector collector(*this, queries[q], all, never, kPool, &scratch,
                                &found);
            collector.Exclude(queries.OwnRow(q));
            statuses[worker].Update(collector.Start());
            statuses[worker].Update(collector.ReadUpTo(probes));
            std::vector<Neighbor>& pool = scratch.pool;
            if (reranks) {
              collector.Trim();
              std::sort(pool.begin(), pool.end());
            } else {
              pool = found.TakeSorted();
              std::erase_if(pool, [&](const Neighbor& neighbor) {
                return neighbor.row == queries.OwnRow(q);
              });
            }
            scratch.rows.clear();
            for (const Neighbor& candidate : pool) {
              scratch.rows.push_back(candidate.row);
            }
            scratch.exact.resize(pool.size());
            GatherAhead(*state_->ops, queries[q], vectors_, scratch.rows.data(),
                        scratch.rows.size(), scratch.exact.data());
            counter.Count(worker, q, {scratch.exact.data(), pool.size()});
          }
        });
    if (cancel != nullptr && cancel->cancelled()) {
      return absl::CancelledError("calibration cancelled");
    }
    for (const absl::Status& status : statuses) {
      VICINAL_RETURN_IF_ERROR(status);
    }
    counter.AppendTo(&points);
    if (probes == num_lists() || AllFound(points, truth[0].size())) break;
  }
  return Frontier(std::move(points), cost());
}

}  // namespace vicinal
