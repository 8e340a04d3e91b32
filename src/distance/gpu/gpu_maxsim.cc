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
namespace {

// Warps or warpgroups of a processor that compare documents at once, for which
// there should be two parts each, at least: they end at different times.
constexpr size_t kWarpsPerProcessor = 16;
constexpr size_t kGroupsPerProcessor = 2;

size_t PanelsOf(const CodedTokenQuery& query) {
  return (query.num_tokens + 15) / 16;
}

// In how many parts to compare each document. Long ones among many short ones
// stay whole, so that the others are not cut into nothing.
uint32_t PartsFor(const Lengths& lengths, size_t num_workers) {
  if (lengths.num == 0) return 1;
  const size_t steps = std::max<size_t>(1, lengths.total / (2 * num_workers));
  const size_t wanted = (lengths.longest + steps - 1) / steps;
  const size_t most = std::max<size_t>(1, 8 * num_workers / lengths.num);
  return static_cast<uint32_t>(std::clamp<size_t>(wanted, 1, most));
}

// What is sent to the device at once.
class Parcel {
 public:
  // Where `count` elements will be.
  template <class T>
  size_t Add(size_t count) {
    return layout_.Add<T>(count);
  }
  void SetRoom(std::byte* room) { room_ = room; }
  template <class T>
  void Put(size_t at, const T* data, size_t count) const {
    if (count > 0) std::memcpy(room_ + at, data, count * sizeof(T));
  }
  size_t size() const { return layout_.size(); }

 private:
  Layout layout_;
  std::byte* room_ = nullptr;
};

}  // namespace

// Queries of either kind.
struct MaxSimQuestion {
  TokenQueries queries;
  const CodedTokenQuery* coded = nullptr;
  size_t num_queries = 0;
  DocumentLists lists;
  size_t k = 0;

  size_t NumTokens(size_t q) const {
    return coded != nullptr ? coded[q].num_tokens
                            : queries.offsets[q + 1] - queries.offsets[q];
  }
};

// A batch of queries on its way: some of those of a call, which hold the
// backend's mutex.
class MaxSimRun {
 public:
  MaxSimRun(const GpuBackend& gpu, const LoadedSegment& documents,
            const MaxSimQuestion& question, size_t first, size_t num)
      : gpu_(gpu),
        loaded_(static_cast<const GpuTokens&>(documents)),
        question_(question),
        lists_(question.lists),
        first_(first),
        num_(num) {
    state_.num_queries = static_cast<uint32_t>(num);
    state_.k = static_cast<uint32_t>(question.k);
    state_.overlaps = gpu.is_hopper_;
    state_.code_dim = loaded_.code_dim;
    if (loaded_.hopper_tiles > 0) state_.map = &loaded_.map;
    most_tiles_ =
        on_hopper() ? loaded_.hopper_tiles : MostPassTiles(loaded_.tokens);
  }

  // Writes num x k neighbours to out; adds to the report.
  BackendStatus Run(Neighbor* out, BackendReport* report);

 private:
  bool all() const { return lists_.offsets == nullptr; }
  bool on_hopper() const { return state_.map != nullptr; }
  bool coded() const { return question_.coded != nullptr; }
  // Says what each query is and which passes there are.
  void Plan();
  void PlanQuery(size_t i);
  uint32_t PartsOfList(size_t q) const;
  // Copies queries and lists to the device.
  BackendStatus Send();
  BackendStatus SendFloats(Parcel* parcel);
  BackendStatus SendCodes(Parcel* parcel);
  // Sends what `put` puts, with the rest.
  template <class Put>
  BackendStatus SendParcel(Parcel* parcel, const Put& put, std::byte** there);
  BackendStatus Take();

  const GpuBackend& gpu_;
  const GpuTokens& loaded_;
  const MaxSimQuestion& question_;
  const DocumentLists& lists_;
  const size_t first_;
  const size_t num_;
  MaxSimState state_;
  uint32_t most_tiles_ = 0;
  std::vector<TokenQuery> shapes_;
  std::vector<MaxSimPass> passes_;
  size_t num_tokens_ = 0;
  size_t num_panels_ = 0;
  size_t num_scores_ = 0;
  size_t num_partials_ = 0;  // floats, of the pass that has most
  bool has_parts_ = false;
  bool has_chains_ = false;  // queries of several passes
  uint32_t most_candidates_ = 0;
};

uint32_t MaxSimRun::PartsOfList(size_t q) const {
  const size_t workers =
      gpu_.num_processors_ *
      (on_hopper() ? kGroupsPerProcessor : kWarpsPerProcessor);
  if (all()) return PartsFor(loaded_.lengths, workers);
  Lengths lengths;
  for (size_t i = lists_.offsets[q]; i < lists_.offsets[q + 1]; ++i) {
    const RowId doc = lists_.docs[i];
    lengths.Add(loaded_.offsets[doc + 1] - loaded_.offsets[doc]);
  }
  return PartsFor(lengths, workers);
}

void MaxSimRun::PlanQuery(size_t i) {
  const size_t q = first_ + i;
  TokenQuery& query = shapes_[i];
  query.first_token = static_cast<uint32_t>(num_tokens_);
  query.num_tokens = static_cast<uint32_t>(question_.NumTokens(q));
  query.first_column = state_.num_columns;
  query.list_begin = static_cast<uint32_t>(num_scores_);
  query.list_size = all() ? loaded_.tokens.num_docs
                          : lists_.offsets[q + 1] - lists_.offsets[q];
  if (coded()) {
    query.first_panel = static_cast<uint32_t>(num_panels_);
    query.num_panels = static_cast<uint32_t>(PanelsOf(question_.coded[q]));
    query.constant = question_.coded[q].constant;
    num_panels_ += query.num_panels;
  }
  num_tokens_ += query.num_tokens;
  num_scores_ += query.list_size;
  most_candidates_ = std::max(most_candidates_, query.list_size);
  state_.max_tokens = std::max(state_.max_tokens, query.num_tokens);
  const uint32_t num_tiles =
      (query.num_tokens + kTokenColumns - 1) / kTokenColumns;
  state_.num_columns += num_tiles * kTokenColumns;
  const uint32_t num_parts =
      passes_.empty() || !all() ? PartsOfList(q) : passes_[0].num_parts;
  for (uint32_t tile = 0; tile < num_tiles; ++tile) {
    // Queries share passes over all documents.
    if (passes_.empty() || passes_.back().num_tiles == most_tiles_ ||
        (!all() && tile == 0)) {
      has_chains_ = has_chains_ || tile > 0;
      MaxSimPass& pass = passes_.emplace_back();
      pass.num_candidates = query.list_size;
      pass.num_parts = num_parts;
      pass.first_tile = query.first_column / kTokenColumns + tile;
    }
    MaxSimPass& pass = passes_.back();
    pass.score_begin[pass.num_tiles] = query.list_begin;
    pass.query[pass.num_tiles] = static_cast<uint16_t>(i);
    pass.is_first[pass.num_tiles] = tile == 0;
    pass.is_last[pass.num_tiles++] = tile + 1 == num_tiles;
  }
}

void MaxSimRun::Plan() {
  shapes_.resize(num_);
  for (size_t i = 0; i < num_; ++i) PlanQuery(i);
  state_.num_passes = static_cast<uint32_t>(passes_.size());
  for (const MaxSimPass& pass : passes_) {
    if (pass.num_parts == 1) continue;
    has_parts_ = true;
    num_partials_ =
        std::max(num_partials_, size_t{pass.num_candidates} * pass.num_parts *
                                    PassColumns(pass.num_tiles, on_hopper()));
  }
}

template <class Put>
BackendStatus MaxSimRun::SendParcel(Parcel* parcel, const Put& put,
                                    std::byte** there) {
  const size_t first_doc = all() ? 0 : lists_.offsets[first_];
  const size_t num_docs = all() ? 0 : lists_.offsets[first_ + num_] - first_doc;
  const size_t shapes_at = parcel->Add<TokenQuery>(num_);
  const size_t docs_at = parcel->Add<RowId>(num_docs);
  std::vector<std::byte> elsewhere;
  if (parcel->size() > kSentBytes) elsewhere.resize(parcel->size());
  std::byte* const from =
      elsewhere.empty()
          ? static_cast<std::byte*>(gpu_.pinned_.data) + kResultBytes
          : elsewhere.data();
  parcel->SetRoom(from);
  parcel->Put(shapes_at, shapes_.data(), num_);
  if (!all()) parcel->Put(docs_at, lists_.docs + first_doc, num_docs);
  put();
  if (elsewhere.empty()) {
    *there = gpu_.workspace_.Take<std::byte>(parcel->size());
    if (*there == nullptr) return BackendStatus::kNoMemory;
    if (num_ == 1) {  // a copy of its own would begin later
      state_.sent = reinterpret_cast<const uint4*>(from);
      state_.received = reinterpret_cast<uint4*>(*there);
      state_.num_sent = static_cast<uint32_t>(parcel->size() / sizeof(uint4));
    } else {
      GPU_RETURN_IF_ERROR(gpu_.Check(cudaMemcpyAsync(
          *there, from, parcel->size(), cudaMemcpyHostToDevice, gpu_.stream_)));
    }
  } else {
    GPU_RETURN_IF_ERROR(gpu_.Upload(from, parcel->size(), there));
  }
  state_.queries = reinterpret_cast<const TokenQuery*>(*there + shapes_at);
  if (!all()) state_.docs = reinterpret_cast<const uint32_t*>(*there + docs_at);
  return BackendStatus::kOk;
}

BackendStatus MaxSimRun::SendFloats(Parcel* parcel) {
  const TokenQueries& queries = question_.queries;
  const size_t first_token = queries.offsets[first_];
  const size_t num_floats = num_tokens_ * loaded_.tokens.dim;
  const bool weighted = queries.weights != nullptr;
  const size_t tokens_at = parcel->Add<float>(num_floats);
  const size_t weights_at = parcel->Add<float>(weighted ? num_tokens_ : 0);
  const auto put = [&] {
    parcel->Put(tokens_at, queries.tokens + first_token * loaded_.tokens.dim,
                num_floats);
    if (weighted) {
      parcel->Put(weights_at, queries.weights + first_token, num_tokens_);
    }
  };
  std::byte* there;
  GPU_RETURN_IF_ERROR(SendParcel(parcel, put, &there));
  state_.tokens = reinterpret_cast<const float*>(there + tokens_at);
  if (weighted) {
    state_.weights = reinterpret_cast<const float*>(there + weights_at);
  }
  return BackendStatus::kOk;
}

BackendStatus MaxSimRun::SendCodes(Parcel* parcel) {
  const size_t panel_bytes = 16 * size_t{loaded_.code_dim};
  constexpr size_t kTableFloats = 16 * 256;  // a panel
  const bool has_table = loaded_.tokens.centroids != nullptr;
  const size_t panels_at = parcel->Add<int8_t>(num_panels_ * panel_bytes);
  const size_t sums_at = parcel->Add<int32_t>(num_panels_ * 16);
  const size_t table_at =
      parcel->Add<float>(has_table ? num_panels_ * kTableFloats : 0);
  const size_t scales_at = parcel->Add<float>(num_tokens_);
  const auto put = [&] {
    for (size_t i = 0; i < num_; ++i) {
      const CodedTokenQuery& query = question_.coded[first_ + i];
      const size_t panel = shapes_[i].first_panel;
      const size_t num = shapes_[i].num_panels;
      parcel->Put(panels_at + panel * panel_bytes, query.panels,
                  num * panel_bytes);
      parcel->Put(sums_at + panel * 16 * 4, query.sums, num * 16);
      if (has_table) {
        parcel->Put(table_at + panel * kTableFloats * 4, query.table,
                    num * kTableFloats);
      }
      parcel->Put(scales_at + shapes_[i].first_token * size_t{4}, query.scales,
                  query.num_tokens);
    }
  };
  std::byte* there;
  GPU_RETURN_IF_ERROR(SendParcel(parcel, put, &there));
  state_.panels = reinterpret_cast<const int8_t*>(there + panels_at);
  state_.sums = reinterpret_cast<const int32_t*>(there + sums_at);
  state_.table = reinterpret_cast<const float*>(there + table_at);
  state_.weights = reinterpret_cast<const float*>(there + scales_at);
  return BackendStatus::kOk;
}

BackendStatus MaxSimRun::Send() {
  Parcel parcel;
  return coded() ? SendCodes(&parcel) : SendFloats(&parcel);
}

BackendStatus MaxSimRun::Take() {
  const size_t split = coded() ? 0 : num_ * kSplitCandidates;
  bool taken = true;
  const auto take = [&]<class T>(size_t count, T** to) {
    if (count == 0) return;
    *to = gpu_.workspace_.Take<T>(count);
    taken = taken && *to != nullptr;
  };
  take(size_t{state_.num_columns} * loaded_.tokens.column_bytes(),
       &state_.columns);
  take(state_.num_columns, &state_.factors);
  take(coded() ? state_.num_columns : 0, &state_.shifts);
  take(num_, &state_.errors);
  take(num_scores_, &state_.scores);
  take(coded() ? 0 : num_scores_, &state_.distances);
  take(coded() && has_chains_ ? num_scores_ : 0, &state_.partial_scores);
  take(has_parts_ ? num_scores_ : 0, &state_.finished);
  take(num_scores_, &state_.survivors);
  take(num_, &state_.counts);
  take(coded() ? 0 : num_, &state_.ranked);
  take(split, &state_.exact_finished);
  take(split * kExactParts * state_.max_tokens, &state_.exact_partials);
  take(passes_.size(), &state_.next_parts);
  float* partials = nullptr;
  take(num_partials_, &partials);
  for (size_t i = 0; i < passes_.size(); ++i) {
    MaxSimPass& pass = passes_[i];
    const size_t begin = pass.score_begin[0];
    pass.docs = all() ? nullptr : state_.docs + begin;
    pass.next_part = state_.next_parts + i;
    pass.finished = has_parts_ ? state_.finished + begin : nullptr;
    pass.partials = partials;
  }
  // Pinned, so that results need no copy of their own.
  state_.out = static_cast<Neighbor*>(gpu_.pinned_.data);
  state_.reports =
      reinterpret_cast<MaxSimReport*>(state_.out + num_ * state_.k);
  std::fill_n(state_.reports, num_, MaxSimReport());
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
  for (const MaxSimPass& pass : passes_) {
    const auto start = on_hopper() ? StreamOnHopper : StreamMaxSim;
    GPU_RETURN_IF_ERROR(
        gpu_.Check(start(tokens, state_, pass, gpu_.num_processors_, stream)));
  }
  GPU_RETURN_IF_ERROR(
      gpu_.Check(SelectMaxSim(state_, most_candidates_, stream)));
  // Without candidates the selection has written the results.
  if (state_.distances != nullptr) {
    GPU_RETURN_IF_ERROR(
        gpu_.Check(RankMaxSim(tokens, state_, gpu_.num_processors_, stream)));
  }
  GPU_RETURN_IF_ERROR(
      gpu_.Await(num_, [&](size_t i) { return &state_.reports[i].done; }));
  std::copy_n(state_.out, num_ * state_.k, out);
  report->rounds += state_.num_passes;
  for (size_t i = 0; i < num_; ++i) {
    report->candidates += state_.reports[i].candidates;
    report->fallbacks += state_.reports[i].unbounded;
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::RunMaxSim(const LoadedSegment& documents,
                                    const MaxSimQuestion& question,
                                    Neighbor* out,
                                    BackendReport* report) const {
  BackendReport done;
  if (report != nullptr) *report = done;
  GPU_RETURN_IF_ERROR(Ready());
  const size_t k = question.k;
  if (k == 0 || k > kMaxBackendK) return BackendStatus::kUnsupported;
  for (size_t q = 0; q < question.num_queries; ++q) {
    const size_t num_tokens = question.NumTokens(q);
    if (num_tokens == 0 || num_tokens > kMaxQueryTokens) {
      return BackendStatus::kUnsupported;
    }
  }
  if (documents.num_rows() == 0) {
    std::fill_n(out, question.num_queries * k,
                Neighbor{std::numeric_limits<float>::infinity(), kInvalidRow});
    return BackendStatus::kOk;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  size_t at_once = kMaxBatchQueries;
  for (size_t first = 0; first < question.num_queries;) {
    const size_t n = std::min(at_once, question.num_queries - first);
    const BackendStatus status = MaxSimRun(*this, documents, question, first, n)
                                     .Run(out + first * k, &done);
    // What has begun still reads what the next call writes.
    if (status != BackendStatus::kOk) cudaStreamSynchronize(stream_);
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

BackendStatus GpuBackend::MaxSim(const LoadedSegment& documents,
                                 const TokenQueries& queries,
                                 const DocumentLists& lists, size_t k,
                                 Neighbor* out, BackendReport* report) const {
  return RunMaxSim(documents, {queries, nullptr, queries.num_queries, lists, k},
                   out, report);
}

BackendStatus GpuBackend::MaxSimCodes(const LoadedSegment& documents,
                                      const CodedTokenQuery* queries,
                                      size_t num_queries,
                                      const DocumentLists& lists, size_t k,
                                      Neighbor* out,
                                      BackendReport* report) const {
  return RunMaxSim(documents, {{}, queries, num_queries, lists, k}, out,
                   report);
}

}  // namespace vicinal::gpu
