#include "src/distance/gpu/gpu_backend.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "src/distance/gpu/link_kernels.h"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/tensor_maps.h"

namespace vicinal {
namespace gpu {
namespace {

// Candidates of one query, at most: they are sorted in shared memory, of which
// some devices have half.
constexpr uint32_t kMaxCapacity = 16384;
constexpr size_t kSharedForMaxCapacity = 160 << 10;
constexpr uint32_t kMaxDim = 4096;
// Queries of one batch: enough for any number of processors.
constexpr size_t kMaxBatch = 16384;

// Of kMaxBatch rows to link, those that may be compared with every row one by
// one. Where there are more (thousands of copies of one vector), other ways to
// link are faster.
constexpr size_t kMostLinkFallbacks = 64;

// Sizes of the rows; no memory yet.
DeviceRows ShapeOf(uint32_t num_rows, uint32_t dim, ElementType type,
                   Metric metric) {
  DeviceRows rows;
  rows.num_rows = num_rows;
  rows.dim = dim;
  rows.type = type;
  rows.metric = metric;
  const uint32_t used = dim + (metric == Metric::kL2 ? 3 : 0);
  rows.padded_dim = (used + 31) / 32 * 32;
  rows.stripe_rows = (num_rows + kTileRows - 1) / kTileRows * kStripeRun;
  return rows;
}

}  // namespace

class GpuSegment final : public LoadedSegment {
 public:
  explicit GpuSegment(const GpuBackend* backend) : backend_(backend) {}
  ~GpuSegment() override {
    cudaFree(const_cast<void*>(rows_.exact));
    cudaFree(const_cast<uint16_t*>(rows_.bf16));
    backend_->bytes_in_use_ -= bytes_;
  }
  size_t num_rows() const override { return rows_.num_rows; }
  size_t device_bytes() const override { return bytes_; }
  const DeviceRows& rows() const { return rows_; }

 private:
  friend class GpuBackend;
  const GpuBackend* const backend_;
  DeviceRows rows_;
  size_t bytes_ = 0;
};

// How a batch of queries is compared.
struct GpuBackend::Plan {
  bool stream = false;  // by StreamTiles
  uint32_t capacity = 0;
  uint32_t num_rounds = 0;
  Round rounds[18];  // the first stores all its candidates
};

struct GpuBackend::Question {
  const void* queries = nullptr;
  size_t num_queries = 0;
  size_t k = 0;
  const uint64_t* accepted = nullptr;  // on the device; null: all rows
  // kInvalidRow, or query q leaves row first_excluded + q out.
  uint32_t first_excluded = kInvalidRow;
  Neighbor* out = nullptr;
  // Whether queries and `out` are on the device.
  bool queries_there = false;
  bool out_there = false;
  // Queries of a batch that may be compared with every row; more: kUnsupported.
  size_t most_fallbacks = SIZE_MAX;

  size_t searched_k() const {
    return k + (first_excluded == kInvalidRow ? 0 : 1);
  }
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
  Neighbor* out = nullptr;  // on the device

  uint32_t ExcludedOf(size_t query) const {
    return first_excluded == kInvalidRow
               ? kInvalidRow
               : first_excluded + static_cast<uint32_t>(query);
  }
};

BackendStatus GpuBackend::Make(const GpuOptions& options,
                               std::unique_ptr<GpuBackend>* out) {
  if (options.device < 0 || options.device >= CountGpus()) {
    return BackendStatus::kUnsupported;
  }
  std::unique_ptr<GpuBackend> backend(new GpuBackend);
  cudaDeviceProp properties;
  if (cudaSetDevice(options.device) != cudaSuccess ||
      cudaGetDeviceProperties(&properties, options.device) != cudaSuccess) {
    return BackendStatus::kUnsupported;
  }
  if (properties.major < 8) return BackendStatus::kUnsupported;
  std::snprintf(backend->name_, sizeof(backend->name_), "cuda:%d",
                options.device);
  backend->device_ = options.device;
  backend->is_hopper_ = properties.major == 9 && properties.minor == 0;
  backend->num_processors_ = properties.multiProcessorCount;
  backend->max_capacity_ =
      properties.sharedMemPerBlockOptin >= kSharedForMaxCapacity
          ? kMaxCapacity
          : kMaxCapacity / 2;
  backend->budget_ = options.memory_budget;
  if (options.workspace_bytes > options.memory_budget) {
    return BackendStatus::kNoMemory;
  }
  void* workspace = nullptr;
  const BackendStatus made =
      backend->Check(cudaMalloc(&workspace, options.workspace_bytes));
  if (made != BackendStatus::kOk) return made;
  backend->workspace_ = Arena(workspace, options.workspace_bytes);
  backend->bytes_in_use_ = options.workspace_bytes;
  const BackendStatus streamed = backend->Check(
      cudaStreamCreateWithFlags(&backend->stream_, cudaStreamNonBlocking));
  if (streamed != BackendStatus::kOk) return streamed;
  void* lost = nullptr;
  const BackendStatus pinned = backend->Check(cudaMallocHost(&lost, kMaxBatch));
  if (pinned != BackendStatus::kOk) return pinned;
  backend->lost_queries_ = static_cast<uint8_t*>(lost);
  *out = std::move(backend);
  return BackendStatus::kOk;
}

GpuBackend::~GpuBackend() {
  cudaFreeHost(lost_queries_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  cudaFree(workspace_.data());
}

BackendStatus GpuBackend::Check(cudaError_t error) const {
  if (error == cudaSuccess) return BackendStatus::kOk;
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky
    return BackendStatus::kNoMemory;
  }
  if (error == cudaErrorInvalidValue ||
      error == cudaErrorInvalidConfiguration ||
      error == cudaErrorNotSupported ||
      error == cudaErrorNoKernelImageForDevice ||
      error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    cudaGetLastError();
    return BackendStatus::kUnsupported;
  }
  lost_ = true;
  return BackendStatus::kDeviceLost;
}

BackendStatus GpuBackend::Ready() const {
  return lost_.load() ? BackendStatus::kDeviceLost
                      : Check(cudaSetDevice(device_));
}

#define GPU_RETURN_IF_ERROR(call)                                    \
  do {                                                               \
    const BackendStatus status_of_call = (call);                     \
    if (status_of_call != BackendStatus::kOk) return status_of_call; \
  } while (false)

BackendStatus GpuBackend::Load(const SegmentRows& segment,
                               std::shared_ptr<const LoadedSegment>* out) {
  GPU_RETURN_IF_ERROR(Ready());
  const VectorSetView& view = segment.rows;
  if ((view.type != ElementType::kFloat32 &&
       view.type != ElementType::kFloat16) ||
      view.dim == 0 || view.dim > kMaxDim || view.num_rows >= kInvalidRow / 2) {
    return BackendStatus::kUnsupported;
  }
  auto loaded = std::make_shared<GpuSegment>(this);
  DeviceRows& rows = loaded->rows_;
  rows = ShapeOf(static_cast<uint32_t>(view.num_rows),
                 static_cast<uint32_t>(view.dim), view.type, segment.metric);
  if (view.num_rows == 0) {
    *out = std::move(loaded);
    return BackendStatus::kOk;
  }
  const size_t row_bytes = view.dim * ElementSize(view.type);
  const size_t exact_bytes = view.num_rows * row_bytes;
  const size_t bf16_bytes = rows.padded_rows() * rows.padded_dim * 2;
  const size_t bytes = exact_bytes + bf16_bytes;
  if (bytes_in_use_.fetch_add(bytes) + bytes > budget_) {
    bytes_in_use_ -= bytes;
    return BackendStatus::kNoMemory;
  }
  loaded->bytes_ = bytes;
  void* exact = nullptr;
  GPU_RETURN_IF_ERROR(Check(cudaMalloc(&exact, exact_bytes)));
  rows.exact = exact;
  void* bf16 = nullptr;
  GPU_RETURN_IF_ERROR(Check(cudaMalloc(&bf16, bf16_bytes)));
  rows.bf16 = static_cast<uint16_t*>(bf16);

  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  float* const maxima = workspace_.Take<float>(2);
  if (maxima == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(Check(cudaMemcpy2DAsync(
      exact, row_bytes, view.data, view.stride_bytes, row_bytes, view.num_rows,
      cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(maxima, 0, 2 * sizeof(float), stream_)));
  const size_t used_bytes = view.num_rows * rows.padded_dim * 2;
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(static_cast<std::byte*>(bf16) + used_bytes, 0,
                            bf16_bytes - used_bytes, stream_)));
  GPU_RETURN_IF_ERROR(
      Check(RoundRows(rows, static_cast<uint16_t*>(bf16), maxima, stream_)));
  float host_maxima[2];
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(host_maxima, maxima, sizeof(host_maxima),
                            cudaMemcpyDeviceToHost, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  rows.max_norm = host_maxima[0];
  rows.max_error = host_maxima[1];
  *out = std::move(loaded);
  return BackendStatus::kOk;
}

GpuBackend::Plan GpuBackend::MakePlan(size_t num_queries, size_t k,
                                      const DeviceRows& rows) const {
  Plan plan;
  plan.stream = num_queries <= kStreamQueries || !is_hopper_;
  const size_t least = num_queries <= kStreamQueries ? max_capacity_
                       : num_queries <= 512          ? 4096
                                                     : 1024;
  plan.capacity = static_cast<uint32_t>(
      std::min<size_t>(max_capacity_, std::bit_ceil(std::max(least, 16 * k))));
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
  const uint32_t stored = plan.capacity / kTileRows;
  const double all_growth =
      std::max(1.0, static_cast<double>(num_tiles) / stored);
  const double num_steps =
      std::min(15.0, std::ceil(std::log(all_growth) / std::log(most_growth)));
  const auto growth = static_cast<uint32_t>(
      std::ceil(std::pow(all_growth, 1 / std::max(1.0, num_steps)) - 1e-9));
  uint32_t step = 1;
  while ((num_tiles + step - 1) / step > stored) step *= growth;
  plan.rounds[plan.num_rounds++] = {(num_tiles + step - 1) / step, step, 0};
  while (step > 1) {
    const uint32_t before = (num_tiles + step - 1) / step;
    step /= growth;
    plan.rounds[plan.num_rounds++] = {(num_tiles + step - 1) / step - before,
                                      step, growth};
  }
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
  for (uint32_t round = 0; round < plan.num_rounds; ++round) {
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
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(lost_queries_, state.lost, batch.num_queries,
                            cudaMemcpyDeviceToHost, stream_)));
  std::vector<uint32_t> counts(report != nullptr ? batch.num_queries : 0);
  if (report != nullptr) {
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        counts.data(), state.counts, counts.size() * sizeof(uint32_t),
        cudaMemcpyDeviceToHost, stream_)));
  }
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  if (report != nullptr) {
    report->rounds += plan.num_rounds;
    for (uint32_t count : counts) report->candidates += count;
  }
  const std::vector<uint8_t> lost(lost_queries_,
                                  lost_queries_ + batch.num_queries);
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
          batch.k * sizeof(Neighbor), cudaMemcpyDeviceToDevice, stream_)));
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
      GPU_RETURN_IF_ERROR(Check(
          cudaMemcpyAsync(taken, raw + first * query_bytes, n * query_bytes,
                          cudaMemcpyHostToDevice, stream_)));
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

BackendStatus GpuBackend::Filter(const DeviceRows& whole,
                                 const uint64_t* accepted, DeviceRows* rows,
                                 const uint64_t** bits) const {
  *rows = whole;
  *bits = nullptr;
  if (accepted == nullptr || whole.num_rows == 0) return BackendStatus::kOk;
  const size_t num_words = (size_t{whole.num_rows} + 63) / 64;
  uint64_t* const on_device = workspace_.Take<uint64_t>(num_words);
  if (on_device == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(on_device, accepted, num_words * 8,
                                            cudaMemcpyHostToDevice, stream_)));
  *bits = on_device;
  std::vector<uint32_t> list;
  for (size_t word = 0; word < num_words; ++word) {
    for (uint64_t left = accepted[word]; left != 0; left &= left - 1) {
      const size_t row = word * 64 + std::countr_zero(left);
      if (row < whole.num_rows) list.push_back(static_cast<uint32_t>(row));
    }
  }
  // Few rows are copied together, so that none that is not accepted is
  // compared; else they are left out as they are found.
  DeviceRows few = ShapeOf(static_cast<uint32_t>(list.size()), whole.dim,
                           whole.type, whole.metric);
  const size_t bf16_bytes = few.padded_rows() * few.padded_dim * 2;
  if (list.size() * 4 > whole.num_rows ||
      bf16_bytes + list.size() * 4 > workspace_.left() / 2) {
    return BackendStatus::kOk;
  }
  few.exact = whole.exact;
  few.max_norm = whole.max_norm;
  few.max_error = whole.max_error;
  *rows = few;
  if (list.empty()) return BackendStatus::kOk;
  uint32_t* const map = workspace_.Take<uint32_t>(list.size());
  uint16_t* const bf16 =
      workspace_.Take<uint16_t>(few.padded_rows() * few.padded_dim);
  if (map == nullptr || bf16 == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(map, list.data(), list.size() * 4,
                                            cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(Check(GatherRows(whole, few, map, bf16, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));  // of `list`
  rows->bf16 = bf16;
  rows->row_map = map;
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
  const DeviceRows& whole = static_cast<const GpuSegment&>(segment).rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  DeviceRows rows;
  const uint64_t* bits = nullptr;
  GPU_RETURN_IF_ERROR(Filter(whole, accepted, &rows, &bits));
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

BackendStatus GpuBackend::Score(const LoadedSegment& segment,
                                const QueryBatch& queries,
                                const uint32_t* offsets, const RowId* list,
                                float* out) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  const size_t total = offsets[queries.num_queries];
  if (total == 0) return BackendStatus::kOk;
  const size_t query_bytes =
      queries.num_queries * rows.dim * ElementSize(rows.type);
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  std::byte* const raw = workspace_.Take<std::byte>(query_bytes);
  uint32_t* const ends = workspace_.Take<uint32_t>(queries.num_queries + 1);
  uint32_t* const ids = workspace_.Take<uint32_t>(total);
  float* const distances = workspace_.Take<float>(total);
  if (raw == nullptr || ends == nullptr || ids == nullptr ||
      distances == nullptr) {
    return BackendStatus::kNoMemory;
  }
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(raw, queries.data, query_bytes,
                                            cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(ends, offsets, (queries.num_queries + 1) * 4,
                            cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(Check(
      cudaMemcpyAsync(ids, list, total * 4, cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(
      Check(ScoreLists(rows, raw, static_cast<uint32_t>(queries.num_queries),
                       ends, ids, distances, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(out, distances, total * 4,
                                            cudaMemcpyDeviceToHost, stream_)));
  return Check(cudaStreamSynchronize(stream_));
}

BackendStatus GpuBackend::KnnGraph(const LoadedSegment& segment, size_t k,
                                   Neighbor* out, BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  if (k == 0 || k >= kMaxBackendK) return BackendStatus::kUnsupported;
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  if (rows.num_rows == 0) return BackendStatus::kOk;
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  return Run(rows, rows,
             {.queries = rows.exact,
              .num_queries = rows.num_rows,
              .k = k,
              .first_excluded = 0,
              .out = out,
              .queries_there = true},
             report);
}

BackendStatus GpuBackend::LinkGraph(const LoadedSegment& segment, RowId begin,
                                    RowId end, size_t k, const LinkRule& rule,
                                    Neighbor* out, uint32_t* num_duplicates,
                                    BackendReport* report) const {
  if (report != nullptr) *report = {};
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  if (k == 0 || k >= kMaxBackendK || rows.type != ElementType::kFloat32 ||
      rows.metric != Metric::kL2 || !CanSelectLinks(rows.dim, rule)) {
    return BackendStatus::kUnsupported;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto exact = static_cast<const float*>(rows.exact);
  for (size_t first = begin; first < end; first += kMaxBatch) {
    const size_t n = std::min<size_t>(kMaxBatch, end - first);
    workspace_.Rewind(0);
    Neighbor* const nearest = workspace_.Take<Neighbor>(n * k);
    Neighbor* const links = workspace_.Take<Neighbor>(n * rule.max_links);
    uint32_t* const duplicates = workspace_.Take<uint32_t>(n);
    if (nearest == nullptr || links == nullptr || duplicates == nullptr) {
      return BackendStatus::kNoMemory;
    }
    GPU_RETURN_IF_ERROR(Run(rows, rows,
                            {.queries = exact + first * rows.dim,
                             .num_queries = n,
                             .k = k,
                             .first_excluded = static_cast<uint32_t>(first),
                             .out = nearest,
                             .queries_there = true,
                             .out_there = true,
                             .most_fallbacks = kMostLinkFallbacks},
                            report));
    CandidateLists lists;
    lists.num_lists = n;
    lists.lists = nearest;
    lists.width = k;
    GPU_RETURN_IF_ERROR(
        Check(gpu::SelectLinks(rows, lists, rule, links, duplicates, stream_)));
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(out + (first - begin) * rule.max_links, links,
                              n * rule.max_links * sizeof(Neighbor),
                              cudaMemcpyDeviceToHost, stream_)));
    if (num_duplicates != nullptr) {
      GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
          num_duplicates + (first - begin), duplicates, n * sizeof(uint32_t),
          cudaMemcpyDeviceToHost, stream_)));
    }
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::SelectLinks(const LoadedSegment& segment,
                                      size_t num_lists, const uint32_t* offsets,
                                      const Neighbor* lists,
                                      const LinkRule& rule,
                                      Neighbor* out) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& rows = static_cast<const GpuSegment&>(segment).rows();
  if (rows.type != ElementType::kFloat32 || rows.metric != Metric::kL2 ||
      !CanSelectLinks(rows.dim, rule)) {
    return BackendStatus::kUnsupported;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  // As many lists at once as half of the workspace has room for.
  size_t first = 0;
  std::vector<uint32_t> ends;
  while (first < num_lists) {
    workspace_.Rewind(0);
    const size_t most = workspace_.left() / 4 / sizeof(Neighbor);
    size_t last = first + 1;
    while (last < num_lists && last - first < most / rule.max_links &&
           offsets[last + 1] - offsets[first] <= most) {
      ++last;
    }
    const size_t n = last - first;
    const size_t total = offsets[last] - offsets[first];
    ends.resize(n + 1);
    for (size_t i = 0; i <= n; ++i) {
      ends[i] = offsets[first + i] - offsets[first];
    }
    uint32_t* const ends_there = workspace_.Take<uint32_t>(n + 1);
    Neighbor* const lists_there = workspace_.Take<Neighbor>(total + 1);
    Neighbor* const links = workspace_.Take<Neighbor>(n * rule.max_links);
    if (ends_there == nullptr || lists_there == nullptr || links == nullptr) {
      return BackendStatus::kNoMemory;
    }
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(ends_there, ends.data(), (n + 1) * 4,
                              cudaMemcpyHostToDevice, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
        lists_there, lists + offsets[first], total * sizeof(Neighbor),
        cudaMemcpyHostToDevice, stream_)));
    CandidateLists taken;
    taken.num_lists = n;
    taken.lists = lists_there;
    taken.offsets = ends_there;
    GPU_RETURN_IF_ERROR(
        Check(gpu::SelectLinks(rows, taken, rule, links, nullptr, stream_)));
    GPU_RETURN_IF_ERROR(
        Check(cudaMemcpyAsync(out + first * rule.max_links, links,
                              n * rule.max_links * sizeof(Neighbor),
                              cudaMemcpyDeviceToHost, stream_)));
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
    first = last;
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::Assign(const LoadedSegment& segment,
                                 const float* centroids, size_t num_centroids,
                                 uint32_t* nearest, float* distances) const {
  GPU_RETURN_IF_ERROR(Ready());
  const DeviceRows& points = static_cast<const GpuSegment&>(segment).rows();
  if (points.type != ElementType::kFloat32 || num_centroids == 0) {
    return BackendStatus::kUnsupported;
  }
  if (points.num_rows == 0) return BackendStatus::kOk;
  DeviceRows rows = ShapeOf(static_cast<uint32_t>(num_centroids), points.dim,
                            ElementType::kFloat32, Metric::kL2);
  const std::lock_guard<std::mutex> lock(mutex_);
  workspace_.Rewind(0);
  float* const maxima = workspace_.Take<float>(2);
  float* const exact = workspace_.Take<float>(num_centroids * points.dim);
  uint16_t* const bf16 =
      workspace_.Take<uint16_t>(rows.padded_rows() * rows.padded_dim);
  if (maxima == nullptr || exact == nullptr || bf16 == nullptr) {
    return BackendStatus::kNoMemory;
  }
  rows.exact = exact;
  rows.bf16 = bf16;
  GPU_RETURN_IF_ERROR(Check(cudaMemsetAsync(maxima, 0, 8, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaMemsetAsync(
      bf16, 0, rows.padded_rows() * rows.padded_dim * 2, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
      exact, centroids, num_centroids * points.dim * sizeof(float),
      cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(Check(RoundRows(rows, bf16, maxima, stream_)));
  float host_maxima[2];
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(host_maxima, maxima, 8,
                                            cudaMemcpyDeviceToHost, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  rows.max_norm = host_maxima[0];
  rows.max_error = host_maxima[1];
  std::vector<Neighbor> found(points.num_rows);
  GPU_RETURN_IF_ERROR(Run(rows, rows,
                          {.queries = points.exact,
                           .num_queries = points.num_rows,
                           .k = 1,
                           .out = found.data(),
                           .queries_there = true},
                          nullptr));
  for (size_t i = 0; i < found.size(); ++i) {
    nearest[i] = found[i].row;
    if (distances != nullptr) distances[i] = found[i].distance;
  }
  return BackendStatus::kOk;
}

}  // namespace gpu

int CountGpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

BackendStatus MakeGpuBackend(const GpuOptions& options,
                             std::unique_ptr<DistanceBackend>* out) {
  std::unique_ptr<gpu::GpuBackend> backend;
  const BackendStatus made = gpu::GpuBackend::Make(options, &backend);
  if (made == BackendStatus::kOk) *out = std::move(backend);
  return made;
}

}  // namespace vicinal
