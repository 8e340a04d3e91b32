// MaxSim on a GPU: in what order a batch of queries is compared with documents.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/gpu_tokens.h"
#include "src/distance/gpu/maxsim_kernels.h"

namespace vicinal::gpu {

// A batch of queries on its way: some of those of a call, which hold the
// backend's mutex.
class MaxSimRun {
 public:
  MaxSimRun(const GpuBackend& gpu, const LoadedSegment& documents,
            const TokenQueries& queries, const DocumentLists& lists,
            size_t first, size_t num, size_t k)
      : gpu_(gpu),
        loaded_(static_cast<const GpuTokens&>(documents)),
        queries_(queries),
        lists_(lists),
        first_(first),
        num_(num) {
    state_.num_queries = static_cast<uint32_t>(num);
    state_.k = static_cast<uint32_t>(k);
    state_.overlaps = gpu.is_hopper_;
  }

  // Writes num x k neighbours to out; adds to the report.
  BackendStatus Run(Neighbor* out, BackendReport* report);

 private:
  bool all() const { return lists_.offsets == nullptr; }
  uint32_t FirstToken() const { return queries_.offsets[first_]; }
  uint32_t NumTokens() const {
    return queries_.offsets[first_ + num_] - FirstToken();
  }
  // Says what each query is and which passes there are.
  void Plan();
  void PlanQuery(size_t i);
  // Copies queries, lists and items to the device.
  BackendStatus Send();
  BackendStatus Take();

  const GpuBackend& gpu_;
  const GpuTokens& loaded_;
  const TokenQueries& queries_;
  const DocumentLists& lists_;
  const size_t first_;
  const size_t num_;
  MaxSimState state_;
  std::vector<TokenQuery> shapes_;
  std::vector<MaxSimPass> passes_;
  std::vector<size_t> first_items_;  // of each pass, in items_
  std::vector<TokenItem> items_;     // of lists
  const TokenItem* items_there_ = nullptr;
  size_t num_partials_ = 0;
  size_t num_scores_ = 0;
  uint32_t most_candidates_ = 0;
};

void MaxSimRun::PlanQuery(size_t i) {
  const size_t q = first_ + i;
  TokenQuery& query = shapes_[i];
  query.first_token = queries_.offsets[q] - FirstToken();
  query.num_tokens = queries_.offsets[q + 1] - queries_.offsets[q];
  query.first_column = state_.num_columns;
  query.list_begin = static_cast<uint32_t>(num_scores_);
  query.list_size = all() ? loaded_.tokens.num_docs
                          : lists_.offsets[q + 1] - lists_.offsets[q];
  num_scores_ += query.list_size;
  most_candidates_ = std::max(most_candidates_, query.list_size);
  state_.max_tokens = std::max(state_.max_tokens, query.num_tokens);
  const uint32_t num_tiles =
      (query.num_tokens + kTokenColumns - 1) / kTokenColumns;
  state_.num_columns += num_tiles * kTokenColumns;
  const size_t first_item = items_.size();
  uint32_t num_items = loaded_.num_items;
  if (!all()) {
    const Items own =
        MakeItems(loaded_.offsets, lists_.docs + lists_.offsets[q],
                  query.list_size, gpu_.num_processors_);
    num_items = static_cast<uint32_t>(own.list.size());
    num_partials_ = std::max<size_t>(num_partials_, own.num_partials);
    items_.insert(items_.end(), own.list.begin(), own.list.end());
  }
  const uint32_t most_tiles = MostPassTiles(loaded_.tokens.padded_dim);
  for (uint32_t tile = 0; tile < num_tiles; ++tile) {
    // Queries share passes over all documents.
    if (passes_.empty() || passes_.back().num_tiles == most_tiles ||
        (!all() && tile == 0)) {
      MaxSimPass& pass = passes_.emplace_back();
      pass.num_items = num_items;
      pass.first_tile = query.first_column / kTokenColumns + tile;
      first_items_.push_back(first_item);
    }
    MaxSimPass& pass = passes_.back();
    pass.score_begin[pass.num_tiles] = query.list_begin;
    pass.is_first[pass.num_tiles++] = tile == 0;
  }
}

void MaxSimRun::Plan() {
  shapes_.resize(num_);
  if (all()) num_partials_ = loaded_.num_partials;
  for (size_t i = 0; i < num_; ++i) PlanQuery(i);
  state_.num_passes = static_cast<uint32_t>(passes_.size());
}

BackendStatus MaxSimRun::Send() {
  const size_t num_floats = size_t{NumTokens()} * loaded_.tokens.dim;
  const bool weighted = queries_.weights != nullptr;
  const size_t first_doc = all() ? 0 : lists_.offsets[first_];
  const size_t num_docs = all() ? 0 : lists_.offsets[first_ + num_] - first_doc;
  Layout layout;
  const size_t shapes_at = layout.Add<TokenQuery>(num_);
  const size_t tokens_at = layout.Add<float>(num_floats);
  const size_t weights_at = layout.Add<float>(weighted ? NumTokens() : 0);
  const size_t docs_at = layout.Add<RowId>(num_docs);
  const size_t items_at = layout.Add<TokenItem>(items_.size());
  std::vector<std::byte> elsewhere(layout.size() > kSentBytes ? layout.size()
                                                              : 0);
  std::byte* const from =
      elsewhere.empty()
          ? static_cast<std::byte*>(gpu_.pinned_.data) + kResultBytes
          : elsewhere.data();
  const auto put = [&](size_t at, const auto* data, size_t count) {
    if (count > 0) std::memcpy(from + at, data, count * sizeof(*data));
  };
  put(shapes_at, shapes_.data(), num_);
  put(tokens_at, queries_.tokens + size_t{FirstToken()} * loaded_.tokens.dim,
      num_floats);
  if (weighted) put(weights_at, queries_.weights + FirstToken(), NumTokens());
  if (!all()) put(docs_at, lists_.docs + first_doc, num_docs);
  put(items_at, items_.data(), items_.size());
  std::byte* there;
  GPU_RETURN_IF_ERROR(gpu_.Upload(from, layout.size(), &there));
  if (!elsewhere.empty()) {  // which goes now
    GPU_RETURN_IF_ERROR(gpu_.Check(cudaStreamSynchronize(gpu_.stream_)));
  }
  state_.queries = reinterpret_cast<const TokenQuery*>(there + shapes_at);
  state_.tokens = reinterpret_cast<const float*>(there + tokens_at);
  if (weighted) {
    state_.weights = reinterpret_cast<const float*>(there + weights_at);
  }
  if (!all()) state_.docs = reinterpret_cast<const uint32_t*>(there + docs_at);
  items_there_ = reinterpret_cast<const TokenItem*>(there + items_at);
  return BackendStatus::kOk;
}

BackendStatus MaxSimRun::Take() {
  const size_t split = num_ * kSplitCandidates;
  bool taken = true;
  const auto take = [&]<class T>(size_t count, T** to) {
    *to = gpu_.workspace_.Take<T>(count);
    taken = taken && *to != nullptr;
  };
  take(size_t{state_.num_columns} * loaded_.tokens.padded_dim, &state_.half);
  take(state_.num_columns, &state_.factors);
  take(num_, &state_.errors);
  take(num_scores_, &state_.scores);
  take(num_scores_, &state_.finished);
  take(num_scores_, &state_.survivors);
  take(num_, &state_.counts);
  take(num_, &state_.ranked);
  take(split, &state_.exact_finished);
  take(split * kExactParts * state_.max_tokens, &state_.exact_partials);
  take(passes_.size(), &state_.next_items);
  take(num_partials_ * kMaxPassTiles * kTokenColumns, &state_.partials);
  // Pinned, so that results need no copy of their own.
  state_.out = static_cast<Neighbor*>(gpu_.pinned_.data);
  state_.reports =
      reinterpret_cast<MaxSimReport*>(state_.out + num_ * state_.k);
  return taken ? BackendStatus::kOk : BackendStatus::kNoMemory;
}

BackendStatus MaxSimRun::Run(Neighbor* out, BackendReport* report) {
  const DeviceTokens& tokens = loaded_.tokens;
  const cudaStream_t stream = gpu_.stream_;
  gpu_.workspace_.Rewind(0);
  Plan();
  if (num_scores_ > UINT32_MAX / 2) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(Send());
  GPU_RETURN_IF_ERROR(Take());
  GPU_RETURN_IF_ERROR(gpu_.Check(PrepareMaxSim(tokens, state_, stream)));
  for (size_t i = 0; i < passes_.size(); ++i) {
    MaxSimPass& pass = passes_[i];
    pass.items = all() ? loaded_.items : items_there_ + first_items_[i];
    pass.next_item = state_.next_items + i;
    pass.finished = state_.finished + pass.score_begin[0];
    pass.partials = state_.partials;
    GPU_RETURN_IF_ERROR(gpu_.Check(
        StreamMaxSim(tokens, state_, pass, gpu_.num_processors_, stream)));
  }
  GPU_RETURN_IF_ERROR(
      gpu_.Check(SelectMaxSim(state_, most_candidates_, stream)));
  GPU_RETURN_IF_ERROR(
      gpu_.Check(RankMaxSim(tokens, state_, gpu_.num_processors_, stream)));
  GPU_RETURN_IF_ERROR(gpu_.Check(cudaStreamSynchronize(stream)));
  std::copy_n(state_.out, num_ * state_.k, out);
  report->rounds += state_.num_passes;
  for (size_t i = 0; i < num_; ++i) {
    report->candidates += state_.reports[i].candidates;
    report->fallbacks += state_.reports[i].unbounded;
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::MaxSim(const LoadedSegment& documents,
                                 const TokenQueries& queries,
                                 const DocumentLists& lists, size_t k,
                                 Neighbor* out, BackendReport* report) const {
  BackendReport done;
  if (report != nullptr) *report = done;
  GPU_RETURN_IF_ERROR(Ready());
  if (k == 0 || k > kMaxBackendK) return BackendStatus::kUnsupported;
  for (size_t q = 0; q < queries.num_queries; ++q) {
    const uint32_t num_tokens = queries.offsets[q + 1] - queries.offsets[q];
    if (num_tokens == 0 || num_tokens > kMaxQueryTokens) {
      return BackendStatus::kUnsupported;
    }
  }
  if (documents.num_rows() == 0) {
    std::fill_n(out, queries.num_queries * k,
                Neighbor{std::numeric_limits<float>::infinity(), kInvalidRow});
    return BackendStatus::kOk;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  size_t at_once = kMaxBatchQueries;
  for (size_t first = 0; first < queries.num_queries;) {
    const size_t n = std::min(at_once, queries.num_queries - first);
    const BackendStatus status =
        MaxSimRun(*this, documents, queries, lists, first, n, k)
            .Run(out + first * k, &done);
    if (status == BackendStatus::kNoMemory && n > 1) {
      at_once = n / 2;
      continue;
    }
    GPU_RETURN_IF_ERROR(status);
    first += n;
  }
  if (report != nullptr) *report = done;
  return BackendStatus::kOk;
}

}  // namespace vicinal::gpu
