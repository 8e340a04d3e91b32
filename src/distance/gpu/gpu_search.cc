// How a GPU searches: rounds over growing samples, and what is done where that
// does not suffice.
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/tensor_maps.h"

namespace vicinal::gpu {
namespace {

// Words of a set of rows between which all that are in it lie.
struct Span {
  size_t begin = 0;
  size_t end = 0;  // begin: there are none
  size_t num_accepted = 0;
};

// Bits behind the last row may be set.
Span SpanOf(const uint64_t* accepted, size_t num_rows) {
  const size_t num_words = (num_rows + 63) / 64;
  Span span;
  for (size_t i = 0; i < num_words; ++i) {
    uint64_t word = accepted[i];
    if (i + 1 == num_words && num_rows % 64 != 0) {
      word &= (uint64_t{1} << (num_rows % 64)) - 1;
    }
    if (word == 0) continue;
    if (span.num_accepted == 0) span.begin = i;
    span.end = i + 1;
    span.num_accepted += std::popcount(word);
  }
  return span;
}

}  // namespace

DeviceRows PartOf(const DeviceRows& segment, size_t begin, size_t end) {
  if (begin == 0 && end == segment.num_rows) return segment;
  DeviceRows part = ShapeOf(static_cast<uint32_t>(end - begin), segment.dim,
                            segment.type, segment.metric);
  part.exact = segment.exact;
  part.bf16 = segment.bf16 + begin * segment.padded_dim;
  part.first_row = segment.first_row + static_cast<uint32_t>(begin);
  part.max_norm = segment.max_norm;
  part.max_error = segment.max_error;
  return part;
}

// How a batch of queries is compared.
struct GpuBackend::Plan {
  bool stream = false;  // by StreamTiles
  uint32_t capacity = 0;
  std::vector<Round> rounds;  // the first stores all its candidates
};

struct GpuBackend::Batch {
  const void* queries = nullptr;  // on the device
  size_t num_queries = 0;
  uint32_t k = 0;
  uint32_t searched_k = 0;  // k, and one more where a row is left out
  size_t most_fallbacks = SIZE_MAX;
  const uint64_t* accepted = nullptr;      // of the rows that are compared
  const uint64_t* all_accepted = nullptr;  // of all that there are
  uint32_t first_excluded = kInvalidRow;
  Neighbor* out = nullptr;  // on the device, or pinned
  // Of a few queries, which are not yet where `queries` is: see QueryState.
  const void* sent = nullptr;
  uint32_t* done = nullptr;

  uint32_t ExcludedOf(size_t query) const {
    return first_excluded == kInvalidRow
               ? kInvalidRow
               : first_excluded + static_cast<uint32_t>(query);
  }
};

uint32_t CapacityFor(size_t num_queries, size_t k, uint32_t most) {
  const size_t least = num_queries <= kStreamQueries ? most
                       : num_queries <= 512          ? 4096
                                                     : 1024;
  return static_cast<uint32_t>(
      std::min<size_t>(most, std::bit_ceil(std::max(least, 16 * k))));
}

std::vector<Round> PlanRounds(uint32_t num_tiles, uint32_t stored,
                              double most_growth) {
  const double all_growth =
      std::max(1.0, static_cast<double>(num_tiles) / stored);
  const double num_steps =
      std::min(15.0, std::ceil(std::log(all_growth) / std::log(most_growth)));
  const auto growth = static_cast<uint32_t>(
      std::ceil(std::pow(all_growth, 1 / std::max(1.0, num_steps)) - 1e-9));
  uint32_t step = 1;
  while ((num_tiles + step - 1) / step > stored) step *= growth;
  std::vector<Round> rounds = {{(num_tiles + step - 1) / step, step, 0}};
  while (step > 1) {
    const uint32_t before = (num_tiles + step - 1) / step;
    step /= growth;
    rounds.push_back({(num_tiles + step - 1) / step - before, step, growth});
  }
  return rounds;
}

GpuBackend::Plan GpuBackend::MakePlan(size_t num_queries, size_t k,
                                      const DeviceRows& rows) const {
  Plan plan;
  plan.stream = num_queries <= kStreamQueries || !is_hopper_;
  plan.capacity = CapacityFor(num_queries, k, max_capacity_);
  const uint32_t num_tiles = rows.num_tiles();
  // A round finds about (growth - 1) k candidates, and more by the margin of
  // their errors: half of the room is kept for chance. Many small rounds find
  // fewest, of which each stops its warp; few queries have more of launches
  // than of candidates. (Measured, 10,240 queries: growth 2 takes 0.985 of the
  // time of 4, 16 takes 1.05.)
  const double most_growth =
      std::clamp<double>(plan.capacity / (6.0 * (k + 4)), 2,
                         num_queries <= kStreamQueries ? 64
                         : num_queries <= 512          ? 4
                                                       : 2);
  plan.rounds = PlanRounds(num_tiles, plan.capacity / kTileRows, most_growth);
  return plan;
}

size_t GpuBackend::BytesPerQuery(const Plan& plan,
                                 const DeviceRows& rows) const {
  return size_t{rows.padded_dim} * 2 +
         size_t{plan.capacity} * sizeof(Candidate) + 4 * sizeof(float) + 1;
}

BackendStatus GpuBackend::Take(const Plan& plan, size_t num_queries,
                               const DeviceRows& rows,
                               QueryState* state) const {
  state->num_queries = static_cast<uint32_t>(num_queries);
  state->capacity = plan.capacity;
  state->bf16 = workspace_.Take<uint16_t>(num_queries * rows.padded_dim);
  state->error = workspace_.Take<float>(num_queries);
  state->floor = workspace_.Take<float>(num_queries);
  state->counts = workspace_.Take<uint32_t>(num_queries);
  state->kept = workspace_.Take<uint32_t>(num_queries);
  state->lost = workspace_.Take<uint8_t>(num_queries);
  state->candidates = workspace_.Take<Candidate>(num_queries * plan.capacity);
  return state->bf16 == nullptr || state->error == nullptr ||
                 state->floor == nullptr || state->counts == nullptr ||
                 state->kept == nullptr || state->lost == nullptr ||
                 state->candidates == nullptr
             ? BackendStatus::kNoMemory
             : BackendStatus::kOk;
}

BackendStatus GpuBackend::RunBatch(const DeviceRows& rows,
                                   const DeviceRows& whole, const Batch& batch,
                                   BackendReport* report) const {
  const Plan plan = MakePlan(batch.num_queries, batch.searched_k, rows);
  QueryState state;
  GPU_RETURN_IF_ERROR(Take(plan, batch.num_queries, rows, &state));
  state.raw = batch.queries;
  state.sent = batch.sent;
  state.done = batch.done;
  state.overlaps = batch.done != nullptr && plan.stream && is_hopper_;
  std::vector<uint32_t> excluded;
  if (batch.first_excluded != kInvalidRow) {
    excluded.resize(batch.num_queries);
    std::iota(excluded.begin(), excluded.end(), batch.first_excluded);
    GPU_RETURN_IF_ERROR(Exclude(excluded, &state));
  }
  TensorMaps maps;
  if (!plan.stream &&
      !MakeTensorMaps(rows, state.bf16, state.num_queries, &maps)) {
    return BackendStatus::kUnsupported;
  }
  GPU_RETURN_IF_ERROR(Check(PrepareQueries(rows, state, false, stream_)));
  for (size_t round = 0; round < plan.rounds.size(); ++round) {
    const Round& tiles = plan.rounds[round];
    const bool store_all = round == 0;
    GPU_RETURN_IF_ERROR(Check(
        plan.stream ? StreamTiles(rows, state, tiles, store_all, batch.accepted,
                                  num_processors_, stream_)
                    : MatrixTiles(maps, rows, state, tiles, store_all,
                                  batch.accepted, num_processors_, stream_)));
    GPU_RETURN_IF_ERROR(Check(
        RaiseFloors(state, batch.searched_k,
                    store_all ? tiles.num_tiles * kTileRows : 0, stream_)));
  }
  GPU_RETURN_IF_ERROR(
      Check(RankCandidates(rows, state, batch.k, batch.out, stream_)));
  std::vector<uint32_t> counts(batch.num_queries);
  std::vector<uint8_t> lost(batch.num_queries);
  if (batch.done != nullptr) {
    GPU_RETURN_IF_ERROR(
        Await(batch.num_queries, [&](size_t q) { return &batch.done[q]; }));
    for (size_t q = 0; q < batch.num_queries; ++q) {
      counts[q] = CandidatesOf(batch.done[q]);
      lost[q] = LostOf(batch.done[q]);
    }
  } else {
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(lost_queries_, state.lost, batch.num_queries,
                              cudaMemcpyDeviceToHost, stream_)));
    if (report != nullptr) {
      GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
          counts.data(), state.counts, counts.size() * sizeof(uint32_t),
          cudaMemcpyDeviceToHost, stream_)));
    }
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
    std::copy_n(lost_queries_, batch.num_queries, lost.begin());
  }
  if (report != nullptr) {
    report->rounds += static_cast<uint32_t>(plan.rounds.size());
    for (uint32_t count : counts) report->candidates += count;
  }
  if (std::all_of(lost.begin(), lost.end(), [](uint8_t l) { return l == 0; })) {
    return BackendStatus::kOk;
  }
  return Repeat(rows, whole, batch, state, lost.data(), report);
}

BackendStatus GpuBackend::Repeat(const DeviceRows& rows,
                                 const DeviceRows& whole, const Batch& batch,
                                 const QueryState& first, const uint8_t* lost,
                                 BackendReport* report) const {
  const size_t query_bytes = rows.dim * ElementSize(rows.type);
  const auto raw = static_cast<const std::byte*>(batch.queries);
  std::vector<size_t> exhaustive;
  std::vector<size_t> again;
  for (size_t q = 0; q < batch.num_queries; ++q) {
    if (lost[q] == 1) again.push_back(q);
    if (lost[q] == 2) exhaustive.push_back(q);
  }
  // Floors are known now, so that all rows fit one round.
  Plan plan;
  plan.capacity = max_capacity_;
  const size_t used = workspace_.used();
  const size_t per_query = BytesPerQuery(plan, rows) + query_bytes +
                           sizeof(uint32_t) + batch.k * sizeof(Neighbor);
  const bool excludes = batch.first_excluded != kInvalidRow;
  constexpr size_t kGaps = 16 * Arena::kAlignment;
  if (workspace_.left() < kGaps) return BackendStatus::kNoMemory;
  const size_t at_once = std::min<size_t>(
      {again.size(), kMaxBatch, (workspace_.left() - kGaps) / per_query});
  if (at_once == 0 && !again.empty()) return BackendStatus::kNoMemory;
  for (size_t begin = 0; begin < again.size(); begin += at_once) {
    const size_t n = std::min(at_once, again.size() - begin);
    workspace_.Rewind(used);
    QueryState state;
    std::byte* const queries = workspace_.Take<std::byte>(n * query_bytes);
    Neighbor* const out = workspace_.Take<Neighbor>(n * batch.k);
    GPU_RETURN_IF_ERROR(Take(plan, n, rows, &state));
    if (queries == nullptr || out == nullptr) return BackendStatus::kNoMemory;
    state.raw = queries;
    std::vector<uint32_t> excluded(n);
    for (size_t i = 0; i < n; ++i) {
      const size_t q = again[begin + i];
      excluded[i] = batch.ExcludedOf(q);
      GPU_RETURN_IF_ERROR(Check(
          cudaMemcpyAsync(queries + i * query_bytes, raw + q * query_bytes,
                          query_bytes, cudaMemcpyDeviceToDevice, stream_)));
      GPU_RETURN_IF_ERROR(
          Check(cudaMemcpyAsync(state.floor + i, first.floor + q, sizeof(float),
                                cudaMemcpyDeviceToDevice, stream_)));
    }
    if (excludes) GPU_RETURN_IF_ERROR(Exclude(excluded, &state));
    GPU_RETURN_IF_ERROR(Check(PrepareQueries(rows, state, true, stream_)));
    const Round tiles = {rows.num_tiles(), 1, 0};
    if (is_hopper_ && n > kStreamQueries) {
      TensorMaps maps;
      if (!MakeTensorMaps(rows, state.bf16, state.num_queries, &maps)) {
        return BackendStatus::kUnsupported;
      }
      GPU_RETURN_IF_ERROR(
          Check(MatrixTiles(maps, rows, state, tiles, false, batch.accepted,
                            num_processors_, stream_)));
    } else {
      GPU_RETURN_IF_ERROR(
          Check(StreamTiles(rows, state, tiles, false, batch.accepted,
                            num_processors_, stream_)));
    }
    GPU_RETURN_IF_ERROR(
        Check(RaiseFloors(state, batch.searched_k, 0, stream_)));
    GPU_RETURN_IF_ERROR(
        Check(RankCandidates(rows, state, batch.k, out, stream_)));
    std::vector<uint8_t> still(n);
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        still.data(), state.lost, n, cudaMemcpyDeviceToHost, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
    for (size_t i = 0; i < n; ++i) {
      const size_t q = again[begin + i];
      if (still[i] != 0) {
        exhaustive.push_back(q);
        continue;
      }
      GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
          batch.out + q * batch.k, out + i * batch.k,
          batch.k * sizeof(Neighbor), cudaMemcpyDefault, stream_)));
    }
    if (report != nullptr) report->repeated += n;
  }
  workspace_.Rewind(used);
  if (exhaustive.size() > batch.most_fallbacks) {
    return BackendStatus::kUnsupported;
  }
  if (!exhaustive.empty()) {
    uint64_t* const keys = workspace_.Take<uint64_t>(whole.num_rows);
    if (keys == nullptr) return BackendStatus::kNoMemory;
    for (size_t q : exhaustive) {
      GPU_RETURN_IF_ERROR(Check(RankAll(
          whole, raw + q * query_bytes, batch.k, batch.all_accepted,
          batch.ExcludedOf(q), keys, batch.out + q * batch.k, stream_)));
    }
    if (report != nullptr) {
      report->fallbacks += static_cast<uint32_t>(exhaustive.size());
      report->candidates += exhaustive.size() * whole.num_rows;
    }
  }
  return Check(cudaStreamSynchronize(stream_));
}

BackendStatus GpuBackend::Exclude(const std::vector<uint32_t>& rows,
                                  QueryState* state) const {
  uint32_t* const taken = workspace_.Take<uint32_t>(rows.size());
  if (taken == nullptr) return BackendStatus::kNoMemory;
  state->excluded = taken;
  return Check(cudaMemcpyAsync(taken, rows.data(), rows.size() * 4,
                               cudaMemcpyHostToDevice, stream_));
}

BackendStatus GpuBackend::RunFew(const DeviceRows& rows,
                                 const DeviceRows& whole,
                                 const Question& question,
                                 BackendReport* report) const {
  const size_t n = question.num_queries;
  const size_t bytes = n * rows.dim * ElementSize(rows.type);
  Arena pinned(few_.data, kFewBytes);
  Batch batch;
  batch.done = pinned.Take<uint32_t>(n);
  batch.out =
      question.out_there ? question.out : pinned.Take<Neighbor>(n * question.k);
  if (batch.done == nullptr || batch.out == nullptr) {
    return BackendStatus::kNoMemory;
  }
  std::fill_n(batch.done, n, 0u);
  batch.queries = question.queries;
  if (!question.queries_there) {
    auto* const sent = pinned.Take<std::byte>(bytes);
    batch.queries = workspace_.Take<std::byte>(bytes);
    if (sent == nullptr || batch.queries == nullptr) {
      return BackendStatus::kNoMemory;
    }
    std::memcpy(sent, question.queries, bytes);
    batch.sent = sent;
  }
  batch.num_queries = n;
  batch.k = static_cast<uint32_t>(question.k);
  batch.searched_k = batch.k;
  // Rows that were gathered are accepted all.
  batch.accepted = rows.row_map != nullptr ? nullptr : question.accepted;
  batch.all_accepted = question.accepted;
  batch.most_fallbacks = question.most_fallbacks;
  GPU_RETURN_IF_ERROR(RunBatch(rows, whole, batch, report));
  if (!question.out_there) {
    std::copy_n(batch.out, n * question.k, question.out);
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::Run(const DeviceRows& rows, const DeviceRows& whole,
                              const Question& question,
                              BackendReport* report) const {
  const size_t num_queries = question.num_queries;
  const size_t k = question.k;
  if (rows.num_rows == 0) {
    return BackendStatus::kUnsupported;  // the caller fills `out`
  }
  const size_t query_bytes = rows.dim * ElementSize(rows.type);
  const size_t used = workspace_.used();
  if (num_queries <= kStreamQueries &&
      num_queries * query_bytes <= kFewBytes / 2 &&
      question.first_excluded == kInvalidRow) {
    const BackendReport before = report != nullptr ? *report : BackendReport();
    const BackendStatus status = RunFew(rows, whole, question, report);
    if (status == BackendStatus::kOk) return status;
    // What has begun still uses the memory of the next call.
    cudaStreamSynchronize(stream_);
    if (status != BackendStatus::kNoMemory) return status;
    // One by one, maybe.
    workspace_.Rewind(used);
    if (report != nullptr) *report = before;
  }
  const Plan plan = MakePlan(num_queries, question.searched_k(), rows);
  const size_t per_query =
      BytesPerQuery(plan, rows) + query_bytes + k * sizeof(Neighbor);
  // Half of what is left: the other half is for batches that are repeated.
  size_t at_once = std::min<size_t>(
      {num_queries, kMaxBatch, workspace_.left() / 2 / per_query});
  if (at_once == 0) return BackendStatus::kNoMemory;
  if (at_once < num_queries && at_once > kQueryTile) {
    at_once = at_once / kQueryTile * kQueryTile;  // whole tiles
  }
  const auto raw = static_cast<const std::byte*>(question.queries);
  for (size_t first = 0; first < num_queries; first += at_once) {
    const size_t n = std::min(at_once, num_queries - first);
    workspace_.Rewind(used);
    Batch batch;
    if (question.queries_there) {
      batch.queries = raw + first * query_bytes;
    } else {
      std::byte* const taken = workspace_.Take<std::byte>(n * query_bytes);
      if (taken == nullptr) return BackendStatus::kNoMemory;
      GPU_RETURN_IF_ERROR(Check(staging_.Copy(taken, raw + first * query_bytes,
                                              n * query_bytes, stream_)));
      batch.queries = taken;
    }
    batch.out = question.out_there ? question.out + first * k
                                   : workspace_.Take<Neighbor>(n * k);
    if (batch.out == nullptr) return BackendStatus::kNoMemory;
    batch.num_queries = n;
    batch.k = static_cast<uint32_t>(k);
    batch.searched_k = static_cast<uint32_t>(question.searched_k());
    // Rows that were gathered are accepted all.
    batch.accepted = rows.row_map != nullptr ? nullptr : question.accepted;
    batch.all_accepted = question.accepted;
    batch.most_fallbacks = question.most_fallbacks;
    batch.first_excluded =
        question.first_excluded == kInvalidRow
            ? kInvalidRow
            : question.first_excluded + static_cast<uint32_t>(first);
    GPU_RETURN_IF_ERROR(RunBatch(rows, whole, batch, report));
    if (question.out_there) continue;
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        question.out + first * k, batch.out, n * k * sizeof(Neighbor),
        cudaMemcpyDeviceToHost, stream_)));
  }
  return Check(cudaStreamSynchronize(stream_));
}

BackendStatus GpuBackend::Filter(const uint64_t* accepted, DeviceRows* whole,
                                 DeviceRows* rows,
                                 const uint64_t** bits) const {
  *rows = *whole;
  *bits = nullptr;
  if (accepted == nullptr || whole->num_rows == 0) return BackendStatus::kOk;
  // From the first word with an accepted row to the last: rows of a partition
  // lie together.
  const Span span = SpanOf(accepted, whole->num_rows);
  *whole = PartOf(*whole, span.begin * 64,
                  std::min<size_t>(span.end * 64, whole->num_rows));
  *rows = *whole;
  if (span.num_accepted == whole->num_rows) return BackendStatus::kOk;
  const size_t num_words = span.end - span.begin;
  accepted += span.begin;
  uint64_t* const on_device = workspace_.Take<uint64_t>(num_words);
  if (on_device == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(on_device, accepted, num_words * 8,
                                            cudaMemcpyHostToDevice, stream_)));
  *bits = on_device;
  // Few rows are copied together, so that none that is not accepted is
  // compared; else they are left out as they are found.
  if (span.num_accepted * 4 > whole->num_rows) return BackendStatus::kOk;
  DeviceRows few = ShapeOf(static_cast<uint32_t>(span.num_accepted), whole->dim,
                           whole->type, whole->metric);
  const size_t bf16_bytes = few.padded_rows() * few.padded_dim * 2;
  if (bf16_bytes + span.num_accepted * 4 > workspace_.left() / 2) {
    return BackendStatus::kOk;
  }
  std::vector<uint32_t> list;
  list.reserve(span.num_accepted);
  for (size_t word = 0; word < num_words; ++word) {
    for (uint64_t left = accepted[word]; left != 0; left &= left - 1) {
      if (list.size() == span.num_accepted) break;  // behind the last row
      list.push_back(static_cast<uint32_t>(whole->first_row + word * 64 +
                                           std::countr_zero(left)));
    }
  }
  few.exact = whole->exact;
  few.max_norm = whole->max_norm;
  few.max_error = whole->max_error;
  uint32_t* const map = workspace_.Take<uint32_t>(list.size());
  uint16_t* const bf16 =
      workspace_.Take<uint16_t>(few.padded_rows() * few.padded_dim);
  if (map == nullptr || bf16 == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(map, list.data(), list.size() * 4,
                                            cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(Check(GatherRows(*whole, few, map, bf16, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));  // of `list`
  few.bf16 = bf16;
  few.row_map = map;
  *rows = few;
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::Search(const LoadedSegment& segment,
                                 const QueryBatch& queries, size_t k,
                                 const uint64_t* accepted, Neighbor* out,
                                 BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  if (k == 0 || k > kMaxBackendK) return BackendStatus::kUnsupported;
  if (queries.num_queries == 0) return BackendStatus::kOk;
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  return SearchAccepted(rows, queries, k, accepted, out, report);
}

BackendStatus GpuBackend::SearchAccepted(const DeviceRows& segment,
                                         const QueryBatch& queries, size_t k,
                                         const uint64_t* accepted,
                                         Neighbor* out,
                                         BackendReport* report) const {
  workspace_.Rewind(0);
  DeviceRows whole = segment;
  DeviceRows rows;
  const uint64_t* bits = nullptr;
  GPU_RETURN_IF_ERROR(Filter(accepted, &whole, &rows, &bits));
  if (rows.num_rows == 0) {
    std::fill(out, out + queries.num_queries * k,
              Neighbor{std::numeric_limits<float>::infinity(), kInvalidRow});
    return BackendStatus::kOk;
  }
  return Run(rows, whole,
             {.queries = queries.data,
              .num_queries = queries.num_queries,
              .k = k,
              .accepted = bits,
              .out = out},
             report);
}

BackendStatus GpuBackend::SearchOnDevice(const LoadedSegment& segment,
                                         const void* queries,
                                         size_t num_queries, size_t k,
                                         Neighbor* out,
                                         BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  return Run(rows, rows,
             {.queries = queries,
              .num_queries = num_queries,
              .k = k,
              .out = out,
              .queries_there = true,
              .out_there = true},
             report);
}

BackendStatus GpuBackend::SearchAll(const LoadedSegment& segment,
                                    const void* query, size_t k,
                                    Neighbor* out) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  const size_t query_bytes = rows.dim * ElementSize(rows.type);
  std::byte* const raw = workspace_.Take<std::byte>(query_bytes);
  uint64_t* const keys = workspace_.Take<uint64_t>(rows.num_rows);
  Neighbor* const found = workspace_.Take<Neighbor>(k);
  if (raw == nullptr || keys == nullptr || found == nullptr) {
    return BackendStatus::kNoMemory;
  }
  GPU_RETURN_IF_ERROR(Check(
      cudaMemcpyAsync(raw, query, query_bytes, cudaMemcpyDefault, stream_)));
  GPU_RETURN_IF_ERROR(
      Check(RankAll(rows, raw, static_cast<uint32_t>(k), nullptr, kInvalidRow,
                    keys, found, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(out, found, k * sizeof(Neighbor),
                                            cudaMemcpyDefault, stream_)));
  return Check(cudaStreamSynchronize(stream_));
}

}  // namespace vicinal::gpu
